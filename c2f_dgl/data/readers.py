"""Readers of interaction files: LightGCN's text format, and logs in all the forms of `c2f_dgl.data.tables`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from pyarrow import compute

from c2f_dgl.data.columns import Origin, choose_columns, counted, guesses, is_number, parsed
from c2f_dgl.data.interactions import Interactions
from c2f_dgl.data.packing import opened, reading, wrong_encoding
from c2f_dgl.data.prepared import is_prepared, read_prepared
from c2f_dgl.data.tables import LIGHTGCN, form_of, read_table
from c2f_dgl.errors import InputError

# LightGCN's ids are row numbers: one beyond this is a damaged file, not a user.
LARGEST_ID = 2**31 - 1
LIGHTGCN_LINE = "lines of whole numbers: user item item ..."


def read_interactions(path: str | Path, *, timed: bool = False, **options: Any) -> Interactions:
    """Read a file, a folder of one log or a prepared log, in whichever of the known formats it is.

    What is compressed is unpacked. Logs go by their suffix. Other text is a log if its first line has a tab, comma,
    semicolon or ``::`` or is a JSON object (or `sep` is given), else LightGCN's format. With `timed` the column of
    times is guessed where `timestamp` names none. `options` are those of `read_log`; they are refused where the file is
    in LightGCN's format, or the log is prepared.
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
    """Read LightGCN's text format: a line a user, ``user item item ...``, separated by blanks.

    A line may hold a user alone (a user without items). Where ids run from 0 without gaps they are the internal
    indices; otherwise the numbers are external ids and the indices are made compact.
    """
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
        first_bad = int(np.argmin(valid))
        raise _bad_token(path, tokens[first_bad].as_py(), int(line[first_bad]) + 1)
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
    expected = LIGHTGCN_LINE
    if word.isdecimal() and word.isascii():
        problem, expected = f"id {word[:24]} is absurdly large", f"ids from 0 to {LARGEST_ID}"
    elif re.fullmatch(r"-\d+", word):
        problem, expected = f"id {word[:24]} is negative", "ids of 0 or more"
    else:
        problem = f"{word[:24]!r} is not a whole number"
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

    Columns are given by name, or by place counted from 0; those that are not given go by well-known names, and a note
    says which they are. Text has a header unless `names` is given, its first two fields are both numbers, or columns
    are given by place and none of the first line's fields is a well-known name. Without a header the leading columns
    are user, item, rating and timestamp, and rows without a user or an item are left out.

    Parameters
    ----------
    path : str or Path
        A file, or a folder with RecBole's ``.inter`` or with parts in Parquet.
    user, item : str or int, optional
        Columns of the ids (whole numbers or text).
    rating : str or int, optional
        Column of ratings or counts.
    min_rating : float, optional
        Keep rows with at least this rating.
    timestamp : str or int, optional
        Column of times: numbers, or ISO 8601 dates.
    timed : bool
        Whether to guess the column of times; otherwise only a named one is read.
    names : list of str, optional
        Names of all the columns of text without a header.
    sep : str, optional
        The separator of text, one character; by default tab, else comma or semicolon, of which the first line has more.
    """
    path = Path(path)
    asked = {"user": user, "item": item, "rating": rating}
    if timed or timestamp is not None:
        asked["timestamp"] = timestamp

    table = read_table(
        path,
        lambda columns, file: choose_columns(columns, asked, file),
        names,
        sep,
        numbered=any(map(is_number, asked.values())),
    )
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
