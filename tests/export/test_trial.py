"""Ways to score that are compared on validation, against the evaluation of each."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import Scorer, evaluate
from c2f_dgl.export.trial import Trial


@given(st.integers(0, 2**32 - 1), st.sampled_from([7, 70, 10**6]))
def test_variants_compared_in_one_pass_get_the_figures_of_each(seed: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, p=[0.6, 0.2, 0.2], size=(12, 30))
    kind[0, 0] = 2
    seen, relevant = (sp.csr_matrix((kind == part).astype(np.float32)) for part in (1, 2))
    users, items = (torch.as_tensor(rng.normal(size=(n, 3))) for n in (12, 30))
    scorers = [Scorer(users, items), Scorer(-users, items), Scorer(users, items**2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("c2f_dgl.evaluation.ranking._SCORE_BLOCK", block)
        figures = Trial(np.ones(30), seen, relevant, 0).compared(lambda rows: (one.scores(rows) for one in scorers))
    assert figures == pytest.approx([evaluate(scorer, seen, relevant)["ndcg@20"] for scorer in scorers])


def test_nothing_to_find_is_said() -> None:
    nothing = sp.csr_matrix((3, 4), dtype=np.float32)
    with pytest.raises(InputError, match="no user has a held-out item"):
        Trial(np.ones(4), nothing, nothing, 0).compared(lambda rows: [torch.zeros(len(rows), 4)])
