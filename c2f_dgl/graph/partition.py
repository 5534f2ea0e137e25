"""METIS parts of the interaction graph, the starting point of assignments (Sec. 3.3)."""

from __future__ import annotations

import numpy as np
import pymetis

from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.hetero import INTERACTS, entity_layout


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
