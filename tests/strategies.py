"""Small graphs and models that hypothesis draws: isolated nodes, one user, m > N, t = 1, t = m."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from hypothesis import strategies as st

from c2f_dgl.tiers.assignment import Assignment

FLOAT = torch.float64


@dataclass(frozen=True)
class Case:
    """A drawn graph with two tiers, dense and as the package takes it."""

    r: np.ndarray
    s_c: Assignment
    e_c: torch.Tensor
    s_r: Assignment
    e_r: torch.Tensor
    layers: int
    gate: float
    threshold: float
    seed: int

    @property
    def csr(self) -> sp.csr_matrix:
        return sp.csr_matrix(self.r)

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """S^c, E^c, S^r, E^r."""
        return self.s_c.dense().numpy(), self.e_c.numpy(), self.s_r.dense().numpy(), self.e_r.numpy()


def draw_assignment(rng: np.random.Generator, rows: int, m: int, t: int) -> Assignment:
    indices = rng.random((rows, m)).argsort(axis=1)[:, :t]
    return Assignment(torch.as_tensor(indices), torch.as_tensor(rng.random((rows, t)) + 0.05), m)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    n_users, n_items = draw(st.integers(1, 7)), draw(st.integers(2, 9))
    r = (rng.random((n_users, n_items)) < draw(st.sampled_from([0.1, 0.3, 0.7]))).astype(float)
    r[0, 0], r[0, -1] = 1.0, 0.0  # one interaction at least, and one item left as a negative
    m_c, m_r, d = draw(st.integers(1, 20)), draw(st.integers(1, 6)), draw(st.integers(1, 4))
    t_c, t_r = draw(st.integers(1, m_c)), draw(st.integers(1, m_r))
    return Case(
        r=r,
        s_c=draw_assignment(rng, n_users + n_items, m_c, t_c),
        e_c=torch.as_tensor(rng.normal(size=(m_c, d))),
        s_r=draw_assignment(rng, m_c, m_r, t_r),
        e_r=torch.as_tensor(rng.normal(size=(m_r, d))),
        layers=draw(st.integers(0, 4)),
        gate=draw(st.sampled_from([0.0, 0.2, 0.5, 1.0])),
        threshold=draw(st.sampled_from([0.0, 0.3, 10.0])),
        seed=seed,
    )
