"""Files that are either whole or not there: written aside, then moved into place."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from c2f_dgl.errors import InputError


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Say in one line that `path` cannot be written, where the body fails to.

    Raises
    ------
    InputError
        For whatever `OSError` the body raises.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write: {error.strerror or error}", where=path, expected="a writable folder with free space"
        ) from error


def read_text(path: str | Path, expected: str) -> str:
    """The text of a small UTF-8 file.

    Raises
    ------
    InputError
        It cannot be read, or is no text; `expected` says what it should be.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror or error}", where=path, expected=expected) from error
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text", where=path, expected=expected) from error


def check_new_folder(path: str | Path, expected: str = "a new folder") -> None:
    """See that a folder could be made at `path`, before work that takes long.

    Raises
    ------
    InputError
        Something is there already, or the folder above cannot be written.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError("is not empty" if path.is_dir() else "is a file", where=path, expected=expected)
    above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError("cannot write", where=path, expected="a writable folder with free space")


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
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
            with aside.open("xb") as made:
                mode = os.fstat(made.fileno()).st_mode
            yield aside
            _settle(aside, mode)
            aside.replace(path)
        finally:
            if aside is not None:
                aside.unlink(missing_ok=True)


def _settle(file: Path, mode: int) -> None:
    """Bring a file to the disk, with permissions as the user's umask says: some libraries make theirs private."""
    with file.open("rb") as written:
        os.fsync(written.fileno())
    file.chmod(mode & 0o666)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


@contextmanager
def replacing_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside `path`; on success move it to `path`, on failure remove it.

    A folder that is replaced is moved aside, whole, just before the new one takes its place, and comes back where that
    fails; killed between these two moves, it is left in the temporary folder.

    Raises
    ------
    InputError
        Something is at `path` and is not to be replaced, or the folder cannot be written.
    """
    path = Path(path)
    aside: Path | None = None
    with writing(path):
        if path.exists() and not (path.is_dir() and (overwrite or not any(path.iterdir()))):
            raise InputError("is there already", where=path, expected="a new or empty folder")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
            # mkdtemp makes it private; mkdir makes it as the user's umask says.
            new = aside / "new"
            new.mkdir()
            yield new
            for file in new.rglob("*"):
                if file.is_file():
                    _settle(file, new.stat().st_mode)
            if not path.exists():
                new.replace(path)
                return
            path.replace(aside / "old")
            try:
                new.replace(path)
            except OSError:
                (aside / "old").replace(path)
                raise
        finally:
            if aside is not None:
                shutil.rmtree(aside, ignore_errors=True)
