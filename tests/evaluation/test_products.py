from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.evaluation.products import add_product


def test_it_cannot_add_to_a_view() -> None:
    with pytest.raises(ValueError, match="not contiguous"):
        add_product(torch.zeros(4, 6)[:, :3], torch.ones(4, 2), torch.ones(3, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.sampled_from([0.0, 1.0]),
)
def test_it_adds_the_product_in_place(
    dtype: torch.dtype, n: int, k: int, d: int, seed: int, strided: bool, beta: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    width = 2 * d if strided else d
    out = torch.randn(n, k, generator=generator, dtype=dtype)
    a, b = (torch.randn(rows, width, generator=generator, dtype=dtype)[:, :d] for rows in (n, k))
    expected = beta * out.double() + a.double() @ b.double().T
    if beta == 0:
        out.fill_(torch.nan)  # may be anything
        expected = a.double() @ b.double().T
    add_product(out, a, b, beta=beta)
    torch.testing.assert_close(out.double(), expected, atol=1e-4, rtol=1e-4)
