"""What is kept of a relation is made anew where its weights or its structure are others."""

from __future__ import annotations

import pytest
import torch

from c2f_dgl.config.roles import DEFAULT_ROLES, reverse
from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.hetero import derived, link_tier, with_norm
from c2f_dgl.graph.item_filter import graph_filter
from c2f_dgl.graph.layout import NodeLayout
from c2f_dgl.graph.propagate import Kernel, _graph_on_device, propagate

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
    made = []

    def value(graph: dgl.DGLGraph, key: str = "value") -> int:
        pointers = graph.adj_tensors("csc", TARGET)[0]
        return derived(graph.edges[TARGET].data["weight"], key, lambda: made.append(key) or len(made), pointers)

    graph = weighed([0, 1, 2, 0], torch.ones(4))
    assert [value(same) for same in (graph, graph.local_var(), graph)] == [1, 1, 1]
    assert value(graph, "another") == 2
    graph.edges[TARGET].data["weight"].mul_(2)
    assert value(graph) == 3
    with torch.inference_mode():  # changes are not counted there
        fresh = weighed([0, 1, 2, 0], torch.ones(4))
        assert value(fresh) == value(fresh) == 4


@pytest.mark.parametrize("internals", [True, False])
def test_other_relations_are_shared_wherever_dgl_lets_them_be(internals: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = weighed([0, 1, 2, 0], torch.ones(4))
    if not internals:
        monkeypatch.delattr(dgl.heterograph_index.HeteroGraphIndex, "get_relation_graph")
    indices, weights = torch.zeros(7, 1, dtype=torch.int64), torch.ones(7, 1)
    linked = link_tier(graph, "coarse", NodeLayout.of(graph, ("user", "item")), indices, weights, n_nodes=2)
    assert linked.edges[TARGET].data["weight"] is graph.edges[TARGET].data["weight"]
    pointers = [g.adj_tensors("csc", TARGET)[0] for g in (graph, linked)]
    assert torch.equal(*pointers) and (pointers[0].data_ptr() == pointers[1].data_ptr()) == internals
    assert linked.num_nodes("coarse") == 2 and linked.num_edges(("item", "composed_of", "coarse")) == 3
    torch.testing.assert_close(linked.nodes["item"].data["norm"], torch.tensor([3.0, 2.0, 2.0]).rsqrt())
