"""What a graph has beside its split interactions: further relations, weights, node types, features."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from c2f_dgl.errors import InputError

# A relation of at least so many edges whose busiest node has more than this share of them gets a note.
_HUB_EDGES, _HUB_SHARE = 100, 0.5


@dataclass(frozen=True, eq=False)
class SideData:
    """Relations and features over the nodes of a split and of further types.

    Attributes
    ----------
    relations : mapping of str to csr_matrix, n_source x n_destination, float32
        Weights above 0, by the relation's name.
    weights : csr_matrix, optional
        Weights of the training interactions, with their structure.
    ids : mapping of str to array
        External ids of the further node types, by internal index.
    features : mapping of str to float32 array, shape (n_nodes of the type, width)
    """

    relations: Mapping[str, csr_matrix] = field(default_factory=dict)
    weights: csr_matrix | None = None
    ids: Mapping[str, np.ndarray] = field(default_factory=dict)
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
    shape: tuple[int, int],
    *,
    where: str | Path,
    loops: bool = True,
    line_of: Callable[[int], int] | None = None,
    ids: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[csr_matrix, list[str]]:
    """Edges as a matrix of weights above 0, and notes on what was mended.

    Repeated edges are merged: unweighted ones into one, of weighted ones the weights are added. Weights of 0 are no
    edges. A hub is kept as it is; a note names it.

    Parameters
    ----------
    source, destination : int64 arrays, length n
        Node indices.
    weights : array, length n, optional
        Ones by default.
    shape : (int, int)
        Numbers of source and destination nodes.
    where : str or Path
        The relation or its file, for messages.
    loops : bool
        Keep edges from a node to the one of the same index; False drops them, with a note.
    line_of : callable, optional
        Gives the line of an edge in the file.
    ids : pair of arrays, optional
        External ids of source and destination nodes, for the notes; the indices by default.

    Raises
    ------
    InputError
        There are no edges, or none but loops; an end lies outside; a weight is NaN, infinite or negative; all of them
        are 0.
    """

    def refused(at: int, problem: str, expected: str) -> InputError:
        if line_of is not None:
            return InputError(problem, where=where, line=line_of(at), expected=expected)
        return InputError(f"edge {at}: {problem}", where=where, expected=expected)

    if len(source) == 0:
        raise InputError("no edges", where=where, expected="at least one, or the relation left out")
    for role, ends, n in (("source", source, shape[0]), ("destination", destination, shape[1])):
        outside = (ends < 0) | (ends >= n)
        if outside.any():
            at = int(np.argmax(outside))
            raise refused(at, f"{role} {ends[at]} is no node", f"numbers from 0 to {n - 1}")
    notes = []
    # Checked as they are kept: what float32 cannot hold is 0 or infinite.
    with np.errstate(over="ignore"):
        values = np.ones(len(source)) if weights is None else np.asarray(weights).astype(np.float32)
    values = values.astype(np.float64)
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        at = int(np.argmax(bad))
        raise refused(at, f"weight {values[at]:g}", "finite weights of 0 or more")
    if not values.any():
        raise InputError("all weights are 0", where=where, expected="weights above 0, or the relation left out")
    kept = values > 0
    if not loops:
        kept &= source != destination
        if not kept.any():
            raise InputError("no edges but from nodes to themselves", where=where, expected="edges between nodes")
    for what, n in (("of weight 0", int((values == 0).sum())), ("to itself", int(((values > 0) & ~kept).sum()))):
        if n:
            notes.append(f"{n:,} edge{'s' if n > 1 else ''} {what} left out")
    matrix = csr_matrix((values[kept], (source[kept], destination[kept])), shape=shape)
    n_before = int(kept.sum())
    matrix.sum_duplicates()
    if merged := n_before - matrix.nnz:
        notes.append(f"{merged:,} repeated edge{'s' if merged > 1 else ''} merged")
    if weights is None:
        matrix.data[:] = 1.0
    return matrix.astype(np.float32), notes + _hubs(matrix, ids)


def _hubs(matrix: csr_matrix, ids: tuple[np.ndarray, np.ndarray] | None) -> list[str]:
    notes = []
    for at, (role, axis) in enumerate((("source", 1), ("destination", 0))):
        counts = matrix.getnnz(axis=axis)
        if matrix.nnz >= _HUB_EDGES and len(counts) > 2 and counts.max() > _HUB_SHARE * matrix.nnz:
            share = 100 * counts.max() / matrix.nnz
            busiest = int(counts.argmax())
            notes.append(f"{role} {busiest if ids is None else ids[at][busiest]} has {share:.0f} % of all edges")
    return notes


def checked_features(features: np.ndarray, n_nodes: int, where: str | Path) -> np.ndarray:
    """A feature matrix as float32.

    Raises
    ------
    InputError
        Not a matrix of numbers with a row a node, or a value is not finite, or a column is all zeros.
    """
    if features.ndim != 2 or features.dtype.kind not in "fiub":
        raise InputError(
            f"{features.dtype} array of shape {features.shape}", where=where, expected="a matrix of numbers"
        )
    if len(features) != n_nodes or features.shape[1] == 0:
        raise InputError(f"shape {features.shape}", where=where, expected=f"{n_nodes:,} rows and at least one column")
    features = np.ascontiguousarray(features, dtype=np.float32)
    bad = ~np.isfinite(features)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise InputError(
            f"row {row}, column {column} is {features[row, column]}", where=where, expected="finite numbers"
        )
    empty = ~features.any(axis=0)
    if empty.any():
        raise InputError(
            f"column {int(np.argmax(empty))} is all zeros", where=where, expected="columns that say something"
        )
    return features
