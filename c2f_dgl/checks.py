"""What is refused before torch, DGL and pandas are imported, so that a slip is answered at once."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from c2f_dgl.cards import find_source
from c2f_dgl.config.schema import RunConfig
from c2f_dgl.errors import InputError
from c2f_dgl.files import check_new_folder
from c2f_dgl.training.folder import RunFolder

FORMATS = ("model", "onnx", "faiss", "web")

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}


def check_device(name: str) -> None:
    """See that a device has a name that is known, and is there (raises `InputError`)."""
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
    names = stage_names(config)
    if stage not in ("both", *names):
        raise InputError(f"no stage {stage!r}", where="--stage", expected=f"both or one of {', '.join(names)}")
    if not RunFolder(out).started:
        RunFolder(out).check_new()
    elif not (resume or stage in names[1:]):
        raise InputError("holds a run already", where=out, expected="a new folder, or --resume")


def check_run(run: str | Path, *, stage: str | None = None, source: str | Path | None = None, device: str) -> None:
    """Raise what `c2f_dgl.load_run` would raise before it looks at the data (parameters as there)."""
    check_device(device)
    config = RunFolder(run).config()
    if stage is not None and stage not in stage_names(config):
        raise InputError(f"no stage {stage!r}", where=run, expected=f"one of {', '.join(stage_names(config))}")
    there = config.data.source if source is None else str(source)
    if source is None and there is not None and os.path.isabs(there) and not os.path.exists(there):
        raise InputError("the run's data is not there any more", where=there, expected="it, or --data PATH (source=)")
    if there is not None:
        find_source(there)


def check_bench_folder(out: Path) -> None:
    """See that a bench could begin or go on in a folder (raises what `Bench.begin` does)."""
    if not (out / "bench.json").is_file():
        check_new_folder(out, expected="a new folder, or that of a bench to go on with")


def check_systems(names: str, settings: Sequence[str]) -> None:
    """See that the systems of a bench and their hyper-parameters have names that are known.

    They are read off the sources, as importing the systems takes seconds; one of ``module:attribute`` may have any.

    Parameters
    ----------
    names : str
        With commas between, as `select_systems` takes them.
    settings : sequence of str
        ``name=value``.

    Raises
    ------
    InputError
        One is not known.
    """
    files = resources.files("c2f_dgl.baselines").iterdir()
    source = "".join(file.read_text(encoding="utf-8") for file in files if file.name.endswith(".py"))
    systems = re.findall(r'\bSystem\(\s*"([^"]+)"', source)
    families = {system.partition("-")[0] for system in systems}
    asked = [name.strip() for name in names.split(",")]
    for name in asked:
        if ":" not in name and name not in {"all", *families, *systems}:
            near = difflib.get_close_matches(name, systems, n=1, cutoff=0.3)
            raise InputError(f"no system {name!r}", where="--systems", expected=f"e.g. {(near or systems)[0]}")
    known = set(re.findall(r"^    (\w+): .+ = Field\(", source, flags=re.MULTILINE))
    for option in settings:
        if not any(":" in name for name in asked) and option.partition("=")[0] not in known:
            raise unknown_setting(option, known)


def unknown_setting(option: str, known: set[str]) -> InputError:
    """The error for a hyper-parameter that is none of those known."""
    names = ", ".join(["data.NAME", *sorted(known)])
    return InputError(f"no system has {option!r}", where="--set", expected=f"NAME=VALUE, NAME one of {names}")


def check_export(form: str, files: Sequence[Path | None]) -> None:
    """See that a model can be exported in a form to new files.

    Raises
    ------
    InputError
        There is no such form, or something is there.
    """
    if form not in FORMATS:
        raise InputError(f"no format {form!r}", where="--format", expected=f"one of {', '.join(FORMATS)}")
    for path in files:
        if path is not None:
            if path.exists():
                raise InputError("is there already", where=path, expected="a new file or folder")
            check_new_folder(path)


def read_bytes(text: str) -> int:
    """A number of bytes, as ``1MB``, ``500 kB`` or ``64000``.

    Raises
    ------
    InputError
        It is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kKmMgG]?[bB]?)", text.strip())
    if found is None or found[2].lower() not in _UNITS:
        raise InputError(f"{text!r} is no number of bytes", where="--bytes", expected="e.g. 1MB, 500kB or 64000")
    return round(float(found[1]) * _UNITS[found[2].lower()])
