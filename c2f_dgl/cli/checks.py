"""What is refused about a bench or a search before its systems are imported, which takes seconds."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from c2f_dgl.errors import InputError
from c2f_dgl.io.files import check_new_folder


def check_begun_folder(out: Path, file: str, what: str) -> None:
    """Raise `InputError` where work that keeps `file` in its folder could neither begin nor go on there."""
    if not (out / file).is_file():
        check_new_folder(out, expected=f"a new folder, or that of a {what} to go on with")


def check_systems(names: str, settings: Sequence[str]) -> None:
    """Raise `InputError` for an unknown system, or a setting ``name=value`` that no system has.

    Both are read off the sources; a system of ``module:attribute`` may have any settings.
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
