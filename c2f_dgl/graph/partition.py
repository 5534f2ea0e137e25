"""Groups of entities, the starting point of assignments: METIS parts as in the paper (Sec. 3.3), or others.

Which of them makes little difference to a spectral start: its filter turns even random groups into the leading
directions of the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pymetis
import scipy.sparse as sp
from scipy.sparse.linalg import eigsh

from c2f_dgl.config.roles import DEFAULT_ROLES
from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.layout import NodeLayout

Grouping = Literal["metis", "kmeans", "random"]

# Singular vectors that k-means looks at, and entities it takes at a time.
_DIRECTIONS, _BATCH = 128, 4_096


def entity_groups(
    graph: dgl.DGLGraph,
    grouping: Grouping,
    n_groups: int,
    seed: int,
    types: Sequence[str] = DEFAULT_ROLES.entities,
) -> np.ndarray:
    """Group of each entity (N,), int64 in [0, n_groups); node types `types` are entities, in stacking order.

    ``metis``: balanced parts with few links cut; ``kmeans``: spherical k-means on the leading eigenvectors of
    D^(-1/2) A D^(-1/2); ``random``: uniform draws. Links between entities count unweighted, whatever their relation.
    """
    if grouping == "metis":
        return metis_parts(graph, n_groups, seed, types)
    layout = NodeLayout.of(graph, types)
    if grouping == "random":
        return np.random.default_rng(seed).integers(n_groups, size=layout.total)
    if n_groups >= layout.total:
        return np.arange(layout.total)
    from sklearn.cluster import MiniBatchKMeans  # here: scikit-learn takes a second, and METIS is the default
    from sklearn.preprocessing import normalize

    rows = normalize(_directions(_links(graph, layout), layout, seed))
    groups = MiniBatchKMeans(n_groups, batch_size=_BATCH, n_init=1, random_state=seed).fit_predict(rows)
    return groups.astype(np.int64)


def _directions(links: sp.csr_matrix, layout: NodeLayout, seed: int) -> np.ndarray:
    """Eigenvectors of D^(-1/2) A D^(-1/2) of the largest eigenvalues, times these (N x at most `_DIRECTIONS`).

    Between two node types they are pairs of singular vectors, which are found sooner.
    """
    roots = sp.diags(1 / np.sqrt(np.maximum(np.diff(links.indptr), 1)))
    normalised = (roots @ links @ roots).tocsr()
    first, total = layout.sizes[0], layout.total
    between = normalised[:first, first:]
    if 2 * between.nnz == normalised.nnz and len(layout.types) == 2:
        from sklearn.utils.extmath import randomized_svd

        left, values, right = randomized_svd(between, min(_DIRECTIONS, *between.shape), random_state=seed)
        return np.concatenate([left * values, right.T * values])
    start = np.random.default_rng(seed).normal(size=total)
    values, vectors = eigsh(normalised, min(_DIRECTIONS, total - 1), which="LA", v0=start)
    return vectors * np.maximum(values, 0)


def metis_parts(
    graph: dgl.DGLGraph, n_parts: int, seed: int, types: Sequence[str] = DEFAULT_ROLES.entities
) -> np.ndarray:
    """METIS part of each entity (N,), int64 in [0, n_parts); each its own where there are as many parts (Sec. 3.3)."""
    layout = NodeLayout.of(graph, types)
    if n_parts >= layout.total:
        return np.arange(layout.total)
    if n_parts == 1:
        return np.zeros(layout.total, dtype=np.int64)
    links = _links(graph, layout)
    adjacency = pymetis.CSRAdjacency(links.indptr.astype(np.int64), links.indices.astype(np.int64))
    _, parts = pymetis.part_graph(n_parts, adjacency=adjacency, options=pymetis.Options(seed=seed))
    return np.asarray(parts, dtype=np.int64)


def _links(graph: dgl.DGLGraph, layout: NodeLayout) -> sp.csr_matrix:
    """Which entities are linked (ones), both ways, without loops; METIS takes no other graph."""
    ends = [np.zeros((2, 0), dtype=np.int64)]
    for etype in graph.canonical_etypes:
        if etype[0] in layout.types and etype[2] in layout.types:
            source, target = (side.cpu().numpy() for side in graph.edges(etype=etype))
            ends.append(np.stack([source + layout.offset(etype[0]), target + layout.offset(etype[2])]))
    one_way = np.concatenate(ends, axis=1)
    one_way = one_way[:, one_way[0] != one_way[1]]
    both_ways = np.concatenate([one_way, one_way[::-1]], axis=1)
    ones = np.ones(both_ways.shape[1], dtype=bool)
    links = sp.csr_matrix((ones, both_ways), shape=(layout.total, layout.total))
    links.sum_duplicates()
    return links.astype(np.float64)
