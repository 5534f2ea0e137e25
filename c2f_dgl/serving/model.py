"""`ServingModel`: recommend, compare, score, explain and fold in, on numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from c2f_dgl.errors import InputError
from c2f_dgl.ids import IdMap, id_array, is_missing
from c2f_dgl.serving.artifact import DEFAULT_MAX_BYTES, Artifact, read_artifact, write_artifact
from c2f_dgl.serving.csr import Csr
from c2f_dgl.serving.embeddings import Embeddings
from c2f_dgl.serving.explain import Explanation, Mixture, said_by_history, sent_by_history, shares
from c2f_dgl.serving.foldin import fold_in, interaction_weights, own_input
from c2f_dgl.serving.item_filter import ItemFilter, item_filter
from c2f_dgl.serving.learned import ENTITY_TYPES, Learned
from c2f_dgl.serving.propagate import Propagated, propagate
from c2f_dgl.serving.ranking import standardised, top_columns

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[int, int], None]

# Scores held at once: rows in a block x columns.
_SCORE_BLOCK = 2**24


class ServingModel:
    """A trained model as it serves: external ids in and out, nothing of torch or DGL.

    It never changes: `fold_in` and `partial_fit` return another model that shares what it can with this one.

    Parameters
    ----------
    learned : Learned
    interactions : Csr, n_users x n_items
        Training interactions: what is propagated over, and what each user has seen.
    user_ids, item_ids : arrays
        External ids by row: integers or str.
    embeddings : Embeddings, optional
        Of `learned` on `interactions`; propagated where not given, which takes seconds for 10^5 nodes.
    details : mapping, optional
        Data, metrics and the like, as they stand in an artifact's manifest.
    progress : callable, optional
        Called with what is done and what there is: first items, where the model has a filter term, and then embedding
        columns, where they are propagated.

    Attributes
    ----------
    users, items : IdMap
        External ids: ``model.items.ids``, ``model.items.find(ids)``.
    filter : ItemFilter or None
        The filter term; formed from the interactions, which takes seconds for 10^6 of them.
    """

    def __init__(
        self,
        learned: Learned,
        interactions: Csr,
        user_ids: np.ndarray,
        item_ids: np.ndarray,
        *,
        embeddings: Embeddings | None = None,
        details: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.learned, self.interactions = learned, interactions
        self.users, self.items = IdMap(user_ids, "user"), IdMap(item_ids, "item")
        self.details = dict(details or {})
        self.extended = False
        # Degrees that the norms of the items were made with: folding users in does not change them.
        self._item_degrees = interactions.transposed.counts
        scales = learned.item_scales(self._item_degrees)
        self.filter: ItemFilter | None = None
        if learned.filter_neighbours and learned.filter_weight:
            self.filter = item_filter(interactions, learned.filter_neighbours, learned.filter, progress)
        if embeddings is None:
            self.propagated = propagated = propagate(learned, interactions, progress)
            items = propagated.embeddings["item"]
            items = (items * scales[:, None]).astype(np.float32) if learned.item_scale else items
            embeddings = Embeddings(propagated.embeddings["user"], items)
        self.embeddings = embeddings

    @classmethod
    def load(
        cls, path: str | Path, *, max_bytes: int = DEFAULT_MAX_BYTES, progress: Progress | None = None
    ) -> ServingModel:
        """Read an artifact; its embeddings where it has them, else propagated.

        Parameters
        ----------
        path : str or Path
            Folder of the artifact.
        max_bytes : int, optional
            Refuse artifacts that need more memory than this; 8 GiB by default.
        progress : callable, optional
            See `ServingModel`.

        Raises
        ------
        InputError
            Not an artifact, damaged, of a newer format, or too large.
        """
        artifact = read_artifact(path, max_bytes=max_bytes)
        return cls(
            artifact.learned,
            artifact.interactions,
            artifact.user_ids,
            artifact.item_ids,
            embeddings=artifact.embeddings,
            details=artifact.details,
            progress=progress,
        )

    def save(
        self,
        path: str | Path,
        *,
        precision: str = "fp32",
        embeddings: bool = False,
        overwrite: bool = False,
    ) -> dict[str, int]:
        """Write an artifact.

        A model that was folded into is saved as its graph: loaded, the new users and items are propagated in full,
        so their scores come out a little different from those of one hop (see `refreshed`).

        Parameters
        ----------
        path : str or Path
            Folder; new, unless `overwrite`.
        precision : {"fp32", "fp16", "int8"}
            Of codebooks, weights and embeddings.
        embeddings : bool
            Write the propagated embeddings too: loading needs no propagation then.
        overwrite : bool
            Replace the artifact that is there.

        Returns
        -------
        dict
            Bytes of each file.
        """
        stored = (self.refreshed() if self.extended else self).embeddings if embeddings else None
        artifact = Artifact(
            self.learned, self.interactions, self.users.ids, self.items.ids, stored, details=self.details
        )
        return write_artifact(path, artifact, precision=precision, overwrite=overwrite)

    @cached_property
    def propagated(self) -> Propagated:
        """Messages of every node, for `explain` and `fold_in`; computed at first use if embeddings were stored."""
        return propagate(self.learned, self.interactions)

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.items)

    # Ranking ---------------------------------------------------------------------------------------------------

    def recommend(
        self,
        users: Any,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        candidates: Any = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best items of each user.

        Equal scores are ordered by the items' rows.

        Parameters
        ----------
        users : id, or array-like of ids
        k : int
            Cut to the number of candidates.
        exclude_seen : bool
            Leave out the items of the user's history.
        candidates : array-like of item ids, optional
            Recommend only these; all items by default.

        Returns
        -------
        items, scores : arrays, shape (n, k); for a single id, (k,)
            Best first. Where fewer than k items are left, the rest are -1 (None for text ids) with score -inf.

        Raises
        ------
        InputError
            An id is unknown, or k is not a positive whole number.
        """
        rows = self.users.rows(users)
        found = self._recommend(self.embeddings.users, self.interactions, rows.reshape(-1), exclude_seen, k, candidates)
        return _like(users, found)

    def recommend_frame(self, users: Any, k: int = 10, **options: Any) -> pd.DataFrame:
        """`recommend` as a DataFrame: user, item, rank (from 1), score; without missing ranks."""
        import pandas as pd

        ids = np.atleast_1d(np.asarray(users))
        items, scores = self.recommend(ids, k, **options)
        there = scores > -np.inf
        return pd.DataFrame(
            {
                "user": np.repeat(self.users.ids[self.users.rows(ids)], items.shape[1])[there.ravel()],
                "item": items[there],
                "rank": np.broadcast_to(np.arange(1, items.shape[1] + 1), items.shape)[there],
                "score": scores[there],
            }
        )

    def recommend_history(
        self,
        histories: Sequence[Iterable[Any]],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        candidates: Any = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best items for users known only by their items: folded in, and forgotten.

        Parameters
        ----------
        histories : sequence of iterables of item ids
            One a user. For an empty one every item has the same score, but for its bias.
        k, exclude_seen, candidates
            See `recommend`.

        Returns
        -------
        items, scores : arrays, shape (n, k)
            See `recommend`.
        """
        seen = self._histories(histories)
        folded = fold_in(self.learned, self.propagated, seen, self._item_degrees, "user").embeddings.astype(np.float32)
        return self._recommend(folded, seen, np.arange(len(folded)), exclude_seen, k, candidates)

    def similar_items(self, items: Any, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The k items nearest to each item by cosine of their embeddings, without itself; a filter has no part in it.

        Returns
        -------
        items, similarities : arrays, shape (n, k); for a single id, (k,)
        """
        found = self._similar(self.embeddings.items, self._item_lengths, self.items.rows(items).reshape(-1), k)
        return _like(items, (self.items.ids[found[0]], found[1]))

    def similar_users(self, users: Any, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The k users nearest to each user by cosine of their embeddings, without itself (see `similar_items`)."""
        found = self._similar(self.embeddings.users, self._user_lengths, self.users.rows(users).reshape(-1), k)
        return _like(users, (self.users.ids[found[0]], found[1]))

    def score(self, users: Any, items: Any) -> np.ndarray:
        """Scores of (user, item) pairs.

        Parameters
        ----------
        users, items : ids, or array-likes of ids that broadcast

        Returns
        -------
        float32 array of their shape

        Notes
        -----
        With a filter term a score depends on the user's scores of all items, so that a pair costs as much as a user.
        """
        u, i = np.broadcast_arrays(self.users.rows(users), self.items.rows(items))
        flat_u, flat_i = u.reshape(-1), i.reshape(-1)
        scores = np.empty(len(flat_u), dtype=np.float32)
        if self.filter is not None:
            order = np.argsort(flat_u, kind="stable")
            rows, starts = np.unique(flat_u[order], return_index=True)
            ends = np.append(starts[1:], len(order))
            for some in self._blocks(len(rows)):
                block = self._scores(self.embeddings.users, self.interactions, rows[some])
                at = order[starts[some.start] : ends[some.stop - 1]]
                scores[at] = block[np.searchsorted(rows[some], flat_u[at]), flat_i[at]]
            return scores.reshape(u.shape)
        width = max(1, _SCORE_BLOCK // self.embeddings.items.shape[1])
        for start in range(0, len(flat_u), width):
            some = slice(start, start + width)
            pairs = self.embeddings.users[flat_u[some]], self.embeddings.items[flat_i[some]]
            scores[some] = np.einsum("nd,nd->n", *pairs)
        if self.learned.item_bias is not None:
            scores += self.learned.item_bias[flat_i]
        return scores.reshape(u.shape)

    def explain(self, user: Any, item: Any) -> Explanation:
        """Through which neighbours and meta-embeddings a score comes.

        Parameters
        ----------
        user, item : ids

        Returns
        -------
        Explanation
            Its contributions add up to the score.
        """
        u, i = int(self.users.rows(user)), int(self.items.rows(item))
        parts = self._propagated_parts(u, i)
        if self.filter is not None:
            parts = self._with_filter(parts, u, i)
        return _explanation(self.learned, self.users.ids[u], self.items.ids[i], parts)

    def _propagated_parts(self, u: int, i: int) -> list[_Part]:
        """h_u . h_i and the item's bias: from the history, from the user's own atoms, and what the user starts with."""
        learned, propagated = self.learned, self.propagated
        target = self.embeddings.items[i].astype(np.float64)
        history = self.interactions.take(np.array([u]))
        edges = interaction_weights(learned, history.counts, self._item_degrees, history)
        norms, messages, norm = propagated.norms, propagated.messages, propagated.norms["user"][u]
        weights = norm * edges * norms["item"][history.columns]
        sent = sent_by_history(history, weights, messages["item"], self.embeddings.items, np.array([[i]]))[:, 0]
        rows_of_s = self._assignment("item", history.columns)
        parts = [_Part("item", list(self.items.ids[history.columns]), sent, rows_of_s)]
        own_indices, own_weights = self._assignment("user", np.array([u]))
        if own_indices.shape[1]:
            first, used = learned.tiers[0].name, own_weights[0] > 0
            nodes = own_indices[0][used]
            links = norm * learned.link_scale * own_weights[0][used] * norms[first][nodes]
            sent = links * (messages[first][nodes] @ target)
            parts.append(_Part(first, nodes.tolist(), sent, (nodes[:, None], np.ones((len(nodes), 1)))))
        own = own_input(learned, propagated, own_indices, own_weights)[0]
        if learned.table is not None:
            own = own + learned.layer_weights[0] * learned.table["user"][u]
        if own.any():
            parts.append(_Part("input", [None], own @ target[:, None], (own_indices, own_weights)))
        bias = 0.0 if learned.item_bias is None else float(learned.item_bias[i])
        if learned.item_bias is not None:
            parts.append(_Part("item bias", [None], np.array([bias])))
        if self.embeddings.rounded:
            score = self.embeddings.users[u].astype(np.float64) @ target + bias
            parts.append(_Part("rounding", [None], np.array([score - sum(part.contributions.sum() for part in parts)])))
        return parts

    def _with_filter(self, parts: list[_Part], u: int, i: int) -> list[_Part]:
        """`parts` as they count beside the filter, and the filter's own."""
        assert self.filter is not None
        history, mixture = self.interactions.take(np.array([u])), self._mixture(u)
        said = mixture.term * said_by_history(self.filter, history, np.array([[i]]))[:, 0]
        there = said > 0
        return [
            *(part._replace(contributions=mixture.own * part.contributions) for part in parts),
            _Part("filter", list(self.items.ids[history.columns[there]]), said[there]),
            _Part("mean", [None], -mixture.offset),
        ]

    def _mixture(self, user: int) -> Mixture:
        """How the two scores of a user (n = 1) are mixed."""
        assert self.filter is not None
        scores = (self.embeddings.users[[user]] @ self.embeddings.items.T).astype(np.float64)
        if self.learned.item_bias is not None:
            scores += self.learned.item_bias
        filtered = self.filter.scores(self.interactions.take(np.array([user]))).astype(np.float64)
        return Mixture.of(scores, filtered, self.learned.filter_weight)

    # New users and items ---------------------------------------------------------------------------------------

    def fold_in(self, new_user_items: Any) -> ServingModel:
        """This model with users added that it does not know, from items that it does.

        Parameters
        ----------
        new_user_items : mapping of user id to item ids, or (user, item) pairs
            Pairs: a DataFrame with columns user and item, two arrays, or an (n, 2) array.

        Raises
        ------
        InputError
            A user is known already or has no items, an item is not known.
        """
        if isinstance(new_user_items, Mapping):
            new_user_items = {user: _listed(history) for user, history in new_user_items.items()}
            without = next((user for user, history in new_user_items.items() if not history), None)
            if without is not None:
                raise InputError(f"user {without!r} has no items", expected="one at least, to fold in by")
        users, items = read_pairs(new_user_items)
        known = self.users.find(users)
        if (known >= 0).any():
            first = np.asarray(users)[known >= 0][:1].tolist()[0]
            raise InputError(f"user {first!r} is known", expected="new users, or partial_fit for known ones")
        self.items.rows(items)
        return self.partial_fit(users, items)

    def partial_fit(self, users: Any, items: Any) -> ServingModel:
        """This model with more interactions: one hop of propagation for whom they concern, no gradient step.

        New users and items are added, with an assignment by pursuit from their neighbours where their kind has one;
        known users get new embeddings from their longer history. Known items stay as they are, and a new item sends
        nothing to its users, until the model is `refreshed`.

        Parameters
        ----------
        users, items : array-likes of ids, shape (n,)
            A pair each; ids that are unknown are added. Pairs that are known change nothing.
        """
        users, items = id_array(users), id_array(items)
        if users.shape != items.shape or users.ndim != 1:
            raise InputError(f"{users.shape} users and {items.shape} items", expected="one item for each user")
        all_users, u = _with_new(self.users, users)
        all_items, i = _with_new(self.items, items)
        before = self.interactions
        seen = Csr.from_pairs(
            np.concatenate([before.rows, u]), np.concatenate([before.columns, i]), (len(all_users), len(all_items))
        )
        changed = np.flatnonzero(seen.counts[: self.n_users] != before.counts)
        new_users = np.arange(self.n_users, len(all_users))
        new_items = np.arange(self.n_items, len(all_items))
        propagated = _grown(self.propagated, {"user": len(new_users), "item": len(new_items)})
        by_item = seen.transposed.take(new_items)
        item_degrees = np.concatenate([self._item_degrees, by_item.counts])
        learned = self.learned
        new = {"item": fold_in(learned, propagated, by_item, seen.counts, "item")}
        propagated.norms["item"][new_items] = new["item"].norms
        new["user"] = fold_in(learned, propagated, seen.take(new_users), item_degrees, "user")
        again = fold_in(learned, propagated, seen.take(changed), item_degrees, "user", changed)
        propagated.norms["user"][new_users] = new["user"].norms
        propagated.norms["user"][changed] = again.norms

        vectors = np.concatenate([self.embeddings.users, new["user"].embeddings.astype(np.float32)])
        vectors[changed] = again.embeddings
        scaled = new["item"].embeddings * learned.item_scales(by_item.counts)[:, None]
        item_vectors = np.concatenate([self.embeddings.items, scaled.astype(np.float32)])

        model = copy(self)
        for stale in ("_user_lengths", "_item_lengths"):
            model.__dict__.pop(stale, None)
        model.learned = _extended(learned, {role: (new[role].indices, new[role].weights) for role in ENTITY_TYPES})
        model.interactions, model.users, model.items = seen, all_users, all_items
        model.extended = True
        model._item_degrees, model.propagated = item_degrees, propagated
        model.filter = None if self.filter is None else self.filter.grown(len(new_items))
        model.embeddings = Embeddings(vectors, item_vectors, self.embeddings.rounded)
        return model

    def refreshed(self, progress: Progress | None = None) -> ServingModel:
        """This model propagated anew over all its interactions, the folded-in ones among them."""
        return ServingModel(
            self.learned,
            self.interactions,
            self.users.ids,
            self.items.ids,
            details=self.details,
            progress=progress,
        )

    # -------------------------------------------------------------------------------------------------------------

    def _recommend(
        self, vectors: np.ndarray, histories: Csr, rows: np.ndarray, exclude_seen: bool, k: int, candidates: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best of some users, given as rows of `vectors` (n, d) and `histories` (n x n_items)."""
        columns = np.arange(self.n_items)
        if candidates is not None:
            columns = np.unique(self.items.rows(candidates).reshape(-1))
            if len(columns) == 0:
                raise InputError("no candidates", expected="at least one item")
        k = min(_whole(k), len(columns))
        place = np.full(self.n_items, -1)
        place[columns] = np.arange(len(columns))
        best, values = np.empty((len(rows), k), dtype=np.int64), np.empty((len(rows), k), dtype=np.float32)
        for some in self._blocks(len(rows)):
            scores = self._scores(vectors, histories, rows[some], None if candidates is None else columns)
            if exclude_seen:
                seen = histories.take(rows[some])
                at = place[seen.columns]
                scores[seen.rows[at >= 0], at[at >= 0]] = -np.inf
            best[some], values[some] = top_columns(scores, k)
        ids = self.items.ids[columns[best]]
        ids[values == -np.inf] = np.array(None if self.items.are_text else -1)
        return ids, values

    def _blocks(self, n: int) -> Iterator[slice]:
        """Slices of n users whose scores of all items are held at once."""
        size = max(1, _SCORE_BLOCK // self.n_items)
        return (slice(start, min(start + size, n)) for start in range(0, n, size))

    def _scores(
        self, vectors: np.ndarray, histories: Csr, rows: np.ndarray, columns: np.ndarray | None = None
    ) -> np.ndarray:
        """Scores (len(rows), n_items) of some users, given as for `_recommend`, or of some `columns` of the items."""
        # A filter's scores are standardised over all items, whichever are asked for.
        taken = slice(None) if columns is None or self.filter is not None else columns
        scores = vectors[rows] @ self.embeddings.items[taken].T
        if self.learned.item_bias is not None:
            scores += self.learned.item_bias[taken]
        if self.filter is None:
            return scores
        weight = np.float32(self.learned.filter_weight)
        scores = (1 - weight) * standardised(scores)
        scores += weight * standardised(self.filter.scores(histories.take(rows)))
        return scores if columns is None else scores[:, columns]

    def _similar(
        self, vectors: np.ndarray, lengths: np.ndarray, rows: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        k = min(_whole(k), len(vectors) - 1)
        best, values = np.empty((len(rows), k), dtype=np.int64), np.empty((len(rows), k), dtype=np.float32)
        block = max(1, _SCORE_BLOCK // len(vectors))
        for start in range(0, len(rows), block):
            some = rows[start : start + block]
            cosines = (vectors[some] / lengths[some, None]) @ vectors.T
            cosines /= lengths
            cosines[np.arange(len(some)), some] = -np.inf
            top = slice(start, start + len(some))
            best[top], values[top] = top_columns(cosines, k)
        return best, values

    @cached_property
    def _user_lengths(self) -> np.ndarray:
        return _lengths(self.embeddings.users)

    @cached_property
    def _item_lengths(self) -> np.ndarray:
        return _lengths(self.embeddings.items)

    def _assignment(self, role: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of S of some users or items: indices and weights; without columns in a model without tiers."""
        if not self.learned.tiers:
            return np.zeros((len(rows), 0), dtype=np.int64), np.zeros((len(rows), 0))
        first = self.learned.tiers[0]
        return first.indices[role][rows], first.weights[role][rows]

    def _histories(self, histories: Sequence[Iterable[Any]]) -> Csr:
        lists = list(map(_listed, histories))
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        items = list(chain.from_iterable(lists))
        rows = self.items.rows(id_array(items))
        return Csr.from_pairs(np.repeat(np.arange(len(lists)), lengths), rows, (len(lists), self.n_items))


def read_pairs(data: Any) -> tuple[np.ndarray, np.ndarray]:
    """User and item ids from a mapping, a DataFrame, a pair of arrays or an (n, 2) array.

    Raises
    ------
    InputError
        `data` is none of these, or not as many users as items.
    """
    users, items = _columns_of(data)
    if len(users) != len(items):
        raise InputError(f"{len(users):,} users and {len(items):,} items", expected="one item for each user")
    return users, items


def _columns_of(data: Any) -> tuple[np.ndarray, np.ndarray]:
    if hasattr(data, "columns") and hasattr(data, "to_numpy"):
        missing = [name for name in ("user", "item") if name not in data.columns]
        if missing:
            raise InputError(f"no column {missing[0]!r}", where="data frame", expected="columns user and item")
        return data["user"].to_numpy(), data["item"].to_numpy()
    if isinstance(data, Mapping):
        lists = list(map(_listed, data.values()))
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        return np.repeat(id_array(list(data)), lengths), id_array(list(chain.from_iterable(lists)))
    if isinstance(data, tuple) and len(data) == 2:
        return id_array(data[0]).reshape(-1), id_array(data[1]).reshape(-1)
    pairs = id_array(data)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise InputError(f"pairs of shape {pairs.shape}", expected="a DataFrame, a mapping, two arrays, or (n, 2)")
    return pairs[:, 0], pairs[:, 1]


def _listed(history: Any) -> list[Any]:
    """The items of a history; text is one id, and no list of its letters."""
    if isinstance(history, (str, bytes)) or not isinstance(history, Iterable):
        raise InputError(f"a history is {history!r:.40}", expected="a list of item ids")
    return list(history)


class _Part(NamedTuple):
    """What reaches a score in one way: ids of where it comes from, contributions (n,), and rows of S they come by."""

    kind: str
    ids: list[Any]
    contributions: np.ndarray
    rows_of_s: tuple[np.ndarray, np.ndarray] | None = None


def _explanation(learned: Learned, user: Any, item: Any, parts: list[_Part]) -> Explanation:
    """Put the parts of a score in order, and share them out over the meta-embeddings of each tier."""
    contributions = np.concatenate([part.contributions for part in parts])
    width = max(part.rows_of_s[0].shape[1] for part in parts if part.rows_of_s is not None)
    indices = np.zeros((len(contributions), width), dtype=np.int64)
    weights = np.zeros((len(contributions), width))
    start = 0
    for part in parts:
        stop = start + len(part.contributions)
        if part.rows_of_s is not None:
            some, values = part.rows_of_s
            indices[start:stop, : some.shape[1]] = some
            weights[start:stop, : some.shape[1]] = values
        start = stop
    kinds = np.repeat(np.array([part.kind for part in parts], dtype=object), [len(part.ids) for part in parts])
    ids = [one for part in parts for one in part.ids]
    order = np.argsort(-np.abs(contributions), kind="stable")
    contributions = contributions[order]
    nodes, groups, ungrouped = {}, {}, {}
    for tier, (numbers, share) in zip(learned.tiers, shares(learned, indices[order], weights[order]), strict=True):
        nodes[tier.name] = numbers
        groups[tier.name] = np.bincount(
            numbers.clip(min=0).ravel(), weights=(share * contributions[:, None]).ravel(), minlength=tier.size
        )
        ungrouped[tier.name] = float(((1 - share.sum(axis=1)) * contributions).sum())
    objects = np.empty(len(ids), dtype=object)
    objects[:] = ids
    return Explanation(
        user,
        item,
        float(contributions.sum()),
        kinds[order],
        objects[order],
        contributions,
        nodes,
        groups,
        ungrouped,
    )


def _with_new(ids: IdMap, values: np.ndarray) -> tuple[IdMap, np.ndarray]:
    """`ids` with those of `values` it lacks, and the rows of all `values`."""
    rows = ids.find(values)
    if (rows >= 0).all():
        return ids, rows
    if is_missing(values[rows < 0]).any():
        raise InputError(f"a {ids.role} is missing", expected="an id in every pair")
    fresh = ids.normalised(values[rows < 0])
    if fresh is None or (not ids.are_text and len(fresh) and fresh.min() < 0):
        raise InputError(f"a new {ids.role} id is not a whole number of 0 or more", expected="ids like the known ones")
    extended = ids.extended(np.unique(fresh))
    return extended, extended.find(values)


def _grown(propagated: Propagated, n_new: Mapping[str, int]) -> Propagated:
    """With nodes added that send nothing."""

    def grown(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {
            name: np.concatenate([x, np.zeros((n_new[name], *x.shape[1:]), dtype=x.dtype)]) if name in n_new else x
            for name, x in arrays.items()
        }

    return replace(propagated, messages=grown(propagated.messages), norms=grown(propagated.norms))


def _extended(learned: Learned, rows: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Learned:
    """With rows of S for new users and items; a new item's bias is the mean, a new row of a full table zero."""
    bias, table, tiers = learned.item_bias, learned.table, learned.tiers
    n_items = len(rows["item"][0])
    if bias is not None:
        bias = np.concatenate([bias, np.full(n_items, bias.mean(), dtype=bias.dtype)])
    if table is not None:
        table = {
            role: np.concatenate([x, np.zeros((len(rows[role][0]), x.shape[1]), dtype=x.dtype)])
            for role, x in table.items()
        }
    if tiers:
        first = tiers[0]
        indices = {role: np.concatenate([first.indices[role], rows[role][0]]) for role in ENTITY_TYPES}
        weights = {
            role: np.concatenate([first.weights[role], rows[role][1].astype(first.weights[role].dtype)])
            for role in ENTITY_TYPES
        }
        tiers = (replace(first, indices=indices, weights=weights), *tiers[1:])
    return replace(learned, tiers=tiers, table=table, item_bias=bias)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """Lengths (n,) of rows, 1 where they are 0."""
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    return np.where(lengths > 0, lengths, 1.0).astype(np.float32)


def _like(given: Any, found: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """One row for a single id, as many as were asked for otherwise."""
    return found if np.ndim(given) else (found[0][0], found[1][0])


def _whole(k: Any) -> int:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise InputError(f"k = {k!r}", expected="a whole number of 1 or more")
    return int(k)
