"""Files that are either whole or not there: written aside, then moved into place."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from c2f_dgl.errors import InputError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success move it over `path`, on failure remove it.

    The move is atomic, so a reader (or a run that is resumed after ``kill -9``) sees the old file or the
    new one and never a part of either.

    Raises
    ------
    InputError
        The folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    aside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        aside = Path(name)
        yield aside
        with aside.open("rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        aside.chmod(0o666 & ~umask)
        aside.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot write: {error.strerror or error}", where=path, expected="a writable folder with free space"
        ) from error
    finally:
        if aside is not None:
            aside.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")
