from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.evaluation.ranking import largest


@given(
    st.integers(1, 4),
    st.integers(1, 700),
    st.integers(1, 40),
    st.sampled_from([0, 3, 10**6]),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
def test_the_largest_are_those_of_a_full_sort(
    n: int, n_columns: int, k: int, values: int, masked: float, seed: int
) -> None:
    """Short rows and long ones, with many equal entries and with -inf; of equal ones the lower column first."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-values, values + 1, (n, n_columns), generator=generator).float()
    scores[torch.rand(n, n_columns, generator=generator) < masked] = -torch.inf
    k = min(k, n_columns)
    columns, found = largest(scores, k)
    wanted = scores.sort(dim=1, descending=True, stable=True)
    assert torch.equal(found, wanted.values[:, :k])
    assert torch.equal(columns, wanted.indices[:, :k])
