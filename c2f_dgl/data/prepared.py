"""A prepared log: dense indices in parts of Parquet, sorted and distinct, with the external ids of each index beside.

A folder with ``prepared.json`` (counts, parts, notes), ``users.parquet`` and ``items.parquet`` (a column ``id``, by
index) and ``interactions/part-*.parquet`` (``user``, ``item`` and, where times were kept, ``timestamp``).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet

from c2f_dgl.data.interactions import Interactions
from c2f_dgl.data.packing import reading
from c2f_dgl.errors import InputError
from c2f_dgl.io.files import read_text

MANIFEST = "prepared.json"
VERSION = 1
PREPARED = "a folder from c2f-dgl data prepare"
AGAIN = "it whole: c2f-dgl data prepare writes it again"


def is_prepared(path: str | Path) -> bool:
    """Whether a folder holds a prepared log."""
    return os.path.isfile(Path(path) / MANIFEST)  # not pathlib's, which raises where a folder may not be entered


def read_prepared(folder: Path, *, timed: bool = False, **options: Any) -> Interactions:
    """Read a prepared log, with times where it is `timed`, a batch of its memory-mapped parts after the other.

    Options are refused: columns were chosen when the log was prepared. So is a file that is missing, damaged or not
    what the manifest counts.
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
            start, end = end, end + len(batch)
            if end > n or any(batch.column(at).null_count for at in range(batch.num_columns)):
                raise _damaged(folder)
            users[start:end], items[start:end] = batch.column(0).to_numpy(), batch.column(1).to_numpy()
            keys = users[start:end] * len(item_ids) + items[start:end]
            if len(batch) and (
                keys[0] <= last
                or (np.diff(keys) <= 0).any()
                or items[start:end].min() < 0
                or items[start:end].max() >= len(item_ids)
                or users[end - 1] >= len(user_ids)
            ):
                raise _damaged(folder)
            last = keys[-1] if len(batch) else last
            if timed:
                stamps = batch.column(2).to_numpy()
                times = np.empty(n, dtype=stamps.dtype) if times is None else times
                times[start:end] = stamps
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
