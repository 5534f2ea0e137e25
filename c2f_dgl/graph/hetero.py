"""The DGL heterograph: users, items and other entities, and below them one node type per tier.

Edge data ``weight`` are the entries of A and S (Eq. 2, 3, 13, 14), node data ``norm`` are D^(-1/2) (Eq. 5, 20), or
D^(-a) where `with_exponents` says so. An assignment update makes a tier's relations anew; all others are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import scipy.sparse as sp
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from c2f_dgl.config.roles import DEFAULT_ROLES, EdgeType, Roles, reverse
from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.layout import NodeLayout

# Degrees up to this are those of links to meta nodes that are not to disturb a filter (see `link_tier`).
_LINKED = 1e-20

# Source and destination (n_edges,) int64, weight (n_edges,) float.
Edges = tuple[Tensor, Tensor, Tensor]

_DERIVED = WeakTensorKeyDictionary()


def interaction_graph(
    interactions: sp.csr_matrix, *, dtype: torch.dtype = torch.float32, roles: Roles = DEFAULT_ROLES
) -> dgl.DGLGraph:
    """The user-item graph A (Eq. 2) of R (n_users x n_items), both ways, with the values of R as weights in `dtype`."""
    coo = interactions.tocoo()
    users, items = torch.as_tensor(coo.row, dtype=torch.int64), torch.as_tensor(coo.col, dtype=torch.int64)
    edges = both_ways(roles.target, (users, items, torch.as_tensor(coo.data).to(dtype)))
    return with_norm(_weighted(edges, {roles.query: coo.shape[0], roles.ranked: coo.shape[1]}))


def _weighted(relations: Mapping[EdgeType, Edges], sizes: Mapping[str, int]) -> dgl.DGLGraph:
    ends = {etype: (source, destination) for etype, (source, destination, _) in relations.items()}
    graph = dgl.heterograph(ends, num_nodes_dict=sizes)
    for etype, (_, _, weight) in relations.items():
        graph.edges[etype].data["weight"] = weight
    return graph


def entity_layout(graph: dgl.DGLGraph, roles: Roles = DEFAULT_ROLES) -> NodeLayout:
    """Users, then items, then other entities: the stacking order of the paper's N entities."""
    return NodeLayout.of(graph, roles.entities)


def both_ways(etype: EdgeType, edges: Edges) -> dict[EdgeType, Edges]:
    """A relation and its reverse; between nodes of one type `edges` must hold both directions already."""
    source, destination, weight = edges
    if etype[0] == etype[2]:
        return {etype: edges}
    return {etype: edges, reverse(etype): (destination, source, weight)}


def with_norm(graph: dgl.DGLGraph) -> dgl.DGLGraph:
    """Set node data ``norm`` (see `degree_norm`) from the weights as they are."""
    for node_type in graph.ntypes:
        graph.nodes[node_type].data["norm"] = degree_norm(graph, node_type)
    return graph


def with_exponents(graph: dgl.DGLGraph, exponents: Mapping[str, float]) -> dgl.DGLGraph:
    """`graph` with other exponents than 1/2 of some node types, D_u^(-a) R D_i^(-b); all else is shared."""
    changed = graph.local_var()
    for node_type, exponent in exponents.items():
        n = graph.num_nodes(node_type)
        changed.nodes[node_type].data["exponent"] = torch.full((n,), exponent, dtype=torch.float64)
    return with_norm(changed)


def exponent_of(graph: dgl.DGLGraph, node_type: str) -> float:
    """The exponent of a node type's degrees in ``norm``."""
    exponent = graph.nodes[node_type].data.get("exponent")
    return 0.5 if exponent is None or len(exponent) == 0 else float(exponent[0])


def degree_norm(graph: dgl.DGLGraph, node_type: str, factors: Mapping[EdgeType, Tensor] | None = None) -> Tensor:
    """D^(-a) of a node type (n,), 0 for isolated nodes; `factors`, of one value each, multiply weights of relations.

    a is 1/2 unless `with_exponents` has set another. Nodes that are linked to meta nodes alone, with next to no weight,
    have 1/2 too: no other power of that keeps them from growing.
    """
    degree, exponent = _degrees(graph, node_type, factors or {}), exponent_of(graph, node_type)
    filled = torch.where(degree > 0, degree, 1.0)
    power = filled.rsqrt() if exponent == 0.5 else torch.where(filled > _LINKED, filled**-exponent, filled.rsqrt())
    return torch.where(degree > 0, power, 0.0)


def _degrees(graph: dgl.DGLGraph, node_type: str, factors: Mapping[EdgeType, Tensor]) -> Tensor:
    """D of a node type (n,): summed weights of the edges that arrive or, where none does, of those that leave.

    Either way D^(-1/2) A' D^(-1/2) is similar to a matrix of weighted means, so that propagation does not grow.
    """
    weights = {etype: graph.edges[etype].data["weight"] for etype in graph.canonical_etypes}

    def summed(end: int) -> Tensor:
        degree = torch.zeros(graph.num_nodes(node_type), dtype=next(iter(weights.values())).dtype)
        for etype, weight in weights.items():
            if etype[2 * end] == node_type:
                scaled = weight * factors[etype].to(weight) if etype in factors else weight
                degree = degree.index_add(0, graph.edges(etype=etype)[end], scaled)
        return degree

    arriving = summed(1)
    return arriving if (arriving > 0).all() else torch.where(arriving > 0, arriving, summed(0))


def reweighted(graph: dgl.DGLGraph, factors: Mapping[EdgeType, float]) -> dgl.DGLGraph:
    """`graph` with the weights of some relations multiplied; structure and other weights are shared."""
    if not factors:
        return graph
    changed = graph.local_var()
    for etype, factor in factors.items():
        changed.edges[etype].data["weight"] = changed.edges[etype].data["weight"] * factor
    return with_norm(changed)


def in_float64(graph: dgl.DGLGraph) -> dgl.DGLGraph:
    """The same graph with float64 edge weights, and ``norm`` computed from them anew."""
    wide = graph.local_var()
    for etype in wide.canonical_etypes:
        wide.edges[etype].data["weight"] = wide.edges[etype].data["weight"].double()
    return with_norm(wide)


def with_relations(
    graph: dgl.DGLGraph, relations: Mapping[EdgeType, Edges], num_nodes: Mapping[str, int]
) -> dgl.DGLGraph:
    """`graph` with `relations` added or replaced, and node types of `num_nodes` nodes; other relations are shared."""
    sizes = {node_type: graph.num_nodes(node_type) for node_type in graph.ntypes} | dict(num_nodes)
    fresh = _weighted(relations, sizes)
    owners = {etype: graph for etype in graph.canonical_etypes} | dict.fromkeys(relations, fresh)
    joined = _joined(owners, sizes)
    for etype, owner in owners.items():
        joined.edges[etype].data["weight"] = owner.edges[etype].data["weight"]
    for node_type in graph.ntypes:
        if "exponent" in graph.nodes[node_type].data:
            joined.nodes[node_type].data["exponent"] = graph.nodes[node_type].data["exponent"]
    return with_norm(joined)


def _joined(owners: Mapping[EdgeType, dgl.DGLGraph], sizes: Mapping[str, int]) -> dgl.DGLGraph:
    """A graph of relations of other graphs, without data, that shares their structure.

    DGL has no public call for that: this is how its `edge_type_subgraph` does it. A DGL whose internals have other
    names builds the structure anew.
    """
    try:
        index = dgl.heterograph_index
        metagraph, node_types, names, etypes = index.create_metagraph_index(sizes.keys(), owners.keys())
        parts = [owners[etype]._graph.get_relation_graph(owners[etype].get_etype_id(etype)) for etype in etypes]
        counts = dgl.utils.toindex([sizes[node_type] for node_type in node_types], "int64")
        return dgl.DGLGraph(index.create_heterograph_from_relations(metagraph, parts, counts), node_types, names)
    except AttributeError:
        edges = {etype: owner.edges(etype=etype) for etype, owner in owners.items()}
        return dgl.heterograph(edges, num_nodes_dict=sizes)


def link_tier(
    graph: dgl.DGLGraph, tier: str, parents: NodeLayout, indices: Tensor, weights: Tensor, *, n_nodes: int
) -> dgl.DGLGraph:
    """`graph` with a tier of `n_nodes` nodes, linked to its parents by an assignment S (Eq. 3, 13, 14).

    S has columns `indices` (int64) and values `weights` (>= 0; 0 is no edge), both (parents.total x t). For the paper's
    tiers the relations are ``user-composed_of-coarse``, ``item-composed_of-coarse`` and ``coarse-refined_by-fine``,
    with the reverses ``composes_user``, ``composes_item`` and ``refines_coarse``.
    """
    relations: dict[EdgeType, Edges] = {}
    to_entities = len(parents.types) > 1  # which are of two types at least; a tier above is one
    for node_type in parents.types:
        rows = parents.rows(node_type)
        source, slot = weights[rows].nonzero(as_tuple=True)
        target, values = indices[rows][source, slot], weights[rows][source, slot]
        down, up = ("composed_of", "composes") if to_entities else ("refined_by", "refines")
        relations[(node_type, down, tier)] = (source, target, values)
        relations[(tier, f"{up}_{node_type}", node_type)] = (target, source, values)
    return with_relations(graph, relations, {tier: n_nodes})


def derived(tensor: Tensor, key: Hashable, make: Callable[[], Any], *others: Tensor) -> Any:
    """``make()``, kept while `tensor` lives, and made again once it or one of `others` is another, or changed in place.

    So the matrices of one relation serve every graph that has it. `others` are held, so that no new tensor can come to
    lie where an old one was.
    """
    # torch counts changes in place, but not of inference tensors.
    state = [(0 if x.is_inference() else x._version, x.data_ptr()) for x in (tensor, *others)]
    values = _DERIVED.setdefault(tensor, {})
    if key not in values or values[key][0] != state:
        values[key] = state, others, make()
    return values[key][2]
