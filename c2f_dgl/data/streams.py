"""Files opened for reading, compressed ones too, and the one line that whatever goes wrong there ends with."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow

from c2f_dgl.errors import InputError

PACKED_SUFFIXES = ("", ".gz", ".bz2", ".xz", ".zst")
PARQUET_SUFFIXES = {".parquet", ".pq"}


def _zstd(path: Path) -> IO[bytes]:
    stream: Any = pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
    return io.BufferedReader(stream)


# By first bytes: a suffix may be missing, or be left where something has unpacked the file on its way.
_OPENERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x28\xb5\x2f\xfd": _zstd,
}


def opened(path: Path) -> IO[bytes]:
    """Open a file; what gzip, bzip2, xz or zstd compressed is unpacked as it is read.

    Raises
    ------
    InputError
        The file is a pipe, which only gives once, or a zip archive.
    OSError
        It cannot be opened.
    """
    # os.path: where a folder may not be entered it answers no, and pathlib raises.
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise InputError("this is a pipe or a device", where=path, expected="a file, which can be read more than once")
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"PK\x03\x04"):
        raise InputError("this is a zip archive", where=path, expected="the file within, as it is or as .gz")
    opener = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)
    return path.open("rb") if opener is None else opener(path)


def unpacked(path: Path) -> Path:
    """Give the name without what compression has added to it."""
    return path.with_suffix("") if path.suffix.lower() in PACKED_SUFFIXES[1:] else path


def suffix_of(path: Path) -> str:
    """Give the suffix that says the format, in small letters."""
    return unpacked(path).suffix.lower()


def log_files(folder: Path) -> list[Path]:
    """Give the files that are one log: RecBole's ``.inter``, or parts in Parquet; none where there is neither."""
    files = sorted(file for file in folder.iterdir() if not file.name.startswith((".", "_")))
    inter = [file for file in files if suffix_of(file) == ".inter"]
    return inter if len(inter) == 1 else [file for file in files if suffix_of(file) in PARQUET_SUFFIXES]


@contextmanager
def reading(path: Path, form: str) -> Iterator[None]:
    """Turn whatever a library raises over a file, read as `form`, into the one line that names the file.

    Raises
    ------
    InputError
        Something was raised.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError("no such file", where=path, expected="a file of interactions, or of a relation") from error
    except IsADirectoryError as error:
        raise InputError("this is a directory", where=path, expected="a file, or a folder of one log") from error
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise InputError(f"cannot read: {error.strerror}", where=path, expected="a readable file") from error
        said = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(f"not {form}, or damaged: {said[:200]}", where=path, expected=form) from error
