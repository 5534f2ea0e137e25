from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.evaluation.ranking import product


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 2**32 - 1), st.booleans())
def test_it_is_the_product(dtype: torch.dtype, n: int, k: int, d: int, seed: int, strided: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    width = 2 * d if strided else d
    a, b = (torch.randn(rows, width, generator=generator, dtype=dtype)[:, :d] for rows in (n, k))
    torch.testing.assert_close(product(a, b).double(), a.double() @ b.double().T, atol=1e-4, rtol=1e-4)
