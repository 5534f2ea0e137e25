"""The graph of a run's entities: the interactions, and every further relation of its schema."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from c2f_dgl.config.graph import GraphConfig, RelationConfig
from c2f_dgl.config.roles import EdgeType, reverse
from c2f_dgl.data.side import SideData
from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.hetero import Edges, both_ways, interaction_graph, with_relations


def entity_graph(
    train: sp.csr_matrix, side: SideData | None, schema: GraphConfig, *, prenormalised: bool = False
) -> dgl.DGLGraph:
    """The graph without tiers, of training interactions (ones) and the relations of `side` that `schema` names.

    A relation's weights are 1 or its data's, transformed and divided by their mean; normalised by the relation's own
    degrees, if it says so; multiplied by its importance, if that is a number. With `prenormalised` so are interactions,
    as in the published code, which normalises the expanded graph once more.
    """
    target = schema.relations.get(schema.target, RelationConfig())
    weighted = train
    if target.weighted and side is not None and side.weights is not None:
        weighted = _transformed(side.weights, target)
    if prenormalised or target.normalisation == "own":
        weighted = normalised(weighted)
    graph = interaction_graph(weighted, roles=schema.roles)
    if side is None or not schema.extra:
        return graph
    relations: dict[EdgeType, Edges] = {}
    for name, relation in schema.extra.items():
        etype, edges = _etype(name, relation), _edges(relation, side.relations[name])
        relations |= both_ways(etype, edges) if relation.symmetric else {etype: edges}
    return with_relations(graph, relations, {name: len(ids) for name, ids in side.ids.items()})


def importance_factors(schema: GraphConfig, values: dict[str, float]) -> dict[EdgeType, float]:
    """Factors by relation, both ways, from importances by name."""
    return {etype: value for name, value in values.items() for etype in etypes_of(schema, name)}


def etypes_of(schema: GraphConfig, name: str) -> list[EdgeType]:
    """A further relation of a schema as the graph has it: itself and, where there is one, its reverse."""
    relation = schema.relations[name]
    etype = _etype(name, relation)
    return [etype, reverse(etype)] if relation.symmetric and etype[0] != etype[2] else [etype]


def _etype(name: str, relation: RelationConfig) -> EdgeType:
    if relation.source is None or relation.destination is None:
        raise ValueError(f"relation {name} is not validated")
    return relation.source, name, relation.destination


def _edges(relation: RelationConfig, matrix: sp.csr_matrix) -> Edges:
    if relation.weighted:
        matrix = _transformed(matrix, relation)
    if relation.symmetric and relation.source == relation.destination:
        matrix = matrix.maximum(matrix.T).tocsr()
    if relation.normalisation == "own":
        matrix = normalised(matrix)
    coo = matrix.tocoo()
    factor = relation.importance if isinstance(relation.importance, float) else 1.0
    source, destination = (torch.as_tensor(ends, dtype=torch.int64) for ends in (coo.row, coo.col))
    return source, destination, torch.as_tensor(coo.data * factor, dtype=torch.float32)


def _transformed(matrix: sp.csr_matrix, relation: RelationConfig) -> sp.csr_matrix:
    """Weights as they count: 1 on average."""
    changed = matrix.astype(np.float64)
    if relation.transform == "log":
        changed.data = np.log1p(changed.data)
    changed.data /= changed.data.mean()
    return changed.astype(np.float32)


def normalised(matrix: sp.csr_matrix, source: float = 0.5, target: float = 0.5) -> sp.csr_matrix:
    """D_s^(-source) W D_d^(-target) (float64), D the summed weights of rows and columns; of interactions, R~."""
    scales = []
    for axis, exponent in ((1, source), (0, target)):
        degree = np.asarray(matrix.sum(axis=axis), dtype=np.float64).ravel()
        scales.append(sp.diags(np.where(degree > 0, degree, np.inf) ** -exponent))
    return (scales[0] @ matrix @ scales[1]).tocsr()
