"""Engines give the propagated embeddings H of a model: the same values and gradients, at different cost.

`MessagePassing` propagates at every step, `Collapsed` once per assignment update.
"""

from __future__ import annotations

import logging
from typing import Literal, Protocol

from torch import Tensor

from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines.collapsed import Collapsed, against_collapsing, basis_shape, choose_storage, propagated_basis
from c2f_dgl.engines.message_passing import MessagePassing, Propagation, RelationImportance
from c2f_dgl.errors import InputError
from c2f_dgl.tiers.embedding import EmbeddingLayer
from c2f_dgl.tiers.tiered import TieredEmbedding

__all__ = ["Collapsed", "Engine", "MessagePassing", "Propagation", "RelationImportance", "propagated_basis"]

log = logging.getLogger("c2f_dgl")

EngineName = Literal["auto", "collapsed", "message_passing"]


class Engine(Protocol):
    """What training, assignment updates and evaluation need of an engine."""

    def rebuild(self, graph: dgl.DGLGraph) -> None:
        """Take a graph whose tier relations carry the embedding's current assignments."""

    def entities(self, rows: Tensor) -> Tensor:
        """H_full of some entities (int64 rows in stacked numbering), differentiable in the codebooks."""

    def scores(self, users: Tensor, items: Tensor) -> Tensor:
        """h_u . h_i of users (n,) with items (n, c), rows in stacked numbering; differentiable like `entities`."""

    def all_nodes(self) -> dict[str, Tensor]:
        """H of every node type, detached: for assignment updates and evaluation."""


def make_engine(
    name: EngineName, embedding: EmbeddingLayer, propagation: Propagation, memory_budget: float | None = None
) -> Engine:
    """The engine called `name`; ``auto`` is collapsed where H is linear in tiers and M fits into `memory_budget` bytes.

    ``collapsed`` raises `ValueError` for a model not linear in tiers, `InputError` where its basis does not fit.
    """
    reasons = against_collapsing(embedding, propagation)
    if name == "message_passing" or (name == "auto" and reasons):
        log.info("engine: message passing at every step%s", f", as {' and '.join(reasons)}" if name == "auto" else "")
        return MessagePassing(embedding, propagation)
    if reasons or not isinstance(embedding, TieredEmbedding):
        problem = f"the collapsed engine needs tiers, in which H is linear, but {' and '.join(reasons)}"
        raise ValueError(f"{problem}: use message_passing")
    shape = basis_shape(embedding)
    storage = choose_storage(shape, embedding.tiers[0].codebook, memory_budget)
    if storage is not None:
        if storage != "full":
            log.info("the basis of %d x %d is kept %s: model.memory_budget", *shape, storage)
        return Collapsed(embedding, propagation, storage)
    problem = f"a basis of {shape[0]:,} x {shape[1]:,} does not fit"
    if name == "collapsed":
        raise InputError(problem, where="model.memory_budget", expected="a larger one, disk space or message_passing")
    log.warning("%s model.memory_budget, nor the disk: falling back to message passing, which is slower", problem)
    return MessagePassing(embedding, propagation)
