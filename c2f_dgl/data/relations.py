"""Further relations, node types and features of a split: read from files beside the data, or given from Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, issparse

from c2f_dgl.config.graph import GraphConfig, RelationConfig
from c2f_dgl.data.columns import Origin, counted, index_ids, numbers
from c2f_dgl.data.ids import IdMap
from c2f_dgl.data.interactions import Entries
from c2f_dgl.data.packing import reading
from c2f_dgl.data.readers import read_leading
from c2f_dgl.data.side import SideData, checked_features, edge_matrix
from c2f_dgl.data.splits import Split, align_ids
from c2f_dgl.errors import InputError

# A relation between the two types of the target that holds at least this share of the held-out pairs gets a note.
_LEAK_SHARE = 0.05

Edges: TypeAlias = "csr_matrix | tuple[Any, ...]"


@dataclass(frozen=True)
class _Edges:
    """Edges of a relation, and where they stand."""

    ends: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]  # indices of sources and destinations
    weights: np.ndarray | None
    origin: Origin
    shape: tuple[int, int] | None = None  # of the matrix they came as
    ids: tuple[np.ndarray, ...] = ()  # of a file: external ids of either end's indices


def read_side(split: Split, graph: GraphConfig, folder: Path) -> Split:
    """`split` with what its schema names: relations and features from files, whose names are relative to `folder`.

    Ids of a further node type are those that its relations' files have. Ids of users and items are those of the split.
    """
    if not graph.nodes and not graph.relations:
        return split
    files = {name: _read(name, relation, folder) for name, relation in graph.relations.items()}
    ids = {graph.query: split.user_ids, graph.ranked: split.item_ids}
    for node_type in graph.roles.others:
        ids[node_type], _ = align_ids([files[name].ids[end] for name, end in _reaching(graph, node_type, files)])
    edges = {name: _by_index(graph, name, file, ids) for name, file in files.items()}
    features = {
        node_type: _load_features(folder / node.features, len(ids[node_type]))
        for node_type, node in graph.nodes.items()
        if node.features is not None
    }
    return _with_side(split, graph, edges, ids, features)


def _read(name: str, relation: RelationConfig, folder: Path) -> _Edges:
    if relation.file is None:
        expected = "file, or edges from Python (add_relations)"
        raise InputError("names no file", where=f"graph.relations.{name}", expected=expected)
    roles = ["source", "destination", *(["weight"] if relation.weighted else [])]
    table, origin = read_leading(folder / relation.file, roles)
    sources, source_ids = index_ids(table["source"], "source", origin)
    destinations, destination_ids = index_ids(table["destination"], "destination", origin)
    weights = numbers(table["weight"], "weight", origin) if relation.weighted else None
    return _Edges((sources, destinations), weights, origin, ids=(source_ids, destination_ids))


def _by_index(graph: GraphConfig, name: str, file: _Edges, ids: Mapping[str, np.ndarray]) -> _Edges:
    """The edges of a file by node index, -1 for an unknown id; which is refused, where the schema says so."""
    types, ends = _ends(graph, name), []
    for node_type, codes, own_ids in zip(types, file.ends, file.ids, strict=True):
        ends.append(IdMap(ids[node_type], node_type).find(own_ids)[codes])
    unknown = (ends[0] < 0) | (ends[1] < 0)
    if unknown.any() and name != graph.target and graph.relations[name].unknown == "error":
        row = int(np.argmax(unknown))
        end = 0 if ends[0][row] < 0 else 1
        external_id = file.ids[end][file.ends[end][row]]
        problem = f"the data has no {types[end]} {external_id!s} ({int(unknown.sum()):,} such edges)"
        raise file.origin.error(row, problem, f"known ids, or unknown: drop in graph.relations.{name}")
    return replace(file, ends=(ends[0], ends[1]))


def _load_features(path: Path, n_nodes: int) -> np.ndarray:
    with reading(path, "a .npy file of numbers"):
        features = np.load(path, allow_pickle=False)
    if not isinstance(features, np.ndarray):
        raise InputError("an archive of arrays", where=path, expected="numpy.save of a matrix")
    return checked_features(features, n_nodes, path)


def add_relations(
    split: Split,
    graph: GraphConfig,
    relations: Mapping[str, Edges] | None = None,
    *,
    features: Mapping[str, np.ndarray] | None = None,
    ids: Mapping[str, np.ndarray] | None = None,
) -> Split:
    """`split` with the relations and features of a schema given as arrays.

    Parameters
    ----------
    split : Split
        Its users and items are the query and the ranked type.
    graph : GraphConfig
        Says between which node types each relation is.
    relations : mapping of str to csr_matrix or tuple
        By name: a matrix (n_source, n_destination) of weights, or arrays (source, destination) or (source,
        destination, weight) of node indices. Weights count where the schema says ``weighted``.
    features : mapping of str to array, shape (n_nodes, width)
        By node type.
    ids : mapping of str to array
        External ids of further node types. By default the numbers up to the largest in any relation, or
        ``graph.nodes[...].size``.
    """
    relations, features, ids = dict(relations or {}), dict(features or {}), dict(ids or {})
    _same_names("relation", set(graph.relations), set(relations), allowed=set(graph.relations))
    _same_names("feature matrix", set(), set(features), allowed=set(graph.roles.entities))
    edges = {name: _edge_list(name, given, graph.relations[name].weighted) for name, given in relations.items()}
    all_ids = {graph.query: split.user_ids, graph.ranked: split.item_ids}
    for node_type in graph.roles.others:
        if node_type in ids:
            all_ids[node_type] = np.asarray(ids[node_type])
        else:
            all_ids[node_type] = np.arange(_size(graph, node_type, edges, features))
    for name, table in edges.items():
        source, destination = _ends(graph, name)
        shape = (len(all_ids[source]), len(all_ids[destination]))
        if table.shape not in (None, shape):
            raise InputError(f"a matrix of shape {table.shape}", where=f"relation {name}", expected=f"{shape}")
    checked = {
        node_type: checked_features(np.asarray(matrix), len(all_ids[node_type]), f"features of {node_type}")
        for node_type, matrix in features.items()
    }
    return _with_side(split, graph, edges, all_ids, checked)


def _edge_list(name: str, edges: Edges, weighted: bool) -> _Edges:
    where, shape = f"relation {name}", None
    if issparse(edges):
        coo = csr_matrix(edges).tocoo()
        shape = coo.shape
        arrays: tuple[Any, ...] = (coo.row, coo.col, coo.data)
    else:
        arrays = tuple(np.asarray(part) for part in edges)
    if len(arrays) not in (2, 3) or any(part.ndim != 1 for part in arrays):
        raise InputError("not edges", where=where, expected="a sparse matrix, or two or three arrays")
    if len({len(part) for part in arrays}) > 1:
        raise InputError("sources, destinations and weights differ in number", where=where, expected="as many")
    for part in arrays[:2]:
        if part.dtype.kind not in "iu" and len(part):
            raise InputError(f"node indices are {part.dtype}", where=where, expected="whole numbers")
    if weighted and len(arrays) == 2:
        raise InputError("no weights", where=where, expected="them as third array, or weighted: false")
    ends = arrays[0].astype(np.int64), arrays[1].astype(np.int64)
    return _Edges(ends, arrays[2] if weighted else None, Origin(where, unit="edge"), shape)


def _size(graph: GraphConfig, node_type: str, edges: Mapping[str, _Edges], features: Mapping[str, Any]) -> int:
    """How many nodes of a further type there are."""
    stated = graph.node(node_type).size
    if stated is not None:
        return stated
    if node_type in features:
        return len(features[node_type])
    sizes = []
    for name, end in _reaching(graph, node_type, edges):
        shape, indices = edges[name].shape, edges[name].ends[end]
        sizes.append(int(indices.max(initial=-1)) + 1 if shape is None else shape[end])
    return max(sizes)


def _reaching(graph: GraphConfig, node_type: str, names: Iterable[str]) -> list[tuple[str, int]]:
    """Relations among `names` that have a node type at their end 0 or 1; refused where none has."""
    reaching = [(name, end) for name in names for end in (0, 1) if _ends(graph, name)[end] == node_type]
    if not reaching:
        raise InputError("no relation reaches it", where=f"graph.nodes.{node_type}", expected="one that does")
    return reaching


def _ends(graph: GraphConfig, name: str) -> tuple[str, str]:
    """Node types of a relation's sources and destinations."""
    if name == graph.target:
        return graph.query, graph.ranked
    relation = graph.relations[name]
    assert relation.source is not None and relation.destination is not None, "validated by GraphConfig"
    return relation.source, relation.destination


def _same_names(noun: str, wanted: set[str], names: set[str], *, allowed: set[str]) -> None:
    if missing := sorted(wanted - names):
        raise InputError(f"no {noun} {missing[0]!r} in the data", where="graph", expected="all that the schema names")
    if strange := sorted(names - allowed):
        expected = ", ".join(sorted(allowed)) or "none"
        raise InputError(f"a {noun} {strange[0]!r} that the schema does not name", where="graph", expected=expected)


def _with_side(
    split: Split,
    graph: GraphConfig,
    edges: Mapping[str, _Edges],
    ids: Mapping[str, np.ndarray],
    features: Mapping[str, np.ndarray],
) -> Split:
    """`split` with matrices of the edges between known nodes, of the target those that are training interactions."""
    relations, weights, notes = {}, None, list(split.notes)
    for name, table in edges.items():
        types, (source, destination) = _ends(graph, name), table.ends
        nodes = ids[types[0]], ids[types[1]]
        known = (source >= 0) & (source < len(nodes[0])) & (destination >= 0) & (destination < len(nodes[1]))
        if name == graph.target:
            train = Entries(split.train)
            known &= train.hold(train.key(source, destination))
        elif graph.relations[name].unknown == "error":
            known[:] = True  # `edge_matrix` refuses the others
        elif n := int((~known).sum()):
            noun = "ids" if table.ids else "nodes"
            notes.append(f"{name}: {counted(n, 'edge', f'of unknown {noun} dropped')}")
        if len(known) and not known.any():
            raise InputError("no edge between known nodes", where=table.origin.where, expected="ids of the data")
        matrix, mended = edge_matrix(
            source[known],
            destination[known],
            None if table.weights is None else table.weights[known],
            nodes,
            table.origin.of(np.flatnonzero(known).__getitem__),
            loops=types[0] != types[1],
        )
        if name == graph.target:
            weights = _training_weights(split.train, matrix, name) if graph.relations[name].weighted else None
            continue
        relations[name] = matrix
        notes += [f"{name}: {note}" for note in (*mended, *_leaks(split, matrix, types, graph))]
    further = {node_type: ids[node_type] for node_type in graph.roles.others}
    return replace(split, side=SideData(relations, weights, further, dict(features)), notes=tuple(notes))


def _training_weights(train: csr_matrix, matrix: csr_matrix, name: str) -> csr_matrix:
    """Weights of the training interactions."""
    weights = matrix.multiply(train).tocsr()
    weights.sort_indices()
    if weights.nnz != train.nnz:
        problem = f"{train.nnz - weights.nnz:,} training interactions without a weight above 0"
        raise InputError(problem, where=f"relation {name}", expected="one for each")
    return weights


def _leaks(split: Split, matrix: csr_matrix, ends: tuple[str, str], graph: GraphConfig) -> list[str]:
    """A note where a relation tells what is to be found out."""
    if ends == (graph.ranked, graph.query):
        matrix = matrix.T.tocsr()
    elif ends != (graph.query, graph.ranked):
        return []
    held_out = split.valid + split.test
    share = held_out.multiply(matrix > 0).nnz / max(held_out.nnz, 1)
    return [f"holds {100 * share:.0f} % of the held-out pairs"] if share >= _LEAK_SHARE else []


def sized(graph: GraphConfig, split: Split) -> GraphConfig:
    """The schema with the sizes and feature widths that the data has; refused where it states others."""
    side = split.side or SideData()
    _same_names("relation", set(graph.extra), set(side.relations), allowed=set(graph.extra))
    target = graph.relations.get(graph.target)
    if target is not None and target.weighted and side.weights is None:
        where = f"graph.relations.{graph.target}"
        raise InputError("the interactions have no weights", where=where, expected="weighted: false")
    sizes = {graph.query: split.n_users, graph.ranked: split.n_items}
    sizes |= {node_type: len(ids) for node_type, ids in side.ids.items()}
    nodes = {}
    for node_type in dict.fromkeys((*graph.nodes, *side.features)):
        node, where = graph.node(node_type), f"graph.nodes.{node_type}"
        if node_type not in sizes:
            raise InputError(f"the data has no nodes of type {node_type!r}", where=where)
        size, features = sizes[node_type], side.features.get(node_type)
        width = None if features is None else features.shape[1]
        for key, stated, actual in (("size", node.size, size), ("width", node.width, width)):
            if stated not in (None, actual):
                raise InputError(f"{key} = {stated}", where=where, expected=f"{actual}, as the data has")
        m = max(1, size // 10, node.t or 0) if node.codebook == "own" and node.m is None else node.m
        nodes[node_type] = node.model_copy(update={"size": size, "width": width, "m": m})
    return graph.model_copy(update={"nodes": nodes})
