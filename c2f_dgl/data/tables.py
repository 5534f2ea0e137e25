"""Tables of files, compressed ones too: the wanted columns of Parquet, of JSON lines and of delimited text."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow
import pyarrow.json
import pyarrow.parquet

from c2f_dgl.data.columns import MISSING, Origin, counted, find_column, is_known, kind_of
from c2f_dgl.data.packing import first_line, leading_line, opened, reading, suffix_of, unpacked, wrong_encoding
from c2f_dgl.errors import InputError

PARQUET_SUFFIXES = {".parquet", ".pq"}
JSON_SUFFIXES = {".jsonl", ".ndjson", ".json"}
LOG_SUFFIXES = {".csv", ".tsv", ".inter", *PARQUET_SUFFIXES, *JSON_SUFFIXES}

# The forms of files, as messages call them.
PARQUET, JSON, TEXT, LIGHTGCN = "Parquet", "JSON lines", "delimited text", "LightGCN's text"

# MovieLens separates by this in its ratings.dat.
TWO_COLONS = "::"
# Names for the leading columns of a log without a header; MovieLens, Amazon and HetRec all write them in this order.
DEFAULT_NAMES = ("user", "item", "rating", "timestamp")

# From the names of all columns of a file, the position of the column of each role.
Choose = Callable[[list[str], Path], Mapping[str, int]]

# Rows, and bytes of JSON lines, that are read at a time.
BATCH_ROWS, BATCH_BYTES = 1 << 20, 1 << 26


@dataclass(frozen=True)
class Table:
    """The wanted columns of a file or of some of its rows, called by their roles.

    The index of the frame has the rows' places: lines of text, otherwise rows from 0.
    """

    frame: pd.DataFrame
    names: dict[str, str]  # the file's column of each role: its name, or its number where there is no header
    path: Path
    form: str
    headless: bool = False
    decimal: str = "."
    is_latin: bool = False  # read as Latin-1, not being UTF-8
    n_incomplete: int = 0  # rows without user or item that were left out, as they are where there is no header

    @property
    def origin(self) -> Origin:
        """Where the rows stand, for messages."""
        index = self.frame.index
        return Origin(self.path, "line" if self.form == TEXT else "row", lambda row: int(index[row]), self.decimal)

    def same_columns(self, columns: list[str], file: Path) -> dict[str, int]:
        """The positions, among `columns` of another file of the log, of those that this one has."""
        positions = {role: find_column(columns, name, role, file) for role, name in self.names.items()}
        return {role: position for role, position in positions.items() if position is not None}

    def mended(self) -> list[str]:
        """Notes on what was mended."""
        encoding = "not UTF-8, read as Latin-1" if self.is_latin else ""
        return list(filter(None, [encoding, counted(self.n_incomplete, "row", "without user or item left out")]))


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
    """The columns that `choose` picks, of a file in whichever form or of a folder of one log; see `read_batches`."""
    files = [path]
    if os.path.isdir(path):  # where a folder may not be entered it answers no, and pathlib raises
        with reading(path, "a folder of one log"):
            files = log_files(path) or files
    table = joined(list(read_batches(path, files, choose, names, sep, numbered)))
    return table if len(files) == 1 else replace(table, path=path)


def joined(tables: Sequence[Table]) -> Table:
    """Tables of one log, after each other."""
    frame = pd.concat([table.frame for table in tables], ignore_index=tables[0].form != TEXT)
    n_incomplete, is_latin = sum(table.n_incomplete for table in tables), any(table.is_latin for table in tables)
    return replace(tables[0], frame=frame, n_incomplete=n_incomplete, is_latin=is_latin)


def read_batches(
    source: Path,
    files: Sequence[Path],
    choose: Choose,
    names: list[str] | None = None,
    sep: str | None = None,
    numbered: bool = False,
) -> Iterator[Table]:
    """The columns that `choose` picks, of the files of the log `source`, some rows at a time.

    `names` and `sep` are of text: see `read_log`. With `numbered`, which says that columns are asked for by number, a
    first line without any well-known name is no header. Of Parquet a folder ``day=2024-05-01`` in `source` is a column
    of what is in it. The first file says what the columns are called, and which kind of values each has in all of them.
    """
    if sep is not None and (len(sep) != 1 or sep in "\r\n"):
        raise InputError(f"a separator {sep!r}", where=source, expected="one character, no line end")
    if names is not None and len(set(names)) < len(names):
        raise InputError("two columns have the same name", where="names", expected="a name of its own for each")
    first: Table | None = None
    for file in files:
        form = form_of(file, sep)
        with reading(file, form):
            if form == PARQUET:
                keys = (part.partition("=") for part in file.relative_to(source).parts[:-1] if "=" in part)
                tables = _parquet(file, choose, {key: value for key, _, value in keys})
            elif form == JSON and names is None:
                tables = _json(file, choose)
            else:
                tables = _text(file, choose, names, sep, numbered)
            for table in tables:
                if first is None:
                    first = replace(table, frame=table.frame[:0])
                    choose = first.same_columns
                _check_kinds(table, first)
                yield table


def _check_kinds(table: Table, first: Table) -> None:
    """Refuse a file whose columns have values of another kind than those of the first."""
    for role, values in table.frame.items():
        here, there = kind_of(values), kind_of(first.frame[role])
        if here != there and values.notna().any():
            problem = f"column {table.names[role]!r} is {here}, and {there} in {first.path.name}"
            raise InputError(problem, where=table.path, expected="one type in all files")


def _parquet(path: Path, choose: Choose, keys: Mapping[str, str]) -> Iterator[Table]:
    with opened(path) as stream:
        # Parquet is read from its end, so that what is compressed is unpacked whole.
        data = pyarrow.parquet.ParquetFile(str(path) if unpacked(path) == path else io.BytesIO(stream.read()))
    columns = [field.name for field in data.schema_arrow if not pyarrow.types.is_nested(field.type)]
    columns += [key for key in keys if key not in columns]
    names = {role: columns[position] for role, position in choose(columns, path).items()}
    stored = data.schema_arrow.names
    wanted = [name for name in dict.fromkeys(names.values()) if name in stored]
    none = [data.schema_arrow.empty_table().select(wanted)]
    start = 0
    for batch in data.iter_batches(BATCH_ROWS, columns=wanted) if data.metadata.num_rows else none:
        batch.validate(full=True)
        # Some writers leave it open whether bytes are text.
        types = [pyarrow.string() if pyarrow.types.is_binary(kind) else kind for kind in batch.schema.types]
        batch = batch.cast(pyarrow.schema(zip(batch.schema.names, types, strict=True)))
        frame = batch.to_pandas(ignore_metadata=True)  # with it an index of pandas would be no column
        frame = frame.assign(**{key: value for key, value in keys.items() if key not in stored})
        frame.index += start
        yield Table(_by_role(frame, names), names, path, PARQUET)
        start += len(frame)


def _by_role(frame: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    """The frame's columns of each role, called by their roles."""
    return frame[list(columns.values())].set_axis(list(columns), axis=1)


def _json(path: Path, choose: Choose) -> Iterator[Table]:
    """Read JSON lines; the first object says which columns there are, and of which type."""
    head = json.loads(leading_line(path, "utf-8-sig")[0])
    if not isinstance(head, dict):
        raise InputError("the first line holds no object", where=path, expected='lines of {"user": ..., ...}')
    columns = [name for name, value in head.items() if not isinstance(value, (dict, list))]
    names = {role: columns[position] for role, position in choose(columns, path).items()}
    arrow_types = {int: pyarrow.int64(), float: pyarrow.float64()}
    types = {name: arrow_types.get(type(head[name]), pyarrow.string()) for name in names.values()}
    if "rating" in names and types[names["rating"]] == pyarrow.int64():  # the next may be a half
        types[names["rating"]] = pyarrow.float64()
    schema = pyarrow.schema(types)
    options = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    start = 0
    with opened(path) as stream:
        while lines := stream.read(BATCH_BYTES) + stream.readline():
            if not lines.strip():
                continue
            table = pyarrow.json.read_json(io.BytesIO(lines), parse_options=options)
            table.validate(full=True)
            frame = table.to_pandas()
            frame.index += start
            yield Table(_by_role(frame, names), names, path, JSON)
            start += len(frame)


def _text(path: Path, choose: Choose, names: list[str] | None, sep: str | None, numbered: bool) -> Iterator[Table]:
    """Read delimited text as text, so that ids such as ``007`` survive."""
    encoding = _encoding(path)
    line, n_blank = leading_line(path, encoding)
    if "\0" in line:
        raise wrong_encoding(path)
    form = text_form(line, names, sep, numbered)
    n, chosen, colons = len(form.columns), choose(form.columns, path), form.sep == TWO_COLONS
    called = {role: str(at) if form.headless else form.columns[at] for role, at in chosen.items()}
    ids = [role for role in ("user", "item") if role in chosen]
    n_before = n_blank + form.n_header
    with opened(path) as stream:
        batches = pd.read_csv(
            _Tabs(stream, encoding, newline="") if colons else stream,
            sep="\t" if colons else form.sep,  # pandas is fast with one character only
            header=None,
            skiprows=n_before,
            # A row's number is then that of its line.
            skip_blank_lines=False,
            # One more than there should be. No `usecols`: with it pandas no longer sees a line with a field too many,
            # and reads the wrong fields.
            names=range(n + 1),
            index_col=False,
            dtype="string",
            # Ids may well be called "NA" or "None"; only these mean that nothing is there.
            keep_default_na=False,
            na_values=list(MISSING),
            skipinitialspace=True,
            encoding=encoding,
            quoting=csv.QUOTE_MINIMAL if form.quoted else csv.QUOTE_NONE,
            chunksize=BATCH_ROWS,
        )
        while (frame := _next(batches, path, form)) is not None:
            frame.index += n_before + 1
            if (too_long := frame[n].notna()).any():
                raise _too_long(path, n, int(too_long.idxmax()))
            filled = _by_role(frame.dropna(how="all"), chosen)
            rows = filled.dropna(subset=ids) if form.headless else filled
            decimal = "," if form.sep == ";" else "."
            is_latin, n_incomplete = encoding == "latin-1", len(filled) - len(rows)
            yield Table(rows, called, path, TEXT, form.headless, decimal, is_latin, n_incomplete)


class _Tabs(io.TextIOWrapper):
    """Text with a tab for every two colons."""

    def read(self, size: int | None = -1) -> str:
        """The next characters, `size` or one more."""
        block = super().read(size)
        if block.endswith(":"):
            block += super().read(1)
        return block.replace(TWO_COLONS, "\t")


def _encoding(path: Path) -> str:
    """UTF-8 where all of the file is, else Latin-1."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with opened(path) as stream:
        try:
            while block := stream.read(1 << 20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8-sig"


def _next(batches: Iterator[pd.DataFrame], path: Path, form: TextForm) -> pd.DataFrame | None:
    """The next rows; None after the last ones."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of fields left out
            return next(batches, None)
    except pd.errors.ParserWarning as error:
        raise _too_long(path, len(form.columns)) from error
    except pd.errors.ParserError as error:
        reason = str(error).removeprefix("Error tokenizing data. C error: ")
        if line := re.match(r"Expected \d+ fields in line (\d+)", reason):
            raise _too_long(path, len(form.columns), int(line[1])) from error
        expected = "the same number of fields in every line"
        raise InputError(f"cannot be split at {form.sep!r}: {reason}", where=path, expected=expected) from error


def _too_long(path: Path, n: int, line: int | None = None) -> InputError:
    problem = f"more fields than the {n} columns that have a name"
    return InputError(problem, where=path, line=line, expected="a name for each column (one for the row numbers, too)")


@dataclass(frozen=True)
class TextForm:
    """How the rows of delimited text are read."""

    columns: list[str]  # names of all of them; from the header, given, or usual ones and numbers
    sep: str
    headless: bool  # whether the columns had to be named for the file
    n_header: int  # lines before the first row, blank ones left out
    quoted: bool  # whether a quotation mark quotes


def text_form(line: str, names: list[str] | None = None, sep: str | None = None, numbered: bool = False) -> TextForm:
    """The form of text whose first line is `line`; `names`, `sep` and `numbered` as `read_table` has them."""
    mark = sep or separator(line) or ","
    rough = line.split(mark)
    typed = all(re.fullmatch(r"[^:]+:(token|float)(_seq)?", field) for field in rough)
    numeric = len(rough) >= 2 and all(map(_is_number, rough[:2]))
    headless = names is None and (numeric or (numbered and not any(map(is_known, rough))))
    n_header = 0 if headless or names is not None else 1
    # RecBole's files and dumps without a header do not quote, so that a quotation mark is one.
    plain = mark in ("\t", TWO_COLONS) and (typed or not n_header)
    quoted = not plain or any(re.fullmatch(r'\s*".*"\s*', field) is not None for field in rough)
    # The csv module splits at one character only.
    fields, at = (line.replace(TWO_COLONS, "\t"), "\t") if mark == TWO_COLONS else (line, mark)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    columns = next(csv.reader([fields], delimiter=at, skipinitialspace=True, quoting=quoting))
    if typed:
        columns = [field.partition(":")[0] for field in columns]
    if headless:
        usual = DEFAULT_NAMES if numeric else ()
        columns = [*usual[: len(columns)], *map(str, range(len(usual), len(columns)))]
    return TextForm(names or columns, mark, headless, n_header, quoted)


def separator(line: str) -> str | None:
    """What separates the fields of a line: tab, else the most frequent of ``::``, semicolon and comma, or none."""
    mark = "\t" if "\t" in line else max((TWO_COLONS, ";", ","), key=line.count)
    return mark if mark in line else None


def _is_number(field: str) -> bool:
    return re.fullmatch(r'\s*("?)[+-]?\d+(\.\d+)?([eE][+-]?\d+)?\1\s*', field) is not None
