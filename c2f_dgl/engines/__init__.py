"""Engines give the propagated embeddings H of a model: the same values and gradients, at different cost.

`MessagePassing` propagates embeddings at every step; `Collapsed` propagates the tiers' coefficients once per
assignment update. `make_engine` chooses.
"""

from __future__ import annotations

import logging
from typing import Literal, Protocol

from torch import Tensor

from c2f_dgl.dgl_import import dgl
from c2f_dgl.embedding import EmbeddingLayer
from c2f_dgl.engines.collapsed import Collapsed, basis_shape, propagated_basis
from c2f_dgl.engines.importance import RelationImportance
from c2f_dgl.engines.message_passing import MessagePassing
from c2f_dgl.engines.propagation import Propagation
from c2f_dgl.engines.storage import choose_storage
from c2f_dgl.errors import InputError
from c2f_dgl.tiers.tiered import TieredEmbedding

__all__ = [
    "Collapsed",
    "Engine",
    "EngineName",
    "MessagePassing",
    "Propagation",
    "RelationImportance",
    "make_engine",
    "propagated_basis",
]

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
        """H of every node type, detached."""


def make_engine(
    name: EngineName, embedding: EmbeddingLayer, propagation: Propagation, memory_budget: float | None = None
) -> Engine:
    """The engine called `name`; ``auto`` is collapsed wherever the model is linear in what is learned and M fits.

    Parameters
    ----------
    memory_budget : float, optional
        Bytes that the collapsed basis may take (see `c2f_dgl.engines.storage`).

    Raises
    ------
    ValueError
        ``collapsed`` is asked for and the model is not linear, or not one of tiers.
    InputError
        ``collapsed`` is asked for and its basis does not fit.
    """
    against = _against_collapsing(embedding, propagation)
    if name == "message_passing" or (name == "auto" and against):
        log.info("engine: message passing at every step%s", f", as {' and '.join(against)}" if name == "auto" else "")
        return MessagePassing(embedding, propagation)
    if not isinstance(embedding, TieredEmbedding):
        raise ValueError("the collapsed engine needs tiers: use message_passing")
    if against:
        return Collapsed(embedding, propagation)  # says why it cannot be
    shape = basis_shape(embedding)
    storage = choose_storage(shape, embedding.tiers[0].codebook, memory_budget)
    if storage is not None:
        if storage != "full":
            log.info("the basis of %d x %d is kept %s: model.memory_budget", *shape, storage)
        return Collapsed(embedding, propagation, storage)
    what = f"a basis of {shape[0]:,} x {shape[1]:,} does not fit"
    if name == "collapsed":
        raise InputError(what, where="model.memory_budget", expected="a larger one, disk space or message_passing")
    log.warning("%s model.memory_budget, nor the disk: falling back to message passing, which is slower", what)
    return MessagePassing(embedding, propagation)


def _against_collapsing(embedding: EmbeddingLayer, propagation: Propagation) -> list[str]:
    """Why a basis that is propagated once would not do."""
    if not isinstance(embedding, TieredEmbedding):
        return ["it is not composed from tiers"]
    reasons = {
        "it has a full table": embedding.table is not None,
        f"{embedding.activation} is not linear": embedding.activation != "none",
        "importances of relations are learned": propagation.importance is not None,
    }
    return [reason for reason, holds in reasons.items() if holds]
