"""A codebook solved for on one weighted graph, and the directions that it propagates to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import scipy.sparse as sp
import torch
from torch import Tensor

from c2f_dgl.config.graph import GraphConfig
from c2f_dgl.config.schema import RunConfig
from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines import Propagation, propagated_basis
from c2f_dgl.graph.entities import importance_factors
from c2f_dgl.graph.hetero import in_float64, reweighted, with_exponents
from c2f_dgl.graph.propagate import Kernel, propagate
from c2f_dgl.io import ranks
from c2f_dgl.model import item_factors
from c2f_dgl.tiers.spectral import graph_codebook, least_cutoff, lowpass_weights, nth_singular_value, ritz_codebook
from c2f_dgl.tiers.tiered import TieredEmbedding
from c2f_dgl.training.choice import Choice

# Users whose scores set the scale of the codebook.
_SCALE_USERS = 256

# Rows of the basis that are composed at once.
_ROW_BLOCK = 8_192


Spectra = dict[tuple[object, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Solution:
    """W and T on one weighted graph, the directions of H ordered by their singular values."""

    graph: dgl.DGLGraph  # entities alone
    layer_weights: tuple[float, ...]
    whitening: Tensor  # W (m, m), float64
    codebook: Tensor  # T (m, d), float64, with which scores weigh directions by their singular values
    users: Tensor  # H of users (n_users, d) and items (n_items, d), float32
    items: Tensor
    values: Tensor  # singular values over the largest (d,), float64, descending
    least: bool = False  # whether the filter passes as few directions as its layers can

    def factors(self, power: float) -> Tensor:
        """What directions of either side are multiplied by (d,) so that scores weigh them by another power."""
        return torch.where(self.values > 0, self.values ** ((power - 1) / 2), 0.0)

    def unit_factors(self, train: sp.csr_matrix, rank: int, power: float, item_scale: float) -> Tensor:
        """`factors` of the first directions (rank,), divided so that scores have a variance of 1."""
        users = torch.as_tensor(train.getnnz(axis=1)).nonzero().flatten()[:_SCALE_USERS].to(self.items.device)
        degree = torch.as_tensor(train.getnnz(axis=0), dtype=torch.float32, device=self.items.device)
        scores = self.coefficients(users, rank, power) @ self.items[:, :rank].T * item_factors(degree, item_scale)
        spread = scores.std().clamp_min(torch.finfo(torch.float32).tiny)
        return self.factors(power)[:rank] / spread.sqrt()

    def coefficients(self, users: Tensor, rank: int, power: float) -> Tensor:
        """What users (n,) weigh the first `rank` columns of `items` by (n, rank), float32; the product is scores."""
        return self.users[users, :rank] * self.factors(power)[:rank].float() ** 2


def weighted_graph(
    graph: dgl.DGLGraph, schema: GraphConfig, exponents: tuple[float, float], importances: Mapping[str, float]
) -> dgl.DGLGraph:
    """The entities' graph with importances of relations, and with exponents of users' and items' degrees."""
    roles, graph = schema.roles, reweighted(graph, importance_factors(schema, dict(importances)))
    return with_exponents(graph, {roles.query: exponents[0], roles.ranked: exponents[1]})


def solve(
    config: RunConfig,
    embedding: TieredEmbedding,
    graph: dgl.DGLGraph,
    choice: Choice,
    spectra: Spectra,
    report: Callable[[int, int], None] | None = None,
) -> Solution:
    """The codebook of the embedding's first tier on the entities' graph weighted as chosen.

    `spectra` has the largest and the m-th singular value of graphs that were weighted before, and gets this one's.
    `report` is called with the atoms that are propagated, and all of them.
    """
    model, schema, layout, tier = config.model, config.graph, embedding.layout, embedding.tiers[0]
    weighted = weighted_graph(graph, schema, choice.exponents, dict(choice.importances))
    n_items, m, weighting = weighted.num_nodes(schema.roles.ranked), tier.size, (choice.exponents, choice.importances)
    if weighting not in spectra:
        apply = partial(_two_layers, weighted, layout.types, schema.roles.ranked, model.kernel)
        spectra[weighting] = ranks.numbers_of_first(*nth_singular_value(apply, n_items, m, tier.codebook.device))
    largest, nth = spectra[weighting]
    cutoff, least = choice.cutoff * nth / largest, least_cutoff(model.layers)
    passed = min(1.0, max(cutoff, least))
    betas = lowpass_weights(passed, model.layers, largest)
    propagation = Propagation(model.layers, betas, kernel=model.kernel)
    linked = in_float64(embedding.link(weighted))
    atoms = torch.eye(m, dtype=torch.float64, device=tier.codebook.device)
    mine = atoms[:, ranks.share(m)]  # all of them, but where several processes train
    basis = propagated_basis(linked, embedding, propagation, 0, mine, report)
    basis = ranks.gathered(basis[: layout.total], dim=1)
    d = tier.codebook.shape[1]
    if schema.extra:
        pass_on = partial(_passed, linked, embedding, model.kernel)
        whitening, codebook, values = graph_codebook(basis, pass_on, d)
    else:
        users, items = (basis[layout.rows(name)] for name in (schema.roles.query, schema.roles.ranked))
        whitening, codebook, values = ritz_codebook(users, items, d)
        codebook = codebook * values.sqrt()
    ranks.of_first(whitening, codebook, values)
    composed, composing = basis.new_empty(len(basis), d, dtype=torch.float32), whitening @ codebook
    for rows, of_rows in zip(basis.split(_ROW_BLOCK), composed.split(_ROW_BLOCK), strict=True):
        of_rows.copy_(rows @ composing)  # all at once would take as much memory as the basis
    features = layout.split(composed)
    users, items = features[schema.roles.query], features[schema.roles.ranked]
    values = values / values[0].clamp_min(1e-300)
    return Solution(weighted, betas, whitening, codebook, users, items, values, cutoff < least)


def _two_layers(graph: dgl.DGLGraph, types: Sequence[str], ranked: str, kernel: Kernel, x: Tensor) -> Tensor:
    """The ranked nodes' part of P^2 X, X on them alone: B^T B X where there are no further relations."""
    features = {name: x.new_zeros(graph.num_nodes(name), x.shape[1]) for name in types} | {ranked: x}
    return propagate(graph, features, 2, kernel=kernel, layer_weights=(0.0, 0.0, 1.0))[ranked]


def _passed(graph: dgl.DGLGraph, embedding: TieredEmbedding, kernel: Kernel, x: Tensor) -> Tensor:
    """P X of the entities (N x k); tiers, which weigh next to nothing, neither send nor receive."""
    features = embedding.layout.split(x)
    features.update({tier.name: x.new_zeros(tier.size, x.shape[1]) for tier in embedding.tiers})
    return embedding.layout.stack(propagate(graph, features, 1, kernel=kernel, layer_weights=(0.0, 1.0)))
