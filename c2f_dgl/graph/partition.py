"""Groups of entities, the starting point of assignments: METIS parts as in the paper (Sec. 3.3), or others.

Where a spectral start follows (`c2f_dgl.tiers.spectral`), which of them makes no difference that we could measure:
nine layers of a lowpass filter turn even random groups into the leading directions of the graph.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import pymetis
import scipy.sparse as sp
from sklearn.cluster import MiniBatchKMeans
from sklearn.preprocessing import normalize
from sklearn.utils.extmath import randomized_svd

from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.hetero import INTERACTS, entity_layout

Grouping = Literal["metis", "kmeans", "random"]

# Singular vectors that k-means looks at, and entities it takes at a time.
_DIRECTIONS, _BATCH = 128, 4_096


def entity_groups(graph: dgl.DGLGraph, grouping: Grouping, n_groups: int, seed: int) -> np.ndarray:
    """Group of each entity (users, then items).

    Parameters
    ----------
    graph : DGLGraph
        Only the interactions are looked at, unweighted.
    grouping : {"metis", "kmeans", "random"}
        Balanced parts with few interactions cut; spherical k-means on the leading singular vectors of
        D_u^(-1/2) R D_i^(-1/2); uniform draws.
    n_groups : int
    seed : int

    Returns
    -------
    ndarray, shape (N,), int64
        In [0, n_groups).

    Raises
    ------
    ValueError
        No such grouping.
    """
    if grouping == "metis":
        return metis_parts(graph, n_groups, seed)
    if grouping == "kmeans":
        return kmeans_groups(graph, n_groups, seed)
    if grouping == "random":
        return np.random.default_rng(seed).integers(n_groups, size=entity_layout(graph).total)
    raise ValueError(f"no grouping {grouping!r}: expected one of {', '.join(get_args(Grouping))}")


def kmeans_groups(graph: dgl.DGLGraph, n_groups: int, seed: int) -> np.ndarray:
    """Spherical k-means on the leading singular vectors (parameters and result as of `entity_groups`).

    Vectors are weighted by their singular values, rows then scaled to length 1.
    """
    users, items = (ends.cpu().numpy() for ends in graph.edges(etype=INTERACTS))
    shape = (graph.num_nodes("user"), graph.num_nodes("item"))
    if n_groups >= sum(shape):
        return np.arange(sum(shape))
    by_user, by_item = (
        1 / np.sqrt(np.maximum(np.bincount(side, minlength=n), 1))
        for side, n in zip((users, items), shape, strict=True)
    )
    normalised = sp.csr_matrix((by_user[users] * by_item[items], (users, items)), shape)
    left, values, right = randomized_svd(normalised, min(_DIRECTIONS, *shape), random_state=seed)
    rows = normalize(np.concatenate([left * values, right.T * values]))
    found = MiniBatchKMeans(n_groups, batch_size=_BATCH, n_init=1, random_state=seed).fit_predict(rows)
    return found.astype(np.int64)


def metis_parts(graph: dgl.DGLGraph, n_parts: int, seed: int) -> np.ndarray:
    """Part of each entity (users, then items), balanced and with few interactions cut.

    Parameters
    ----------
    graph : DGLGraph
        Only the interactions are looked at, unweighted.
    n_parts : int
        Parts; with at least as many parts as entities each entity is its own.
    seed : int
        METIS draws its tie-breaks from it.

    Returns
    -------
    ndarray, shape (N,), int64
        In [0, n_parts).
    """
    layout = entity_layout(graph)
    n = layout.total
    if n_parts >= n:
        return np.arange(n)
    if n_parts == 1:
        return np.zeros(n, dtype=np.int64)
    users, items = (ends.cpu().numpy() for ends in graph.edges(etype=INTERACTS))
    items = items + layout.offset("item")
    source, target = np.concatenate([users, items]), np.concatenate([items, users])
    order = np.argsort(source, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=n))])
    options = pymetis.Options(seed=seed)
    adjacency = pymetis.CSRAdjacency(starts, target[order])
    _, parts = pymetis.part_graph(n_parts, adjacency=adjacency, options=options)
    return np.asarray(parts, dtype=np.int64)
