"""What is refused about runs before torch, DGL and pandas are imported, so that a slip is answered at once."""

from __future__ import annotations

import os
from pathlib import Path

from c2f_dgl.config.schema import RunConfig
from c2f_dgl.data.cards import find_source
from c2f_dgl.errors import InputError
from c2f_dgl.training.folder import RunFolder


def check_device(name: str) -> None:
    """Raise `InputError` where a device has no known name, or is not there."""
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"no device {name!r}", where="--device", expected="auto, cpu or cuda")
    if name == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise InputError("torch sees no GPU", where="--device cuda", expected="a CUDA build of torch and a GPU")


def stage_names(config: RunConfig) -> list[str]:
    """The stages of a run in order: one per tier, or the full table's."""
    return ["table"] if config.coarse is None else ["coarse", *config.finer]


def check_new_run(out: str | Path, config: RunConfig, *, stage: str, resume: bool, device: str) -> None:
    """Raise what `c2f_dgl.train` would raise before it looks at the data (parameters as there)."""
    check_device(device)
    names, folder = stage_names(config), RunFolder(out)
    if stage not in ("both", *names):
        raise InputError(f"no stage {stage!r}", where="--stage", expected=f"both or one of {', '.join(names)}")
    if not folder.started:
        folder.check_new()
    elif not (resume or stage in names[1:]):
        raise InputError("holds a run already", where=out, expected="a new folder, or --resume")
    else:
        folder.config()


def check_run(run: str | Path, *, stage: str | None = None, source: str | Path | None = None, device: str) -> None:
    """Raise what `c2f_dgl.load_run` would raise before it looks at the data (parameters as there)."""
    check_device(device)
    config = RunFolder(run).config()
    if stage is not None and stage not in stage_names(config):
        raise InputError(f"no stage {stage!r}", where=run, expected=f"one of {', '.join(stage_names(config))}")
    path = config.data.source
    if source is not None:
        find_source(str(source))
    elif path is not None and os.path.isabs(path) and not os.path.exists(path):
        raise InputError("the run's data is not there any more", where=path, expected="it, or --data PATH (source=)")
    elif path is not None:
        find_source(path)
