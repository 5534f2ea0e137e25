"""Models from a configuration: how each tier starts (Alg. 1 and 2, lines 1-5)."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from c2f_dgl.config.graph import GraphConfig
from c2f_dgl.config.schema import CoarseConfig, FineConfig, ModelConfig, RunConfig
from c2f_dgl.config.sizes import atom_blocks, embedding_size, n_atoms, n_neighbours, size_of
from c2f_dgl.data.splits import Split
from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines import Propagation, RelationImportance
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import Scorer
from c2f_dgl.graph.entities import entity_graph, etypes_of
from c2f_dgl.graph.hetero import entity_layout
from c2f_dgl.graph.item_filter import graph_filter
from c2f_dgl.graph.neighbourhood import FilterShape
from c2f_dgl.graph.partition import entity_groups, metis_parts
from c2f_dgl.io import ranks
from c2f_dgl.io.memory import check_memory
from c2f_dgl.io.progress import Reporter
from c2f_dgl.model import Readout, Recommender, Scalars, item_degrees
from c2f_dgl.tiers.assignment import Assignment, anchored, bridge_from_partition, in_block, pinv, stack, through
from c2f_dgl.tiers.codebook import lower_triangular, random_codebook, soft_threshold, sparse_pca_codebook
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding
from c2f_dgl.training.choice import Choice
from c2f_dgl.training.search import Search
from c2f_dgl.training.solution import Solution, Spectra, solve, weighted_graph

log = logging.getLogger("c2f_dgl")

COARSE, TABLE = "coarse", "table"

# Matrices of entities x atoms in float64 that a solve holds at its peak: the basis, and in float32 what it composes and
# what the best solution so far composed.
_COPIES = 2

# Interactions up to which a spectral start is grouped by METIS, which works through them in one thread: its filter
# turns random groups into the same directions.
_MOST_GROUPED = 2**25


@dataclass(frozen=True)
class Start:
    """A model at the start of a run."""

    model: Recommender
    choice: Choice | None = None  # of a spectral start
    # The same scores as the model's, in directions that a spectral start knows: nothing is propagated for it.
    scorer: Scorer | None = None


def stage_rng(seed: int, stage: str, epoch: int | None = None) -> np.random.Generator:
    """Random numbers of a stage's start, or of one of its epochs: no state to save for a run to be resumed."""
    key = [seed, zlib.crc32(stage.encode())]
    return np.random.default_rng(key if epoch is None else [*key, epoch])


def _generator(seed: int, stage: str) -> torch.Generator:
    return torch.Generator().manual_seed(int(stage_rng(seed, stage).integers(2**62)))


def start_graph(split: Split, config: ModelConfig, schema: GraphConfig | None = None) -> dgl.DGLGraph:
    """The graph of the training part and of the relations that `schema` names."""
    if split.train.nnz == 0:
        raise InputError("no training interactions", where=split.name)
    return entity_graph(split.train, split.side, schema or GraphConfig(), prenormalised=config.prenormalise)


def start_model(
    config: RunConfig,
    graph: dgl.DGLGraph,
    split: Split,
    device: torch.device,
    reporter: Reporter | None = None,
    choice: Choice | None = None,
) -> Start:
    """The model at the start of a run: the first tier, or the full table."""
    coarse, d = config.coarse, embedding_size(config)
    if coarse is not None and coarse.start == "spectral":
        return spectral_model(config, graph, split, device, reporter or Reporter(quiet=True), choice)
    scalars = _config_scalars(config.model)
    if coarse is None:
        table = random_codebook(
            entity_layout(graph, config.graph.roles).total, d, "xavier", _generator(config.seed, TABLE)
        )
        return Start(assemble(config, graph, [], table, device, scalars))
    how: Literal["normal", "xavier"] = "normal" if coarse.start == "normal" else "xavier"
    codebook = random_codebook(n_atoms(config), d, how, _generator(config.seed, COARSE))
    tier = Tier(COARSE, codebook, _anchored_assignment(config, coarse, graph))
    return Start(assemble(config, graph, [tier], None, device, scalars, columns=feature_columns(split)))


def _config_scalars(config: ModelConfig) -> Scalars:
    numbers = (config.user_exponent, config.item_exponent, config.item_scale, config.filter_weight)
    if config.layer_weights == "lowpass" or None in numbers:
        raise ValueError("layer weights and null scalars are for a spectral start to choose")
    user, item, item_scale, weight = (value or 0.0 for value in numbers)
    shape = FilterShape(target=item_scale) if weight else None
    return Scalars(config.layer_weights, (user, item), item_scale, shape, weight)


def spectral_model(
    config: RunConfig,
    graph: dgl.DGLGraph,
    split: Split,
    device: torch.device,
    reporter: Reporter,
    choice: Choice | None = None,
) -> Start:
    """S^c anchored in groups of entities and E^c = W T solved for, and its scalars: `choice`, or chosen on validation.

    Raises
    ------
    InputError
        It needs more memory than is available.
    """
    assert config.coarse is not None
    m, entities, columns = n_atoms(config), split.n_users + split.n_items, feature_columns(split)
    if device.type == "cpu":
        what = f"a start with {m:,} atoms for {entities:,} entities"
        fewer = f"coarse.m below {m:,}, or a smaller model.budget"
        check_memory(_COPIES * 8 * m * entities, what, where="coarse.m", expected=fewer)
    with reporter.busy("grouping entities"):
        assignment = _anchored_assignment(config, config.coarse, graph)
    embedding = TieredEmbedding(
        entity_layout(graph, config.graph.roles),
        [Tier(COARSE, torch.zeros(m, embedding_size(config)), assignment)],
        entity_input=config.model.entity_input,
        link_scale=config.model.link_scale,
        columns=columns,
    ).to(device)
    spectra: Spectra = {}

    def solver(choice: Choice) -> Solution:
        with reporter.bar("solving") as report:
            return solve(config, embedding, graph, choice, spectra, report)

    if choice is None:
        search = Search(config, solver, split, device, reporter)
        search.run()
        choice, solution = search.best, search.solution(search.best)
        log.info("chosen: %s: %.4f", choice, search.figures[choice])
    else:
        solution = solver(choice)
    factors = solution.unit_factors(split.train, choice.rank, choice.power, choice.item_scale)
    codebook = lower_triangular(solution.codebook[:, : choice.rank] * factors).float()
    tier = Tier(COARSE, codebook, assignment, whitening=solution.whitening)
    model = assemble(config, graph, [tier], None, device, choice.scalars(solution.layer_weights), columns=columns)
    users, items = (side[:, : choice.rank] * factors.float() for side in (solution.users, solution.items))
    return Start(model, choice, model.readout.scorer(users, items))


def add_tier(config: RunConfig, model: Recommender, graph: dgl.DGLGraph, name: str) -> Recommender:
    """`model` refined by tier `name` of ``config.finer`` (Alg. 2, lines 1-5); `graph` is the entities' without tiers.

    Its tiers become those of the refined model, frozen unless ``freeze_coarser`` is false.
    """
    tiers = [*model.embedding.tiers, _finer_tier(config.finer[name], model, graph, name, config.seed)]
    device, columns = tiers[0].codebook.device, model.embedding.columns()
    refined = assemble(config, graph, tiers, None, device, model.scalars(), columns=columns)
    if model.readout.bias is not None:
        refined.readout.load_state_dict(model.readout.state_dict())
    return refined


def assemble(
    config: RunConfig,
    graph: dgl.DGLGraph,
    tiers: list[Tier],
    table: torch.Tensor | None,
    device: torch.device,
    scalars: Scalars,
    *,
    columns: Mapping[str, torch.Tensor] | None = None,
) -> Recommender:
    """Tiers or a table, with the propagation and readout of `config`; `columns` are feature matrices by node type.

    The last tier is the one that is trained, and those above it along with it where its ``freeze_coarser`` is false.
    Importances of relations are learned with the first tier, or the table; from then on they are as they are.
    """
    model, schema = config.model, config.graph
    roles = schema.roles
    finest = config.finer.get(tiers[-1].name) if tiers else None
    train_all = finest is not None and not finest.freeze_coarser
    learned = {name: relation for name, relation in schema.extra.items() if relation.importance == "learned"}
    fixed, importance = dict(scalars.importances), None
    if learned and (train_all or len(tiers) <= 1):
        start = {etypes_of(schema, name)[0]: fixed.pop(name, 1.0) for name in learned}
        importance = RelationImportance(start).to(device)
    graph = weighted_graph(graph, schema, scalars.exponents, fixed)
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
        term = graph_filter(graph, n_neighbours(config), scalars.filter, roles.target)
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


def _anchored_assignment(config: RunConfig, coarse: CoarseConfig, graph: dgl.DGLGraph) -> Assignment:
    """S^c anchored in groups of entities (Sec. 3.3): one grouping for the shared atoms, one for each own codebook."""
    roles, rng = config.graph.roles, stage_rng(config.seed, COARSE)
    layout, groups, blocks, grouping = entity_layout(graph, roles), {}, [], coarse.grouping
    n_interactions = graph.num_edges(roles.target)
    if coarse.start == "spectral" and grouping == "metis" and n_interactions > _MOST_GROUPED:
        log.info("%d interactions: random groups in place of METIS", n_interactions)
        grouping = "random"
    for node_type, block in atom_blocks(config).items():
        m = block.stop - block.start
        if block.t and m not in groups:
            groups[m] = entity_groups(graph, grouping, m, config.seed, roles.entities)
        group = groups[m][layout.rows(node_type)] if block.t else np.zeros(graph.num_nodes(node_type), dtype=np.int64)
        blocks.append(in_block(anchored(group, m, block.t, coarse.anchor_weight, rng), block, n_atoms(config)))
    assignment = stack(blocks)
    ranks.of_first(assignment.indices, assignment.weights)
    return assignment


def _finer_tier(config: FineConfig, model: Recommender, graph: dgl.DGLGraph, name: str, seed: int) -> Tier:
    parent, rng = model.embedding.tiers[-1], stage_rng(seed, name)
    # Of E = W T the rows of T: those of E cancel to many digits, and none of them alone says anything.
    codebook = config.start_scale * _fine_codebook(config, parent.codebook.detach(), rng, name, seed)
    ranks.of_first(codebook)
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
    if config.bridge:
        parts = metis_parts(graph, size_of(config), seed, model.roles.entities)
        # Entities link to every deeper tier through the assignments between them.
        to_parent = model.embedding.tiers[0].assignment
        for tier in model.embedding.tiers[1:]:
            to_parent = through(to_parent, tier.assignment)
        assignment = bridge_from_partition(
            to_parent, parts, size_of(config), config.t, config.anchor_weight, softmax=config.softmax
        )
    else:
        # Nothing is propagated yet: the codebooks stand for what updates will match, their propagated embeddings.
        rows, atoms = parent.active_codebook().detach(), soft_threshold(codebook, threshold)
        assignment = pinv(rows, atoms, config.t, softmax=config.softmax)
    ranks.of_first(assignment.indices, assignment.weights)
    return Tier(name, codebook, assignment, threshold=threshold, gate=config.gate)


def _fine_codebook(
    config: FineConfig, parent: torch.Tensor, rng: np.random.Generator, name: str, seed: int
) -> torch.Tensor:
    m = size_of(config)
    if config.start == "normal":
        return random_codebook(m, parent.shape[1], "normal", _generator(seed, name)).to(parent)
    if config.start == "rows":
        rows = rng.choice(len(parent), size=m, replace=m > len(parent))
        return parent[torch.as_tensor(rows, device=parent.device)].clone()
    if config.components is None:
        raise ValueError("the number of components is not resolved")
    components = min(config.components, parent.shape[1])  # a spectral start may have chosen a smaller d
    return sparse_pca_codebook(parent, m, components, config.alpha, rng, padding=config.padding)
