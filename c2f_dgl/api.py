"""What most programs need: train on a split, load a run, recommend."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from c2f_dgl.config.schema import RunConfig
from c2f_dgl.config.sizes import resolve_sizes
from c2f_dgl.data.catalogue import load_split
from c2f_dgl.data.relations import sized
from c2f_dgl.data.splits import Split, check_part
from c2f_dgl.errors import InputError
from c2f_dgl.io import ranks
from c2f_dgl.io.progress import Reporter
from c2f_dgl.model import Recommender
from c2f_dgl.training.checks import check_new_run, check_run
from c2f_dgl.training.folder import RunFolder
from c2f_dgl.training.run import Run, choose_device, load_model


def train(
    split: Split,
    out: str | Path,
    config: RunConfig,
    *,
    stage: str = "both",
    resume: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Train the stages of a configuration on a split, into a run folder; the figures of its ``summary.json``.

    Parameters
    ----------
    split : Split
        Without test interactions nothing is tested.
    out : str or Path
        Folder of the run; new, unless it is resumed or a later stage is added to it.
    config : RunConfig
        From `load_config`; sizes that are null are resolved for this data.
    stage : str
        One stage (``coarse``, ``fine``, ...) or ``both`` for all of them.
    resume : bool
        Go on with the run in `out` from its last finished epoch, if there is one.
    device : {"auto", "cpu", "cuda"}
    reporter : Reporter, optional
        Shows progress: bars on a terminal, lines elsewhere, by default.

    Raises
    ------
    InputError
        The folder is taken or cannot be written, or the configuration does not fit the data. A run that is refused
        before its first epoch leaves no folder.
    """
    reporter = reporter or Reporter()
    return train_run(split, out, config, stage=stage, resume=resume, device=device, reporter=reporter).summary


def train_run(
    split: Split,
    out: str | Path | None,
    config: RunConfig,
    *,
    stage: str = "both",
    resume: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> Run:
    """The run that `train` trains; in memory alone, and all of its stages, where `out` is None."""
    if not isinstance(config, RunConfig):
        raise InputError(f"{type(config).__name__} is no RunConfig", expected='load_config("fast"), for example')
    if ranks.size() > 1:
        if device == "cuda":
            where = f"{ranks.size()} processes"
            raise InputError("a GPU is not shared", where=where, expected="--device cpu, or one process")
        out, device = (out if ranks.rank() == 0 else None), "cpu"
    if out is not None:
        check_new_run(out, config, stage=stage, resume=resume, device=device)
    torch_device = choose_device(device)
    if not isinstance(split, Split):
        expected = "load_dataset(...), or random_split(Interactions)"
        raise InputError(f"{type(split).__name__} is no Split", expected=expected)
    check_part(split, "valid")
    if ranks.size() > 1:
        if np.count_nonzero(split.valid.getnnz(axis=1)) < ranks.size():
            raise InputError("fewer users validate than processes train", where=split.name, expected="fewer processes")
        ranks.check_same(split.fingerprint, "the data")
        ranks.check_same(hashlib.sha256(config.model_dump_json().encode()).hexdigest(), "the options")
    config = config.model_copy(update={"graph": sized(config.graph, split)})
    config = resolve_sizes(config, split.n_users, split.n_items)
    if out is None:
        run = Run(config, split, torch_device, reporter)
        run.train()
        return run
    folder = RunFolder(out)
    if new := not folder.started:
        folder.begin(config)
    elif _comparable(folder.config(), folder) != _comparable(config, folder):
        raise InputError("holds a run with other options", where=out, expected="the preset, --set and seed it has")
    run = Run(config, split, torch_device, reporter, folder)
    try:
        run.train(None if stage == "both" else [stage])
    except Exception:  # Ctrl-C is none: the run goes on with --resume
        if new and not folder.last.is_file():
            folder.discard()  # it never came to an epoch, and would stand in the way of the command put right
        raise
    return run


def _comparable(config: RunConfig, folder: RunFolder) -> RunConfig:
    """The options that a run goes on with: data that were moved are told by the fingerprint in its checkpoint."""
    if not folder.last.is_file():
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"source": None})})


def load_run(
    run: str | Path,
    *,
    stage: str | None = None,
    device: str = "auto",
    split: Split | None = None,
    source: str | Path | None = None,
) -> tuple[Recommender, Split]:
    """The best model of a run and the data it was trained on, read again.

    Under the protocol ``full-test`` a preset that solves is solved once more with what validated: the split that comes
    with its model has nothing that validates.

    The stage is by default the one chosen on validation; `split` is the data where it has no name or path to be read
    again from, `source` where it is now, if it has been moved. `InputError` for no run, no such stage or changed data.
    """
    folder = RunFolder(run)
    if split is None:
        check_run(run, stage=stage, source=source, device=device)
        split = load_split(folder.config(), source)
    return load_model(folder, split, stage, choose_device(device))
