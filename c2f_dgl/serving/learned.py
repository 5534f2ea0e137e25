"""What was learned or chosen: all that a graph needs to become a recommender."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from c2f_dgl.serving.item_filter import PLAIN, FilterShape

ENTITY_TYPES = ("user", "item")


@dataclass(frozen=True, eq=False)
class LearnedTier:
    """A codebook E and the assignment S to it from the node types above.

    Attributes
    ----------
    name : str
    codebook : float array, shape (m, d)
        E as it is stored: before the soft threshold and, where `whitened`, as T of E = W T.
    indices : mapping of node type to int64 array, shape (n, t)
        Columns of S for the rows of each node type above: user and item for the first tier, else the tier before.
    weights : mapping of node type to float array, shape (n, t)
        Values of S, >= 0; 0 is an empty slot.
    threshold : float
        lambda of Eq. 16.
    gate : float
        w_cr of Eq. 17.
    whitened : bool
        Only of a first tier: W whitens what it propagates without the tiers below it.
    """

    name: str
    codebook: np.ndarray
    indices: Mapping[str, np.ndarray]
    weights: Mapping[str, np.ndarray]
    threshold: float = 0.0
    gate: float = 1.0
    whitened: bool = False

    @property
    def size(self) -> int:
        """m, the number of atoms."""
        return len(self.codebook)

    def compose(self, parent: str, atoms: np.ndarray) -> np.ndarray:
        """S x of the rows of `parent`; `atoms` is (width, m), what comes back (width, n)."""
        return compose(self.indices[parent], self.weights[parent], atoms)


@dataclass(frozen=True, eq=False)
class Learned:
    """Tiers or a full table, with the settings of propagation and readout.

    Attributes
    ----------
    tiers : tuple of LearnedTier
        From coarse to fine; empty for a full table.
    layer_weights : tuple of L + 1 floats
        beta.
    table : mapping of node type to float array, shape (n, d), optional
        Embeddings of users and items of a model without tiers.
    entity_input : {"unrefined", "refined"}
        Entities composed from the first codebook itself (Eq. 19) or from the refined one (Eq. 18).
    activation : {"none", "tanh"}
        On the entities' input and on that of every tier but the first.
    link_scale : float
        Factor on S where it enters the graph.
    prenormalise : bool
        The interactions are normalised before the tiers are added, and everything again after.
    gate_layers : bool
        Finer tiers are mixed in again after every layer.
    item_scale : float
        Exponent of (degree + 1), by which item embeddings are scaled.
    item_bias : float array, shape (n_items,), optional
    exponents : mapping of node type to float
        D^(-a) of users and D^(-b) of items in the propagation.
    filter_neighbours : int
        Neighbours kept of each item in the filter term (see `c2f_dgl.serving.item_filter`); 0 for none.
    filter : FilterShape
        Its exponents.
    filter_weight : float
        w in [0, 1]: scores are (1 - w) z(h_u . h_i + b_i) + w z(filter), where z standardises a user's scores over
        all items.
    """

    tiers: tuple[LearnedTier, ...]
    layer_weights: tuple[float, ...]
    table: Mapping[str, np.ndarray] | None = None
    entity_input: str = "unrefined"
    activation: str = "none"
    link_scale: float = 1.0
    prenormalise: bool = False
    gate_layers: bool = False
    item_scale: float = 0.0
    item_bias: np.ndarray | None = None
    exponents: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(ENTITY_TYPES, 0.5))
    filter_neighbours: int = 0
    filter: FilterShape = PLAIN
    filter_weight: float = 0.0

    @property
    def d(self) -> int:
        """Embedding size."""
        return (self.table["item"] if self.table is not None else self.tiers[0].codebook).shape[1]

    def item_scales(self, degrees: np.ndarray) -> np.ndarray:
        """Factors (n,) of items with `degrees` interactions, float64."""
        return (degrees + 1.0) ** self.item_scale


def compose(indices: np.ndarray, weights: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """Weighted sums of columns of `atoms` (width, m) at `indices` (n, t): (width, n)."""
    out = np.zeros((len(atoms), len(indices)), dtype=atoms.dtype)
    for slot in range(indices.shape[1]):
        out += atoms[:, indices[:, slot]] * weights[:, slot]
    return out


def soft_threshold(codebook: np.ndarray, threshold: float) -> np.ndarray:
    """sign(E) max(|E| - lambda, 0), elementwise (Eq. 16)."""
    return np.sign(codebook) * np.maximum(np.abs(codebook) - threshold, 0) if threshold > 0 else codebook
