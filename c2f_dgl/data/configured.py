"""Data as a configuration says; like all of `c2f_dgl.data` without torch, so that a wrong column is told at once."""

from __future__ import annotations

from pathlib import Path

from c2f_dgl.cards import source_folder
from c2f_dgl.config.schema import DataConfig, RunConfig
from c2f_dgl.data.catalogue import load_dataset
from c2f_dgl.data.relations import read_side
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError


def load_split(config: RunConfig, source: str | Path | None = None) -> Split:
    """The data of a run, read and split as its configuration says; from `source` where it has been moved."""
    source = config.data.source if source is None else str(source)
    if source is None:
        raise InputError(
            "was trained on data in memory",
            where="data.source",
            expected="load_run(run, split=...), or training with data.source",
        )
    return read_side(read_data(source, config.data, config.seed), config.graph, source_folder(source))


def read_data(source: str, data: DataConfig, seed: int) -> Split:
    """The data at `source`, read and split as `data` says, with the run's seed where it says none."""
    columns = data.model_dump(exclude={"source", "split", "seed"}, exclude_none=True)
    return load_dataset(source, split=data.split, seed=seed if data.seed is None else data.seed, **columns)
