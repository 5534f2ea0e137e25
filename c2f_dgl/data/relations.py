"""Further relations, node types and features of a split: read from files beside the data, or given from Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, issparse

from c2f_dgl.config.graph import GraphConfig, RelationConfig
from c2f_dgl.data.columns import Place, index_ids, numbers
from c2f_dgl.data.readers import read_leading
from c2f_dgl.data.side import SideData, checked_features, edge_matrix
from c2f_dgl.data.splits import Split, align_ids
from c2f_dgl.entries import Entries
from c2f_dgl.errors import InputError
from c2f_dgl.ids import IdMap

# A relation between the two types of the target that holds at least this share of the held-out pairs gets a note.
_LEAK_SHARE = 0.05

Edges: TypeAlias = "csr_matrix | tuple[Any, ...]"


def read_side(split: Split, graph: GraphConfig, folder: Path) -> Split:
    """`split` with what its schema names: relations and features from files in `folder`.

    Ids of a further node type are those that its relations' files have. Ids of users and items are those of the split.

    Parameters
    ----------
    split : Split
    graph : GraphConfig
    folder : Path
        What file names are relative to.

    Raises
    ------
    InputError
        A relation or a type has no file, a file cannot be read or is damaged, or see `edge_matrix`.
    """
    if not graph.nodes and not graph.relations:
        return split
    tables = {name: _read(name, relation, folder) for name, relation in graph.relations.items()}
    ids = _all_ids(split, graph, tables)
    notes: list[str] = []
    edges = {}
    for name, relation in graph.relations.items():
        table = tables[name]
        ends = _ends(graph, name, relation)
        places = [
            IdMap(ids[node_type], node_type).find(end_ids) for end_ids, node_type in zip(table.ids, ends, strict=True)
        ]
        source, destination = (place[codes] for place, codes in zip(places, table.codes, strict=True))
        known = (source >= 0) & (destination >= 0)
        if name == graph.target:
            known &= _in_matrix(split.train, source, destination)
        elif not known.all():
            _unknown_ids(relation, table, ends, known, (source, destination), notes, name)
        if not known.any():
            raise InputError("no edge between known nodes", where=table.place.where, expected="ids of the data")
        weights = None if table.weights is None else table.weights[known]
        edges[name] = _Table(source[known], destination[known], weights, table.place, np.flatnonzero(known))
    features = {
        node_type: _load_features(folder / node.features, len(ids[node_type]))
        for node_type, node in graph.nodes.items()
        if node.features is not None
    }
    further = {node_type: ids[node_type] for node_type in graph.roles.others}
    return _assembled(split, graph, edges, further, features, notes)


def add_relations(
    split: Split,
    graph: GraphConfig,
    relations: Mapping[str, Edges] | None = None,
    *,
    features: Mapping[str, np.ndarray] | None = None,
    ids: Mapping[str, np.ndarray] | None = None,
) -> Split:
    """`split` with relations and features given as arrays.

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

    Returns
    -------
    Split

    Raises
    ------
    InputError
        A relation of the schema is missing or another one is given, sizes disagree, or see `edge_matrix`.
    """
    relations, features = dict(relations or {}), dict(features or {})
    _same_names("relation", set(graph.relations), set(relations), allowed=set(graph.relations))
    _same_names("feature matrix", set(), set(features), allowed=set(graph.roles.entities))
    tables = {name: _table_of(name, edges) for name, edges in relations.items()}
    notes: list[str] = []
    sizes = {graph.query: split.n_users, graph.ranked: split.n_items}
    further = {}
    for node_type in graph.roles.others:
        given = (ids or {}).get(node_type)
        further[node_type] = (
            np.arange(_size(graph, node_type, tables, features)) if given is None else np.asarray(given)
        )
        sizes[node_type] = len(further[node_type])
    kept = {}
    for name, table in tables.items():
        relation, known = graph.relations[name], np.ones(len(table.source), dtype=bool)
        ends = _ends(graph, name, relation)
        expected = (sizes[ends[0]], sizes[ends[1]])
        if table.shape not in (None, expected):
            raise InputError(f"a matrix of shape {table.shape}", where=f"relation {name}", expected=f"{expected}")
        if name == graph.target:
            known = _in_matrix(split.train, table.source, table.destination)
        elif relation.unknown == "drop":
            for values, node_type in zip((table.source, table.destination), ends, strict=True):
                known &= (values >= 0) & (values < sizes[node_type])
            if not known.all():
                notes.append(f"{name}: {int((~known).sum()):,} edges of unknown nodes dropped")
        weights = table.weights if relation.weighted else None
        if relation.weighted and weights is None:
            raise InputError("no weights", where=f"relation {name}", expected="them as third array, or weighted: false")
        kept[name] = _Table(
            table.source[known],
            table.destination[known],
            None if weights is None else weights[known],
            table.place,
            np.flatnonzero(known),
        )
    checked = {
        node_type: checked_features(np.asarray(matrix), sizes[node_type], f"features of {node_type}")
        for node_type, matrix in features.items()
    }
    return _assembled(split, graph, kept, further, checked, notes)


def sized(graph: GraphConfig, split: Split) -> GraphConfig:
    """The schema with the sizes and feature widths that the data has.

    Raises
    ------
    InputError
        It states others, or names relations or weights that the data lacks.
    """
    side = split.side or SideData()
    _same_names("relation", set(graph.extra), set(side.relations), allowed=set(graph.extra))
    target = graph.relations.get(graph.target)
    if target is not None and target.weighted and side.weights is None:
        raise InputError(
            "the interactions have no weights", where=f"graph.relations.{graph.target}", expected="weighted: false"
        )
    found = {graph.query: split.n_users, graph.ranked: split.n_items} | {
        name: len(ids) for name, ids in side.ids.items()
    }
    nodes = {}
    for node_type in dict.fromkeys((*graph.nodes, *side.features)):
        node = graph.node(node_type)
        if node_type not in found:
            raise InputError(f"the data has no nodes of type {node_type!r}", where=f"graph.nodes.{node_type}")
        features = side.features.get(node_type)
        width = None if features is None else features.shape[1]
        for key, value in (("size", found[node_type]), ("width", width)):
            stated = getattr(node, key)
            if stated is not None and stated != value:
                raise InputError(
                    f"{key} = {stated}", where=f"graph.nodes.{node_type}", expected=f"{value}, as the data has"
                )
        m = max(1, found[node_type] // 10, node.t or 0) if node.codebook == "own" and node.m is None else node.m
        nodes[node_type] = node.model_copy(update={"size": found[node_type], "width": width, "m": m})
    return graph.model_copy(update={"nodes": nodes})


@dataclass(frozen=True)
class _Table:
    """Edges by node index, and where they stand."""

    source: npt.NDArray[np.int64]
    destination: npt.NDArray[np.int64]
    weights: np.ndarray | None
    place: Place
    rows: npt.NDArray[np.int64]
    shape: tuple[int, int] | None = None  # of the matrix they came as


@dataclass(frozen=True)
class _File:
    """Edges of a file: codes of the distinct ids of either end."""

    codes: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    ids: tuple[np.ndarray, np.ndarray]
    weights: np.ndarray | None
    place: Place


def _read(name: str, relation: RelationConfig, folder: Path) -> _File:
    if relation.file is None:
        raise InputError(
            "names no file", where=f"graph.relations.{name}", expected="file, or edges from Python (add_relations)"
        )
    roles = ["source", "destination", *(["weight"] if relation.weighted else [])]
    table, place = read_leading(folder / relation.file, roles)
    coded = [index_ids(table[role], role, place) for role in roles[:2]]
    weights = numbers(table["weight"], "weight", place) if relation.weighted else None
    return _File((coded[0][0], coded[1][0]), (coded[0][1], coded[1][1]), weights, place)


def _ends(graph: GraphConfig, name: str, relation: RelationConfig) -> tuple[str, str]:
    if name == graph.target:
        return graph.query, graph.ranked
    if relation.source is None or relation.destination is None:
        raise ValueError(f"relation {name} is not validated")
    return relation.source, relation.destination


def _all_ids(split: Split, graph: GraphConfig, tables: Mapping[str, _File]) -> dict[str, np.ndarray]:
    """External ids of every entity type."""
    ids = {graph.query: split.user_ids, graph.ranked: split.item_ids}
    for node_type in graph.roles.others:
        seen = [
            end_ids
            for name, table in tables.items()
            for end_ids, end in zip(table.ids, _ends(graph, name, graph.relations[name]), strict=True)
            if end == node_type
        ]
        if not seen:
            raise InputError("no relation reaches it", where=f"graph.nodes.{node_type}", expected="one that does")
        ids[node_type], _ = align_ids(seen)
    return ids


def _unknown_ids(
    relation: RelationConfig,
    table: _File,
    ends: tuple[str, str],
    known: np.ndarray,
    found: tuple[np.ndarray, np.ndarray],
    notes: list[str],
    name: str,
) -> None:
    """Refuse edges of ids that the data lacks, or note that they are dropped."""
    n = int((~known).sum())
    if relation.unknown == "drop":
        notes.append(f"{name}: {n:,} edge{'s' if n > 1 else ''} of unknown ids dropped")
        return
    row = int(np.argmin(known))
    end = 0 if found[0][row] < 0 else 1
    raise table.place.error(
        row,
        f"the data has no {ends[end]} {table.ids[end][table.codes[end][row]]!s} ({n:,} such edges)",
        f"known ids, or unknown: drop in graph.relations.{name}",
    )


def _in_matrix(matrix: csr_matrix, rows: np.ndarray, columns: np.ndarray) -> npt.NDArray[np.bool_]:
    """Which pairs are entries of a sorted matrix; pairs outside its shape are not."""
    inside = (rows >= 0) & (rows < matrix.shape[0]) & (columns >= 0) & (columns < matrix.shape[1])
    entries = Entries(matrix)
    return inside & entries.hold(entries.key(rows, columns))


def _table_of(name: str, edges: Edges) -> _Table:
    where, shape = Place(f"relation {name}"), None
    if issparse(edges):
        coo = csr_matrix(edges).tocoo()
        shape = coo.shape
        arrays: tuple[Any, ...] = (coo.row, coo.col, coo.data)
    else:
        arrays = tuple(np.asarray(part) for part in edges)
    if len(arrays) not in (2, 3) or any(part.ndim != 1 for part in arrays):
        raise InputError("not edges", where=where.where, expected="a sparse matrix, or two or three arrays")
    if len({len(part) for part in arrays}) > 1:
        raise InputError("sources, destinations and weights differ in number", where=where.where, expected="as many")
    for part in arrays[:2]:
        if part.dtype.kind not in "iu" and len(part):
            raise InputError(f"node indices are {part.dtype}", where=where.where, expected="whole numbers")
    source, destination = (part.astype(np.int64) for part in arrays[:2])
    weights = arrays[2] if len(arrays) == 3 else None
    return _Table(source, destination, weights, where, np.arange(len(source)), shape)


def _size(graph: GraphConfig, node_type: str, tables: Mapping[str, _Table], features: Mapping[str, np.ndarray]) -> int:
    stated = graph.node(node_type).size
    if stated is not None:
        return stated
    if node_type in features:
        return len(features[node_type])
    found = [
        int(values.max(initial=-1)) + 1 if table.shape is None else table.shape[place]
        for name, table in tables.items()
        for place, (values, end) in enumerate(
            zip((table.source, table.destination), _ends(graph, name, graph.relations[name]), strict=True)
        )
        if end == node_type
    ]
    if not found:
        raise InputError("no relation reaches it", where=f"graph.nodes.{node_type}", expected="one that does")
    return max(found)


def _same_names(what: str, wanted: set[str], given: set[str], *, allowed: set[str]) -> None:
    if missing := sorted(wanted - given):
        raise InputError(f"no {what} {missing[0]!r} in the data", where="graph", expected="all that the schema names")
    if strange := sorted(given - allowed):
        expected = ", ".join(sorted(allowed)) or "none"
        raise InputError(f"a {what} {strange[0]!r} that the schema does not name", where="graph", expected=expected)


def _assembled(
    split: Split,
    graph: GraphConfig,
    edges: Mapping[str, _Table],
    ids: Mapping[str, np.ndarray],
    features: Mapping[str, np.ndarray],
    notes: list[str],
) -> Split:
    known = {graph.query: split.user_ids, graph.ranked: split.item_ids, **ids}
    relations, weights = {}, None
    for name, table in edges.items():
        source, destination = _ends(graph, name, graph.relations[name])
        line_of = table.place.line_of
        matrix, said = edge_matrix(
            table.source,
            table.destination,
            table.weights,
            (len(known[source]), len(known[destination])),
            where=table.place.where if line_of is not None else f"relation {name}",
            loops=source != destination,
            line_of=None if line_of is None else lambda at, t=table, f=line_of: f(int(t.rows[at])),  # type: ignore[misc]
            ids=(known[source], known[destination]),
        )
        if name == graph.target:
            weights = _weights_of(split.train, matrix, name) if graph.relations[name].weighted else None
            continue
        notes += [f"{name}: {note}" for note in said]
        relations[name] = matrix
        notes += _leaks(split, name, matrix, (source, destination), graph)
    side = SideData(relations, weights, dict(ids), dict(features))
    return replace(split, side=side, notes=(*split.notes, *notes))


def _weights_of(train: csr_matrix, given: csr_matrix, name: str) -> csr_matrix:
    """Weights of the training interactions."""
    found = given.multiply(train).tocsr()
    found.sort_indices()
    if found.nnz != train.nnz:
        raise InputError(
            f"{train.nnz - found.nnz:,} training interactions without a weight above 0",
            where=f"relation {name}",
            expected="one for each",
        )
    return found


def _leaks(split: Split, name: str, matrix: csr_matrix, ends: tuple[str, str], graph: GraphConfig) -> list[str]:
    """A note where a relation tells what is to be found out."""
    if ends == (graph.ranked, graph.query):
        matrix = matrix.T.tocsr()
    elif ends != (graph.query, graph.ranked):
        return []
    held_out = split.valid + split.test
    share = held_out.multiply(matrix > 0).nnz / max(held_out.nnz, 1)
    if share < _LEAK_SHARE:
        return []
    return [f"{name}: holds {100 * share:.0f} % of the held-out pairs"]


def _load_features(path: Path, n_nodes: int) -> np.ndarray:
    try:
        features = np.load(path, allow_pickle=False)
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror or error}", where=path, expected="a .npy file") from error
    except (ValueError, EOFError) as error:
        raise InputError("not a .npy file of numbers", where=path, expected="numpy.save of a matrix") from error
    if not isinstance(features, np.ndarray):
        raise InputError("an archive of arrays", where=path, expected="numpy.save of a matrix")
    return checked_features(features, n_nodes, path)
