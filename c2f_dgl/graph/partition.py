"""METIS parts of the entities' graph, the starting point of assignments (Sec. 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pymetis
import scipy.sparse as sp

from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.layout import NodeLayout
from c2f_dgl.roles import DEFAULT_ROLES


def metis_parts(
    graph: dgl.DGLGraph, n_parts: int, seed: int, types: Sequence[str] = DEFAULT_ROLES.entities
) -> np.ndarray:
    """Part of each entity (users, then items, then others), balanced and with few links cut.

    Parameters
    ----------
    graph : DGLGraph
        Links between entities are looked at, unweighted and whatever their relation; tiers are not.
    n_parts : int
        Parts; with at least as many parts as entities each entity is its own.
    seed : int
        METIS draws its tie-breaks from it.
    types : sequence of str
        Node types that are entities, in stacking order.

    Returns
    -------
    ndarray, shape (N,), int64
        In [0, n_parts).
    """
    layout = NodeLayout(tuple(types), tuple(graph.num_nodes(node_type) for node_type in types))
    n = layout.total
    if n_parts >= n:
        return np.arange(n)
    if n_parts == 1:
        return np.zeros(n, dtype=np.int64)
    links = _links(graph, layout)
    options = pymetis.Options(seed=seed)
    adjacency = pymetis.CSRAdjacency(links.indptr.astype(np.int64), links.indices.astype(np.int64))
    _, parts = pymetis.part_graph(n_parts, adjacency=adjacency, options=options)
    return np.asarray(parts, dtype=np.int64)


def _links(graph: dgl.DGLGraph, layout: NodeLayout) -> sp.csr_matrix:
    """Which entities are linked, both ways, without loops; METIS takes no other graph."""
    ends = [np.zeros((2, 0), dtype=np.int64)]
    for etype in graph.canonical_etypes:
        if etype[0] in layout.types and etype[2] in layout.types:
            source, target = (side.cpu().numpy() for side in graph.edges(etype=etype))
            ends.append(np.stack([source + layout.offset(etype[0]), target + layout.offset(etype[2])]))
    source, target = np.concatenate(ends, axis=1)
    apart = source != target
    source, target = source[apart], target[apart]
    both = (np.concatenate([source, target]), np.concatenate([target, source]))
    links = sp.csr_matrix((np.ones(2 * len(source), dtype=np.int8), both), shape=(layout.total, layout.total))
    links.sum_duplicates()
    return links
