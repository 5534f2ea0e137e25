"""Readers of interactions: LightGCN's text format, logs in all the forms of `c2f_dgl.data.tables`, prepared logs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet
from pyarrow import compute

from c2f_dgl.data.columns import Origin, choose_columns, counted, guesses, is_number, parsed
from c2f_dgl.data.interactions import Interactions
from c2f_dgl.data.packing import opened, reading, wrong_encoding
from c2f_dgl.data.tables import LIGHTGCN, form_of, read_table
from c2f_dgl.errors import InputError
from c2f_dgl.io.files import read_text

# LightGCN's ids are row numbers: one beyond this is a damaged file, not a user.
LARGEST_ID = 2**31 - 1
LIGHTGCN_LINE = "lines of whole numbers: user item item ..."

MANIFEST = "prepared.json"
VERSION = 1
PREPARED = "a folder from c2f-dgl data prepare"
AGAIN = "it whole: c2f-dgl data prepare writes it again"


def read_interactions(path: str | Path, *, timed: bool = False, **options: Any) -> Interactions:
    """Read a file, a folder of one log or a prepared log, in whichever of the known formats it is.

    `timed` and `options` are those of `read_log`; LightGCN's format and prepared logs take none of `options`.
    """
    path = Path(path)
    if is_prepared(path):
        return read_prepared(path, timed=timed, **options)
    if os.path.isdir(path) or form_of(path, options.get("sep")) != LIGHTGCN:
        return read_log(path, timed=timed, **options)
    if options:
        problem = f"{', '.join(options)} cannot be used with LightGCN's format, which has no columns"
        raise InputError(problem, where=path, expected="a log with columns")
    return read_lightgcn(path)


def read_lightgcn(path: str | Path) -> Interactions:
    """Read LightGCN's text format: a line a user, ``user item item ...``, separated by blanks, of one item or none."""
    path = Path(path)
    with reading(path, LIGHTGCN), opened(path) as stream:
        text = stream.read().removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        lines = pyarrow.array(text.split(b"\n")).cast(pyarrow.string())
    except pyarrow.ArrowInvalid as error:
        raise wrong_encoding(path) from error
    words = compute.split_pattern_regex(lines, "[ \t]+")
    tokens, line = words.flatten(), compute.list_parent_indices(words)
    filled = compute.not_equal(tokens, "")
    tokens, line = tokens.filter(filled), line.filter(filled).to_numpy()
    if not len(tokens):
        raise InputError("the file is empty", where=path, expected=LIGHTGCN_LINE)
    # Ten digits are the most that an id below 2**31 has, and always fit into an int64.
    valid = compute.match_substring_regex(tokens, "^[0-9]{1,10}$").to_numpy(zero_copy_only=False)
    if valid.all():
        ids = tokens.cast(pyarrow.int64()).to_numpy()
        valid = ids <= LARGEST_ID
    if not valid.all():
        first = int(np.argmin(valid))
        raise _bad_token(path, tokens[first].as_py(), int(line[first]) + 1)
    is_user = np.append(True, line[1:] != line[:-1])
    user_ids, line_users = np.unique(ids[is_user], return_inverse=True)
    item_ids, items = np.unique(ids[~is_user], return_inverse=True)
    if not len(items):
        raise InputError("no user has an item", where=path, expected=LIGHTGCN_LINE)
    users = line_users[np.cumsum(is_user) - 1][~is_user]
    return Interactions.from_pairs(users.astype(np.int64), items.astype(np.int64), user_ids, item_ids)


def _bad_token(path: Path, word: str, line: int) -> InputError:
    """The error for a word of a LightGCN file that is no id."""
    if "\0" in word:
        return wrong_encoding(path)
    word = word[:24]
    problem, expected = f"{word!r} is not a whole number", LIGHTGCN_LINE
    if word.isdecimal() and word.isascii():
        problem, expected = f"id {word} is absurdly large", f"ids from 0 to {LARGEST_ID}"
    elif re.fullmatch(r"-\d+", word):
        problem, expected = f"id {word} is negative", "ids of 0 or more"
    return InputError(problem, where=path, line=line, expected=expected)


def read_log(
    path: str | Path,
    *,
    user: str | int | None = None,
    item: str | int | None = None,
    rating: str | int | None = None,
    min_rating: float | None = None,
    timestamp: str | int | None = None,
    timed: bool = False,
    names: list[str] | None = None,
    sep: str | None = None,
) -> Interactions:
    """Read a log with an interaction a row: Parquet, JSON lines, or delimited text.

    Parameters
    ----------
    path : str or Path
        A file, or a folder with RecBole's ``.inter`` or with parts in Parquet.
    user, item, rating, timestamp : str or int, optional
        Columns by name, or by place counted from 0; by default those with well-known names, which a note says.
        Times are numbers, or ISO 8601 dates.
    min_rating : float, optional
        Keep rows with at least this rating.
    timed : bool
        Whether to guess the column of times; otherwise only a named one is read.
    names : list of str, optional
        Names of all the columns of text without a header.
    sep : str, optional
        The separator of text, one character; by default what the first line has most of (see `separator`).
    """
    path = Path(path)
    asked = {"user": user, "item": item, "rating": rating}
    if timed or timestamp is not None:
        asked["timestamp"] = timestamp
    choose = lambda columns, file: choose_columns(columns, asked, file)
    table = read_table(path, choose, names, sep, numbered=any(map(is_number, asked.values())))
    notes, used = table.mended(), dict(table.names)
    if "rating" in used and min_rating is None:
        hint = "--set data.min_rating=... keeps the liked"
        notes.append(unused_ratings(table.frame["rating"], used.pop("rating"), table.origin, hint))
    notes += guesses(asked, used, table.headless)
    ratings, times = (role if role in used else None for role in ("rating", "timestamp"))
    log = Interactions.from_frame(table.frame, "user", "item", ratings, min_rating, times, origin=table.origin)
    return replace(log, notes=(*notes, *log.notes))


def unused_ratings(ratings: pd.Series, name: str, origin: Origin, hint: str) -> str:
    """The note on ratings of a log that nobody asked for: how low they go, and what would use them."""
    counts = ratings.value_counts()  # there are few different ones
    values = parsed(pd.Series(counts.index), origin)
    span = f" ({values.min():g} to {values.max():g})" if values.notna().any() else ""
    n_low = int(counts.to_numpy()[(values <= 0).to_numpy(dtype=bool, na_value=False)].sum())
    low = f", the {n_low:,} rated 0 or less too" if n_low else ""
    return f"ratings in column {name}{span} not used, every row counts{low} ({hint})"


def read_leading(
    path: str | Path, roles: Sequence[str], *, numbered: bool = False, sep: str | None = None
) -> tuple[pd.DataFrame, Origin]:
    """The first columns of a table, in any form that `read_log` takes, called by their roles.

    With `numbered` the first line is a header only where it has a well-known name.
    """
    path = Path(path)

    def choose(columns: list[str], _: Path) -> dict[str, int]:
        if len(columns) < len(roles):
            expected = f"at least {len(roles)}: {', '.join(roles)}"
            raise InputError(counted(len(columns), "column"), where=path, expected=expected)
        return {role: position for position, role in enumerate(roles)}

    table = read_table(path, choose, sep=sep, numbered=numbered)
    return table.frame, table.origin


def is_prepared(path: str | Path) -> bool:
    """Whether a folder holds a prepared log."""
    return os.path.isfile(Path(path) / MANIFEST)  # not pathlib's, which raises where a folder may not be entered


def read_prepared(folder: Path, *, timed: bool = False, **options: Any) -> Interactions:
    """Read a prepared log, with times where it is `timed`; its columns are chosen, so that `options` are refused.

    A folder with ``prepared.json`` (counts, parts, notes), ``users.parquet`` and ``items.parquet`` (a column ``id``, by
    index) and ``interactions/part-*.parquet`` (``user``, ``item`` and, where times were kept, ``timestamp``).
    """
    if options:
        problem = f"{', '.join(options)} cannot be used with a prepared log"
        raise InputError(problem, where=folder, expected="it prepared with --user, --item, --min-rating, ...")
    manifest = _manifest(folder)
    if timed and not manifest["timestamps"]:
        raise InputError("no times were kept", where=folder, expected="it prepared with --timestamp NAME")
    user_ids, item_ids = (_ids(folder / f"{role}s.parquet", manifest[f"{role}s"]) for role in ("user", "item"))
    n = manifest["interactions"]
    users, items, times = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64), None
    files = [str(folder / part) for part in manifest["parts"]]
    end, last = 0, -1
    with reading(folder, "Parquet"):
        mapped = pyarrow.fs.LocalFileSystem(use_mmap=True)
        parts = pyarrow.dataset.dataset(files, format="parquet", filesystem=mapped)
        for batch in parts.to_batches(columns=["user", "item", *(["timestamp"] if timed else [])]):
            here = slice(end, end + len(batch))
            end = here.stop
            if end > n or any(column.null_count for column in batch.columns):
                raise _damaged(folder)
            users[here], items[here], *stamps = (column.to_numpy() for column in batch.columns)
            keys = users[here] * len(item_ids) + items[here]
            within = (users[here] < len(user_ids)) & (items[here] >= 0) & (items[here] < len(item_ids))
            if not (within.all() and (np.diff(keys, prepend=last) > 0).all()):
                raise _damaged(folder)
            last = keys[-1] if len(batch) else last
            if timed:
                times = np.empty(n, dtype=stamps[0].dtype) if times is None else times
                times[here] = stamps[0]
    if end != n:
        raise _damaged(folder)
    return Interactions(users, items, user_ids, item_ids, times, tuple(manifest["notes"]), manifest["duplicates"])


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(read_text(path, PREPARED))
        whole = all(type(manifest[name]) is int for name in ("users", "items", "interactions", "duplicates"))
        known = {"parts": str, "notes": str}
        if not whole or not all(isinstance(text, kind) for name, kind in known.items() for text in manifest[name]):
            raise TypeError
        version, _ = manifest["version"], manifest["timestamps"]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("is no manifest of a prepared log", where=path, expected=PREPARED) from error
    if version != VERSION:
        raise InputError(f"format version {version}", where=path, expected=f"{VERSION}: prepare it again")
    return manifest


def _ids(path: Path, n: int) -> np.ndarray:
    """External ids by index: int64, or object of str."""
    with reading(path, "Parquet"):
        table = pyarrow.parquet.read_table(path, columns=["id"])
        ids = table["id"].to_numpy()
    if len(ids) != n:
        raise InputError(f"{len(ids):,} ids where {MANIFEST} counts {n:,}", where=path, expected=AGAIN)
    return ids if ids.dtype == np.int64 else ids.astype(object)


def _damaged(folder: Path) -> InputError:
    problem = f"the interactions are not the ascending pairs that {MANIFEST} counts"
    return InputError(problem, where=folder, expected=AGAIN)
