"""DHE's hashes are deterministic and uniform, its decoder fits the budget, and it trains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from c2f_dgl.baselines import dhe
from c2f_dgl.baselines.fitting import layout_of
from c2f_dgl.errors import InputError


def test_codes_are_deterministic_uniform_and_collide_as_random_ones_would() -> None:
    codes = dhe.hash_codes(20_000, 8, np.random.default_rng(3))
    assert torch.equal(codes, dhe.hash_codes(20_000, 8, np.random.default_rng(3)))
    assert not torch.equal(codes, dhe.hash_codes(20_000, 8, np.random.default_rng(4)))
    assert codes.abs().max() <= 1
    for column in codes.T.numpy():
        # An affine map modulo a prime is more even than random numbers are: the distance to uniform is all that counts.
        assert stats.kstest(column, stats.uniform(-1, 2).cdf).statistic < 0.02
    correlation = np.corrcoef(codes.T.numpy())
    assert np.abs(correlation - np.eye(8)).max() < 0.05
    assert len(torch.unique(codes, dim=0)) == 20_000


def test_hashes_stay_below_the_prime_without_overflow() -> None:
    codes = dhe.hash_codes(5, 4, np.random.default_rng(0))
    rng = np.random.default_rng(0)
    a, b = rng.integers(1, dhe.PRIME, size=4).tolist(), rng.integers(0, dhe.PRIME, size=4).tolist()
    expected = [[((a[j] * s + b[j]) % dhe.PRIME) % dhe.BUCKETS for j in range(4)] for s in range(5)]
    np.testing.assert_allclose(codes, 2 * np.array(expected) / (dhe.BUCKETS - 1) - 1, atol=1e-6)


@given(st.integers(500, 200_000), st.integers(1, 128), st.integers(1, 64))
def test_the_widest_decoder_that_fits_is_taken(values: int, k: int, d: int) -> None:
    def needed(width: int) -> int:
        return width * (k + width + d + 4) + d

    width = dhe.hidden_width(values, k, d)
    assert needed(width) <= values < needed(width + 1)


def test_too_small_a_budget_is_refused() -> None:
    with pytest.raises(InputError, match="for a decoder"):
        dhe.hidden_width(100, 64, 64)


def test_a_row_is_that_of_the_table(planted_context) -> None:
    context = planted_context(dhe.DheSettings())
    codes = dhe.hash_codes(context.n_entities, 8, context.rng("hashes"))
    table = dhe.DeepHash(layout_of(context), codes, 10, 4, context.generator("decoder"))
    rows = torch.tensor([3, 1799, 3])
    assert torch.equal(table.entity_rows(rows), table.table()[rows])
