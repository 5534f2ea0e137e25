"""External ids of users or items, and the rows they stand for."""

from __future__ import annotations

import difflib
from functools import cached_property
from typing import Any

import numpy as np

from c2f_dgl.errors import InputError

# Stands for what is no whole number; no id.
_NO_NUMBER = -(2**63)


class IdMap:
    """External ids by row, and back: distinct integers or str, of the `role` that messages call them by."""

    def __init__(self, ids: np.ndarray, role: str) -> None:
        self.role = role
        ids = np.asarray(ids)
        self.ids = ids.astype(np.int64) if _fit_int64(ids) else as_text(ids)
        if len(self._sorted) > 1 and (self._sorted[1:] == self._sorted[:-1]).any():
            raise InputError(f"a {role} id occurs twice", expected="distinct ids")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def are_text(self) -> bool:
        """Whether the ids are str and not integers."""
        return self.ids.dtype == object

    @cached_property
    def _order(self) -> np.ndarray:
        return np.argsort(self.ids, kind="stable")

    @cached_property
    def _sorted(self) -> np.ndarray:
        return self.ids[self._order]

    def find(self, values: Any) -> np.ndarray:
        """Rows of external ids (int64), -1 for unknown ones; a whole number and its text are the same id."""
        if len(self) == 0:
            return np.full(np.shape(values), -1, dtype=np.int64)
        keys = self._keys(values)
        position = np.searchsorted(self._sorted, keys).clip(max=len(self) - 1)
        return np.where(self._sorted[position] == keys, self._order[position], -1)

    def rows(self, values: Any, where: str | None = None) -> np.ndarray:
        """Rows of external ids (int64); an unknown one is refused, `where` being what it came from."""
        rows = self.find(values)
        if (rows < 0).any():
            missing = np.asarray(values, dtype=object).reshape(-1)[int(np.argmin(rows.reshape(-1)))]
            near = difflib.get_close_matches(str(missing), map(str, self.ids[:100_000].tolist()), n=1)
            hint = f"e.g. {near[0]}" if near else f"one of {len(self):,} known ids"
            raise InputError(f"no {self.role} {missing!r}", where=where, expected=hint)
        return rows

    def extended(self, new: np.ndarray) -> IdMap:
        """With further ids (of the form `normalised` gives) added at the end."""
        return IdMap(np.concatenate([self.ids, new]), self.role)

    def normalised(self, values: Any) -> np.ndarray | None:
        """Ids in this map's type (int64, or object holding str); None where they cannot be of that type."""
        keys = self._keys(values)
        return None if not self.are_text and (keys == _NO_NUMBER).any() else keys

    def _keys(self, values: Any) -> np.ndarray:
        return as_text(np.asarray(values, dtype=object)) if self.are_text else _whole_numbers(id_array(values))


def _fit_int64(ids: np.ndarray) -> bool:
    """Whether ids are integers none of which int64 would turn into another: numpy reads 2**63 and more as uint64."""
    return ids.dtype.kind == "i" or (ids.dtype.kind == "u" and ids.max(initial=0) < 2**63)


def as_text(ids: np.ndarray) -> np.ndarray:
    """Ids as str in an object array: each takes its own length, where numpy's text takes that of the longest."""
    return np.asarray(np.frompyfunc(_text, 1, 1)(ids), dtype=object)


def id_array(values: Any) -> np.ndarray:
    """Ids as numpy reads them, but as objects where some are text (see `as_text`)."""
    if isinstance(values, np.ndarray):
        return values
    objects = np.asarray(values, dtype=object)
    has_text = np.frompyfunc(lambda value: isinstance(value, str), 1, 1)(objects)
    return objects if np.any(has_text) else np.asarray(values)


def is_missing(ids: np.ndarray) -> np.ndarray:
    """Where there is no id: None, NaN and their kin, or empty text."""
    return np.vectorize(_is_missing, otypes=[bool])(ids)


def _is_missing(value: Any) -> bool:
    if isinstance(value, (str, bytes)):
        return not value
    return value is None or str(value) in ("nan", "NaT", "<NA>")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _whole_numbers(ids: np.ndarray) -> np.ndarray:
    """Ids as whole numbers (int64), also those that are text or whole floats; `_NO_NUMBER` for others."""
    if _fit_int64(ids):
        return ids.astype(np.int64)
    if ids.dtype.kind == "f":  # as pandas has whole numbers in a column where one was missing
        return np.where((np.abs(ids) < 2.0**53) & (np.floor(ids) == ids), ids, _NO_NUMBER).astype(np.int64)
    return np.asarray(np.frompyfunc(_whole_number, 1, 1)(ids.astype(object))).astype(np.int64)


def _whole_number(value: Any) -> int:
    text = _text(value)
    if len(text) > 20 or not text.removeprefix("-").isdecimal():
        return _NO_NUMBER
    number = int(text)
    return number if str(number) == text and abs(number) < 2**63 else _NO_NUMBER
