"""Tables of files, compressed ones too: the wanted columns of Parquet, of JSON lines and of delimited text."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, cast

import pandas as pd
import pyarrow
import pyarrow.json
import pyarrow.parquet

from c2f_dgl.data.columns import MISSING, Origin, counted
from c2f_dgl.data.text import TWO_COLONS, separator, text_form
from c2f_dgl.errors import InputError

PACKED_SUFFIXES = ("", ".gz", ".bz2", ".xz", ".zst")
PARQUET_SUFFIXES = {".parquet", ".pq"}
JSON_SUFFIXES = {".jsonl", ".ndjson", ".json"}
LOG_SUFFIXES = {".csv", ".tsv", ".inter", *PARQUET_SUFFIXES, *JSON_SUFFIXES}

# The forms of files, as messages call them.
PARQUET, JSON, TEXT, LIGHTGCN = "Parquet", "JSON lines", "delimited text", "LightGCN's text"

# From the names of all columns, the position of the column of each role.
Choose = Callable[[list[str]], Mapping[str, int]]


@dataclass(frozen=True)
class Table:
    """The wanted columns of a file, called by their roles, and where their rows stand."""

    frame: pd.DataFrame
    names: dict[str, str]  # the file's column of each role: its name, or its number where there is no header
    origin: Origin
    headless: bool = False
    notes: tuple[str, ...] = ()  # what was mended


def _zstd(path: Path) -> IO[bytes]:
    stream: Any = pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
    return io.BufferedReader(stream)


# By first bytes: a suffix may be missing, or be left where something has unpacked the file on its way.
_PACKINGS: dict[bytes, tuple[str, Callable[[Path], Any]]] = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"BZh": ("bzip2", bz2.open),
    b"\xfd7zXZ\0": ("xz", lzma.open),
    b"\x28\xb5\x2f\xfd": ("zstd", _zstd),
}


def packing_of(path: Path) -> tuple[str, Callable[[Path], Any]]:
    """How a file is compressed, ``"none"`` where it is not, and what opens it."""
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"PK\x03\x04"):
        raise InputError("this is a zip archive", where=path, expected="the file within, as it is or as .gz")
    plain = ("none", lambda path: path.open("rb"))
    return next((packing for magic, packing in _PACKINGS.items() if start.startswith(magic)), plain)


def opened(path: Path) -> IO[bytes]:
    """The opened file; what gzip, bzip2, xz or zstd compressed is unpacked as it is read."""
    # os.path: where a folder may not be entered it answers no, and pathlib raises.
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise InputError("this is a pipe or a device", where=path, expected="a file, which can be read more than once")
    _, opener = packing_of(path)
    return cast(IO[bytes], opener(path))


@contextmanager
def reading(path: Path, form: str) -> Iterator[None]:
    """Turn whatever a library raises over a file, read as `form`, into the one line that names the file."""
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
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(f"not {form}, or damaged: {reason[:200]}", where=path, expected=form) from error


def unpacked(path: Path) -> Path:
    """The name without what compression has added to it."""
    return path.with_suffix("") if path.suffix.lower() in PACKED_SUFFIXES[1:] else path


def suffix_of(path: Path) -> str:
    """The suffix that says the format, in small letters."""
    return unpacked(path).suffix.lower()


def log_files(folder: Path) -> list[Path]:
    """The files that are one log: RecBole's ``.inter``, or parts in Parquet; none where there is neither."""
    files = sorted(file for file in folder.iterdir() if not file.name.startswith((".", "_")))
    inter = [file for file in files if suffix_of(file) == ".inter"]
    return inter if len(inter) == 1 else [file for file in files if suffix_of(file) in PARQUET_SUFFIXES]


def form_of(path: Path, sep: str | None = None) -> str:
    """The form of a file: by its suffix where that is a known one, by the separator asked for, or by its first line."""
    suffix = suffix_of(path)
    if suffix in PARQUET_SUFFIXES:
        return PARQUET
    if sep is not None:
        return TEXT
    line = "{" if suffix in JSON_SUFFIXES else first_line(path)
    if line.startswith("{"):
        return JSON
    return TEXT if suffix in LOG_SUFFIXES or separator(line) is not None else LIGHTGCN


def read_table(
    path: Path, choose: Choose, names: list[str] | None = None, sep: str | None = None, numbered: bool = False
) -> Table:
    """The columns that `choose` picks, of a file in whichever form or of a folder of one log.

    `names` and `sep` are of text: see `read_log`. With `numbered`, which says that columns are asked for by number, a
    first line without any well-known name is no header.
    """
    if os.path.isdir(path):  # where a folder may not be entered it answers no, and pathlib raises
        with reading(path, "a folder of one log"):
            files = log_files(path)
        if files and suffix_of(files[0]) == ".inter":
            return read_table(files[0], choose, names, sep, numbered)
        if files:
            return _read_parquet(path, files, choose)
    form = form_of(path, sep)
    if form == PARQUET:
        return _read_parquet(path, [path], choose)
    if form == JSON and names is None:
        return _read_json(path, choose)
    if sep is not None and (len(sep) != 1 or sep in "\r\n"):
        raise InputError(f"a separator {sep!r}", where=path, expected="one character, no line end")
    if names is not None and len(set(names)) < len(names):
        raise InputError("two columns have the same name", where="names", expected="a name of its own for each")
    with reading(path, TEXT):
        try:
            return _read_text(path, choose, names, sep, numbered, "utf-8-sig")
        except UnicodeDecodeError:
            return _read_text(path, choose, names, sep, numbered, "latin-1")


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


def _read_parquet(path: Path, files: list[Path], choose: Choose) -> Table:
    parts: list[pyarrow.Table] = []
    names: dict[str, str] = {}
    for file in files:
        with reading(file, PARQUET), opened(file) as stream:
            # Parquet is read from its end, so that what is compressed is unpacked whole.
            source = str(file) if unpacked(file) == file else pyarrow.BufferReader(stream.read())
            data = pyarrow.parquet.ParquetFile(source)
            columns = [field.name for field in data.schema_arrow if not pyarrow.types.is_nested(field.type)]
            names = names or {role: columns[position] for role, position in choose(columns).items()}
            parts.append(data.read(columns=list(dict.fromkeys(names.values()))))
            parts[-1].validate(full=True)
    with reading(path, PARQUET):
        table = pyarrow.concat_tables(parts, promote_options="permissive")
        # Some writers leave it open whether bytes are text.
        types = [pyarrow.string() if pyarrow.types.is_binary(kind) else kind for kind in table.schema.types]
        table = table.cast(pyarrow.schema(zip(table.schema.names, types, strict=True)))
        frame = table.to_pandas(ignore_metadata=True)  # with it an index of pandas would be no column
    return Table(_by_role(frame, names), names, Origin(path))


def _by_role(frame: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    """The frame's columns of each role, called by their roles."""
    return frame[list(columns.values())].set_axis(list(columns), axis=1)


def first_object(path: Path) -> dict[str, Any]:
    """The single values of the first of JSON lines, by name."""
    with reading(path, JSON):
        head = json.loads(leading_line(path, "utf-8-sig")[0])
        if not isinstance(head, dict):
            raise InputError("the first line holds no object", where=path, expected='lines of {"user": ..., ...}')
        return {name: value for name, value in head.items() if not isinstance(value, (dict, list))}


def _read_json(path: Path, choose: Choose) -> Table:
    """Read JSON lines; the first object says which columns there are, and of which type."""
    head = first_object(path)
    with reading(path, JSON):
        columns = list(head)
        names = {role: columns[position] for role, position in choose(columns).items()}
        arrow_types = {int: pyarrow.int64(), float: pyarrow.float64()}
        types = {name: arrow_types.get(type(head[name]), pyarrow.string()) for name in names.values()}
        if "rating" in names and types[names["rating"]] == pyarrow.int64():  # the next may be a half
            types[names["rating"]] = pyarrow.float64()
        schema = pyarrow.schema(list(types.items()))
        options = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        with opened(path) as stream:
            table = pyarrow.json.read_json(stream, parse_options=options)
        table.validate(full=True)
        return Table(_by_role(table.to_pandas(), names), names, Origin(path))


def _read_text(
    path: Path, choose: Choose, names: list[str] | None, sep: str | None, numbered: bool, encoding: str
) -> Table:
    """Read delimited text as text, so that ids such as ``007`` survive."""
    line, n_blank = leading_line(path, encoding)
    if "\0" in line:
        raise wrong_encoding(path)
    form = text_form(line, names, sep, numbered)
    columns, headless = form.columns, form.headless
    colons = form.sep == TWO_COLONS
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if form.quoted else csv.QUOTE_NONE
    chosen = choose(columns)
    read = partial(
        pd.read_csv,
        sep="\t" if colons else form.sep,  # pandas is fast with one character only
        header=None,
        skiprows=n_blank + form.n_header,
        # A row's number is then that of its line.
        skip_blank_lines=False,
        # No `usecols`: with it pandas no longer sees a line with a field too many, and reads the wrong fields.
        index_col=False,
        dtype="string",
        # Ids may well be called "NA" or "None"; only these mean that nothing is there.
        keep_default_na=False,
        na_values=list(MISSING),
        skipinitialspace=True,
        encoding=encoding,
        quoting=quoting,
    )
    try:
        frame = _rows(path, read, len(columns), colons=colons)
    except pd.errors.ParserError as error:
        row = re.search(r"line (\d+)", str(error))
        raise InputError(
            f"cannot be split at {form.sep!r}: {str(error).removeprefix('Error tokenizing data. C error: ')}",
            where=path,
            line=int(row.group(1)) if row else None,
            expected="the same number of fields in every line",
        ) from error
    frame = _by_role(frame.dropna(how="all"), chosen)
    notes = ("not UTF-8, read as Latin-1",) if encoding == "latin-1" else ()
    if headless:
        complete = frame.dropna(subset=[role for role in ("user", "item") if role in chosen])
        if n_left_out := len(frame) - len(complete):
            notes = (*notes, counted(n_left_out, "row", "without user or item left out"))
        frame = complete
    lines = frame.index + n_blank + form.n_header + 1
    origin = Origin(path, lambda row: int(lines[row]), decimal="," if form.sep == ";" else ".")
    called = {role: str(position) if headless else columns[position] for role, position in chosen.items()}
    return Table(frame, called, origin, headless, notes)


def _rows(path: Path, read: Callable[..., pd.DataFrame], n: int, colons: bool) -> pd.DataFrame:
    """Rows of `n` columns; further fields are refused, but for the nothing after a separator at the end of lines."""
    too_many = InputError(
        f"every line has a field more than the {n} columns that have a name",
        where=path,
        expected="a name for each column (one for the row numbers, too)",
    )

    def rows(n: int) -> pd.DataFrame:
        with opened(path) as stream, warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of fields left out
            source: IO[bytes] = io.BytesIO(stream.read().replace(b"::", b"\t")) if colons else stream
            return read(source, names=range(n))

    try:
        return rows(n)
    except pd.errors.EmptyDataError:
        return pd.DataFrame(columns=range(n), dtype="string")
    except pd.errors.ParserWarning:
        try:
            table = rows(n + 1)
        except pd.errors.ParserWarning as error:
            raise too_many from error
    if table[n].notna().any():
        raise too_many
    return table.drop(columns=n)
