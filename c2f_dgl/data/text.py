"""What a first line says of delimited text: its separator, its columns, and whether it has a header."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from typing import Literal

from c2f_dgl.data.columns import is_known

# MovieLens separates by this in its ratings.dat.
TWO_COLONS = "::"
# Names for the leading columns of a log without a header; MovieLens, Amazon and HetRec all write them in this order.
DEFAULT_NAMES = ("user", "item", "rating", "timestamp")


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
