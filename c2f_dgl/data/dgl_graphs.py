"""From a DGL heterograph of one's own to a split and its schema, and back."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from scipy.sparse import csr_matrix

from c2f_dgl.config.graph import GraphConfig
from c2f_dgl.config.load import parse_graph
from c2f_dgl.config.roles import REVERSE_PREFIX, EdgeType, colliding
from c2f_dgl.data.interactions import Interactions
from c2f_dgl.data.relations import add_relations
from c2f_dgl.data.side import SideData
from c2f_dgl.data.splits import Split, random_split
from c2f_dgl.dgl_import import dgl
from c2f_dgl.errors import InputError

MASKS = ("train_mask", "val_mask", "test_mask")


def from_heterograph(
    graph: dgl.DGLGraph,
    target: str | EdgeType,
    *,
    weight: str | None = None,
    features: Mapping[str, str] | None = None,
    importance: float | Literal["learned"] | None = None,
    leave_out: str | Sequence[str | EdgeType] = (),
    valid: float = 0.1,
    test: float = 0.2,
    seed: int = 2024,
    name: str = "heterograph",
) -> tuple[Split, GraphConfig]:
    """What `c2f_dgl.train` needs of a heterograph, whatever its relations are called; node types are identifiers.

    A relation with the edges of another the other way round is its reverse, which is added anyway: it is left out, with
    a note, and so are node types that nothing links to the rest. Every other one takes part in the propagation.

    Parameters
    ----------
    graph : DGLGraph
    target : str or (source, name, destination)
        Relation that is predicted, between two different node types: its destinations are ranked for its sources.
    weight : str, optional
        Edge data that holds weights, of the relations that have it. By default every edge weighs 1.
    features : mapping of str to str, optional
        Node type to the node data that holds its features, (n_nodes, width).
    importance : float, "learned" or None
        Of every further relation (see `RelationConfig`); None is chosen on validation, one relation after the other.
    leave_out : str, or sequence of str or (source, name, destination)
        Relations not to use, e.g. because they tell what is to be predicted.
    valid, test, seed
        Of `random_split`, where the target has no edge data ``train_mask``, ``val_mask`` and ``test_mask`` (boolean).

    Returns
    -------
    split : Split
        Sources of the target are its users, destinations its items; external ids are DGL's node numbers.
    schema : GraphConfig
        For ``load_config(..., graph=schema)``.
    """
    etype = _target(graph, target)
    named = [leave_out] if isinstance(leave_out, str) else leave_out
    left_out = {other for relation in named for other in _matching(graph, relation, "leave_out")}
    weighted = {other for other in graph.canonical_etypes if weight in graph.edges[other].data}
    if weight is not None and not weighted:
        raise InputError(f"no relation has edge data {weight!r}", where="weight", expected="a name that some have")
    split, notes = _split(graph, etype, valid, test, seed, name), []
    pairs, names = {etype: _pairs(graph, etype)}, {etype: etype[1]}
    relations: dict[str, dict[str, Any]] = {}
    for other in graph.canonical_etypes:
        if other == etype or other in left_out:
            continue
        matrix = _pairs(graph, other)
        twin = _reverse_of(matrix, other, pairs)
        if twin is not None:
            notes.append(f"{'-'.join(other)}: the reverse of {'-'.join(twin)}, left out")
            continue
        pairs[other], names[other] = matrix, _name(graph, other, names.values())
        ends = {"source": other[0], "destination": other[2]}
        relations[names[other]] = {**ends, "weighted": other in weighted, "importance": importance}
    if etype in weighted:
        relations[etype[1]] = {"weighted": True}
    edges = {key: _edges(graph, e, weight if e in weighted else None) for e, key in names.items() if key in relations}
    linked = {node_type for other in pairs for node_type in (other[0], other[2])}
    notes += [f"{t}: nothing links it to the rest, left out" for t in graph.ntypes if t not in linked]
    query, target_name, ranked = etype
    nodes = {t: {"size": graph.num_nodes(t)} for t in graph.ntypes if t in linked and t not in (query, ranked)}
    tree = {"query": query, "target": target_name, "ranked": ranked, "nodes": nodes, "relations": relations}
    schema = parse_graph(tree, name)
    columns = {node_type: _node_data(graph, node_type, key) for node_type, key in (features or {}).items()}
    if relations or columns or nodes:
        split = add_relations(split, schema, edges, features=columns)
    return replace(split, notes=(*split.notes, *notes)), schema


def _matching(graph: dgl.DGLGraph, relation: str | EdgeType, where: str) -> list[EdgeType]:
    """Relations by name or in full; refused where there is none."""
    matching = [etype for etype in graph.canonical_etypes if relation in (etype[1], etype)]
    if not matching:
        raise InputError(f"no relation {relation!r}", where=where, expected=f"one of {_known(graph)}")
    return matching


def _target(graph: dgl.DGLGraph, target: str | EdgeType) -> EdgeType:
    etype, *others = _matching(graph, target, "target")
    if others:
        problem = f"{1 + len(others)} relations are called {target!r}"
        raise InputError(problem, where="target", expected=f"one of {_known(graph)}")
    if etype[0] == etype[2]:
        problem = f"both ends are of type {etype[0]!r}"
        raise InputError(problem, where="target", expected="two different node types")
    return etype


def _known(graph: dgl.DGLGraph) -> str:
    return ", ".join(map(str, graph.canonical_etypes))


def _node_data(graph: dgl.DGLGraph, node_type: str, key: str) -> np.ndarray:
    if node_type not in graph.ntypes or key not in graph.nodes[node_type].data:
        raise InputError(f"no node data {key!r} of type {node_type!r}", where="features", expected="data of the graph")
    return _array(graph.nodes[node_type].data[key])


def _split(graph: dgl.DGLGraph, etype: EdgeType, valid: float, test: float, seed: int, name: str) -> Split:
    user_ids, item_ids = (np.arange(graph.num_nodes(node_type)) for node_type in (etype[0], etype[2]))
    where, data = f"relation {etype[1]}", graph.edges[etype].data
    if graph.num_edges(etype) == 0:
        raise InputError("no edges", where=where, expected="interactions to learn from")
    masks = [mask for mask in MASKS if mask in data]
    if not masks:
        users, items = (ends.astype(np.int64) for ends in _edges(graph, etype))
        inter = Interactions.from_pairs(users, items, user_ids, item_ids)
        return random_split(inter, seed=seed, valid=valid, test=test, name=name)
    if len(masks) < len(MASKS):
        problem = f"{' and '.join(masks)} without {' and '.join(mask for mask in MASKS if mask not in masks)}"
        raise InputError(problem, where=where, expected="all three masks, or none for a random split")
    train, valid_part, test_part = (_pairs(graph, etype, _array(data[mask]).astype(bool)) for mask in MASKS)
    if (train + valid_part + test_part > 1).nnz:
        raise InputError("the masks have pairs in common", where=where, expected="each pair in one")
    return Split(name, train, valid_part, test_part, user_ids, item_ids)


def _pairs(graph: dgl.DGLGraph, etype: EdgeType, among: np.ndarray | slice = slice(None)) -> csr_matrix:
    """Which pairs a relation holds `among` its edges, as ones in float32."""
    source, destination = (ends[among] for ends in _edges(graph, etype))
    shape = (graph.num_nodes(etype[0]), graph.num_nodes(etype[2]))
    matrix = csr_matrix((np.ones(len(source), dtype=np.float32), (source, destination)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def _reverse_of(matrix: csr_matrix, etype: EdgeType, pairs: Mapping[EdgeType, csr_matrix]) -> EdgeType | None:
    """The relation that has the pairs of this one, a `matrix`, the other way round."""
    for other, theirs in pairs.items():
        if (other[2], other[0]) == (etype[0], etype[2]) and theirs.nnz == matrix.nnz and (matrix != theirs.T).nnz == 0:
            return other
    return None


def _name(graph: dgl.DGLGraph, etype: EdgeType, names: Iterable[str]) -> str:
    """A name for a relation: its own where that is an identifier that neither another nor a reverse has."""
    names, name = set(names), re.sub(r"\W", "_", etype[1])
    if sum(other[1] == etype[1] for other in graph.canonical_etypes) > 1:
        name = f"{etype[0]}_{name}_{etype[2]}"
    if name.startswith(REVERSE_PREFIX) or not name.isidentifier() or colliding({name, *names}):
        name = f"relation_{name}"
    candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(free for free in candidates if free not in names and not colliding({free, *names}))


def _edges(graph: dgl.DGLGraph, etype: EdgeType, weight: str | None = None) -> tuple[np.ndarray, ...]:
    """Source, destination and, where it is named, weight of a relation's edges."""
    ends = tuple(_array(end) for end in graph.edges(etype=etype))
    return ends if weight is None else (*ends, _array(graph.edges[etype].data[weight]).reshape(-1))


def _array(values: torch.Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()


def to_heterograph(split: Split, schema: GraphConfig | None = None) -> dgl.DGLGraph:
    """A split with its relations as one heterograph of edges as they are in the data, without reverses.

    The target relation has edge data ``train_mask``, ``val_mask`` and ``test_mask``; weighted relations have ``weight``
    (held-out interactions 1), node types with features ``feat``. Without a schema there are users and items alone.
    """
    schema = schema or GraphConfig()
    side, target = split.side or SideData(), schema.roles.target
    parts = [part.tocoo() for part in (split.train, split.valid, split.test)]
    edges = {target: (np.concatenate([part.row for part in parts]), np.concatenate([part.col for part in parts]))}
    sizes, weights = {schema.query: split.n_users, schema.ranked: split.n_items}, {}
    sizes |= {node_type: len(ids) for node_type, ids in side.ids.items()}
    for name, relation in schema.extra.items() if split.side is not None else ():
        matrix = side.relations[name].tocoo()
        etype = (str(relation.source), name, str(relation.destination))
        edges[etype] = (matrix.row, matrix.col)
        if relation.weighted:
            weights[etype] = matrix.data
    if side.weights is not None:
        train = parts[0]
        weights[target] = np.ones(len(edges[target][0]), dtype=np.float32)
        weights[target][: train.nnz] = np.asarray(side.weights[train.row, train.col]).ravel()
    ends = {etype: tuple(torch.as_tensor(e, dtype=torch.int64) for e in pair) for etype, pair in edges.items()}
    graph = dgl.heterograph(ends, num_nodes_dict=sizes)
    part_of_edge = torch.repeat_interleave(torch.arange(3), torch.tensor([part.nnz for part in parts]))
    for number, mask in enumerate(MASKS):
        graph.edges[target].data[mask] = part_of_edge == number
    for etype, values in weights.items():
        graph.edges[etype].data["weight"] = torch.as_tensor(values)
    for node_type, matrix in side.features.items():
        graph.nodes[node_type].data["feat"] = torch.as_tensor(matrix)
    return graph
