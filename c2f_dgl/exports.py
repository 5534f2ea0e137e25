"""A trained model in the forms that others read: the artifact, embeddings, ONNX, faiss."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from c2f_dgl.data.splits import Split
from c2f_dgl.graph.hetero import ENTITY_TYPES, INTERACTS
from c2f_dgl.model import Recommender
from c2f_dgl.serving import Artifact, Csr, Embeddings, Learned, LearnedTier
from c2f_dgl.tiers.tiered import Tier


def artifact_of(
    model: Recommender, split: Split, *, embeddings: bool = False, metrics: dict[str, Any] | None = None
) -> Artifact:
    """What `c2f_dgl.serving` needs of a model.

    Parameters
    ----------
    model : Recommender
    split : Split
        The data it was trained on.
    embeddings : bool
        Take the propagated embeddings along.
    metrics : dict, optional
        JSON-able, for the manifest.
    """
    embedding, readout = model.embedding, model.readout
    n_layers = model.propagation.n_layers
    betas = model.propagation.layer_weights or (1.0 / (n_layers + 1),) * (n_layers + 1)
    table = None
    if embedding.table is not None:
        table = {role: x.detach().cpu().numpy() for role, x in embedding.layout.split(embedding.table).items()}
    learned = Learned(
        tuple(_learned_tier(model, k) for k in range(len(embedding.tiers))),
        tuple(betas),
        table,
        entity_input=embedding.entity_input,
        activation=embedding.activation,
        link_scale=embedding.link_scale,
        # Interactions weigh 1 until they are normalised; where all degrees are 1 both are the same.
        prenormalise=bool((model.graph.edges[INTERACTS].data["weight"] != 1).any()),
        gate_layers=model.propagation.gate_layers,
        item_scale=readout.item_scale,
        item_bias=None if readout.bias is None else readout.bias.detach().cpu().numpy()[split.n_users :],
    )
    stored = None
    if embeddings:
        scorer = model.scorer()
        stored = Embeddings(scorer.users.float().cpu().numpy(), scorer.items.float().cpu().numpy())
    details = {"data": split.name, "fingerprint": split.fingerprint, "metrics": metrics or {}}
    return Artifact(learned, csr_of(split.train), split.user_ids, split.item_ids, stored, details)


def csr_of(matrix: sp.csr_matrix) -> Csr:
    """A binary scipy matrix (sorted, without repeats) as the serving package takes it."""
    return Csr(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.shape[1])


def _learned_tier(model: Recommender, k: int) -> LearnedTier:
    tier: Tier = model.embedding.tiers[k]
    indices, weights = tier.indices.cpu().numpy(), tier.weights.cpu().numpy()
    parents = {model.embedding.tiers[k - 1].name: slice(None)}
    if k == 0:
        parents = {role: model.embedding.layout.rows(role) for role in ENTITY_TYPES}
    return LearnedTier(
        tier.name,
        tier.codebook.detach().cpu().numpy(),
        {parent: indices[rows] for parent, rows in parents.items()},
        {parent: weights[rows] for parent, rows in parents.items()},
        threshold=tier.threshold,
        gate=tier.gate,
    )
