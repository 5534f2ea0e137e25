"""Models from a configuration: how each tier starts (Alg. 1 and 2, lines 1-5)."""

from __future__ import annotations

import logging
import zlib

import numpy as np
import torch

from c2f_dgl.config.schema import CoarseConfig, FineConfig, ModelConfig, RunConfig
from c2f_dgl.data.splits import Split
from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines import Collapsed, Propagation
from c2f_dgl.errors import InputError
from c2f_dgl.graph.hetero import entity_layout, interaction_graph
from c2f_dgl.graph.partition import metis_parts
from c2f_dgl.model import Readout, Recommender, item_degrees
from c2f_dgl.tiers.assignment import anchored, bridge_from_partition, pursuit, stack, through
from c2f_dgl.tiers.codebook import random_codebook, sparse_pca_codebook
from c2f_dgl.tiers.spectral import fit_codebook, spectral_embedding, spherical_centres
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding

log = logging.getLogger("c2f_dgl")

COARSE, TABLE = "coarse", "table"

# Leading singular vectors that entities are clustered on: the later ones tell apart too few entities to help.
_CLUSTER_RANK = 64


def stage_names(config: RunConfig) -> list[str]:
    """The stages of a run in order: one per tier, or the full table's."""
    return [TABLE] if config.coarse is None else [COARSE, *config.finer]


def stage_rng(seed: int, stage: str, epoch: int | None = None) -> np.random.Generator:
    """Random numbers of a stage's start, or of one of its epochs: no state to save for a run to be resumed."""
    key = [seed, zlib.crc32(stage.encode())]
    return np.random.default_rng(key if epoch is None else [*key, epoch])


def start_graph(split: Split, config: ModelConfig) -> dgl.DGLGraph:
    """The interaction graph of the training part."""
    if split.train.nnz == 0:
        raise InputError("no training interactions", where=split.name)
    return interaction_graph(split.train, prenormalised=config.prenormalise)


def start_model(config: RunConfig, graph: dgl.DGLGraph, split: Split, device: torch.device) -> Recommender:
    """The model at the start of a run: the first tier, or the full table."""
    layout = entity_layout(graph)
    table, tiers = None, []
    if config.coarse is None:
        table = random_codebook(layout.total, config.model.d, "xavier", _generator(config.seed, TABLE))
    else:
        start = _spectral_tier if config.coarse.start == "spectral" else _first_tier
        tiers = [start(config, config.coarse, graph, split)]
    return assemble(config.model, graph, tiers, table, config.seed, device)


def assemble(
    config: ModelConfig,
    graph: dgl.DGLGraph,
    tiers: list[Tier],
    table: torch.Tensor | None,
    seed: int,
    device: torch.device,
) -> Recommender:
    """Tiers or a table, with the propagation and readout of `config`; the last tier is the one that is trained."""
    for tier in tiers:
        tier.codebook.requires_grad_(tier is tiers[-1])
    embedding = _embedding(config, graph, tiers, table).to(device)
    readout = Readout(
        item_degrees(graph), graph.num_nodes("user"), item_scale=config.item_scale, biases=config.biases, seed=seed
    ).to(device)
    return Recommender(graph, embedding, _propagation(config), readout, config.engine)


def _embedding(
    config: ModelConfig, graph: dgl.DGLGraph, tiers: list[Tier], table: torch.Tensor | None = None
) -> TieredEmbedding:
    return TieredEmbedding(
        entity_layout(graph),
        tiers,
        table=table,
        entity_input=config.entity_input,
        activation=config.activation,
        link_scale=config.link_scale,
    )


def _propagation(config: ModelConfig) -> Propagation:
    return Propagation(config.layers, config.layer_weights, config.gate_layers, config.kernel)


def add_tier(config: RunConfig, model: Recommender, graph: dgl.DGLGraph, name: str) -> Recommender:
    """`model` refined by one more tier, the tiers it has frozen (Alg. 2, lines 1-5).

    Parameters
    ----------
    model : Recommender
        Trained up to the tier above.
    graph : DGLGraph
        The interaction graph without tiers.
    name : str
        Key of the tier in ``config.finer``.
    """
    parent = model.embedding.tiers[-1].codebook
    tiers = [*model.embedding.tiers, _finer_tier(config.finer[name], model, graph, name, config.seed)]
    refined = assemble(config.model, graph, tiers, None, config.seed, parent.device)
    if model.readout.bias is not None:
        refined.readout.load_state_dict(model.readout.state_dict())
    return refined


def entries_per_type(coarse: CoarseConfig) -> dict[str, int]:
    """t^c of each entity type, in stacking order."""
    return {"user": coarse.t if coarse.t_user is None else coarse.t_user, "item": coarse.t}


def size_of(tier: CoarseConfig | FineConfig) -> int:
    """m, once resolved (see `c2f_dgl.config.sizes`)."""
    if tier.m is None:
        raise ValueError("the number of meta-embeddings is not resolved")
    return tier.m


def _generator(seed: int, stage: str) -> torch.Generator:
    return torch.Generator().manual_seed(int(stage_rng(seed, stage).integers(2**62)))


def _first_tier(config: RunConfig, coarse: CoarseConfig, graph: dgl.DGLGraph, split: Split) -> Tier:
    """S^c anchored in METIS parts, E^c random."""
    m, layout, rng = size_of(coarse), entity_layout(graph), stage_rng(config.seed, COARSE)
    codebook = random_codebook(
        m, config.model.d, "normal" if coarse.start == "normal" else "xavier", _generator(config.seed, COARSE)
    )
    parts = metis_parts(graph, m, config.seed)
    assignment = stack(
        [
            anchored(parts[layout.rows(node_type)], m, t, coarse.anchor_weight, rng)
            for node_type, t in entries_per_type(coarse).items()
        ]
    )
    return Tier(COARSE, codebook, assignment)


def _spectral_tier(config: RunConfig, coarse: CoarseConfig, graph: dgl.DGLGraph, split: Split) -> Tier:
    """S^c from clusters of the spectral embedding, E^c solved for (see `c2f_dgl.tiers.spectral`)."""
    m, layout, entries = size_of(coarse), entity_layout(graph), entries_per_type(coarse)
    users, values, items = spectral_embedding(split.train, config.model.d, config.seed)
    leading = slice(_CLUSTER_RANK)
    rows = {"user": (users * values)[:, leading], "item": (items * values)[:, leading]}
    degrees = {"user": split.train.getnnz(axis=1), "item": split.train.getnnz(axis=0)}
    clustered = [node_type for node_type in layout.types if entries[node_type] > 0]
    centres = spherical_centres(
        np.concatenate([rows[node_type] for node_type in clustered]),
        m,
        np.sqrt(np.concatenate([degrees[node_type] for node_type in clustered]) + 1.0),
        config.seed,
    )
    assignment = stack(
        [pursuit(torch.as_tensor(rows[node_type]), torch.as_tensor(centres), t) for node_type, t in entries.items()]
    )
    tier = Tier(COARSE, torch.zeros(m, config.model.d), assignment)
    engine = Collapsed(_embedding(config.model, graph, [tier]), _propagation(config.model))
    engine.rebuild(engine.embedding.link(graph))
    codebook = fit_codebook(engine.basis(0)[layout.rows("item")], torch.as_tensor(items))
    return Tier(COARSE, codebook, assignment)


def _finer_tier(config: FineConfig, model: Recommender, graph: dgl.DGLGraph, name: str, seed: int) -> Tier:
    parent, rng = model.embedding.tiers[-1], stage_rng(seed, name)
    codebook = _fine_codebook(config, parent.codebook.detach(), rng, name, seed)
    threshold = config.threshold
    if threshold is None:
        nonzero = codebook[codebook != 0].abs()
        threshold = float(nonzero.median()) if len(nonzero) else 0.0
    if not (codebook.abs() > threshold).any():
        log.warning(
            "tier %s: no |E| exceeds the threshold %g (largest: %.3g), so it starts at zero without a gradient",
            name,
            threshold,
            float(codebook.abs().max()),
        )
    parts = metis_parts(graph, size_of(config), seed)
    # Entities link to every deeper tier through the assignments between them.
    to_parent = model.embedding.tiers[0].assignment
    for tier in model.embedding.tiers[1:]:
        to_parent = through(to_parent, tier.assignment)
    assignment = bridge_from_partition(
        to_parent, parts, size_of(config), config.t, config.anchor_weight, softmax=config.softmax
    )
    return Tier(name, codebook, assignment, threshold=threshold, gate=config.gate)


def _fine_codebook(
    config: FineConfig, parent: torch.Tensor, rng: np.random.Generator, name: str, seed: int
) -> torch.Tensor:
    if config.start == "normal":
        return random_codebook(size_of(config), parent.shape[1], "normal", _generator(seed, name)).to(parent)
    if config.start == "rows":
        rows = rng.choice(len(parent), size=size_of(config), replace=size_of(config) > len(parent))
        return parent[torch.as_tensor(rows, device=parent.device)].clone()
    return sparse_pca_codebook(parent, size_of(config), config.components, config.alpha, rng, padding=config.padding)
