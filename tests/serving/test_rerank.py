"""Lists in another order, against transcriptions that take one user after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.errors import InputError
from c2f_dgl.serving import rerank

N_ITEMS = 12


def lists(seed: int, n: int = 4, depth: int = 7) -> rerank.Lists:
    """Some lists, as rankers give them: the second shorter than the others, the third empty."""
    rng = np.random.default_rng(seed)
    items = np.stack([rng.permutation(N_ITEMS)[:depth] for _ in range(n)])
    scores = -np.sort(-rng.integers(-3, 4, (n, depth)).astype(float), axis=1)
    scores[1, depth // 2 :] = -np.inf
    scores[2] = -np.inf
    return items, scores


def shown(found: rerank.Lists) -> list[list[tuple[int, float]]]:
    rows = zip(*(part.tolist() for part in found), strict=True)
    return [[pair for pair in zip(*row, strict=True) if pair[1] > -np.inf] for row in rows]


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 0.7, 1.0]), st.integers(1, 9))
def test_mmr_is_its_definition(seed: int, weight: float, k: int) -> None:
    items, scores = lists(seed)
    vectors = np.random.default_rng(seed).normal(size=(N_ITEMS, 3))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for row, found in zip(
        shown((items, scores)), shown(rerank.diversified(items, scores, vectors, k, weight)), strict=True
    ):
        values = [score for _, score in row]
        span = (max(values) - min(values) or 1.0) if row else 1.0
        left, chosen = list(row), []
        while left and len(chosen) < k:
            gains = [
                (1 - weight) * (score - min(values)) / span
                - weight * max([float(unit[item] @ unit[other]) for other, _ in chosen], default=0.0)
                for item, score in left
            ]
            chosen.append(left.pop(int(np.argmax(np.round(gains, 12)))))
        assert found == chosen


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_no_group_has_more_than_its_cap(seed: int, most: int) -> None:
    items, scores = lists(seed)
    groups = np.random.default_rng(seed).integers(-1, 3, N_ITEMS)
    for row, found in zip(shown((items, scores)), shown(rerank.capped(items, scores, groups, most)), strict=True):
        kept, count = [], dict[int, int]()
        for item, score in row:
            count[groups[item]] = count.get(groups[item], 0) + 1
            if groups[item] < 0 or count[groups[item]] <= most:
                kept.append((item, score))
        assert found == kept


@given(st.integers(0, 10_000))
def test_boosts_are_added_in_units_of_a_lists_spread(seed: int) -> None:
    items, scores = lists(seed)
    boosts = np.random.default_rng(seed).normal(size=N_ITEMS)
    for row, found in zip(shown((items, scores)), shown(rerank.boosted(items, scores, boosts)), strict=True):
        spread = np.std([score for _, score in row]) if row else 0.0
        expected = sorted([(item, score + boosts[item] * spread) for item, score in row], key=lambda pair: -pair[1])
        assert [item for item, _ in found] == [item for item, _ in expected]
        assert [score for _, score in found] == pytest.approx([score for _, score in expected])


def test_popular_items_are_demoted() -> None:
    degrees = np.array([1000, 10, 0, 10])
    boosts = rerank.popularity_boosts(degrees, 0.5)
    assert (
        boosts.mean() == pytest.approx(0) and boosts.std() == pytest.approx(0.5) and boosts[0] < boosts[1] < boosts[2]
    )
    items, scores = np.array([[0, 1, 2]]), np.array([[3.0, 2.9, 1.0]])
    assert rerank.boosted(items, scores, boosts)[0].tolist() == [[1, 0, 2]]
    assert (rerank.popularity_boosts(np.ones(3), 1.0) == 0).all()


@given(st.integers(0, 10_000), st.integers(0, 9))
def test_pins_come_first_and_once(seed: int, n_pins: int) -> None:
    items, scores = lists(seed)
    pins = np.random.default_rng(seed + 1).permutation(N_ITEMS)[:n_pins]
    found = rerank.pinned(items, scores, pins)
    assert found[0].shape == items.shape
    for row, pinned in zip(shown((items, scores)), shown(found), strict=True):
        rest = [item for item, _ in row if item not in pins]
        assert [item for item, _ in pinned] == [*pins.tolist(), *rest][: items.shape[1]]
        values = [score for _, score in pinned]
        assert values == sorted(values, reverse=True)


def test_they_compose() -> None:
    items, scores = lists(3)
    groups = np.arange(N_ITEMS) % 3
    found = rerank.pinned(*rerank.capped(*rerank.boosted(items, scores, np.zeros(N_ITEMS)), groups, 1), np.array([5]))
    for row in shown(found):
        assert row[0][0] == 5 and len({groups[item] for item, _ in row[1:]}) == len(row) - 1


def test_what_cannot_be_is_refused() -> None:
    items, scores = lists(0)
    with pytest.raises(InputError, match=r"weight = 2"):
        rerank.diversified(items, scores, np.ones((N_ITEMS, 2)), 3, 2)
    with pytest.raises(InputError, match="most = 0"):
        rerank.capped(items, scores, np.zeros(N_ITEMS, dtype=int), 0)
