"""Models from a configuration: how each tier starts (Alg. 1 and 2, lines 1-5)."""

from __future__ import annotations

import logging
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from c2f_dgl.config.schema import CoarseConfig, FineConfig, ModelConfig, RunConfig
from c2f_dgl.config.sizes import embedding_size, size_of
from c2f_dgl.data.splits import Split
from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines import Propagation
from c2f_dgl.errors import InputError
from c2f_dgl.graph.hetero import entity_layout, interaction_graph
from c2f_dgl.graph.partition import metis_parts
from c2f_dgl.model import Readout, Recommender, graph_filter, item_degrees
from c2f_dgl.tiers.assignment import Assignment, anchored, bridge_from_partition, pinv, stack, through
from c2f_dgl.tiers.codebook import random_codebook, soft_threshold, sparse_pca_codebook
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding
from c2f_dgl.training.spectral_start import spectral_start

log = logging.getLogger("c2f_dgl")

COARSE, TABLE = "coarse", "table"


@dataclass(frozen=True)
class Scalars:
    """The few numbers of a model that are neither trained by gradient nor part of a tier.

    Parameters
    ----------
    layer_weights : tuple of L + 1 floats, optional
        None for the mean over layers.
    item_scale, filter_weight : float
    """

    layer_weights: tuple[float, ...] | None = None
    item_scale: float = 0.0
    filter_weight: float = 0.0


def _given_scalars(config: ModelConfig) -> Scalars:
    if config.layer_weights == "lowpass" or config.item_scale is None or config.filter_weight is None:
        raise ValueError("layer weights, item scale and filter weight are for a spectral start to choose")
    return Scalars(config.layer_weights, config.item_scale, config.filter_weight)


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
    if config.coarse is None:
        n, d = entity_layout(graph).total, embedding_size(config)
        table = random_codebook(n, d, "xavier", _generator(config.seed, TABLE))
        return assemble(config.model, graph, [], table, config.seed, device, _given_scalars(config.model))
    if config.coarse.start == "spectral":
        return _spectral_model(config, config.coarse, graph, split, device)
    how: Literal["normal", "xavier"] = "normal" if config.coarse.start == "normal" else "xavier"
    codebook = random_codebook(size_of(config.coarse), embedding_size(config), how, _generator(config.seed, COARSE))
    tier = Tier(COARSE, codebook, _metis_assignment(config.coarse, graph, config.seed))
    return assemble(config.model, graph, [tier], None, config.seed, device, _given_scalars(config.model))


def assemble(
    config: ModelConfig,
    graph: dgl.DGLGraph,
    tiers: list[Tier],
    table: torch.Tensor | None,
    seed: int,
    device: torch.device,
    scalars: Scalars,
    *,
    train_all: bool = False,
) -> Recommender:
    """Tiers or a table, with the propagation and readout of `config`.

    The last tier is the one that is trained; with `train_all` the codebooks above it are trained along with it.
    """
    for tier in tiers:
        tier.codebook.requires_grad_(train_all or tier is tiers[-1])
    embedding = TieredEmbedding(
        entity_layout(graph),
        tiers,
        table=table,
        entity_input=config.entity_input,
        activation=config.activation,
        link_scale=config.link_scale,
    ).to(device)
    propagation = Propagation(config.layers, scalars.layer_weights, config.gate_layers, config.kernel)
    readout = Readout(
        item_degrees(graph),
        graph.num_nodes("user"),
        item_scale=scalars.item_scale,
        biases=config.biases,
        seed=seed,
        filter=graph_filter(graph, config.filter_neighbours, scalars.item_scale),
        filter_weight=scalars.filter_weight,
    ).to(device)
    chosen = (config.layers + 1) * (config.layer_weights == "lowpass")
    chosen += (config.item_scale is None) + (config.filter_weight is None)
    budget = None if config.memory_budget is None else config.memory_budget * 2**30
    return Recommender(graph, embedding, propagation, readout, config.engine, chosen, budget)


def add_tier(config: RunConfig, model: Recommender, graph: dgl.DGLGraph, name: str) -> Recommender:
    """`model` refined by one more tier (Alg. 2, lines 1-5), the tiers it has frozen unless ``freeze_coarser`` is false.

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
    readout = model.readout
    scalars = Scalars(model.propagation.layer_weights, readout.item_scale, readout.filter_weight)
    train_all = trains_all(config, tiers)
    refined = assemble(config.model, graph, tiers, None, config.seed, parent.device, scalars, train_all=train_all)
    if model.readout.bias is not None:
        refined.readout.load_state_dict(model.readout.state_dict())
    return refined


def trains_all(config: RunConfig, tiers: list[Tier]) -> bool:
    """Whether the stage of the last of `tiers` trains the codebooks above it too."""
    last = config.finer.get(tiers[-1].name) if tiers else None
    return last is not None and not last.freeze_coarser


def entries_per_type(coarse: CoarseConfig) -> dict[str, int]:
    """t^c of each entity type, in stacking order."""
    return {"user": coarse.t if coarse.t_user is None else coarse.t_user, "item": coarse.t}


def _generator(seed: int, stage: str) -> torch.Generator:
    return torch.Generator().manual_seed(int(stage_rng(seed, stage).integers(2**62)))


def _metis_assignment(coarse: CoarseConfig, graph: dgl.DGLGraph, seed: int) -> Assignment:
    """S^c anchored in METIS parts (Sec. 3.3)."""
    m, layout, rng = size_of(coarse), entity_layout(graph), stage_rng(seed, COARSE)
    parts = metis_parts(graph, m, seed)
    return stack(
        [
            anchored(parts[layout.rows(node_type)], m, t, coarse.anchor_weight, rng)
            for node_type, t in entries_per_type(coarse).items()
        ]
    )


def _spectral_model(
    config: RunConfig, coarse: CoarseConfig, graph: dgl.DGLGraph, split: Split, device: torch.device
) -> Recommender:
    """S^c anchored in METIS parts, E^c solved for."""
    start = spectral_start(config, coarse, _metis_assignment(coarse, graph, config.seed), graph, split, device)
    tier = Tier(COARSE, start.codebook, start.assignment, whitening=start.whitening)
    scalars = Scalars(start.layer_weights, start.item_scale, start.filter_weight)
    return assemble(config.model, graph, [tier], None, config.seed, device, scalars)


def _finer_tier(config: FineConfig, model: Recommender, graph: dgl.DGLGraph, name: str, seed: int) -> Tier:
    parent, rng = model.embedding.tiers[-1], stage_rng(seed, name)
    codebook = config.start_scale * _fine_codebook(config, parent.codebook.detach(), rng, name, seed)
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
    if not config.bridge:
        # Nothing is propagated yet: the codebooks stand for what updates will match, their propagated embeddings.
        rows, atoms = parent.active_codebook().detach(), soft_threshold(codebook, threshold)
        assignment = pinv(rows, atoms, config.t, softmax=config.softmax)
        return Tier(name, codebook, assignment, threshold=threshold, gate=config.gate)
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
    if config.components is None:
        raise ValueError("the number of components is not resolved")
    components = min(config.components, parent.shape[1])  # a spectral start may have chosen a smaller d
    return sparse_pca_codebook(parent, size_of(config), components, config.alpha, rng, padding=config.padding)
