"""What a graph has beside its split interactions: further relations, weights, node types, features."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from c2f_dgl.data.columns import Origin, counted
from c2f_dgl.errors import InputError

# A relation of at least so many edges whose busiest node has more than this share of them gets a note.
_HUB_EDGES, _HUB_SHARE = 100, 0.5


@dataclass(frozen=True, eq=False)
class SideData:
    """Relations and features over the nodes of a split and of further types."""

    # By a relation's name its weights above 0, float32, n_source x n_destination.
    relations: Mapping[str, csr_matrix] = field(default_factory=dict)
    # Weights of the training interactions, with their structure.
    weights: csr_matrix | None = None
    # External ids of the further node types, by internal index.
    ids: Mapping[str, np.ndarray] = field(default_factory=dict)
    # By node type, float32, n_nodes x width.
    features: Mapping[str, np.ndarray] = field(default_factory=dict)

    def digest(self) -> bytes:
        """sha256 of everything but ids."""
        digest = hashlib.sha256()
        matrices = dict(self.relations) if self.weights is None else {**self.relations, "": self.weights}
        for name, matrix in sorted(matrices.items()):
            digest.update(f"{name} {matrix.shape}".encode())
            for part, kind in ((matrix.indptr, "<i8"), (matrix.indices, "<i8"), (matrix.data, "<f4")):
                digest.update(part.astype(kind).tobytes())
        for node_type, features in sorted(self.features.items()):
            digest.update(f"{node_type} {features.shape}".encode())
            digest.update(np.ascontiguousarray(features, dtype="<f4").tobytes())
        return digest.digest()


def edge_matrix(
    source: npt.NDArray[np.int64],
    destination: npt.NDArray[np.int64],
    weights: np.ndarray | None,
    ids: tuple[np.ndarray, np.ndarray],
    origin: Origin,
    *,
    loops: bool = True,
) -> tuple[csr_matrix, list[str]]:
    """Edges as a matrix of weights above 0 (n_source, n_destination), and notes on what was mended and on hubs.

    Node indices and weights (ones by default) have length n; `ids` are the external ids of the two node types. Repeated
    edges are merged: unweighted ones into one, of weighted ones the weights are added. Weights of 0 are no edges, nor,
    without `loops`, are edges from a node to the one of the same index.
    """
    if len(source) == 0:
        raise InputError("no edges", where=origin.where, expected="at least one, or the relation left out")
    for role, ends, nodes in (("source", source, ids[0]), ("destination", destination, ids[1])):
        outside = (ends < 0) | (ends >= len(nodes))
        origin.check(outside, ends, f"{role} {{}} is no node", f"numbers from 0 to {len(nodes) - 1}")
    # Checked in the precision they are kept in: what float32 cannot hold is 0 or infinite.
    with np.errstate(over="ignore"):
        values = np.ones(len(source)) if weights is None else np.asarray(weights).astype(np.float32).astype(np.float64)
    bad = ~(np.isfinite(values) & (values >= 0))
    origin.check(bad, values, "weight {:g}", "finite weights of 0 or more")
    if not values.any():
        raise InputError("all weights are 0", where=origin.where, expected="weights above 0, or the relation left out")
    weighty = values > 0
    used = weighty if loops else weighty & (source != destination)
    if not used.any():
        raise InputError("no edges but from nodes to themselves", where=origin.where, expected="edges between nodes")
    matrix = csr_matrix((values[used], (source[used], destination[used])), shape=(len(ids[0]), len(ids[1])))
    matrix.sum_duplicates()
    notes = [
        counted(int((~weighty).sum()), "edge", "of weight 0 left out"),
        counted(int((weighty & ~used).sum()), "edge", "to itself left out"),
        counted(int(used.sum()) - matrix.nnz, "repeated edge", "merged"),
    ]
    if weights is None:
        matrix.data[:] = 1.0
    for role, axis, nodes in (("source", 1, ids[0]), ("destination", 0, ids[1])):
        degrees = matrix.getnnz(axis=axis)
        if matrix.nnz >= _HUB_EDGES and len(degrees) > 2 and degrees.max() > _HUB_SHARE * matrix.nnz:
            share = 100 * degrees.max() / matrix.nnz
            notes.append(f"{role} {nodes[int(degrees.argmax())]} has {share:.0f} % of all edges")
    return matrix.astype(np.float32), list(filter(None, notes))


def checked_features(features: np.ndarray, n_nodes: int, where: str | Path) -> np.ndarray:
    """A feature matrix as float32: a row a node, finite, and no column all zeros; anything else is refused."""
    if features.ndim != 2 or features.dtype.kind not in "fiub":
        problem = f"{features.dtype} array of shape {features.shape}"
        raise InputError(problem, where=where, expected="a matrix of numbers")
    if len(features) != n_nodes or features.shape[1] == 0:
        raise InputError(f"shape {features.shape}", where=where, expected=f"{n_nodes:,} rows and at least one column")
    features = np.ascontiguousarray(features, dtype=np.float32)
    bad = ~np.isfinite(features)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        problem = f"row {row}, column {column} is {features[row, column]}"
        raise InputError(problem, where=where, expected="finite numbers")
    empty = ~features.any(axis=0)
    if empty.any():
        problem = f"column {int(np.argmax(empty))} is all zeros"
        raise InputError(problem, where=where, expected="columns that say something")
    return features
