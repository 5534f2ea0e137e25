"""Writers of interaction files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from c2f_dgl.data.columns import MISSING
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.io.files import replacing_folder


def write_lightgcn(matrix: csr_matrix, path: Path) -> None:
    """Write LightGCN's text format: a line a row of `matrix`, also for rows without entries."""
    with path.open("w", encoding="ascii", newline="\n") as file:
        for user, items in enumerate(np.split(matrix.indices, matrix.indptr[1:-1])):
            file.write(" ".join(map(str, [user, *items.tolist()])) + "\n")


def write_split(split: Split, folder: str | Path) -> None:
    """Write a split as ``train.tsv``, ``valid.tsv`` and ``test.tsv`` with external ids, which `load_dataset` reads.

    A part without interactions has no file. `folder` must be new or empty; ids that would read as missing are refused.
    """
    for role, ids in (("user", split.user_ids), ("item", split.item_ids)):
        if ids.dtype == object and (unreadable := set(MISSING).intersection(ids.tolist())):
            problem = f"the {role} id {min(unreadable)!r} would be read as missing"
            raise InputError(problem, where=folder, expected="another id")
    quoted = any(_needs_quotes(ids) for ids in (split.user_ids, split.item_ids))
    quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if quoted else csv.QUOTE_MINIMAL
    with replacing_folder(folder) as temporary:
        for part, matrix in (("train", split.train), ("valid", split.valid), ("test", split.test)):
            if matrix.nnz == 0:
                continue
            pairs = matrix.tocoo()
            table = pd.DataFrame({"user": split.user_ids[pairs.row], "item": split.item_ids[pairs.col]})
            table.to_csv(temporary / f"{part}.tsv", sep="\t", index=False, quoting=quoting, lineterminator="\n")


def write_folds(folds: Sequence[Split | tuple[Split, Split]], folder: str | Path) -> None:
    """Write splits as folders 1, 2, ... of a new one, the second of a pair as ``new`` in that of the first."""
    with replacing_folder(folder) as temporary:
        for number, fold in enumerate(folds, 1):
            first, *new = fold if isinstance(fold, tuple) else (fold,)
            write_split(first, temporary / str(number))
            for split in new:
                write_split(split, temporary / str(number) / "new")


def _needs_quotes(ids: np.ndarray) -> bool:
    """Readers skip blanks at the start of a field without quotes, and end it at a return; pandas quotes neither."""
    return ids.dtype.kind not in "iu" and bool(pd.Series(ids, dtype="str").str.contains(r"^\s|\r").any())
