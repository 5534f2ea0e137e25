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
from c2f_dgl.data.interactions import Interactions, binary_csr
from c2f_dgl.data.relations import add_relations
from c2f_dgl.data.splits import Split, random_split
from c2f_dgl.dgl_import import dgl
from c2f_dgl.errors import InputError
from c2f_dgl.roles import REVERSE_PREFIX, EdgeType, colliding

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

    The edges of `target` are split by their boolean edge data ``train_mask``, ``val_mask`` and ``test_mask`` where
    they have them, else at random per source node. Every other relation takes part in the propagation as it is. One
    with the edges of another, or of the target, the other way round is its reverse, which is added anyway: it is left
    out, with a note. Node types that nothing links to the rest are left out too.

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
    valid, test : float
        Fractions of each source node's edges that are held out where there are no masks.
    seed : int
        Of the random split.
    name : str

    Returns
    -------
    split : Split
        Sources of the target are its users, destinations its items; external ids are DGL's node numbers.
    schema : GraphConfig
        For ``load_config(..., graph=schema)``.

    Raises
    ------
    InputError
        There is no such relation, node type or weight, the ends of the target are of one type, masks overlap or are
        incomplete, or a relation cannot be used (see `c2f_dgl.data.side.edge_matrix`).
    """
    etype = _canonical(graph, target)
    unused = _left_out(graph, [leave_out] if isinstance(leave_out, str) else leave_out)
    if weight is not None and not any(weight in graph.edges[other].data for other in graph.canonical_etypes):
        raise InputError(f"no relation has edge data {weight!r}", where="weight", expected="a name that some have")
    query, target_name, ranked = etype
    split, notes = _split(graph, etype, valid, test, seed, name), []
    taken: dict[EdgeType, csr_matrix] = {etype: _pairs(graph, etype)}
    names, relations, edges = {etype: target_name}, {}, {}
    for other in graph.canonical_etypes:
        if other == etype or other in unused:
            continue
        pairs = _pairs(graph, other)
        twin = _reverse_of(pairs, other, taken)
        if twin is not None:
            notes.append(f"{'-'.join(other)}: the reverse of {'-'.join(twin)}, left out")
            continue
        taken[other] = pairs
        names[other] = _name(graph, other, names.values())
        weighted = weight is not None and weight in graph.edges[other].data
        relations[names[other]] = {
            "source": other[0],
            "destination": other[2],
            "weighted": weighted,
            "importance": importance,
        }
        edges[names[other]] = _edges(graph, other, weight if weighted else None)
    if weight is not None and weight in graph.edges[etype].data:
        relations[target_name] = {"weighted": True}
        edges[target_name] = _edges(graph, etype, weight)
    linked = {node_type for other in taken for node_type in (other[0], other[2])}
    for node_type in graph.ntypes:
        if node_type not in linked:
            notes.append(f"{node_type}: nothing links it to the rest, left out")
    nodes = {t: {"size": graph.num_nodes(t)} for t in graph.ntypes if t in linked and t not in (query, ranked)}
    tree = {"query": query, "target": target_name, "ranked": ranked, "nodes": nodes, "relations": relations}
    schema = parse_graph(tree, name)
    columns = {node_type: _node_data(graph, node_type, key) for node_type, key in (features or {}).items()}
    if relations or columns or nodes:
        split = add_relations(split, schema, edges, features=columns)
    return replace(split, notes=(*split.notes, *notes)), schema


def to_heterograph(split: Split, schema: GraphConfig | None = None) -> dgl.DGLGraph:
    """A split with its relations as one heterograph of edges as they are in the data, without reverses.

    Parameters
    ----------
    split : Split
    schema : GraphConfig, optional
        Of its side data; users and items alone by default.

    Returns
    -------
    DGLGraph
        The target relation has edge data ``train_mask``, ``val_mask`` and ``test_mask``; weighted relations have
        ``weight`` (held-out interactions 1), node types with features ``feat``.
    """
    schema = schema or GraphConfig()
    side, target = split.side, schema.roles.target
    parts = [part.tocoo() for part in (split.train, split.valid, split.test)]
    edges = {target: tuple(np.concatenate(ends) for ends in zip(*((p.row, p.col) for p in parts), strict=True))}
    sizes = {schema.query: split.n_users, schema.ranked: split.n_items}
    weights = {}
    if side is not None:
        sizes |= {node_type: len(ids) for node_type, ids in side.ids.items()}
        for name, relation in schema.extra.items():
            coo = side.relations[name].tocoo()
            etype = (str(relation.source), name, str(relation.destination))
            edges[etype] = (coo.row, coo.col)
            if relation.weighted:
                weights[etype] = coo.data
    numbered = {etype: tuple(torch.as_tensor(e, dtype=torch.int64) for e in ends) for etype, ends in edges.items()}
    graph = dgl.heterograph(numbered, num_nodes_dict=sizes)
    part = torch.repeat_interleave(torch.arange(3), torch.tensor([p.nnz for p in parts]))
    for number, mask in enumerate(MASKS):
        graph.edges[target].data[mask] = part == number
    for etype, values in weights.items():
        graph.edges[etype].data["weight"] = torch.as_tensor(values)
    if side is not None and side.weights is not None:
        train, values = parts[0], torch.ones(graph.num_edges(target))
        values[: train.nnz] = torch.as_tensor(np.asarray(side.weights[train.row, train.col], dtype=np.float32).ravel())
        graph.edges[target].data["weight"] = values
    for node_type, matrix in ({} if side is None else side.features).items():
        graph.nodes[node_type].data["feat"] = torch.as_tensor(matrix)
    return graph


def _canonical(graph: dgl.DGLGraph, target: str | EdgeType) -> EdgeType:
    known = graph.canonical_etypes
    found = [etype for etype in known if target in (etype[1], etype)]
    if len(found) != 1:
        problem = f"no relation {target!r}" if not found else f"{len(found)} relations are called {target!r}"
        raise InputError(problem, where="target", expected=f"one of {', '.join(map(str, known))}")
    if found[0][0] == found[0][2]:
        raise InputError(f"both ends are of type {found[0][0]!r}", where="target", expected="two different node types")
    return found[0]


def _left_out(graph: dgl.DGLGraph, named: Sequence[str | EdgeType]) -> set[EdgeType]:
    """Relations by name or in full."""
    found = set()
    for one in named:
        meant = {etype for etype in graph.canonical_etypes if one in (etype[1], etype)}
        if not meant:
            known = ", ".join(map(str, graph.canonical_etypes))
            raise InputError(f"no relation {one!r}", where="leave_out", expected=f"some of {known}")
        found |= meant
    return found


def _node_data(graph: dgl.DGLGraph, node_type: str, key: str) -> np.ndarray:
    if node_type not in graph.ntypes or key not in graph.nodes[node_type].data:
        raise InputError(f"no node data {key!r} of type {node_type!r}", where="features", expected="data of the graph")
    return _array(graph.nodes[node_type].data[key])


def _split(graph: dgl.DGLGraph, etype: EdgeType, valid: float, test: float, seed: int, name: str) -> Split:
    users, items = (ends.cpu().numpy().astype(np.int64) for ends in graph.edges(etype=etype))
    user_ids, item_ids = (np.arange(graph.num_nodes(node_type)) for node_type in (etype[0], etype[2]))
    if len(users) == 0:
        raise InputError("no edges", where=f"relation {etype[1]}", expected="interactions to learn from")
    data = graph.edges[etype].data
    there = [mask for mask in MASKS if mask in data]
    if there and len(there) < len(MASKS):
        raise InputError(
            f"{' and '.join(there)} without {' and '.join(mask for mask in MASKS if mask not in data)}",
            where=f"relation {etype[1]}",
            expected="all three masks, or none for a random split",
        )
    if not there:
        pairs = Interactions.from_pairs(users, items, user_ids, item_ids)
        return random_split(pairs, seed=seed, valid=valid, test=test, name=name)
    parts: list[csr_matrix] = []
    for mask in MASKS:
        chosen = data[mask].bool().cpu().numpy()
        part = Interactions.from_pairs(users[chosen], items[chosen], user_ids, item_ids)
        parts.append(binary_csr(part.users, part.items, (part.n_users, part.n_items)))
    if (sum(parts[1:], parts[0]) > 1).nnz:
        raise InputError("the masks have pairs in common", where=f"relation {etype[1]}", expected="each pair in one")
    train, valid_part, test_part = parts
    return Split(name, train, valid_part, test_part, user_ids, item_ids)


def _pairs(graph: dgl.DGLGraph, etype: EdgeType) -> csr_matrix:
    """Which pairs a relation holds."""
    source, destination = (ends.cpu().numpy() for ends in graph.edges(etype=etype))
    shape = (graph.num_nodes(etype[0]), graph.num_nodes(etype[2]))
    matrix = csr_matrix((np.ones(len(source), dtype=bool), (source, destination)), shape=shape)
    matrix.sum_duplicates()
    return matrix


def _reverse_of(pairs: csr_matrix, etype: EdgeType, taken: Mapping[EdgeType, csr_matrix]) -> EdgeType | None:
    """The relation among `taken` that has the pairs of this one the other way round."""
    for other, matrix in taken.items():
        if (other[2], other[0]) == (etype[0], etype[2]) and matrix.nnz == pairs.nnz and (pairs != matrix.T).nnz == 0:
            return other
    return None


def _name(graph: dgl.DGLGraph, etype: EdgeType, taken: Iterable[str]) -> str:
    """A name for a relation: its own where that is an identifier that neither another nor a reverse has."""
    taken, name = set(taken), re.sub(r"\W", "_", etype[1])
    if sum(other[1] == etype[1] for other in graph.canonical_etypes) > 1:
        name = f"{etype[0]}_{name}_{etype[2]}"
    if name.startswith(REVERSE_PREFIX) or not name.isidentifier() or colliding({name, *taken}):
        name = f"relation_{name}"
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    while name in taken or colliding({name, *taken}):
        name = next(numbered)
    return name


def _edges(graph: dgl.DGLGraph, etype: EdgeType, weight: str | None) -> tuple[np.ndarray, ...]:
    ends = tuple(_array(end) for end in graph.edges(etype=etype))
    return ends if weight is None else (*ends, _array(graph.edges[etype].data[weight]).reshape(-1))


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy()
