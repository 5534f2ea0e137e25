"""What every example does: train with its addition and without, and show both."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from c2f_dgl.api import load_run, train
from c2f_dgl.config.load import load_config
from c2f_dgl.config.schema import RunConfig
from c2f_dgl.data.catalogue import load_split
from c2f_dgl.data.splits import Split

# From a data set, a seed, and whether the addition is in.
Prepare = Callable[[str, int, bool], tuple[Split, RunConfig]]


def prepared(preset: str | Path, dataset: str, seed: int) -> tuple[Split, RunConfig]:
    """A data set, with what the preset's schema names, and the preset."""
    source = dataset if not Path(dataset).is_dir() else str(Path(dataset).resolve())
    config = load_config(str(preset), [f"seed={seed}", f"data.source={source}"])
    return load_split(config), config


def presets(without: str | Path, added: Path) -> Prepare:
    """The preparation of an example whose addition is in another preset."""
    return lambda dataset, seed, addition: prepared(added if addition else without, dataset, seed)


def measure(split: Split, config: RunConfig, out: str | Path) -> dict[str, Any]:
    """Train; validation and test figures of the stage chosen on validation, and what was chosen beside."""
    summary = train(split, out, config)
    model, _ = load_run(out, split=split)
    stages = {
        name: {"valid": stage["valid"], "test": stage["test"], "learned_values": stage["parameters"]["total"]}
        for name, stage in summary["stages"].items()
    }
    chosen = summary["chosen"]
    return {"stage": chosen, **stages[chosen], "importances": model.importances(), "stages": stages}


def main(prepare: Prepare, description: str) -> None:
    """The command line of an example."""

    def compare(
        dataset: Annotated[str, typer.Option(help="a name or a folder")] = "lastfm",
        seed: int = 2024,
    ) -> None:
        table = Table("", "valid N@20", "test N@20", "test R@20", "learned values", "importances")
        with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as folder:
            for name, added in (("without", False), ("with", True)):
                split, config = prepare(dataset, seed, added)
                record = measure(split, config, Path(folder) / name)
                table.add_row(
                    name,
                    f"{record['valid']['ndcg@20']:.4f}",
                    f"{record['test']['ndcg@20']:.4f}",
                    f"{record['test']['recall@20']:.4f}",
                    f"{record['learned_values']:,}",
                    ", ".join(f"{key} {value:g}" for key, value in record["importances"].items()),
                )
        Console().print(table)

    compare.__doc__ = description
    typer.run(compare)
