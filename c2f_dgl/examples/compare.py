"""What every example does: train with its addition and without, and show both."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from c2f_dgl.api import load_run, train
from c2f_dgl.config.load import load_config
from c2f_dgl.config.schema import RunConfig
from c2f_dgl.data.catalogue import load_split
from c2f_dgl.data.splits import Split

Prepare = Callable[[str, int, bool], tuple[Split, RunConfig]]


def prepared(preset: str | Path, dataset: str, seed: int) -> tuple[Split, RunConfig]:
    """A data set, with what the preset's schema names, and the preset."""
    source = dataset if not Path(dataset).is_dir() else str(Path(dataset).resolve())
    config = load_config(str(preset), [f"seed={seed}", f"data.source={source}"])
    return load_split(config), config


def measure(split: Split, config: RunConfig, out: str | Path) -> dict[str, Any]:
    """Train; validation and test figures of the stage chosen on validation, and what was chosen beside."""
    summary = train(split, out, config)
    stage = summary["stages"][summary["chosen"]]
    model, _ = load_run(out, split=split)
    return {
        "stage": summary["chosen"],
        "valid": stage["valid"],
        "test": stage["test"],
        "learned_values": stage["parameters"]["total"],
        "importances": model.importances(),
        "stages": {
            name: {**{part: found[part] for part in ("valid", "test")}, "learned_values": found["parameters"]["total"]}
            for name, found in summary["stages"].items()
        },
    }


def main(prepare: Prepare, description: str) -> None:
    """The command line of an example.

    Parameters
    ----------
    prepare : callable
        Takes a data set, a seed, and whether the addition is in.
    description : str
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--dataset", default="lastfm", help="a name or a folder (default: lastfm)")
    parser.add_argument("--seed", type=int, default=2024)
    arguments = parser.parse_args()
    table = Table("", "valid N@20", "test N@20", "test R@20", "learned values", "importances")
    with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as folder:
        for name, added in (("without", False), ("with", True)):
            split, config = prepare(arguments.dataset, arguments.seed, added)
            found = measure(split, config, Path(folder) / name)
            table.add_row(
                name,
                f"{found['valid']['ndcg@20']:.4f}",
                f"{found['test']['ndcg@20']:.4f}",
                f"{found['test']['recall@20']:.4f}",
                f"{found['learned_values']:,}",
                ", ".join(f"{key} {value:g}" for key, value in found["importances"].items()),
            )
    Console().print(table)
