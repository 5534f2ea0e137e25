"""Users and items that training has not seen, from their neighbours: one hop of propagation, no gradient step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from c2f_dgl.errors import InputError
from c2f_dgl.serving.csr import Csr
from c2f_dgl.serving.learned import Learned, compose
from c2f_dgl.serving.propagate import Propagated, inverse_power
from c2f_dgl.serving.pursuit import pursuit

# Gathered message values held at once.
_VALUE_BLOCK = 2**23


@dataclass(frozen=True, eq=False)
class Folded:
    """New nodes of one type.

    Attributes
    ----------
    embeddings : float64 array, shape (n, d)
        H, before the items' scale.
    norms : float64 array, shape (n,)
        D^(-1/2).
    indices, weights : arrays, shape (n, t)
        Their rows of S; t = 0 where nodes of this type have no assignment.
    """

    embeddings: np.ndarray
    norms: np.ndarray
    indices: np.ndarray
    weights: np.ndarray


def fold_in(
    learned: Learned,
    propagated: Propagated,
    neighbours: Csr,
    other_degrees: np.ndarray,
    role: str,
    rows: np.ndarray | None = None,
) -> Folded:
    """H of new nodes: the sum of what their neighbours send, exact but for the neighbours' not hearing of them.

    Nodes of a type with assignments get theirs by pursuit of what their neighbours send in the propagated codebook,
    with weights that add up to what those of known nodes do on average.

    Parameters
    ----------
    learned : Learned
    propagated : Propagated
    neighbours : Csr, new nodes x known nodes of the other type
    other_degrees : array
        Number of interactions of each known node of the other type.
    role : {"user", "item"}
        Type of the nodes.
    rows : int array, shape (n,), optional
        The nodes are known ones with other neighbours: these rows of `role`, which keep their assignment.

    Raises
    ------
    InputError
        The model is a table of final embeddings, which nothing is propagated through.
    """
    if not learned.tiers and len(learned.layer_weights) == 1:
        raise InputError(
            "nothing can be folded into embeddings that are not propagated",
            expected="an artifact of a model without further relations, or training with them",
        )
    other, exponent = "item" if role == "user" else "user", learned.exponents[role]
    weights = interaction_weights(learned, neighbours.counts, other_degrees, neighbours)
    degree = np.bincount(neighbours.rows, weights=weights, minlength=neighbours.n_rows)
    sent = _sums(neighbours, weights * propagated.norms[other][neighbours.columns], propagated.messages[other])
    if not learned.tiers:
        indices, entries = np.zeros((len(degree), 0), dtype=np.int64), np.zeros((len(degree), 0))
    elif rows is not None:
        indices, entries = learned.tiers[0].indices[role][rows], learned.tiers[0].weights[role][rows]
    else:
        indices, entries = assign(learned, propagated, inverse_power(degree, exponent)[:, None] * sent, role)
    own = own_input(learned, propagated, indices, entries)
    if learned.table is not None and rows is not None:
        own += learned.layer_weights[0] * learned.table[role][rows]
    if indices.shape[1]:
        first = learned.tiers[0].name
        linked = propagated.norms[first][:, None] * propagated.messages[first]
        sent += learned.link_scale * compose(indices, entries, linked.T).T
        degree = degree + learned.link_scale * entries.sum(axis=1, dtype=np.float64)
    norms = inverse_power(degree, exponent)
    return Folded(own + norms[:, None] * sent, norms, indices, entries)


def assign(learned: Learned, propagated: Propagated, rows: np.ndarray, role: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of S of new nodes (indices, weights) from `rows`, what their neighbours send (n, d)."""
    first = learned.tiers[0]
    known = first.weights[role]
    if known.shape[1] == 0:
        return np.zeros((len(rows), 0), dtype=np.int64), np.zeros((len(rows), 0))
    indices, weights = pursuit(rows, propagated.embeddings[first.name].astype(np.float64), known.shape[1])
    sums, there = weights.sum(axis=1, keepdims=True), (known > 0).any(axis=1)
    usual = known[there].sum(axis=1, dtype=np.float64).mean() if there.any() else 0.0
    return indices, usual * np.divide(weights, sums, out=np.zeros_like(weights), where=sums > 0)


def own_input(learned: Learned, propagated: Propagated, indices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What nodes with these rows of S have without their neighbours, (n, d): their input, and the layers' gate."""
    if propagated.entity_atoms is None:
        return np.zeros((len(indices), learned.d))
    own = compose(indices, weights, propagated.entity_atoms.T).T
    own = learned.layer_weights[0] * (np.tanh(own) if learned.activation == "tanh" else own)
    return own if propagated.gate_change is None else own + compose(indices, weights, propagated.gate_change.T).T


def interaction_weights(
    learned: Learned, degrees: np.ndarray, other_degrees: np.ndarray, neighbours: Csr
) -> np.ndarray:
    """Weights of the edges from nodes with `degrees` (n_rows,) to their neighbours, in the order of the entries.

    A neighbour that had no interactions says nothing: all it was linked to are meta nodes, which weigh next to nothing
    where a codebook is solved for, so that D^(-1/2) would multiply what it sends by thousands.
    """
    others = other_degrees[neighbours.columns]
    if not learned.prenormalise:
        return (others > 0).astype(np.float64)
    return inverse_power(degrees[neighbours.rows].astype(np.float64) * others)


def _sums(neighbours: Csr, weights: np.ndarray, messages: np.ndarray) -> np.ndarray:
    """Weighted sums of the neighbours' messages, (n_rows, d) in float64, in blocks of entries."""
    out = np.zeros((neighbours.n_rows, messages.shape[1]))
    reached = np.flatnonzero(neighbours.counts)
    starts = neighbours.pointers[reached]
    ends = neighbours.pointers[reached + 1]
    width = max(1, _VALUE_BLOCK // max(messages.shape[1], 1))
    first = 0
    while first < len(reached):
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + width, side="right")))
        entries = slice(starts[first], ends[last - 1])
        values = messages[neighbours.columns[entries]] * weights[entries, None]
        out[reached[first:last]] = np.add.reduceat(values, starts[first:last] - starts[first], axis=0)
        first = last
    return out
