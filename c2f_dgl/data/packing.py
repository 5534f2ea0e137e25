"""Files as they are stored, compressed or not: opened, named, and their first line."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import pyarrow

from c2f_dgl.errors import InputError

PACKED_SUFFIXES = ("", ".gz", ".bz2", ".xz", ".zst")


def _zstd(path: Path) -> IO[bytes]:
    stream: Any = pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
    return io.BufferedReader(stream)


# By first bytes: a suffix may be missing, or be left where something has unpacked the file on its way.
_PACKINGS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x28\xb5\x2f\xfd": _zstd,
}


def opened(path: Path) -> IO[bytes]:
    """The opened file; what gzip, bzip2, xz or zstd compressed is unpacked as it is read."""
    # os.path: where a folder may not be entered it answers no, and pathlib raises.
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise InputError("this is a pipe or a device", where=path, expected="a file, which can be read more than once")
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"PK\x03\x04"):
        raise InputError("this is a zip archive", where=path, expected="the file within, as it is or as .gz")
    opener = next((opener for magic, opener in _PACKINGS.items() if start.startswith(magic)), None)
    return path.open("rb") if opener is None else cast(IO[bytes], opener(path))


@contextmanager
def reading(path: Path, form: str) -> Iterator[None]:
    """Turn whatever a library raises over a file, read as `form`, into the one line that names the file."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError("no such file", where=path, expected="interactions, a relation or features") from error
    except IsADirectoryError as error:
        raise InputError("this is a directory", where=path, expected="a file, or a folder of one log") from error
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise InputError(f"cannot read: {error.strerror}", where=path, expected="a readable file") from error
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(f"not {form}, or damaged: {reason[:200]}", where=path, expected=form) from error


def unpacked(path: Path) -> Path:
    """The name without what compression has added to it."""
    return path.with_suffix("") if path.suffix.lower() in PACKED_SUFFIXES[1:] else path


def suffix_of(path: Path) -> str:
    """The suffix that says the format, in small letters."""
    return unpacked(path).suffix.lower()


def first_line(path: Path) -> str:
    """The first line that is not blank, as far as it is UTF-8."""
    with reading(path, "text"):
        return leading_line(path, "utf-8-sig", "replace")[0]


def leading_line(path: Path, encoding: str, errors: str = "strict") -> tuple[str, int]:
    """The first line that is not blank, and how many blank ones stand before it."""
    with opened(path) as stream:
        lines = enumerate(io.TextIOWrapper(stream, encoding=encoding, errors=errors))
        n_blank, line = next(((n, line) for n, line in lines if line.strip()), (0, None))
    if line is None:
        raise InputError("the file is empty", where=path, expected="interactions")
    return line.rstrip("\r\n"), n_blank


def wrong_encoding(path: Path) -> InputError:
    """The error for the first line that is not UTF-8; a file of NULs (UTF-16, binary) is decodable but no text."""
    with opened(path) as stream:
        raw = stream.read()
    try:
        position = raw.decode().find("\0")
    except UnicodeDecodeError as error:
        position = error.start
    return InputError("this is not UTF-8 text", where=path, line=raw.count(b"\n", 0, position) + 1, expected="UTF-8")
