"""`C2FRecommender`: the package as a scikit-learn estimator."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from c2f_dgl import api
from c2f_dgl.config.load import load_config
from c2f_dgl.data.columns import Origin, find_column
from c2f_dgl.data.interactions import Interactions, as_frame, binary_csr, is_table
from c2f_dgl.data.readers import unused_ratings
from c2f_dgl.data.splits import Split, random_split
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import CUTOFFS, evaluate
from c2f_dgl.evaluation.served import Served
from c2f_dgl.export.device_model import coded_model, details_of, serving_model, user_histories
from c2f_dgl.export.teacher import teacher_of
from c2f_dgl.io.progress import Callback, Reporter
from c2f_dgl.serving import Explanation, ServingModel, UserHistories
from c2f_dgl.serving.users import read_pairs

log = logging.getLogger("c2f_dgl")


class C2FRecommender(BaseEstimator):
    """Coarse-to-fine recommender in the habits of scikit-learn and `implicit`.

    Parameters
    ----------
    preset : str
        ``fast``, ``quick``, ``best``, ``paper``, ``published``, ``lightgcn``, or a YAML file.
    options : mapping, optional
        Over the preset's, e.g. ``{"coarse.m": 100}``; `set_params` takes each as a parameter, ``coarse__m=100``.
    validation : float
        Share of each user's interactions (of all, where that comes to none) that `fit` holds out to choose checkpoints
        and a preset's scalars; afterwards they are part of the histories. Without effect where `fit` gets a `Split`.
    seed : int
        Of the validation part, the start and the training.
    device : {"auto", "cpu", "cuda"}
    run : str or Path, optional
        Folder of the run; none by default.
    callbacks : sequence of callables
        Called with the record of every epoch: ``stage``, ``phase``, ``epoch`` and, where it validated, ``valid``.
    verbose : bool
        Show bars on a terminal, lines elsewhere.

    Attributes
    ----------
    serving_ : ServingModel
        A device model without codes, which knows items alone.
    users_ : UserHistories
    summary_ : dict
        What `c2f_dgl.train` returns.

    Notes
    -----
    `score` is, as in `implicit`, a function of users and items, and not scikit-learn's figure of merit: that is
    `evaluate`, and for a grid search ``scoring=ndcg_scorer``.
    """

    def __init__(
        self,
        preset: str = "fast",
        *,
        options: dict[str, Any] | None = None,
        validation: float = 0.1,
        seed: int = 2024,
        device: str = "auto",
        run: str | Path | None = None,
        callbacks: Sequence[Callback] = (),
        verbose: bool = False,
    ) -> None:
        self.preset = preset
        self.options = options
        self.validation = validation
        self.seed = seed
        self.device = device
        self.run = run
        self.callbacks = callbacks
        self.verbose = verbose

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters, and with `deep` each option that is set as one of its own, e.g. ``coarse__m``."""
        nested = {key.replace(".", "__"): value for key, value in (self.options or {}).items()} if deep else {}
        return {**super().get_params(deep=False), **nested}

    def set_params(self, **params: Any) -> C2FRecommender:
        """Set parameters, and options by names such as ``coarse__m``, whose values `fit` checks."""
        nested = {key.replace("__", "."): value for key, value in params.items() if "__" in key}
        super().set_params(**{key: value for key, value in params.items() if "__" not in key})
        if nested:
            self.options = {**(self.options or {}), **nested}
        return self

    def fit(self, interactions: Any, y: Any = None) -> C2FRecommender:
        """Train on interactions, and return the recommender (raises `InputError` where they cannot be used).

        Parameters
        ----------
        interactions : data frame, pair of arrays, array (n, 2), sparse matrix, Interactions or Split
            Columns ``user`` and ``item`` of external ids, or what files call them (``userId``, ``movieId``), or a users
            x items matrix whose entries above 0 count. A data frame, here and below, is one of pandas or any table with
            ``__arrow_c_stream__`` or ``__dataframe__``.
        y : None
            Ignored.
        """
        # A number of numpy as a plain one.
        options = {key: json.dumps(value, default=np.generic.item) for key, value in (self.options or {}).items()}
        overrides = [f"{key}={value}" for key, value in options.items()]
        config = load_config(self.preset, [*overrides, f"seed={self.seed}"])
        has_parts = isinstance(interactions, Split)
        split = interactions if has_parts else self._held_out(interactions)
        reporter = Reporter(quiet=not self.verbose, callbacks=self.callbacks)
        run = api.train_run(split, self.run, config, device=self.device, reporter=reporter)
        self.summary_ = run.summary
        self._split, self._teacher = split, teacher_of(run.model(), split)
        self.serving_ = serving_model(self._teacher, split.item_ids)
        self.serving_.details.update(details_of(config, split))
        self.users_ = user_histories(self.serving_, split, held_out=not has_parts)
        return self

    def recommend(
        self, users: Any, k: int = 10, *, exclude_seen: bool = True, candidates: Any = None, frame: bool = False
    ) -> tuple[np.ndarray, np.ndarray] | pd.DataFrame:
        """Items and scores (n, k) of the k best for each user, by id (see `ServingModel.recommend_many`); (k,) for one.

        With `frame` a DataFrame (user, item, rank from 1, score), without missing ranks.
        """
        served, histories = self._served(), self.users_.of(users)
        items, scores = served.recommend_rows(histories, k, exclude_seen=exclude_seen, candidates=candidates)
        if not frame:
            return (items, scores) if np.ndim(users) else (items[0], scores[0])
        ids = self.users_.ids.ids[self.users_.ids.rows(users).reshape(-1)]
        row, rank = np.nonzero(scores > -np.inf)
        return pd.DataFrame({"user": ids[row], "item": items[row, rank], "rank": rank + 1, "score": scores[row, rank]})

    def similar_items(self, items: Any, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The k items nearest to each item (see `ServingModel.similar_items`)."""
        return self._served().similar_items(items, k)

    def score(self, users: Any, items: Any) -> np.ndarray:
        """Scores of (user, item) pairs, ids or arrays of ids that broadcast; not scikit-learn's `score`."""
        served = self._served()
        u, i = np.broadcast_arrays(self.users_.ids.rows(users), served.items.rows(items))
        rows, row = np.unique(u, return_inverse=True)
        columns, column = np.unique(i, return_inverse=True)
        row, column = row.reshape(u.shape), column.reshape(u.shape)
        scores = np.empty(u.shape)
        for block in served.blocks(len(rows)):
            here = (row >= block.start) & (row < block.stop)
            block_scores = served.scores(self.users_.histories.take(rows[block]), columns)
            scores[here] = block_scores[row[here] - block.start, column[here]]
        return scores

    def explain(self, user: Any, item: Any) -> Explanation:
        """What each item of a user's history adds to a score (see `ServingModel.explain`)."""
        served = self._served()
        return served.explain_rows(self.users_.of([user]).columns, int(served.items.rows(item)))

    def fold_in(self, new_user_items: Any) -> C2FRecommender:
        """Add new users by their known items: their histories are kept, and nothing is trained.

        These are a mapping of user id to item ids, a data frame (user, item), a pair of arrays or an array (n, 2).
        `InputError` where a user is known already or has no items, or an item is not known.
        """
        self._served()
        new_user_items = _in_pandas(new_user_items)
        users, _ = read_pairs(new_user_items)
        known = self.users_.ids.find(users) >= 0
        if known.any():
            first = np.asarray(users)[known][:1].tolist()[0]
            raise InputError(f"user {first!r} is known", expected="new users, or partial_fit for known ones")
        self.users_ = self.users_.added(new_user_items)
        return self

    def partial_fit(self, interactions: Any, y: Any = None) -> C2FRecommender:
        """Add interactions, as to `fold_in`, of known and new users with known items to the histories."""
        self._served()
        self.users_ = self.users_.added(_in_pandas(interactions))
        return self

    def evaluate(self, test: Any, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
        """``ndcg@k`` and ``recall@k`` of held-out interactions among all unseen items, means over users.

        They are a data frame, a pair of arrays or an array (n, 2), of external ids. Pairs that the model has seen, and
        those of users or items it does not know, are left out.
        """
        served, histories = self._served(), self.users_.histories
        users, items = read_pairs(_in_pandas(test))
        rows, columns = self.users_.ids.find(users), served.items.find(items)
        known = (rows >= 0) & (columns >= 0)
        shape = (len(self.users_), served.n_items)
        seen = binary_csr(histories.rows, histories.columns, shape)
        keys = np.unique(rows[known] * shape[1] + columns[known])
        relevant = binary_csr(*np.divmod(keys, shape[1]), shape)
        relevant = relevant - relevant.multiply(seen)
        return evaluate(Served(served, seen, served.items.ids), seen, relevant.tocsr(), cutoffs)

    def save(self, path: str | Path, *, bytes: int | None = None, users: str | Path | None = None) -> dict[str, int]:
        """Write a model file, and the users' histories to `users`; the bytes of each of the model's parts come back.

        Its items are codes that take `bytes` at most (see `c2f_dgl.export.device_model.coded_model`), by default their
        vectors as they are.
        """
        model = self._served()
        if bytes is not None:
            if not hasattr(self, "_teacher"):
                raise InputError("codes are made from what was trained", where="bytes", expected="fit, then save")
            reporter = Reporter(quiet=not self.verbose)
            model = coded_model(self._teacher, self._split, bytes, seed=self.seed, reporter=reporter)
            model.details.update(self.serving_.details)
        sizes = model.save(path)
        if users is not None:
            self.users_.save(users)
        return sizes

    @classmethod
    def load(cls, path: str | Path, *, users: str | Path | None = None, **parameters: Any) -> C2FRecommender:
        """A fitted recommender from a model file, and from one of the users' histories: else nobody is known.

        `parameters` are those of the constructor, for a next `fit`.
        """
        recommender = cls(**parameters)
        recommender.serving_ = ServingModel.load(path)
        items = recommender.serving_.items
        recommender.users_ = UserHistories.none(items) if users is None else UserHistories.load(users, items)
        recommender.summary_ = {}
        return recommender

    def _served(self) -> ServingModel:
        check_is_fitted(self, "serving_")
        return self.serving_

    def _held_out(self, interactions: Any) -> Split:
        """Interactions in any form, with a validation part."""
        if issparse(interactions):
            interactions = Interactions.from_csr(interactions)
        elif not isinstance(interactions, Interactions):
            interactions = _in_pandas(interactions)
            if isinstance(interactions, pd.DataFrame):
                _warn_of_ratings(interactions)
            users, items = read_pairs(interactions)
            interactions = Interactions.from_frame(pd.DataFrame({"user": users, "item": items}))
        if not 0 < self.validation < 1:
            raise InputError(f"validation = {self.validation!r}", expected="a fraction between 0 and 1")
        split = random_split(interactions, seed=self.seed, valid=self.validation, test=0.0, name="interactions")
        return split if split.valid.nnz else _held_out_of_all(split, self.validation, self.seed)


def _in_pandas(interactions: Any) -> Any:
    """Interactions with any table of theirs as a data frame of pandas, well-known columns called user and item."""
    if not is_table(interactions):
        return interactions
    frame = as_frame(interactions)
    columns = [str(name) for name in frame.columns]
    roles = {find_column(columns, None, role, "data frame"): role for role in ("user", "item") if role not in columns}
    return frame.set_axis([roles.get(place, name) for place, name in enumerate(frame.columns)], axis=1)


def _warn_of_ratings(frame: pd.DataFrame) -> None:
    """Warn of ratings, which `fit` does not look at."""
    origin, columns = Origin("data frame"), [str(name) for name in frame.columns]
    if (at := find_column(columns, None, "rating", origin.where)) is not None:
        hint = "leave out the rows of what is not liked"
        log.warning("%s", unused_ratings(frame.iloc[:, at], columns[at], origin, hint))


def _held_out_of_all(split: Split, share: float, seed: int) -> Split:
    """A split whose validation part is drawn from all interactions, whoever's they are; training keeps one at least."""
    pairs, shape = split.train.tocoo(), split.train.shape
    n = min(max(1, round(share * pairs.nnz)), pairs.nnz - 1)
    if n < 1:
        problem = f"{pairs.nnz} interaction{'s' * (pairs.nnz != 1)}: none can be held out to validate on"
        raise InputError(problem, expected="two or more, or a Split with a validation part")
    held_out = np.zeros(pairs.nnz, dtype=bool)
    held_out[np.random.default_rng(seed).choice(pairs.nnz, n, replace=False)] = True
    train, valid = (binary_csr(pairs.row[mask], pairs.col[mask], shape) for mask in (~held_out, held_out))
    note = f"valid, {n:,}, drawn from all interactions, as each user's share came to none"
    log.warning("%s: %s", split.name, note)
    return replace(split, train=train, valid=valid, notes=(*split.notes, note))


def ndcg_scorer(estimator: C2FRecommender, X: Any, y: Any = None) -> float:
    """NDCG@20 on held-out interactions, for ``GridSearchCV(C2FRecommender(), grid, scoring=ndcg_scorer)``."""
    return estimator.evaluate(X, cutoffs=(20,))["ndcg@20"]
