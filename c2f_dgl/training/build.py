"""Models from a configuration: how each tier starts (Alg. 1 and 2, lines 1-5)."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from c2f_dgl.config.graph import GraphConfig
from c2f_dgl.config.schema import CoarseConfig, FineConfig, ModelConfig, RunConfig
from c2f_dgl.config.sizes import atom_blocks, embedding_size, n_atoms, size_of
from c2f_dgl.data.splits import Split
from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines import Propagation, RelationImportance
from c2f_dgl.errors import InputError
from c2f_dgl.graph.entities import entity_graph, etypes_of, importance_factors
from c2f_dgl.graph.hetero import entity_layout, exponent_of, reweighted, with_exponents
from c2f_dgl.graph.item_filter import graph_filter
from c2f_dgl.graph.neighbourhood import FilterShape
from c2f_dgl.graph.partition import entity_groups, metis_parts
from c2f_dgl.io.progress import Reporter
from c2f_dgl.model import Readout, Recommender, item_degrees
from c2f_dgl.tiers.assignment import Assignment, anchored, bridge_from_partition, in_block, pinv, stack, through
from c2f_dgl.tiers.codebook import random_codebook, soft_threshold, sparse_pca_codebook
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding
from c2f_dgl.training.choice import Choice
from c2f_dgl.training.spectral import spectral_start

log = logging.getLogger("c2f_dgl")

COARSE, TABLE = "coarse", "table"


@dataclass(frozen=True)
class Scalars:
    """The few numbers of a model that are neither trained by gradient nor part of a tier.

    Parameters
    ----------
    layer_weights : tuple of L + 1 floats, optional
        None for the mean over layers.
    exponents : (float, float)
        a and b of D_u^(-a) R D_i^(-b).
    item_scale : float
    filter : FilterShape, optional
    filter_weight : float
    importances : mapping of str to float
        By relation; of those alone that no option gives.
    """

    layer_weights: tuple[float, ...] | None = None
    exponents: tuple[float, float] = (0.5, 0.5)
    item_scale: float = 0.0
    filter: FilterShape | None = None
    filter_weight: float = 0.0
    importances: Mapping[str, float] = field(default_factory=dict)


def _given_scalars(config: ModelConfig) -> Scalars:
    given = (config.user_exponent, config.item_exponent, config.item_scale, config.filter_weight)
    if config.layer_weights == "lowpass" or None in given:
        raise ValueError("layer weights and null scalars are for a spectral start to choose")
    user, item, item_scale, weight = (value or 0.0 for value in given)
    shape = FilterShape(target=item_scale) if weight else None
    return Scalars(config.layer_weights, (user, item), item_scale, shape, weight)


def stage_rng(seed: int, stage: str, epoch: int | None = None) -> np.random.Generator:
    """Random numbers of a stage's start, or of one of its epochs: no state to save for a run to be resumed."""
    key = [seed, zlib.crc32(stage.encode())]
    return np.random.default_rng(key if epoch is None else [*key, epoch])


def start_graph(split: Split, config: ModelConfig, schema: GraphConfig | None = None) -> dgl.DGLGraph:
    """The graph of the training part and of the relations that `schema` names."""
    if split.train.nnz == 0:
        raise InputError("no training interactions", where=split.name)
    return entity_graph(split.train, split.side, schema or GraphConfig(), prenormalised=config.prenormalise)


def start_model(
    config: RunConfig, graph: dgl.DGLGraph, split: Split, device: torch.device, reporter: Reporter | None = None
) -> Recommender:
    """The model at the start of a run: the first tier, or the full table."""
    if config.coarse is None:
        n, d = entity_layout(graph, config.graph.roles).total, embedding_size(config)
        table = random_codebook(n, d, "xavier", _generator(config.seed, TABLE))
        return assemble(config, graph, [], table, device, _given_scalars(config.model))
    if config.coarse.start == "spectral":
        return spectral_model(config, graph, split, device, reporter or Reporter(quiet=True))[0]
    how: Literal["normal", "xavier"] = "normal" if config.coarse.start == "normal" else "xavier"
    codebook = random_codebook(n_atoms(config), embedding_size(config), how, _generator(config.seed, COARSE))
    tier = Tier(COARSE, codebook, _anchored_assignment(config, config.coarse, graph))
    columns = feature_columns(split)
    return assemble(config, graph, [tier], None, device, _given_scalars(config.model), columns=columns)


def assemble(
    config: RunConfig,
    graph: dgl.DGLGraph,
    tiers: list[Tier],
    table: torch.Tensor | None,
    device: torch.device,
    scalars: Scalars,
    *,
    columns: Mapping[str, torch.Tensor] | None = None,
    train_all: bool = False,
) -> Recommender:
    """Tiers or a table, with the propagation and readout of `config`.

    `columns` are the feature matrices by node type. The last tier is the one that is trained; with `train_all` the
    codebooks above it are trained along with it.
    Importances of relations are learned with the first tier, or the table; from then on they are as they are.
    """
    model, schema = config.model, config.graph
    roles = schema.roles
    learned = {name: relation for name, relation in schema.extra.items() if relation.importance == "learned"}
    fixed, importance = dict(scalars.importances), None
    if learned and (train_all or len(tiers) <= 1):
        start = {etypes_of(schema, name)[0]: fixed.pop(name, 1.0) for name in learned}
        importance = RelationImportance(start).to(device)
    graph = reweighted(graph, importance_factors(schema, fixed))
    if scalars.exponents != (0.5, 0.5):
        graph = with_exponents(graph, dict(zip((roles.query, roles.ranked), scalars.exponents, strict=True)))
    for tier in tiers:
        tier.codebook.requires_grad_(train_all or tier is tiers[-1])
    embedding = TieredEmbedding(
        entity_layout(graph, roles),
        tiers,
        table=table,
        entity_input=model.entity_input,
        activation=model.activation,
        link_scale=model.link_scale,
        blocks=None if config.coarse is None else atom_blocks(config),
        columns=columns,
    ).to(device)
    propagation = Propagation(model.layers, scalars.layer_weights, model.gate_layers, model.kernel, importance)
    term = None
    if scalars.filter is not None:
        term = graph_filter(graph, model.filter_neighbours, scalars.filter, roles.target)
    readout = Readout(
        item_degrees(graph, target=roles.target),
        graph.num_nodes(roles.query),
        item_scale=scalars.item_scale,
        biases=model.biases,
        seed=config.seed,
        filter=term,
        filter_weight=scalars.filter_weight,
    ).to(device)
    chosen = model.chosen_scalars + (0 if importance is not None else len(scalars.importances))
    memory = None if model.memory_budget is None else model.memory_budget * 2**30
    return Recommender(graph, embedding, propagation, readout, model.engine, chosen, roles, fixed, memory)


def feature_columns(split: Split) -> dict[str, torch.Tensor]:
    """Feature matrices by node type."""
    return {} if split.side is None else {name: torch.as_tensor(x) for name, x in split.side.features.items()}


def add_tier(config: RunConfig, model: Recommender, graph: dgl.DGLGraph, name: str) -> Recommender:
    """`model` refined by one more tier (Alg. 2, lines 1-5), the tiers it has frozen unless ``freeze_coarser`` is false.

    Parameters
    ----------
    model : Recommender
        Trained up to the tier above.
    graph : DGLGraph
        The entities' graph without tiers.
    name : str
        Key of the tier in ``config.finer``.
    """
    parent = model.embedding.tiers[-1].codebook
    tiers = [*model.embedding.tiers, _finer_tier(config.finer[name], model, graph, name, config.seed)]
    readout = model.readout
    scalars = Scalars(
        model.propagation.layer_weights,
        exponents_of(model),
        readout.item_scale,
        None if readout.filter is None else readout.filter.term.shape,
        readout.filter_weight,
        model.importances(),
    )
    train_all = trains_all(config, tiers)
    columns = model.embedding.columns()
    refined = assemble(config, graph, tiers, None, parent.device, scalars, columns=columns, train_all=train_all)
    if model.readout.bias is not None:
        refined.readout.load_state_dict(model.readout.state_dict())
    return refined


def exponents_of(model: Recommender) -> tuple[float, float]:
    """a and b of the graph a model propagates on."""
    return exponent_of(model.graph, model.roles.query), exponent_of(model.graph, model.roles.ranked)


def trains_all(config: RunConfig, tiers: list[Tier]) -> bool:
    """Whether the stage of the last of `tiers` trains the codebooks above it too."""
    last = config.finer.get(tiers[-1].name) if tiers else None
    return last is not None and not last.freeze_coarser


def _generator(seed: int, stage: str) -> torch.Generator:
    return torch.Generator().manual_seed(int(stage_rng(seed, stage).integers(2**62)))


def _anchored_assignment(config: RunConfig, coarse: CoarseConfig, graph: dgl.DGLGraph) -> Assignment:
    """S^c anchored in groups of entities (Sec. 3.3): one grouping for the shared atoms, one for each own codebook."""
    roles, rng = config.graph.roles, stage_rng(config.seed, COARSE)
    layout, groups, blocks = entity_layout(graph, roles), {}, []
    for node_type, block in atom_blocks(config).items():
        m = block.stop - block.start
        if block.t and m not in groups:
            groups[m] = entity_groups(graph, coarse.grouping, m, config.seed, roles.entities)
        own = groups[m][layout.rows(node_type)] if block.t else np.zeros(graph.num_nodes(node_type), dtype=np.int64)
        blocks.append(in_block(anchored(own, m, block.t, coarse.anchor_weight, rng), block, n_atoms(config)))
    return stack(blocks)


def spectral_model(
    config: RunConfig,
    graph: dgl.DGLGraph,
    split: Split,
    device: torch.device,
    reporter: Reporter,
    choice: Choice | None = None,
) -> tuple[Recommender, Choice]:
    """S^c anchored in groups of entities and E^c solved for; with what was chosen, or `choice`."""
    assert config.coarse is not None
    assignment = _anchored_assignment(config, config.coarse, graph)
    columns = feature_columns(split)
    start = spectral_start(config, config.coarse, assignment, graph, split, columns, device, reporter, choice)
    tier, choice = Tier(COARSE, start.codebook, assignment, whitening=start.whitening), start.choice
    scalars = Scalars(
        start.layer_weights,
        choice.exponents,
        choice.item_scale,
        choice.filter,
        choice.filter_weight,
        dict(choice.importances),
    )
    return assemble(config, graph, [tier], None, device, scalars, columns=columns), choice


def _finer_tier(config: FineConfig, model: Recommender, graph: dgl.DGLGraph, name: str, seed: int) -> Tier:
    parent, rng = model.embedding.tiers[-1], stage_rng(seed, name)
    # Of E = W T the rows of T: those of E cancel to many digits, and none of them alone says anything.
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
    parts = metis_parts(graph, size_of(config), seed, model.roles.entities)
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
