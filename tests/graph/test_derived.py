"""What is kept of a relation is made anew where its weights or its structure are others."""

from __future__ import annotations

import pytest
import torch

from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.derived import Derived
from c2f_dgl.graph.hetero import with_norm
from c2f_dgl.graph.item_filter import graph_filter
from c2f_dgl.graph.propagate import Kernel, _graph_on_device, propagate
from c2f_dgl.roles import DEFAULT_ROLES, reverse

TARGET = DEFAULT_ROLES.target


def weighed(items: list[int], weight: torch.Tensor) -> dgl.DGLGraph:
    """Users 0 to 3 with an item each, both ways, weighed by one tensor."""
    users, items = torch.arange(4), torch.tensor(items)
    graph = dgl.heterograph(
        {TARGET: (users, items), reverse(TARGET): (items, users)}, num_nodes_dict={"user": 4, "item": 3}
    )
    for etype in (TARGET, reverse(TARGET)):
        graph.edges[etype].data["weight"] = weight
    return with_norm(graph)


def item_vectors(graph: dgl.DGLGraph, kernel: Kernel) -> torch.Tensor:
    return propagate(graph, {"user": torch.eye(4), "item": torch.zeros(3, 4)}, 1, kernel=kernel)["item"]


@pytest.mark.parametrize("kernel", ["csr", "dgl"])
def test_a_tensor_may_weigh_two_graphs_and_change(kernel: Kernel) -> None:
    weight, structures = torch.ones(4), ([0, 1, 2, 0], [2, 2, 1, 0])
    for change in (1.0, 5.0):
        weight[0] = change
        for items in structures:
            expected = item_vectors(weighed(items, weight.clone()), "dgl")
            torch.testing.assert_close(item_vectors(weighed(items, weight), kernel), expected)


def test_a_graph_is_moved_once_until_its_weights_change(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.ones(4)
    graph, elsewhere = weighed([0, 1, 2, 0], weight), torch.device("cuda")  # moved to in name only
    monkeypatch.setattr(dgl.DGLGraph, "to", lambda self, device: self.clone())
    moved = _graph_on_device(graph, elsewhere)
    assert moved is not graph and _graph_on_device(graph, elsewhere) is moved
    weight[0] = 3
    changed = _graph_on_device(graph, elsewhere)
    assert changed is not moved and changed.edges[TARGET].data["weight"][0] == 3
    graph.edges[TARGET].data["weight"] = torch.ones(4)
    assert _graph_on_device(graph, elsewhere).edges[TARGET].data["weight"][0] == 1
    assert _graph_on_device(graph, torch.device("cpu")) is graph


def test_a_filter_belongs_to_its_interactions() -> None:
    weight = torch.ones(4)
    one, other = (weighed(items, weight) for items in ([0, 1, 2, 0], [2, 2, 1, 0]))
    assert graph_filter(one, 2).histories is graph_filter(one.local_var(), 2).histories
    assert graph_filter(other, 2).histories.columns.tolist() == [2, 2, 1, 0]
    assert graph_filter(one, 2).histories.columns.tolist() == [0, 1, 2, 0]


def test_a_value_is_made_once_for_all_graphs_that_share_a_relation() -> None:
    made, derived = [], Derived()
    graph = weighed([0, 1, 2, 0], torch.ones(4))

    def count() -> int:
        made.append(None)
        return len(made)

    for same in (graph, graph.local_var(), graph):
        assert derived.get(same, TARGET, "value", count) == 1
    assert derived.get(graph, TARGET, "another", count) == 2
    graph.edges[TARGET].data["weight"].mul_(2)
    assert derived.get(graph, TARGET, "value", count) == 3
    with torch.inference_mode():  # changes are not counted there
        fresh = weighed([0, 1, 2, 0], torch.ones(4))
        assert derived.get(fresh, TARGET, "value", count) == derived.get(fresh, TARGET, "value", count) == 4
