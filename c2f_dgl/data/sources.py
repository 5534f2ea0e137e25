"""Files of one log, however many and however large, as a relation that DuckDB reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet

from c2f_dgl.data.columns import MISSING, choose_columns, is_number
from c2f_dgl.data.tables import (
    JSON,
    LIGHTGCN,
    LOG_SUFFIXES,
    PARQUET,
    TEXT,
    first_object,
    form_of,
    leading_line,
    packing_of,
    reading,
    suffix_of,
    unpacked,
)
from c2f_dgl.data.text import TextForm, text_form
from c2f_dgl.errors import InputError

# The column that says which file a row is from.
FILE = "c2f_dgl_file"

EXPECTED = "Parquet, CSV, TSV or JSON lines, the last three as they are, .gz or .zst"

Asked = Mapping[str, "str | int | None"]


@dataclass(frozen=True)
class Source:
    """A log in files."""

    form: str  # of all its files, for messages
    relation: str  # SQL that reads them, with `FILE`
    columns: dict[str, str]  # the relation's column of each role, quoted for SQL
    called: dict[str, str]  # what the files call it: its name, or its number where there is no header
    headless: bool = False
    decimal: str = "."  # what may stand before the decimals of numbers, beside the point
    whole: frozenset[str] = frozenset()  # roles whose text has to be whole numbers, as the first object of JSON has


def open_source(path: Path, asked: Asked, sep: str | None = None) -> Source:
    """The log at `path`, a file or a folder at any depth: what `asked` names or well-known names of the roles in it.

    What the files say at their beginnings (text, JSON lines) or ends (Parquet) is read and compared, no rows are.
    """
    with reading(path, "a log"):
        files = _files(path)
    form = form_of(files[0], sep)
    if form == LIGHTGCN:
        raise InputError("lines have no separator", where=files[0], expected=f"a log with columns: {EXPECTED}")
    if form == PARQUET:
        return _parquet(path, files, asked)
    return _json(path, files, asked) if form == JSON else _text(files, asked, sep)


def _files(path: Path) -> list[Path]:
    """The files of a log in a folder, all of the same form, in the order of their names; a file alone."""
    if not path.is_dir():
        with path.open("rb"):
            return [path]
    hidden = lambda file: any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
    files = sorted(file for file in path.rglob("*") if suffix_of(file) in LOG_SUFFIXES and not hidden(file))
    if not files:
        raise InputError("no log in this folder", where=path, expected=EXPECTED)
    if {"train", "test"} <= {unpacked(file).stem for file in files if file.parent == path}:
        raise InputError("this is split already", where=path, expected="a log in one or many files")
    forms: dict[str, Path] = {}
    for file in files:
        forms.setdefault(form_of(file), file)
    if len(forms) > 1:
        names = " and ".join(f"{form} ({file.relative_to(path)})" for form, file in forms.items())
        raise InputError(f"holds {names}", where=path, expected="files of one form")
    return files


def _chosen(here: Mapping[str, str], asked: Asked, file: Path) -> tuple[dict[str, str], dict[str, str]]:
    """What the first file of a log calls the column of each role, and the kinds of these columns."""
    names = list(here)
    called = {role: names[at] for role, at in choose_columns(names, asked, file).items()}
    return called, {name: here[name] for name in called.values()}


def _check_same(here: Mapping[str, str], kinds: Mapping[str, str], file: Path, first: Path, lacks: str) -> None:
    """Refuse a file where columns are not there, or not of the kind, that the first one has."""
    for name, kind in kinds.items():
        if name not in here:
            raise InputError(lacks.format(repr(name), first), where=file, expected="the same columns in all files")
        if here[name] != kind:
            problem = f"column {name!r} is {here[name]}, and {kind} in {first}"
            raise InputError(problem, where=file, expected="one type in all files")


def _parquet(path: Path, files: Sequence[Path], asked: Asked) -> Source:
    """Parquet: every part must have the used columns, each of the kind that the first part has there."""
    called: dict[str, str] = {}
    kinds: dict[str, str] = {}
    for file in files:
        if unpacked(file) != file:
            raise InputError("Parquet that is packed once more", where=file, expected="it unpacked")
        with reading(file, PARQUET):
            schema = pyarrow.parquet.read_schema(file)
        # A folder called day=2024-05-01 is a column for all that is in it.
        keys = [part.partition("=")[0] for part in file.relative_to(path).parts[:-1] if "=" in part]
        here = {field.name: _kind(field.type) for field in schema if not pyarrow.types.is_nested(field.type)}
        here.update(dict.fromkeys(keys, "a folder's name"))
        if not kinds:
            called, kinds = _chosen(here, asked, file)
        _check_same(here, kinds, file, files[0].relative_to(path), "no column {}, which {} has")
        capitals = [name for name in kinds if [other.lower() for other in here].count(name.lower()) > 1]
        if capitals:
            problem = f"a second column is called {capitals[0]!r} but for capitals"
            raise InputError(problem, where=file, expected="names that differ")
    options = "union_by_name=true, binary_as_string=true"
    relation = f"SELECT * FROM read_parquet({_list(files)}, filename={literal(FILE)}, {options})"
    return Source(PARQUET, relation, {role: _name(name) for role, name in called.items()}, called)


def _kind(kind: pyarrow.DataType) -> str:
    """What values of a type are to us: numbers and text of any width are the same."""
    value = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    types = pyarrow.types
    if types.is_integer(value) or types.is_floating(value):
        return "numbers"
    text = (types.is_string, types.is_large_string, types.is_string_view, types.is_binary, types.is_large_binary)
    return "text" if any(is_text(value) for is_text in text) else str(value)


def _text(files: Sequence[Path], asked: Asked, sep: str | None) -> Source:
    """Delimited text, read as text: all files must have the columns of the first one, in its order."""
    first: TextForm | None = None
    groups: dict[tuple[str, int, bool], list[Path]] = {}
    for file in files:
        with reading(file, TEXT):
            line, n_blank = leading_line(file, "utf-8-sig", "replace")
        form = text_form(line, None, sep, numbered=any(map(is_number, asked.values())))
        first = first or form
        if (form.columns, form.sep, form.headless) != (first.columns, first.sep, first.headless):
            problem = f"columns {', '.join(form.columns)} where {files[0].name} has {', '.join(first.columns)}"
            raise InputError(problem, where=file, expected="the same columns in all files")
        groups.setdefault((_packing(file), n_blank + form.n_header, form.quoted), []).append(file)
    assert first is not None
    chosen = choose_columns(first.columns, asked, files[0])
    columns = {f"c{at}": "VARCHAR" for at in range(len(first.columns))}
    parts = []
    for (packing, skip, quoted), members in groups.items():
        quote = literal('"' if quoted else "")
        form_of = f"auto_detect=false, header=false, skip={skip}, delim={literal(first.sep)}, nullstr={_list(MISSING)}"
        parts.append(_reader("read_csv", members, columns, packing, f"{form_of}, quote={quote}, escape={quote}"))
    sql = {role: f"c{at}" for role, at in chosen.items()}
    called = {role: str(at) if first.headless else first.columns[at] for role, at in chosen.items()}
    decimal = "," if first.sep == ";" else "."
    return Source(TEXT, " UNION ALL ".join(parts), sql, called, first.headless, decimal)


def _json(path: Path, files: Sequence[Path], asked: Asked) -> Source:
    """JSON lines: the first object of a file says which columns there are, and of which type."""
    called: dict[str, str] = {}
    kinds: dict[str, str] = {}
    groups: dict[str, list[Path]] = {}
    heads = [first_object(file) for file in files]
    for file, head in zip(files, heads, strict=True):
        here = {name: "a number" if _is_json_number(value) else "text" for name, value in head.items()}
        if not kinds:
            called, kinds = _chosen(here, asked, file)
        lacks = "no {} in the first object, where {} has it"
        _check_same(here, kinds, file, files[0].relative_to(path), lacks)
        groups.setdefault(_packing(file), []).append(file)
    # DuckDB would round 2.5 to a whole number: these are read as text, and looked at as ids are.
    whole = {name for name in kinds if _is_json_number(heads[0][name]) and isinstance(heads[0][name], int)}
    columns = {name: "VARCHAR" if name in whole or kind == "text" else "DOUBLE" for name, kind in kinds.items()}
    options = "format='newline_delimited'"
    parts = [_reader("read_json", members, columns, packing, options) for packing, members in groups.items()]
    sql = {role: _name(name) for role, name in called.items()}
    roles = frozenset(role for role, name in called.items() if name in whole)
    return Source(JSON, " UNION ALL ".join(parts), sql, called, whole=roles)


def _is_json_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _packing(file: Path) -> str:
    """How a file is compressed; refused where DuckDB does not unpack it."""
    with reading(file, "a log"):
        packing, _ = packing_of(file)
    if packing not in ("none", "gzip", "zstd"):
        raise InputError("this is packed as DuckDB does not unpack it", where=file, expected="it unpacked, .gz or .zst")
    return packing


def _reader(function: str, files: Sequence[Path], columns: Mapping[str, str], packing: str, options: str) -> str:
    """SQL that reads files by DuckDB's `function`."""
    types = ", ".join(f"{literal(name)}: '{kind}'" for name, kind in columns.items())
    how = f"columns={{{types}}}, compression='{packing}', filename={literal(FILE)}, {options}"
    return f"SELECT * FROM {function}({_list(files)}, {how})"


def literal(text: str) -> str:
    """Text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _name(name: str) -> str:
    """A name of a column, quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _list(values: Sequence[str | Path]) -> str:
    """Texts as a list of SQL; in paths, what would match other names is escaped."""
    texts = [re.sub(r"([*?\[])", r"[\1]", str(value)) if isinstance(value, Path) else value for value in values]
    return f"[{', '.join(map(literal, texts))}]"
