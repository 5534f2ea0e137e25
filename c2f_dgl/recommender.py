"""`C2FRecommender`: the package as a scikit-learn estimator."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Sequence
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
from c2f_dgl.data.interactions import Interactions, binary_csr
from c2f_dgl.data.splits import Split, random_split
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import CUTOFFS, evaluate
from c2f_dgl.exports import artifact_of, scorer_of, serving_model
from c2f_dgl.progress import Reporter
from c2f_dgl.serving import Explanation, ServingModel
from c2f_dgl.serving.model import read_pairs
from c2f_dgl.training.folder import RunFolder
from c2f_dgl.training.run import load_model

log = logging.getLogger("c2f_dgl")

Callback = Callable[[dict[str, Any]], None]


class C2FRecommender(BaseEstimator):
    """Coarse-to-fine recommender in the habits of scikit-learn and `implicit`.

    Parameters
    ----------
    preset : str
        ``fast``, ``quick``, ``best``, ``paper``, ``published``, ``lightgcn``, or a YAML file.
    options : mapping, optional
        Options over the preset's, e.g. ``{"coarse.m": 100}`` (``c2f-dgl options`` lists them).
    validation : float
        Share of each user's interactions that `fit` holds out to choose between checkpoints, and the few scalars
        that a preset chooses from data; of all interactions, where each user's share comes to none. Once trained, the
        model is propagated over them too, and they count as seen. Without effect where `fit` gets a `Split`: that
        model serves from its training part.
    seed : int
        Of the validation part, the start and the training.
    device : {"auto", "cpu", "cuda"}
    run : str or Path, optional
        Folder of the run; a temporary one, removed after `fit`, by default.
    callbacks : sequence of callables
        Each is called with the record of every epoch: a dict with ``stage``, ``phase``, ``epoch`` and, where the
        epoch validated, ``valid``.
    verbose : bool
        Show bars on a terminal, lines elsewhere.

    Attributes
    ----------
    serving_ : ServingModel
        What answers after `fit`.
    summary_ : dict
        Per stage the best validation and the test figures (see `c2f_dgl.train`).

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

    def fit(self, interactions: Any, y: Any = None) -> C2FRecommender:
        """Train on interactions.

        Parameters
        ----------
        interactions : DataFrame, pair of arrays, array (n, 2), sparse matrix, Interactions or Split
            Columns ``user`` and ``item`` of external ids, or a users x items matrix whose entries above 0 count.
        y : None
            Ignored.

        Returns
        -------
        C2FRecommender
            Itself.

        Raises
        ------
        InputError
            The interactions or the options cannot be used.
        """
        overrides = [f"{key}={_yaml(value)}" for key, value in (self.options or {}).items()]
        config = load_config(self.preset, [*overrides, f"seed={self.seed}"])
        given = isinstance(interactions, Split)
        split = interactions if given else self._held_out(interactions)
        reporter = _Callbacks(self.callbacks, quiet=not self.verbose)
        with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as folder:
            out = Path(folder) / "run" if self.run is None else Path(self.run)
            self.summary_ = api.train(split, out, config, device=self.device, reporter=reporter)
            model = load_model(RunFolder(out), split, None, api.choose_device(self.device))
        artifact = artifact_of(model, split, metrics=self.summary_)
        self.serving_ = serving_model(artifact, split, held_out=not given)
        return self

    def recommend(
        self, users: Any, k: int = 10, *, exclude_seen: bool = True, candidates: Any = None, frame: bool = False
    ) -> tuple[np.ndarray, np.ndarray] | pd.DataFrame:
        """The k best items of each user: two arrays, or a DataFrame (see `ServingModel.recommend`)."""
        served = self._served()
        call = served.recommend_frame if frame else served.recommend
        return call(users, k, exclude_seen=exclude_seen, candidates=candidates)

    def similar_items(self, items: Any, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The k items nearest to each item (see `ServingModel.similar_items`)."""
        return self._served().similar_items(items, k)

    def similar_users(self, users: Any, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The k users nearest to each user (see `ServingModel.similar_users`)."""
        return self._served().similar_users(users, k)

    def score(self, users: Any, items: Any) -> np.ndarray:
        """Scores of (user, item) pairs (see `ServingModel.score`); not scikit-learn's `score`."""
        return self._served().score(users, items)

    def explain(self, user: Any, item: Any) -> Explanation:
        """Contributions that add up to a score (see `ServingModel.explain`)."""
        return self._served().explain(user, item)

    def fold_in(self, new_user_items: Any) -> C2FRecommender:
        """Add users from their items, without training (see `ServingModel.fold_in`)."""
        self.serving_ = self._served().fold_in(new_user_items)
        return self

    def partial_fit(self, interactions: Any, y: Any = None) -> C2FRecommender:
        """Add interactions of known and new users and items, without a gradient step.

        Parameters
        ----------
        interactions : DataFrame, pair of arrays, array (n, 2) or mapping of user to items
            See `ServingModel.partial_fit`.
        y : None
            Ignored.
        """
        self.serving_ = self._served().partial_fit(*read_pairs(interactions))
        return self

    def evaluate(self, test: Any, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
        """Rank all unseen items for the users of held-out interactions.

        Pairs that the model has seen, and those of users or items it does not know, are left out.

        Parameters
        ----------
        test : DataFrame, pair of arrays or array (n, 2)
            External ids.
        cutoffs : sequence of int
            k.

        Returns
        -------
        dict
            ``ndcg@k`` and ``recall@k``, means over users.
        """
        served = self._served()
        users, items = read_pairs(test)
        rows, columns = served.users.find(users), served.items.find(items)
        known = (rows >= 0) & (columns >= 0)
        shape = (served.n_users, served.n_items)
        seen = binary_csr(served.interactions.rows, served.interactions.columns, shape)
        keys = np.unique(rows[known] * shape[1] + columns[known])
        wanted = binary_csr(*np.divmod(keys, shape[1]), shape)
        wanted = wanted - wanted.multiply(seen)
        return evaluate(scorer_of(served), seen, wanted.tocsr(), cutoffs)

    def save(self, path: str | Path, **options: Any) -> dict[str, int]:
        """Write an artifact, with embeddings (see `ServingModel.save`)."""
        return self._served().save(path, **{"embeddings": True, **options})

    @classmethod
    def load(cls, path: str | Path, **parameters: Any) -> C2FRecommender:
        """A fitted recommender from an artifact; `parameters` are those of the constructor, for a next `fit`."""
        recommender = cls(**parameters)
        recommender.serving_ = ServingModel.load(path)
        recommender.summary_ = recommender.serving_.details.get("metrics", {})
        return recommender

    def _served(self) -> ServingModel:
        check_is_fitted(self, "serving_")
        return self.serving_

    def _held_out(self, interactions: Any) -> Split:
        """Interactions in any form, with a validation part."""
        if isinstance(interactions, Interactions):
            read = interactions
        elif issparse(interactions):
            read = Interactions.from_csr(interactions)
        else:
            users, items = read_pairs(interactions)
            read = Interactions.from_frame(pd.DataFrame({"user": users, "item": items}))
        if not 0 < self.validation < 1:
            raise InputError(f"validation = {self.validation!r}", expected="a fraction between 0 and 1")
        split = random_split(read, seed=self.seed, valid=self.validation, test=0.0, name="interactions")
        return split if split.valid.nnz else _held_out_of_all(split, self.validation, self.seed)


def _held_out_of_all(split: Split, share: float, seed: int) -> Split:
    """A split whose validation part is drawn from all interactions, whoever's they are; training keeps one at least.

    Raises
    ------
    InputError
        There is but one interaction, or none.
    """
    pairs, shape = split.train.tocoo(), split.train.shape
    n = min(max(1, round(share * pairs.nnz)), pairs.nnz - 1)
    if n < 1:
        raise InputError(
            f"{pairs.nnz} interaction{'s' * (pairs.nnz != 1)}: none can be held out to validate on",
            expected="two or more, or a Split with a validation part",
        )
    out = np.zeros(pairs.nnz, dtype=bool)
    out[np.random.default_rng(seed).choice(pairs.nnz, n, replace=False)] = True
    train, valid = (binary_csr(pairs.row[mask], pairs.col[mask], shape) for mask in (~out, out))
    note = f"valid, {n:,}, drawn from all interactions, as each user's share came to none"
    log.warning("%s: %s", split.name, note)
    return replace(split, train=train, valid=valid, notes=(*split.notes, note))


def ndcg_scorer(estimator: C2FRecommender, X: Any, y: Any = None) -> float:
    """NDCG@20 on held-out interactions, for ``GridSearchCV(C2FRecommender(), grid, scoring=ndcg_scorer)``."""
    return estimator.evaluate(X, cutoffs=(20,))["ndcg@20"]


class _Callbacks(Reporter):
    """A reporter that passes every epoch's record on."""

    def __init__(self, callbacks: Sequence[Callback], *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self._callbacks = tuple(callbacks)

    def end_epoch(self, record: dict[str, Any]) -> None:
        super().end_epoch(record)
        for callback in self._callbacks:
            callback(dict(record))


def _yaml(value: Any) -> str:
    """A value as the right-hand side of an override."""
    return json.dumps(value.item() if isinstance(value, np.generic) else value)
