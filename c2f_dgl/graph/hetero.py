"""The DGL heterograph: users, items and, below them, one node type per tier of meta-embeddings.

The interaction relations never change during training. The relations of a tier do, edges and weights, at every
assignment update: `link_tier` builds a new graph object in which only they are new and every other relation is the
very same structure in memory.

Edge data ``weight`` holds the entries of A and S (Eq. 2, 3, 13, 14); node data ``norm`` holds D^(-1/2) (Eq. 5, 20).
"""

from __future__ import annotations

from collections.abc import Mapping

import scipy.sparse as sp
import torch
from torch import Tensor

from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.layout import NodeLayout

EdgeType = tuple[str, str, str]

ENTITY_TYPES = ("user", "item")
INTERACTS: EdgeType = ("user", "interacts", "item")
INTERACTED_BY: EdgeType = ("item", "interacted_by", "user")


def interaction_graph(
    interactions: sp.csr_matrix, *, prenormalised: bool = False, dtype: torch.dtype = torch.float32
) -> dgl.DGLGraph:
    """The user-item graph A (Eq. 2) with the relations ``user-interacts-item`` and ``item-interacted_by-user``.

    Parameters
    ----------
    interactions : scipy.sparse.csr_matrix, shape (n_users, n_items)
        Training interactions R; stored values are the edge weights.
    prenormalised : bool
        Divide each edge by sqrt(degree(user) degree(item)) before any tier is added, as the published code does; it
        then normalises the expanded graph once more.
    dtype : torch.dtype
        Type of the edge weights, and so of everything that is propagated.
    """
    coo = interactions.tocoo()
    users, items = torch.as_tensor(coo.row, dtype=torch.int64), torch.as_tensor(coo.col, dtype=torch.int64)
    weight = torch.as_tensor(coo.data).to(dtype)
    if prenormalised:
        user_degree = torch.zeros(coo.shape[0], dtype=dtype).index_add_(0, users, weight)
        item_degree = torch.zeros(coo.shape[1], dtype=dtype).index_add_(0, items, weight)
        weight = weight * (user_degree[users] * item_degree[items]).rsqrt()
    graph = dgl.heterograph(
        {INTERACTS: (users, items), INTERACTED_BY: (items, users)},
        num_nodes_dict={"user": coo.shape[0], "item": coo.shape[1]},
    )
    graph.edges[INTERACTS].data["weight"] = weight
    graph.edges[INTERACTED_BY].data["weight"] = weight
    return with_norm(graph)


def entity_layout(graph: dgl.DGLGraph) -> NodeLayout:
    """Users, then items: the stacking order of the paper's N entities."""
    return NodeLayout(ENTITY_TYPES, tuple(graph.num_nodes(node_type) for node_type in ENTITY_TYPES))


def with_norm(graph: dgl.DGLGraph) -> dgl.DGLGraph:
    """Set node data ``norm`` = D^(-1/2), D the weighted in-degree over all relations (0 for isolated nodes)."""
    weights = {etype: graph.edges[etype].data["weight"] for etype in graph.canonical_etypes}
    for node_type in graph.ntypes:
        dtype = next(iter(weights.values())).dtype
        degree = torch.zeros(graph.num_nodes(node_type), dtype=dtype)
        for etype, weight in weights.items():
            if etype[2] == node_type:
                degree.index_add_(0, graph.edges(etype=etype)[1], weight)
        graph.nodes[node_type].data["norm"] = torch.where(degree > 0, degree, torch.inf).rsqrt()
    return graph


def in_float64(graph: dgl.DGLGraph) -> dgl.DGLGraph:
    """The same graph with float64 edge weights, and `norm` computed from them anew."""
    wide = graph.local_var()
    for etype in wide.canonical_etypes:
        wide.edges[etype].data["weight"] = wide.edges[etype].data["weight"].double()
    return with_norm(wide)


def with_relations(
    graph: dgl.DGLGraph, relations: Mapping[EdgeType, tuple[Tensor, Tensor, Tensor]], num_nodes: Mapping[str, int]
) -> dgl.DGLGraph:
    """A graph with `relations` added or replaced; all others share their structure and weights with `graph`.

    Parameters
    ----------
    graph : DGLGraph
        Left as it is.
    relations : mapping of (source, name, destination) to (src, dst, weight)
        int64 end points (n_edges,) and float weights (n_edges,).
    num_nodes : mapping of str to int
        Number of nodes of node types that `graph` lacks.
    """
    sizes = {node_type: graph.num_nodes(node_type) for node_type in graph.ntypes} | dict(num_nodes)
    fresh = dgl.heterograph({etype: (src, dst) for etype, (src, dst, _) in relations.items()}, num_nodes_dict=sizes)
    for etype, (_, _, weight) in relations.items():
        fresh.edges[etype].data["weight"] = weight

    owner = {etype: graph for etype in graph.canonical_etypes} | {etype: fresh for etype in relations}
    index = dgl.heterograph_index
    metagraph, node_types, names, etypes = index.create_metagraph_index(sizes.keys(), owner.keys())
    parts = [owner[etype]._graph.get_relation_graph(owner[etype].get_etype_id(etype)) for etype in etypes]
    counts = dgl.utils.toindex([sizes[node_type] for node_type in node_types], "int64")
    joined = dgl.DGLGraph(index.create_heterograph_from_relations(metagraph, parts, counts), node_types, names)
    for etype in etypes:
        joined.edges[etype].data["weight"] = owner[etype].edges[etype].data["weight"]
    return with_norm(joined)


def link_tier(
    graph: dgl.DGLGraph,
    tier: str,
    parents: NodeLayout,
    indices: Tensor,
    weights: Tensor,
    *,
    n_nodes: int,
    scale: float = 1.0,
) -> dgl.DGLGraph:
    """Rebuild the relations between a tier and the nodes above it from an assignment S (Eq. 3, 13, 14).

    For each parent node type there are two relations with the entries of S as weights: from the parent down to
    the tier and its reverse. For the paper's tiers: ``user-composed_of-coarse``, ``item-composed_of-coarse``,
    ``coarse-refined_by-fine``, with the reverses ``composes_user``, ``composes_item`` and ``refines_coarse``.

    Parameters
    ----------
    graph : DGLGraph
        Left as it is.
    tier : str
        Node type of the tier.
    parents : NodeLayout
        Node types above the tier, in the order in which they are stacked in S.
    indices, weights : Tensor, shape (parents.total, t)
        Columns (int64) and values (>= 0) of S, t entries a row; zero values are no edges.
    n_nodes : int
        Number of nodes of the tier, m.
    scale : float
        Weight of meta nodes against neighbours: the edges carry ``scale * S``; 1 is the paper's.
    """
    relations: dict[EdgeType, tuple[Tensor, Tensor, Tensor]] = {}
    for node_type in parents.types:
        rows = parents.rows(node_type)
        source, slot = weights[rows].nonzero(as_tuple=True)
        target, values = indices[rows][source, slot], weights[rows][source, slot] * scale
        down, up = relation_names(node_type, parents)
        relations[(node_type, down, tier)] = (source, target, values)
        relations[(tier, up, node_type)] = (target, source, values)
    return with_relations(graph, relations, {tier: n_nodes})


def relation_names(parent: str, parents: NodeLayout) -> tuple[str, str]:
    """Names of the relation from `parent` down to the tier below and back up."""
    first = parents.types == ENTITY_TYPES
    return ("composed_of", f"composes_{parent}") if first else ("refined_by", f"refines_{parent}")
