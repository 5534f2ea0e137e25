from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.entries import Entries


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6), st.sampled_from([0.0, 0.3, 1.0]))
def test_entries_are_those_of_the_dense_matrix(seed: int, n: int, m: int, density: float) -> None:
    dense = np.random.default_rng(seed).random((n, m)) < density
    entries = Entries(sp.csr_matrix(dense))
    rows, columns = np.indices((n, m))
    np.testing.assert_array_equal(entries.hold(entries.key(rows, columns)), dense)
