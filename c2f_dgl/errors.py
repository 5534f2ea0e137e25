"""The one exception that people who use the package are meant to see."""

from __future__ import annotations

from pathlib import Path


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
        super().__init__(" ".join(f"{place}{problem}{hope}".split()))
