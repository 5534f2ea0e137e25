"""SQL for the values of a log's rows, which ends a query with one line at the first row that cannot be used."""

from __future__ import annotations

import re
from dataclasses import dataclass

from c2f_dgl.data.columns import WHOLE_NUMBER
from c2f_dgl.data.sources import FILE, Source, literal
from c2f_dgl.data.tables import TEXT

# Before what a query refuses to go on with.
REFUSED = "c2f_dgl refuses: "

_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
WHOLE = {*_INTEGERS, *(f"U{name}" for name in _INTEGERS)}
FLOATS = {"FLOAT", "DOUBLE"}


@dataclass(frozen=True)
class Rows:
    """The values of a source's rows."""

    source: Source
    types: dict[str, str]  # DuckDB's type of the column of each role

    def id(self, role: str) -> str:
        """SQL for an id as the files have it; a missing one is refused, but where there is no header."""
        column, kind = self.source.columns[role], self.types[role]
        if kind in FLOATS:
            column = f"CASE WHEN isnan({column}) THEN NULL ELSE {column} END"
        elif kind not in WHOLE:
            column = f"CAST({column} AS VARCHAR)"
            if self.source.form == TEXT:
                column = f"nullif(ltrim({column}, ' '), '')"
        if self.source.headless:
            return column
        return f"coalesce({column}, {self._refusal(f'the {role} is missing (empty or NaN)', 'an id in every row')})"

    def number(self, role: str) -> str:
        """SQL for a finite number (DOUBLE)."""
        column = f"CAST({self.source.columns[role]} AS VARCHAR)"
        if self.source.decimal != ".":
            column = f"replace({column}, {literal(self.source.decimal)}, '.')"
        number = f"TRY_CAST({column} AS DOUBLE)"
        refusal = self._refusal(f"{role} {{}} is not a number", "a number in every row", role)
        return f"CASE WHEN isfinite({number}) THEN {number} ELSE {refusal} END"

    def time(self, first: str | None) -> str:
        """SQL for a time (BIGINT or DOUBLE): numbers as they are, of dates the microseconds since 1970, in UTC.

        What the `first` text of the column is, all of it has to be.
        """
        column, kind = self.source.columns["timestamp"], self.types["timestamp"]
        if kind in WHOLE:
            wrong = self._refusal("timestamp {} is not a number", "a number in every row", "timestamp")
            return f"coalesce(TRY_CAST({column} AS BIGINT), {wrong})"
        text = f"CAST({column} AS VARCHAR)"
        if kind == "VARCHAR" and first is not None and re.fullmatch(WHOLE_NUMBER, first):
            expected = "one in every row, as in the first"
            wrong = self._refusal("timestamp {} is not a whole number", expected, "timestamp")
            return f"CASE WHEN regexp_full_match({text}, '{WHOLE_NUMBER}') THEN {text}::BIGINT ELSE {wrong} END"
        is_number = first is not None and _is_number(first.replace(self.source.decimal, "."))
        if kind in FLOATS or (kind == "VARCHAR" and is_number):
            return self.number("timestamp")
        wrong = self._refusal("timestamp {} is not a time", "a number or an ISO 8601 date in every row", "timestamp")
        return f"coalesce(epoch_us(TRY_CAST({text} AS TIMESTAMPTZ)), {wrong})"

    def _refusal(self, problem: str, expected: str, role: str | None = None) -> str:
        """SQL that ends the query with a line on the row's file; ``{}`` in `problem` is the row's value of a role."""
        value = f"coalesce('''' || CAST({self.source.columns[role]} AS VARCHAR) || '''', 'NaN')" if role else "''"
        before, _, after = problem.partition("{}")
        words = [literal(REFUSED), FILE, literal(f": {before}"), value, literal(f"{after} (expected {expected})")]
        return f"error({' || '.join(words)})"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
