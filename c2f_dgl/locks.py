"""One process at a time in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from c2f_dgl.errors import InputError


@contextmanager
def locked(folder: str | Path, doing: str, lock: str | Path | None = None) -> Iterator[None]:
    """Keep other processes from `doing` the same in a folder; a process that dies lets go.

    Parameters
    ----------
    folder : str or Path
    doing : str
        For the message, e.g. ``"trains"``.
    lock : str or Path, optional
        File that is locked, and stays; ``.lock`` in the folder by default.

    Raises
    ------
    InputError
        Another one does.
    """
    held = FileLock(Path(folder) / ".lock" if lock is None else lock)
    try:
        held.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"another process {doing} here", where=folder, expected="one at a time") from error
    try:
        yield
    finally:
        held.release()
