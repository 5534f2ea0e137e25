"""Files that are either whole or not there, and folders that one process at a time works in."""

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
    """Turn an `OSError` of the body into an `InputError` that says `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write: {error.strerror or error}", where=path, expected="a writable folder with free space"
        ) from error


def read_text(path: str | Path, expected: str) -> str:
    """The text of a small UTF-8 file; `expected` says in errors what it should be."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror or error}", where=path, expected=expected) from error
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text", where=path, expected=expected) from error


def check_new_folder(path: str | Path, expected: str = "a new folder", begun: str | None = None) -> None:
    """Raise `InputError` where no folder could be made at `path`, before work that takes long.

    What a killed process had not moved into place does not count; with a file `begun` in it, work is gone on with.
    """
    path = Path(path)
    if begun is not None and (path / begun).is_file():
        return
    if path.exists() and (not path.is_dir() or any(not entry.match(".*.part") for entry in path.iterdir())):
        raise InputError("is not empty" if path.is_dir() else "is a file", where=path, expected=expected)
    parent = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError("cannot write", where=path, expected="a writable folder with free space")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved over it on success and removed on failure.

    The move is atomic: a reader, or a run resumed after ``kill -9``, sees the old file or the new one, never a part.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            mode = os.fstat(file.fileno()).st_mode
        try:
            yield temporary
            _settle(temporary, mode)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _settle(path: Path, mode: int) -> None:
    """Bring a file to the disk, with permissions as the user's umask says: some libraries make theirs private."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    path.chmod(mode & 0o666)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside `path` (new or empty), moved to it on success and removed on failure."""
    path = Path(path)
    with writing(path):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError("is there already", where=path, expected="a new or empty folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        try:
            # mkdtemp makes a private folder; mkdir one as the user's umask says.
            new = temporary / "new"
            new.mkdir()
            yield new
            for file in new.rglob("*"):
                if file.is_file():
                    _settle(file, new.stat().st_mode)
            new.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def locked(folder: str | Path, action: str, lock: Path | None = None) -> Iterator[None]:
    """Keep other processes from the same `action` (for messages, e.g. ``"trains"``) in a folder; death releases it.

    The file `lock` is locked and stays; by default it is ``.lock`` in the folder.
    """
    from filelock import FileLock, Timeout

    try:
        with FileLock(lock or Path(folder) / ".lock").acquire(timeout=0):
            yield
    except Timeout as error:
        raise InputError(f"another process {action} here", where=folder, expected="one at a time") from error
