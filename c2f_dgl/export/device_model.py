"""A device model of a teacher, with codes or without, and what a file says beside it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import c2f_dgl
from c2f_dgl.config.schema import RunConfig
from c2f_dgl.data.ids import IdMap
from c2f_dgl.data.packing import first_line
from c2f_dgl.data.readers import read_leading
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.evaluation.served import Served
from c2f_dgl.export.codes import Coded, fit_codes, fit_fewest_codes, weighted_alone
from c2f_dgl.export.teacher import Teacher
from c2f_dgl.export.trial import Trial
from c2f_dgl.io.progress import Reporter
from c2f_dgl.serving import Csr, ItemCodes, Neighbours, ServingModel, UserHistories
from c2f_dgl.serving.codes import level_means
from c2f_dgl.serving.file import id_tensors

# Neighbours kept of each item where no codes are made.
_NEIGHBOURS = 400

_MANIFEST_BYTES = 2048


def serving_model(
    teacher: Teacher, item_ids: np.ndarray, codes: ItemCodes | None = None, neighbours: Neighbours | None = None
) -> ServingModel:
    """A device model, of nothing but what is said of items here; `item_ids` are in the order of the data.

    By default items are as they are, in float32, with the teacher's neighbours.
    """
    if codes is None:
        codes, neighbours = ItemCodes.table(teacher.items), teacher.nearest(_NEIGHBOURS)
    level = teacher.degree_level
    w, t = level_means(level, teacher.history_weight), level_means(level, teacher.item_weight)
    return ServingModel(codes, level, w, t, item_ids[teacher.order], neighbours=neighbours)


def coded_model(
    teacher: Teacher, split: Split, n_bytes: int | None, *, seed: int = 0, reporter: Reporter | None = None
) -> ServingModel:
    """A device model of codes, in a file of `n_bytes` without titles, by default the fewest that lose at most 2 %.

    They are made for the training histories and chosen on validation; `InputError` where so few bytes hold none.
    """
    reporter = reporter or Reporter(quiet=True)
    whole = teacher.weighted()
    train, valid = (part[:, teacher.order] for part in (split.train, split.valid))
    trial, items = Trial(whole.item_weight, train, valid, seed), whole.items
    if teacher.neighbours is not None:
        with reporter.busy("weights without most of the neighbours"):
            items, item_weight = weighted_alone(items, trial)
            trial = Trial(item_weight, train, valid, seed)
    coded: Coded | None
    if n_bytes is not None:
        coded = fit_codes(items, trial, n_bytes - _bytes_beside(whole, split), reporter)
    elif teacher.neighbours is None:
        coded = fit_fewest_codes(items, trial, reporter)
    else:
        ranker = Served(serving_model(whole, split.item_ids), split.train, split.item_ids)
        coded = fit_fewest_codes(items, trial, reporter, evaluate(ranker, split.train, split.valid)["ndcg@20"])
    if coded is None:  # codes lose too much: the items as they are, and their neighbours
        return serving_model(whole, split.item_ids, ItemCodes.table(whole.items, "int8"), whole.nearest(_NEIGHBOURS))
    return serving_model(replace(whole, items=items, item_weight=trial.item_weight), split.item_ids, *coded)


def _bytes_beside(teacher: Teacher, split: Split) -> int:
    """Most bytes beside codes: popularity and ids of the items, weights by popularity, a manifest."""
    ids = sum(values.nbytes for values in id_tensors(split.item_ids)[1].values())
    return ids + len(teacher.items) + 12 * (int(teacher.degree_level.max()) + 1) + 4 * 256 + _MANIFEST_BYTES


def details_of(config: RunConfig, split: Split) -> dict[str, Any]:
    """What a model file says of where it comes from."""
    text = config.model_dump_json(exclude={"data"})
    return {
        "data": split.name,
        "config": hashlib.sha256(text.encode()).hexdigest()[:16],
        "created_with": f"c2f_dgl {c2f_dgl.__version__}",
    }


def user_histories(model: ServingModel, split: Split, *, held_out: bool = True) -> UserHistories:
    """What the users of a split have had: all that it holds, or only the training part."""
    had = (split.train + split.valid + split.test if held_out else split.train).tocsr()
    rows = model.items.find(split.item_ids)
    histories = Csr.from_counts(np.diff(had.indptr), rows[had.indices], model.n_items)
    return UserHistories(IdMap(split.user_ids, "user"), model.items, histories)


def read_titles(path: str | Path, items: IdMap) -> np.ndarray:
    """What items are called (n_items,), empty where it is not said: by a table whose first columns are id and title.

    Any form that `read_log` takes will do, RecBole's ``.item`` among them, and MovieLens' ``u.item``. `InputError`
    where none of its ids is an item's.
    """
    # Where the first line is a header that is not known as one, it is that of an unknown item.
    sep = "|" if Path(path).suffix == ".item" and "\t" not in first_line(Path(path)) else None
    table, _ = read_leading(path, ("item", "title"), numbered=True, sep=sep)
    rows = items.find(table["item"].to_numpy(dtype=object))
    titles = np.full(len(items), "", dtype=object)
    titles[rows[rows >= 0]] = table["title"].fillna("").astype(str).to_numpy(dtype=object)[rows >= 0]
    if not titles.any():
        raise InputError("has no title of any item", where=path, expected="columns: id, title")
    return titles
