"""The one exception that people who use the package are meant to see."""

from __future__ import annotations

import re
from pathlib import Path

# What a terminal would act on rather than show: control characters, what turns the direction of text, line ends of
# Unicode, and bytes of names of files that are no text.
_ACTED_ON = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """`text` on one line, with what a terminal would act on written as an escape, e.g. ``\\x1b``."""
    return _ACTED_ON.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class InputError(ValueError):
    """Input that cannot be used, said in one line: where, what is wrong, what was expected.

    The command line prints the message and exits with code 2; a library user catches a `ValueError`.

    Parameters
    ----------
    problem : str
        What is wrong, e.g. ``"item id -3 is negative"``.
    where : str or Path, optional
        The file, option or argument at fault.
    line : int, optional
        Line of the file, counted from 1.
    expected : str, optional
        What would have been accepted.
    """

    def __init__(
        self,
        problem: str,
        *,
        where: str | Path | None = None,
        line: int | None = None,
        expected: str | None = None,
    ) -> None:
        place = "" if where is None else f"{where}{'' if line is None else f', line {line}'}: "
        hope = "" if expected is None else f" (expected {expected})"
        super().__init__(printable(" ".join(f"{place}{problem}{hope}".split())))
