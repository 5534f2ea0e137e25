"""The model of training on many machines."""

from __future__ import annotations

import pytest

from benchmarks import cluster


def rows(seconds, phase="solve"):
    """Records of 1, 2 and 4 hosts, whose ranks take around so many processor seconds."""
    of_ranks = {n: [0.9 * seconds(n), 1.1 * seconds(n)] for n in (1, 2, 4)}
    return [
        {"hosts": n, "ranks": [{"phases": {phase: {"processor seconds": taken}}} for taken in of_rank]}
        for n, of_rank in of_ranks.items()
    ]


def test_a_phase_is_fitted_by_what_is_shared_and_what_is_not():
    assert cluster.fitted(rows(lambda n: 6 / n + 2), "solve") == pytest.approx((6, 2))
    assert cluster.fitted(rows(lambda n: 6 / n), "solve") == pytest.approx((6, 0))
    a, b = cluster.fitted(rows(lambda n: 6 / n - 1), "solve")
    assert b == 0 and 3 < a < 6
    assert cluster.fitted(rows(lambda n: 5, "filter"), "filter") == (0, 5)


def test_sizes_are_those_of_the_preset():
    size = cluster.Size.of(10**9)
    assert (size.users, size.items, size.m) == (50_000_000, 10_000_000, 2**29 // 60_000_000)
    assert size.scores == 10_000_000 * 10_000
    assert cluster.Size.of(10**9, atoms=512).m == 512


def test_a_basis_goes_down_a_tree_of_hosts():
    size = cluster.Size.of(10**9, atoms=512)
    eight, more = (cluster.wire(size, n, 125e6, 1e-3)[0] for n in (8, 32))
    assert eight == pytest.approx(3 * 8 * 60e6 * 512 / 125e6)
    assert more / eight == pytest.approx(5 / 3)
