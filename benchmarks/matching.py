"""Assignments S of `benchmarks.leads`: how they start, and how they are matched after an epoch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from c2f_dgl.baselines.fitting import layout_of
from c2f_dgl.baselines.system import Context
from c2f_dgl.graph.partition import metis_parts
from c2f_dgl.model import Recommender
from c2f_dgl.tiers.assignment import Assignment, anchored, pursuit, stack
from c2f_dgl.tiers.tiered import TieredEmbedding

Model = Recommender[TieredEmbedding]

# Epochs with S fixed; fine atoms for the entities that need them; fine children of a coarse parent; and the noise that
# annealing begins with, as a multiple of what is matched.
FIXED, FINE, CHILDREN, NOISE = 5, 50, 4, 2.0


def anchored_parts(context: Context[Any], m: int | None = None) -> Assignment:
    """METIS parts as anchors, on all atoms or the first m."""
    settings, m = context.settings, m or context.settings.m
    first = anchored(metis_parts(context.graph, m, context.seed), m, settings.t, 0.5, context.rng("assignment"))
    return Assignment(first.indices, first.weights, settings.m)


def _rows_and_atoms(model: Model) -> tuple[Tensor, Tensor]:
    """Propagated embeddings of all entities and of all atoms."""
    features = model.engine.all_nodes()
    return model.embedding.layout.stack(features), features["coarse"]


def _joined(first: Assignment, indices: Tensor, weights: Tensor, n_atoms: int) -> Assignment:
    """An assignment with further entries beside its own."""
    indices, weights = torch.cat([first.indices, indices], dim=1), torch.cat([first.weights, weights], dim=1)
    return Assignment(indices, weights, n_atoms)


def pursued(model: Model, context: Context[Any], epoch: int) -> Assignment:
    return pursuit(*_rows_and_atoms(model), context.settings.t)


def annealed(model: Model, context: Context[Any], epoch: int) -> Assignment:
    """Pursuit of rows with noise, which falls to nothing by half the epochs: who gets which atoms is drawn at first."""
    rows, atoms = _rows_and_atoms(model)
    heat = max(0.0, 1 - (epoch - FIXED) / max(1, context.settings.epochs // 2 - FIXED))
    noise = torch.randn(rows.shape, generator=context.generator(f"noise of epoch {epoch}"))
    scale = NOISE * heat * rows.square().mean(dim=1, keepdim=True).sqrt()
    return pursuit(rows + scale * noise, atoms, context.settings.t)


def apart(context: Context[Any]) -> Assignment:
    """Users on the first half of the atoms, items on the second."""
    settings, layout = context.settings, layout_of(context)
    half = settings.m // 2
    parts = metis_parts(context.graph, half, context.seed)
    return _stacked_apart(
        anchored(parts[layout.rows(side)], half, settings.t, 0.5, context.rng(f"assignment of {side}"))
        for side in ("user", "item")
    )


def pursued_apart(model: Model, context: Context[Any], epoch: int) -> Assignment:
    features = model.engine.all_nodes()
    halves = zip(("user", "item"), features["coarse"].chunk(2), strict=True)
    return _stacked_apart(pursuit(features[side], half, context.settings.t) for side, half in halves)


def _stacked_apart(sides: Iterable[Assignment]) -> Assignment:
    """Users and items, each on half the atoms."""
    users, items = sides
    n_atoms = 2 * users.n_atoms
    shifted = Assignment(items.indices + items.n_atoms, items.weights, n_atoms)
    return stack([Assignment(users.indices, users.weights, n_atoms), shifted])


def pursued_by_degree(model: Model, context: Context[Any], epoch: int) -> Assignment:
    """2 t - 1 entries for the half of the entities with most interactions, 1 for the others."""
    train = context.split.train
    degree = np.concatenate([train.getnnz(axis=1), train.getnnz(axis=0)])
    rich = torch.as_tensor(degree.argsort(kind="stable").argsort() >= len(degree) // 2)
    return _pursued_unevenly(*_rows_and_atoms(model), rich, 2 * context.settings.t - 1, 1)


def pursued_by_need(model: Model, context: Context[Any], epoch: int) -> Assignment:
    """One entry more for the quarter of the entities of which t entries leave most."""
    t, (rows, atoms) = context.settings.t, _rows_and_atoms(model)
    error = (rows - pursuit(rows, atoms, t).compose(atoms)).square().sum(dim=1)
    return _pursued_unevenly(rows, atoms, error >= error.quantile(0.75), t + 1, t)


def _pursued_unevenly(rows: Tensor, atoms: Tensor, rich: Tensor, most: int, least: int) -> Assignment:
    """`most` entries where `rich` (N,), `least` elsewhere."""
    indices = torch.zeros(len(rows), most, dtype=torch.int64)
    weights = rows.new_zeros(len(rows), most)
    for chosen, t in ((rich, most), (~rich, least)):
        pursued = pursuit(rows[chosen], atoms, t)
        indices[chosen, :t], weights[chosen, :t] = pursued.indices, pursued.weights
    return Assignment(indices, weights, len(atoms))


def fine_by_need(model: Model, context: Context[Any], epoch: int) -> Assignment:
    """Two coarse atoms each, and a fine one more for the quarter of the entities of which those leave most."""
    m, (rows, atoms) = context.settings.m - FINE, _rows_and_atoms(model)
    first = pursuit(rows, atoms[:m], context.settings.t)
    rest = rows - first.compose(atoms[:m])
    fine, size = pursuit(rest, atoms[m:], 1), rest.square().sum(dim=1)
    needed = fine.weights * (size >= size.quantile(0.75))[:, None]
    return _joined(first, fine.indices + m, needed, len(atoms))


def nested(context: Context[Any]) -> Assignment:
    """A METIS part and one of its own children, drawn at random; both weigh 1 for good."""
    n_parents = context.settings.m // (1 + CHILDREN)
    parents = metis_parts(context.graph, n_parents, context.seed)
    child = context.rng("children").integers(CHILDREN, size=len(parents))
    indices = np.stack([parents, n_parents + parents * CHILDREN + child], axis=1)
    return Assignment(torch.as_tensor(indices), torch.ones(indices.shape), n_parents * (1 + CHILDREN))


def best_child(model: Model, context: Context[Any], epoch: int) -> Assignment:
    """Parents matched by pursuit, then of each one's children that which leaves least."""
    n_parents, (rows, atoms) = context.settings.m // (1 + CHILDREN), _rows_and_atoms(model)
    first = pursuit(rows, atoms[:n_parents], 1)
    children = n_parents + first.indices * CHILDREN + torch.arange(CHILDREN)
    rest = rows - first.compose(atoms[:n_parents])
    error = (rest[:, None] - atoms[children]).square().sum(dim=2)
    best = children.gather(1, error.argmin(dim=1, keepdim=True))
    return _joined(first, best, torch.ones_like(first.weights), len(atoms))
