from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

from c2f_dgl import load_config
from c2f_dgl.data.planted import generate_planted
from c2f_dgl.data.splits import random_split
from c2f_dgl.graph.partition import entity_groups
from c2f_dgl.training.build import start_graph


@pytest.mark.parametrize(("grouping", "least", "most"), [("metis", 0.5, 1), ("kmeans", 0.5, 1), ("random", 0, 0.25)])
def test_groups_find_planted_communities_unless_they_are_random(grouping: str, least: float, most: float) -> None:
    interactions, labels = generate_planted(300, 200, 9_000, 10, 1, seed=1, within_fine=0.95, within_coarse=0.04)
    graph = start_graph(random_split(interactions, seed=0), load_config("paper").model)
    groups = entity_groups(graph, grouping, 10, seed=3)  # type: ignore[arg-type]
    assert groups.dtype == np.int64 and set(groups) <= set(range(10))
    assert (groups == entity_groups(graph, grouping, 10, seed=3)).all()  # type: ignore[arg-type]
    known = np.concatenate([labels["user_coarse"], labels["item_coarse"]])
    assert least <= normalized_mutual_info_score(known, groups) <= most
