"""Models from a configuration: how each tier starts (Alg. 1 and 2, lines 1-5)."""

from __future__ import annotations

import logging
import zlib

import numpy as np
import torch

from c2f_dgl.config.schema import CoarseConfig, FineConfig, ModelConfig, RunConfig
from c2f_dgl.data.splits import Split
from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines import Propagation
from c2f_dgl.errors import InputError
from c2f_dgl.graph.hetero import entity_layout, interaction_graph
from c2f_dgl.graph.partition import metis_parts
from c2f_dgl.model import Readout, Recommender, item_degrees
from c2f_dgl.tiers.assignment import anchored, bridge_from_partition, through
from c2f_dgl.tiers.codebook import random_codebook, sparse_pca_codebook
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding

log = logging.getLogger("c2f_dgl")

COARSE, TABLE = "coarse", "table"


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


def start_model(config: RunConfig, graph: dgl.DGLGraph, device: torch.device) -> Recommender:
    """The model at the start of a run: the first tier, or the full table."""
    layout = entity_layout(graph)
    table, tiers = None, []
    if config.coarse is None:
        table = random_codebook(layout.total, config.model.d, "xavier", _generator(config.seed, TABLE))
    else:
        tiers = [_first_tier(config.coarse, graph, config.model.d, config.seed)]
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
    embedding = TieredEmbedding(
        entity_layout(graph),
        tiers,
        table=table,
        entity_input=config.entity_input,
        activation=config.activation,
        link_scale=config.link_scale,
    ).to(device)
    readout = Readout(
        item_degrees(graph), graph.num_nodes("user"), item_scale=config.item_scale, biases=config.biases, seed=seed
    ).to(device)
    propagation = Propagation(config.layers, config.layer_weights, config.gate_layers, config.kernel)
    return Recommender(graph, embedding, propagation, readout, config.engine)


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


def _generator(seed: int, stage: str) -> torch.Generator:
    return torch.Generator().manual_seed(int(stage_rng(seed, stage).integers(2**62)))


def _first_tier(config: CoarseConfig, graph: dgl.DGLGraph, d: int, seed: int) -> Tier:
    codebook = random_codebook(config.m, d, config.start, _generator(seed, COARSE))
    parts = metis_parts(graph, config.m, seed)
    assignment = anchored(parts, config.m, config.t, config.anchor_weight, stage_rng(seed, COARSE))
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
    parts = metis_parts(graph, config.m, seed)
    # Entities link to every deeper tier through the assignments between them.
    to_parent = model.embedding.tiers[0].assignment
    for tier in model.embedding.tiers[1:]:
        to_parent = through(to_parent, tier.assignment)
    assignment = bridge_from_partition(
        to_parent, parts, config.m, config.t, config.anchor_weight, softmax=config.softmax
    )
    return Tier(name, codebook, assignment, threshold=threshold, gate=config.gate)


def _fine_codebook(
    config: FineConfig, parent: torch.Tensor, rng: np.random.Generator, name: str, seed: int
) -> torch.Tensor:
    if config.start == "normal":
        return random_codebook(config.m, parent.shape[1], "normal", _generator(seed, name)).to(parent)
    if config.start == "rows":
        rows = rng.choice(len(parent), size=config.m, replace=config.m > len(parent))
        return parent[torch.as_tensor(rows, device=parent.device)].clone()
    return sparse_pca_codebook(parent, config.m, config.components, config.alpha, rng, padding=config.padding)
