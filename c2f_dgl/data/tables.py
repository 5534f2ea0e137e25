"""Tables of files: the columns that are wanted, of Parquet, of JSON lines and of delimited text."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal

import pandas as pd
import pyarrow
import pyarrow.json
import pyarrow.parquet

from c2f_dgl.data.columns import MISSING, Place, is_known
from c2f_dgl.data.streams import PARQUET_SUFFIXES, log_files, opened, reading, suffix_of, unpacked
from c2f_dgl.errors import InputError

JSON_SUFFIXES = {".jsonl", ".ndjson", ".json"}
LOG_SUFFIXES = {".csv", ".tsv", ".inter", *PARQUET_SUFFIXES, *JSON_SUFFIXES}
# MovieLens separates by this in its ratings.dat.
TWO_COLONS = "::"
# Names for the leading columns of a log without a header; MovieLens, Amazon and HetRec all write them in this order.
DEFAULT_NAMES = ("user", "item", "rating", "timestamp")
_JSON_TYPES = {int: pyarrow.int64(), float: pyarrow.float64()}

# From the names of all columns, the place of the column of each role.
Choose = Callable[[list[str]], Mapping[str, int]]


@dataclass(frozen=True)
class Table:
    """The wanted columns of a file, called by their roles, and where their rows stand.

    Attributes
    ----------
    frame : DataFrame
    names : dict
        What the file calls the column of each role: its name, or its number where there is no header.
    place : Place
    headless : bool
    notes : tuple of str
        What was mended.
    """

    frame: pd.DataFrame
    names: dict[str, str]
    place: Place
    headless: bool = False
    notes: tuple[str, ...] = ()


def read_table(
    path: Path, choose: Choose, names: list[str] | None = None, sep: str | None = None, numbered: bool = False
) -> Table:
    """Read the columns that `choose` picks, of a file in whichever form or of a folder of one log.

    Parameters
    ----------
    path : Path
    choose : callable
    names, sep : optional
        Of text: see `read_log`.
    numbered : bool
        Whether columns are asked for by number, so that a first line without any well-known name is no header.

    Raises
    ------
    InputError
        The file cannot be read as what it seems to be, or `choose` misses a column.
    """
    if os.path.isdir(path):  # where a folder may not be entered it answers no, and pathlib raises
        with reading(path, "a folder of one log"):
            files = log_files(path)
        if files and suffix_of(files[0]) == ".inter":
            return read_table(files[0], choose, names, sep, numbered)
        if files:
            return _read_parquet(path, files, choose)
    if suffix_of(path) in PARQUET_SUFFIXES:
        return _read_parquet(path, [path], choose)
    if sep is None and names is None and (suffix_of(path) in JSON_SUFFIXES or first_line(path).startswith("{")):
        return _read_json(path, choose)
    if sep is not None and (len(sep) != 1 or sep in "\r\n"):
        raise InputError(f"a separator {sep!r}", where=path, expected="one character, no line end")
    if names is not None and len(set(names)) < len(names):
        raise InputError("two columns have the same name", where="names", expected="a name of its own for each")
    with reading(path, "delimited text"):
        try:
            return _read_text(path, choose, names, sep, numbered, "utf-8-sig")
        except UnicodeDecodeError:
            return _read_text(path, choose, names, sep, numbered, "latin-1")


def first_line(path: Path) -> str:
    """Give the first line that is not blank, as far as it is UTF-8.

    Raises
    ------
    InputError
        The file cannot be read, or is empty.
    """
    with reading(path, "text"):
        return _first_line(path, "utf-8-sig", "replace")[0]


def _first_line(path: Path, encoding: str, errors: str = "strict") -> tuple[str, int]:
    """Give the first line that is not blank, and how many blank ones stand before it."""
    with opened(path) as stream:
        lines = enumerate(io.TextIOWrapper(stream, encoding=encoding, errors=errors))
        before, line = next(((n, line) for n, line in lines if line.strip()), (0, None))
    if line is None:
        raise InputError("the file is empty", where=path, expected="interactions")
    return line.rstrip("\r\n"), before


def wrong_encoding(path: Path) -> InputError:
    """Name the first line that is not UTF-8 text; a file of NULs (UTF-16, binary) is decodable but no text."""
    with opened(path) as stream:
        raw = stream.read()
    try:
        at = raw.decode().find("\0")
    except UnicodeDecodeError as error:
        at = error.start
    return InputError("this is not UTF-8 text", where=path, line=raw.count(b"\n", 0, at) + 1, expected="UTF-8")


def _read_parquet(path: Path, files: list[Path], choose: Choose) -> Table:
    parts: list[pyarrow.Table] = []
    chosen: dict[str, str] = {}
    for file in files:
        with reading(file, "Parquet"), opened(file) as stream:
            # Parquet is read from its end, so that what is compressed is unpacked whole.
            source = str(file) if unpacked(file) == file else pyarrow.BufferReader(stream.read())
            data = pyarrow.parquet.ParquetFile(source)
            columns = [field.name for field in data.schema_arrow if not pyarrow.types.is_nested(field.type)]
            chosen = chosen or {role: columns[at] for role, at in choose(columns).items()}
            parts.append(data.read(columns=list(dict.fromkeys(chosen.values()))))
            parts[-1].validate(full=True)
    with reading(path, "Parquet"):
        table = pyarrow.concat_tables(parts, promote_options="permissive")
        # Some writers leave it open whether bytes are text.
        kinds = [pyarrow.string() if pyarrow.types.is_binary(kind) else kind for kind in table.schema.types]
        table = table.cast(pyarrow.schema(zip(table.schema.names, kinds, strict=True)))
        frame = table.to_pandas(ignore_metadata=True)  # with it an index of pandas would be no column
    return Table(frame[list(chosen.values())].set_axis(list(chosen), axis=1), chosen, Place(path))


def _read_json(path: Path, choose: Choose) -> Table:
    """Read JSON lines; the first object says which columns there are, and of which type."""
    with reading(path, "JSON lines"):
        head = json.loads(_first_line(path, "utf-8-sig")[0])
        if not isinstance(head, dict):
            raise InputError("the first line holds no object", where=path, expected='lines of {"user": ..., ...}')
        columns = [name for name, value in head.items() if not isinstance(value, (dict, list))]
        chosen = {role: columns[at] for role, at in choose(columns).items()}
        types = {name: _JSON_TYPES.get(type(head[name]), pyarrow.string()) for name in chosen.values()}
        if "rating" in chosen and types[chosen["rating"]] == pyarrow.int64():  # the next may be a half
            types[chosen["rating"]] = pyarrow.float64()
        options = pyarrow.json.ParseOptions(
            explicit_schema=pyarrow.schema(list(types.items())), unexpected_field_behavior="ignore"
        )
        with opened(path) as stream:
            table = pyarrow.json.read_json(stream, parse_options=options)
        table.validate(full=True)
        frame = table.to_pandas()[list(chosen.values())].set_axis(list(chosen), axis=1)
    return Table(frame, chosen, Place(path))


def _read_text(
    path: Path, choose: Choose, names: list[str] | None, sep: str | None, numbered: bool, encoding: str
) -> Table:
    """Read delimited text as text, so that ids such as ``007`` survive."""
    first, before = _first_line(path, encoding)
    if "\0" in first:
        raise wrong_encoding(path)
    said = sep = sep or separator(first) or ","
    if sep == TWO_COLONS:  # pandas is fast with one character only
        first, sep = first.replace(TWO_COLONS, "\t"), "\t"
    rough = first.split(sep)
    typed = all(re.fullmatch(r"[^:]+:(token|float)(_seq)?", field) for field in rough)
    numeric = len(rough) >= 2 and all(map(_is_number, rough[:2]))
    headless = names is None and (numeric or (numbered and not any(map(is_known, rough))))
    bare = headless or names is not None
    # RecBole's files and dumps without a header do not quote, so that a quotation mark is one.
    plain = sep == "\t" and (typed or bare) and not any(re.fullmatch(r'\s*".*"\s*', field) for field in rough)
    quoting: Literal[0, 3] = csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL
    fields = next(csv.reader([first], delimiter=sep, skipinitialspace=True, quoting=quoting))
    if typed:
        fields = [field.partition(":")[0] for field in fields]
    if headless:
        usual = DEFAULT_NAMES if numeric else ()
        fields = [*usual[: len(fields)], *map(str, range(len(usual), len(fields)))]
    columns = names or fields
    chosen = choose(columns)
    read = partial(
        pd.read_csv,
        sep=sep,
        header=None,
        skiprows=before + (not bare),
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
        frame = _rows(path, read, len(columns), colons=said == TWO_COLONS)
    except pd.errors.ParserError as error:
        line = re.search(r"line (\d+)", str(error))
        raise InputError(
            f"cannot be split at {said!r}: {str(error).removeprefix('Error tokenizing data. C error: ')}",
            where=path,
            line=int(line.group(1)) if line else None,
            expected="the same number of fields in every line",
        ) from error
    frame = frame.dropna(how="all")
    frame = frame[list(chosen.values())].set_axis(list(chosen), axis=1)
    notes = ("not UTF-8, read as Latin-1",) if encoding == "latin-1" else ()
    if headless:
        filled = frame.dropna(subset=[role for role in ("user", "item") if role in chosen])
        if holes := len(frame) - len(filled):
            notes = (*notes, f"{holes:,} row{'s' if holes > 1 else ''} without user or item left out")
        frame = filled
    lines = frame.index + before + (not bare) + 1
    place = Place(path, lambda row: int(lines[row]), decimal="," if sep == ";" else ".")
    called = {role: str(at) if headless else columns[at] for role, at in chosen.items()}
    return Table(frame, called, place, headless, notes)


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


def separator(line: str) -> str | None:
    """Give what separates the fields of a line: tab, else the most frequent of ``::``, semicolon and comma, or none."""
    mark = "\t" if "\t" in line else max((TWO_COLONS, ";", ","), key=line.count)
    return mark if mark in line else None


def _is_number(field: str) -> bool:
    return re.fullmatch(r'\s*("?)[+-]?\d+(\.\d+)?([eE][+-]?\d+)?\1\s*', field) is not None
