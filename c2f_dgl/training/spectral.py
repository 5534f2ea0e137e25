"""The spectral start of a run: a codebook solved for, with the few scalars around it chosen on validation.

Chosen are the exponents of users' and items' degrees, importances of further relations, the number of directions that
are kept (d), the power of the singular values that weighs them, the item scale and, with a filter term, its exponents
and weight (`c2f_dgl.training.search`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from c2f_dgl.config.schema import CoarseConfig, RunConfig
from c2f_dgl.config.sizes import embedding_size, n_atoms
from c2f_dgl.data.splits import Split
from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.hetero import entity_layout
from c2f_dgl.io.progress import Reporter
from c2f_dgl.memory import check_memory
from c2f_dgl.model import item_factors
from c2f_dgl.tiers.assignment import Assignment
from c2f_dgl.tiers.codebook import lower_triangular
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding
from c2f_dgl.training.choice import Choice
from c2f_dgl.training.search import Search
from c2f_dgl.training.solution import solve

log = logging.getLogger("c2f_dgl")

# Matrices of entities x atoms in float64 that a solve holds at its peak, about.
_COPIES = 3

# Users whose scores set the scale of the codebook.
_SCALE_USERS = 256


@dataclass(frozen=True)
class SpectralStart:
    """E = W T on an assignment, and what was chosen with it.

    Parameters
    ----------
    whitening : Tensor, shape (m, m), float64
        W.
    codebook : Tensor, shape (m, d), float32
        T, lower triangular, such that scores have a variance of 1.
    layer_weights : tuple of L + 1 floats
    choice : Choice
    """

    whitening: Tensor
    codebook: Tensor
    layer_weights: tuple[float, ...]
    choice: Choice


def spectral_start(
    config: RunConfig,
    coarse: CoarseConfig,
    assignment: Assignment,
    graph: dgl.DGLGraph,
    split: Split,
    columns: Mapping[str, Tensor],
    device: torch.device,
    reporter: Reporter,
    choice: Choice | None = None,
) -> SpectralStart:
    """Solve for the codebook of a first tier (parameters as in a run; `graph` without tiers).

    `choice` is one that was made before, e.g. on the training part of this data; None searches on validation.

    Raises
    ------
    InputError
        It needs more memory than is available.
    """
    m, entities = n_atoms(config), split.n_users + split.n_items
    if device.type == "cpu":
        fewer = f"coarse.m below {m:,}, or a smaller model.budget"
        needed = _COPIES * 8 * m * entities
        check_memory(needed, f"a start with {m:,} atoms for {entities:,} entities", where="coarse.m", expected=fewer)
    embedding = TieredEmbedding(
        entity_layout(graph, config.graph.roles),
        [Tier("coarse", torch.zeros(n_atoms(config), embedding_size(config)), assignment)],
        entity_input=config.model.entity_input,
        link_scale=config.model.link_scale,
        columns=columns,
    ).to(device)
    if choice is None:
        search = Search(config, coarse, partial(solve, config, embedding, graph), split, device, reporter)
        search.run()
        choice, solution = search.best, search.solution(search.best)
        log.info("chosen: %s: %.4f", choice, search.figures[choice])
    else:
        solution = solve(config, embedding, graph, choice.exponents, dict(choice.importances), choice.cutoff)
    codebook = (solution.codebook * solution.factors(choice.power))[:, : choice.rank]
    some = torch.as_tensor(split.train.getnnz(axis=1)).nonzero().flatten()[:_SCALE_USERS].to(device)
    scores = solution.coefficients(some, choice.rank, choice.power) @ solution.items[:, : choice.rank].T
    degree = torch.as_tensor(split.train.getnnz(axis=0), dtype=torch.float32, device=device)
    scores = scores * item_factors(degree, choice.item_scale)
    spread = scores.std().clamp_min(torch.finfo(torch.float32).tiny)
    return SpectralStart(
        solution.whitening, lower_triangular(codebook / spread.sqrt()).float(), solution.layer_weights, choice
    )
