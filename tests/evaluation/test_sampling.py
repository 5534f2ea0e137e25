from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from c2f_dgl import load_dataset
from c2f_dgl.evaluation import sampling
from c2f_dgl.evaluation.ranking import evaluate, most_popular


def test_training_ranks_for_the_same_drawn_users_in_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    split = load_dataset("planted")
    scorer = most_popular(split.train)
    assert sampling.drawn_users(split, 0) is None
    whole = sampling.evaluate_split(scorer, split, ["valid", "test"], 0)
    assert whole == {part: evaluate(scorer, split.train, getattr(split, part)) for part in ("valid", "test")}
    monkeypatch.setattr(sampling, "_MOST_SCORES", 50 * split.n_items)
    monkeypatch.setattr(sampling, "_LEAST_USERS", 20)
    drawn = sampling.drawn_users(split, 0)
    assert drawn is not None and len(np.unique(drawn)) == 50
    assert (sampling.drawn_users(split, 0) == drawn).all() and (sampling.drawn_users(split, 1) != drawn).any()
    for part, figures in sampling.evaluate_split(scorer, split, ["valid", "test"], 0).items():
        of_drawn = sp.lil_matrix(split.train.shape)
        of_drawn[drawn] = getattr(split, part)[drawn]
        assert figures == pytest.approx(evaluate(scorer, split.train, of_drawn.tocsr()))
    monkeypatch.setattr(sampling, "_LEAST_USERS", 60)
    drawn = sampling.drawn_users(split, 0)
    assert drawn is not None and len(drawn) == 60
