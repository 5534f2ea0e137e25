"""Relations that are odd: what is refused, what is mended, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.config.graph import GraphConfig
from c2f_dgl.config.load import parse_config, parse_graph
from c2f_dgl.data.catalogue import load_dataset
from c2f_dgl.data.columns import Origin
from c2f_dgl.data.relations import add_relations, read_side, sized
from c2f_dgl.data.side import checked_features, edge_matrix
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.graph.entities import entity_graph

TRUSTS = {"source": "user", "destination": "user"}
NAN, INF = float("nan"), float("inf")


def small() -> Split:
    """Three users and four items with ids 10, 20, 30 and a, b, c, d."""
    train = sp.csr_matrix(np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]], dtype=np.float32))
    valid = sp.csr_matrix(([1.0], ([0], [2])), shape=(3, 4), dtype=np.float32)
    test = sp.csr_matrix(([1.0], ([1], [3])), shape=(3, 4), dtype=np.float32)
    return Split("small", train, valid, test, np.array([10, 20, 30]), np.array(list("abcd"), dtype=object))


def trusting(**options: object) -> GraphConfig:
    return parse_graph({"relations": {"trusts": {**TRUSTS, **options}}})


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_edges_add_up_to_a_dense_count(seed: int, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    source, destination = rng.integers(0, 4, 20), rng.integers(0, 5, 20)
    weights = rng.integers(0, 3, 20).astype(float) if weighted else None
    dense = np.zeros((4, 5))
    for s, d, w in zip(source, destination, np.ones(20) if weights is None else weights, strict=True):
        dense[s, d] += w
    matrix, notes = edge_matrix(source, destination, weights, (np.arange(4), np.arange(5)), Origin("here"))
    np.testing.assert_allclose(matrix.toarray(), dense if weighted else dense > 0)
    assert (matrix.data > 0).all()
    assert any("merged" in note for note in notes) == (matrix.nnz < (20 if weights is None else (weights > 0).sum()))


@pytest.mark.parametrize(
    ("source", "destination", "weights", "message"),
    [
        ([], [], None, "no edges"),
        ([0, 3], [1, 1], None, "edge 1: source 3 is no node"),
        ([0, 1], [1, -1], None, "edge 1: destination -1 is no node"),
        ([0, 1], [1, 2], [0.0, 0.0], "all weights are 0"),
        ([0, 1], [1, 2], [1.0, NAN], "edge 1: weight nan"),
        ([0, 1], [1, 2], [INF, 1.0], "edge 0: weight inf"),
        ([0, 1], [1, 2], [1.0, -2.0], "edge 1: weight -2"),
        ([0, 1], [0, 1], None, "no edges but from nodes to themselves"),
        ([0, 1], [1], None, "differ in number"),
    ],
)
def test_relations_that_cannot_be_used_are_refused(source, destination, weights, message: str) -> None:  # type: ignore[no-untyped-def]
    given = (np.array(source, dtype=np.int64), np.array(destination, dtype=np.int64))
    relations = {"trusts": given if weights is None else (*given, np.array(weights))}
    with pytest.raises(InputError, match=message) as refused:
        add_relations(small(), trusting(weighted=weights is not None), relations)
    assert "relation trusts" in str(refused.value) and "\n" not in str(refused.value)


def test_what_is_mended_is_noted() -> None:
    edges = (np.array([0, 0, 1, 2, 5]), np.array([1, 1, 1, 0, 0]))
    split = add_relations(small(), trusting(unknown="drop"), {"trusts": edges})
    assert split.side is not None
    np.testing.assert_array_equal(split.side.relations["trusts"].toarray(), [[0, 1, 0], [0, 0, 0], [1, 0, 0]])
    said = "; ".join(split.notes)
    for note in ("1 edge of unknown nodes dropped", "1 edge to itself left out", "1 repeated edge merged"):
        assert note in said
    assert said in split.summary()
    assert split.fingerprint != small().fingerprint


def test_a_hub_is_kept_and_weighs_as_its_degree_says() -> None:
    n = 200
    train = sp.csr_matrix((np.ones(n, np.float32), (np.arange(n), np.arange(n) % 4)), shape=(n, 4))
    nothing = sp.csr_matrix((n, 4), dtype=np.float32)
    split = Split("hub", train, nothing, nothing, np.arange(n), np.arange(4))
    edges = {"trusts": (np.arange(1, n), np.zeros(n - 1, dtype=np.int64))}
    for normalisation in ("joint", "own"):
        schema = trusting(normalisation=normalisation)
        found = add_relations(split, schema, edges)
        assert any("destination 0 has 100 % of all edges" in note for note in found.notes)
        graph = entity_graph(found.train, found.side, schema)
        norm = graph.nodes["user"].data["norm"].numpy()
        weight = 1.0 if normalisation == "joint" else (n - 1) ** -0.5
        assert norm[0] == pytest.approx((1 + weight * (n - 1)) ** -0.5, rel=1e-5)
        assert norm[1] == pytest.approx((1 + weight) ** -0.5, rel=1e-5)


def test_a_relation_that_tells_what_is_held_out_is_noted() -> None:
    schema = parse_graph({"relations": {"viewed": {"source": "user", "destination": "item"}}})
    split = add_relations(small(), schema, {"viewed": (np.array([0, 2]), np.array([2, 0]))})
    assert "viewed: holds 50 % of the held-out pairs" in split.notes


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.tsv").write_text(text)
    return folder


def test_files_are_matched_by_id(tmp_path: Path) -> None:
    write(tmp_path, trust="10\t20\n20\t10\n30\t99\n", kinds="item\tkind\na\trock\nb\tfolk\nc\trock\n")
    schema = parse_graph(
        {
            "nodes": {"kind": {}},
            "relations": {
                "trusts": {**TRUSTS, "file": "trust.tsv", "unknown": "drop"},
                "is_a": {"source": "item", "destination": "kind", "file": "kinds.tsv"},
            },
        }
    )
    split = read_side(small(), schema, tmp_path)
    assert split.side is not None
    np.testing.assert_array_equal(split.side.relations["trusts"].toarray(), [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert list(split.side.ids["kind"]) == ["folk", "rock"]
    np.testing.assert_array_equal(split.side.relations["is_a"].toarray(), [[0, 1], [1, 0], [0, 1], [0, 0]])
    assert "trusts: 1 edge of unknown ids dropped" in split.notes
    assert sized(schema, split).nodes["kind"].size == 2
    with pytest.raises(InputError, match=r"nodes.kind: size = 5 \(expected 2"):
        sized(parse_graph({**schema.model_dump(), "nodes": {"kind": {"size": 5}}}), split)
    with pytest.raises(InputError, match="no relation 'is_a' in the data"):
        sized(schema, small())


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("10\t20\n30\t99\n", {}, r"trust.tsv, line 2: the data has no user 99 .*unknown: drop"),
        ("98\t99\n", {"unknown": "drop"}, "no edge between known nodes"),
        ("", {}, "the file is empty"),
        ("10\t20\n", {"weighted": True}, "2 columns"),
        ("10\t20\t1\n20\t30\tx\n", {"weighted": True}, "line 2: weight 'x' is not a number"),
        ("10\t20\t1\n20\t30\t-1\n", {"weighted": True}, "line 2: weight -1"),
        ("10\t20\t0\n", {"weighted": True}, "all weights are 0"),
        ("10\t20\n\t20\n", {}, "line 2: the source is missing"),
    ],
)
def test_files_that_cannot_be_used_are_refused(tmp_path: Path, text: str, options: dict, message: str) -> None:
    write(tmp_path, trust=text)
    with pytest.raises(InputError, match=message) as refused:
        read_side(small(), trusting(file="trust.tsv", **options), tmp_path)
    assert "trust.tsv" in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"trust\.tsv: no such file"):
        read_side(small(), trusting(file="trust.tsv"), tmp_path)
    with pytest.raises(InputError, match=r"graph.relations.trusts: names no file"):
        read_side(small(), trusting(), tmp_path)


def test_weights_of_interactions_are_those_of_the_training_pairs(tmp_path: Path) -> None:
    rows = "user\titem\tcount\n10\ta\t8\n10\tb\t2\n20\tb\t1\n20\tc\t1\n30\tc\t4\n10\tc\t100\n"
    schema = parse_graph({"relations": {"interacts": {"file": "counts.tsv", "weighted": True, "transform": "log"}}})
    split = read_side(small(), schema, write(tmp_path, counts=rows))
    assert split.side is not None and split.side.weights is not None
    np.testing.assert_array_equal(split.side.weights.data, [8, 2, 1, 1, 4])  # the held-out 100 is not among them
    graph = entity_graph(split.train, split.side, schema)
    expected = np.log1p([8, 2, 1, 1, 4])
    np.testing.assert_allclose(graph.edges["interacts"].data["weight"], expected / expected.mean(), rtol=1e-6)
    write(tmp_path, counts=rows.replace("20\tc\t1\n", ""))
    with pytest.raises(InputError, match="1 training interactions without a weight"):
        read_side(small(), schema, tmp_path)


def test_features_are_checked(tmp_path: Path) -> None:
    assert checked_features(np.eye(3, dtype=int), 3, "x").dtype == np.float32
    for matrix, message in (
        (np.zeros((3, 1)), "column 0 is all zeros"),
        (np.array([[1.0], [NAN], [0.0]]), "row 1, column 0 is nan"),
        (np.ones((2, 1)), r"shape \(2, 1\)"),
        (np.array([["a"]]), "expected a matrix of numbers"),
        (np.ones(3), r"shape \(3,\)"),
    ):
        with pytest.raises(InputError, match=message):
            checked_features(matrix, 3, "x")
    schema = parse_graph({"nodes": {"user": {"features": "x.npy"}}})
    np.save(tmp_path / "x.npy", np.array([[1.0, 2], [3, 4], [5, 6]]))
    split = read_side(small(), schema, tmp_path)
    assert split.side is not None
    np.testing.assert_array_equal(split.side.features["user"], [[1, 2], [3, 4], [5, 6]])
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"not a \.npy file of numbers"):
        read_side(small(), schema, tmp_path)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"relations": {"wrote": {"source": "authr", "destination": "item"}}}, r"wrote.source: no node type 'authr'"),
        ({"relations": {"wrote": {"destination": "item"}}}, r"wrote.source: is missing"),
        ({"nodes": {"user": {"size": 0}}}, r"graph.nodes.user.size: .*greater than or equal to 1"),
        ({"nodes": {"rev_user": {}}}, "'rev_user' cannot name a node type"),
        ({"relations": {"interacted_by": TRUSTS}}, "'interacted_by' cannot name a relation here: .*the reverse of"),
        ({"target": "interacted_by", "relations": {"interacts": TRUSTS}}, "'interacted_by' cannot name a relation"),
        ({"nodes": {"tag": {"m": 3}}}, "graph.nodes.tag: m is for an own codebook"),
        ({"query": "item"}, "query and ranked are both 'item'"),
        ({"relations": {"r": {**TRUSTS, "importance": -1.0}}}, "importance = -1: expected a number above 0"),
        ({"relations": {"r": {**TRUSTS, "transform": "log"}}}, "transform log needs weights"),
        ({"relations": {"r": {**TRUSTS, "strenght": 1}}}, "unknown option 'graph.relations.r.strenght'"),
        ({"relations": {"interacts": {"source": "item"}}}, "interacts.source: 'item': expected 'user'"),
        ({"relations": {"interacts": {"importance": 2.0}}}, "the target relation is symmetric and has importance 1"),
    ],
)
def test_a_schema_that_cannot_be_is_refused_with_its_field(tree: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_graph(tree)
    with pytest.raises(InputError, match=message.replace("^", "")):
        parse_config({"graph": tree}, "here")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {"graph": {"relations": {"r": {**TRUSTS, "importance": None}}}},
            "importance null needs coarse.start spectral",
        ),
        (
            {"graph": {"relations": {"r": {**TRUSTS, "importance": "learned"}}}, "model": {"engine": "collapsed"}},
            "importance learned needs message passing",
        ),
        ({"graph": {"nodes": {"fine": {}}}}, "'fine' cannot name a tier"),
        ({"graph": {"nodes": {"coarse": {}}}}, "'coarse' names a tier"),
        (
            {
                "graph": {
                    "query": "reader",
                    "target": "borrowed",
                    "ranked": "book",
                    "nodes": {"reader": {}, "book": {}},
                },
                "finer": {"item": {}},
            },
            "'item' cannot name a tier",
        ),
        ({"graph": {"nodes": {"tag": {"codebook": "own"}}}, "coarse": None, "finer": {}}, "own codebooks need tiers"),
    ],
)
def test_a_schema_and_a_model_that_do_not_go_together_are_refused(tree: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_config(tree, "here")


def test_a_plain_data_set_has_no_side() -> None:
    split = load_dataset("planted")
    assert read_side(split, GraphConfig(), Path("nowhere")) is split


def test_a_matrix_must_be_of_the_nodes_it_links() -> None:
    split = small()
    shape = (split.n_users, split.n_users)
    right = sp.csr_matrix(([1.0], ([0], [1])), shape=shape)
    assert add_relations(split, trusting(), {"trusts": right}).side is not None
    for wrong in (right[:, :-1], right[:-1], sp.vstack([right, right])):
        with pytest.raises(InputError, match=r"relation trusts: a matrix of shape .* \(expected \("):
            add_relations(split, trusting(), {"trusts": wrong.tocsr()})
