"""Graphs with further relations and node types against a dense float64 transcription."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from c2f_dgl.config.graph import GraphConfig
from c2f_dgl.config.roles import reverse
from c2f_dgl.data.side import SideData
from c2f_dgl.engines import Collapsed, MessagePassing, Propagation, RelationImportance, make_engine
from c2f_dgl.graph.entities import entity_graph, etypes_of, importance_factors
from c2f_dgl.graph.hetero import entity_layout, in_float64, reweighted
from c2f_dgl.tiers.spectral import graph_codebook, ritz_codebook
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding
from tests import dense
from tests.strategies import FLOAT, draw_assignment

TYPES = ("reader", "book", "author")
# Weights and D^(-1/2) are formed in float32 where a graph is built.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


@dataclass(frozen=True)
class Library:
    """Readers, books, authors; who borrows, follows (both ways), recommends (one way), wrote what (weighted)."""

    borrowed: np.ndarray
    follows: np.ndarray
    wrote: np.ndarray
    recommends: np.ndarray
    layers: int
    importance: float
    own: bool
    seed: int

    @property
    def schema(self) -> GraphConfig:
        normalisation = "own" if self.own else "joint"
        return GraphConfig.model_validate(
            {
                "query": "reader",
                "target": "borrowed",
                "ranked": "book",
                "nodes": {"author": {}},
                "relations": {
                    "follows": {"source": "reader", "destination": "reader", "importance": self.importance},
                    "wrote": {
                        "source": "author",
                        "destination": "book",
                        "weighted": True,
                        "transform": "log",
                        "normalisation": normalisation,
                    },
                    "recommends": {"source": "author", "destination": "book", "symmetric": False},
                },
            }
        )

    @property
    def side(self) -> SideData:
        relations = {name: sp.csr_matrix(getattr(self, name)) for name in ("follows", "wrote", "recommends")}
        return SideData(
            {k: v.astype(np.float32) for k, v in relations.items()}, ids={"author": np.arange(len(self.wrote))}
        )

    def graph(self):
        return in_float64(entity_graph(sp.csr_matrix(self.borrowed), self.side, self.schema))

    def dense(self, factor: float | None = None) -> np.ndarray:
        """A, rows receive; readers, books, authors."""
        n_readers, n_books = self.borrowed.shape
        n_authors = len(self.wrote)
        readers, books = slice(0, n_readers), slice(n_readers, n_readers + n_books)
        authors = slice(n_readers + n_books, n_readers + n_books + n_authors)
        a = np.zeros((authors.stop, authors.stop))
        a[readers, books], a[books, readers] = self.borrowed, self.borrowed.T
        a[readers, readers] += np.maximum(self.follows, self.follows.T) * (
            self.importance if factor is None else factor
        )
        wrote = np.log1p(self.wrote)
        wrote /= wrote[wrote > 0].mean()
        if self.own:
            rows, columns = wrote.sum(axis=1), wrote.sum(axis=0)
            wrote = wrote / np.sqrt(np.where(rows > 0, rows, 1)[:, None] * np.where(columns > 0, columns, 1))
        a[authors, books] += wrote
        a[books, authors] += wrote.T
        a[books, authors] += self.recommends.T
        return a


@st.composite
def libraries(draw: st.DrawFn) -> Library:
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    n_readers, n_books, n_authors = draw(st.integers(2, 6)), draw(st.integers(2, 7)), draw(st.integers(1, 4))
    share = draw(st.sampled_from([0.2, 0.6]))

    def some(rows: int, columns: int) -> np.ndarray:
        found = (rng.random((rows, columns)) < share).astype(float)
        found[0, -1] = 1.0
        return found

    follows = some(n_readers, n_readers)
    np.fill_diagonal(follows, 0)
    return Library(
        borrowed=some(n_readers, n_books),
        follows=follows,
        wrote=(some(n_authors, n_books) * rng.integers(1, 50, (n_authors, n_books))).astype(float),
        recommends=some(n_authors, n_books),
        layers=draw(st.integers(0, 4)),
        importance=draw(st.sampled_from([0.1, 1.0, 5.0])),
        own=draw(st.booleans()),
        seed=seed,
    )


def model_of(case: Library) -> tuple[TieredEmbedding, np.ndarray, np.ndarray]:
    """An embedding with a tier and features of books; its H(0) over entities and meta nodes; S."""
    rng = np.random.default_rng(case.seed)
    n = sum(case.borrowed.shape) + len(case.wrote)
    s = draw_assignment(rng, n, 4, 2)
    x, e = rng.normal(size=(case.borrowed.shape[1], 3)), rng.normal(size=(4 + 3, 2))
    layout = entity_layout(case.graph(), case.schema.roles)
    tier = Tier("coarse", torch.as_tensor(e), type(s)(s.indices, s.weights, 7))
    embedding = TieredEmbedding(layout, [tier], columns={"book": torch.as_tensor(x)})
    dense_s = np.zeros((n, 7))
    dense_s[:, :4] = s.dense().numpy()
    h0 = dense_s @ e
    h0[layout.rows("book")] += x @ e[4:]
    return embedding, np.vstack([h0, e]), dense_s


def expected(case: Library, h0: np.ndarray, s: np.ndarray, factor: float | None = None) -> np.ndarray:
    return dense.propagated(dense.expanded(case.dense(factor), s), h0, case.layers)


@pytest.mark.parametrize("kernel", ["csr", "dgl"])
@pytest.mark.parametrize("engine", [Collapsed, MessagePassing])
@settings(max_examples=12)
@given(libraries())
def test_every_engine_and_kernel_propagates_over_all_relations(engine: type, kernel: str, case: Library) -> None:
    embedding, h0, s = model_of(case)
    built = engine(embedding, Propagation(case.layers, kernel=kernel))
    built.rebuild(embedding.link(case.graph()))
    features = built.all_nodes()
    found = np.vstack([features[name].numpy() for name in (*TYPES, "coarse")])
    np.testing.assert_allclose(found, expected(case, h0, s), **TOLERANCE)
    rows = torch.arange(embedding.layout.total).flip(0)
    np.testing.assert_allclose(built.entities(rows).detach(), expected(case, h0, s)[rows], **TOLERANCE)
    weights = torch.arange(1.0, len(rows) + 1, dtype=FLOAT)
    squares = weights.numpy() @ np.square(h0[rows]).sum(axis=1)
    np.testing.assert_allclose(embedding.sum_of_squares(rows, weights).detach(), squares, **TOLERANCE)


@pytest.mark.parametrize("kernel", ["auto", "dgl"])
@settings(max_examples=12)
@given(libraries())
def test_a_learned_importance_has_the_gradient_of_the_dense_equations(kernel: str, case: Library) -> None:
    schema = case.schema
    loose = schema.model_copy(
        update={
            "relations": {
                **schema.relations,
                "follows": schema.relations["follows"].model_copy(update={"importance": "learned"}),
            }
        }
    )
    graph = in_float64(entity_graph(sp.csr_matrix(case.borrowed), case.side, loose))
    importance = RelationImportance({etypes_of(loose, "follows")[0]: case.importance}).double()
    embedding, h0, s = model_of(case)
    propagation = Propagation(case.layers, kernel=kernel, importance=importance)
    with pytest.raises(ValueError, match="message_passing"):
        make_engine("collapsed", embedding, propagation)
    engine = make_engine("auto", embedding, propagation)
    assert isinstance(engine, MessagePassing)
    engine.rebuild(embedding.link(graph))
    n = embedding.layout.total
    h = engine.entities(torch.arange(n))
    np.testing.assert_allclose(h.detach(), expected(case, h0, s)[:n], **TOLERANCE)
    weight = torch.as_tensor(np.random.default_rng(case.seed).normal(size=h.shape))
    (gradient,) = torch.autograd.grad((h * weight).sum(), importance.log_factor, materialize_grads=True)
    step = 1e-5
    above, below = (
        (expected(case, h0, s, case.importance * np.exp(sign * step))[:n] * weight.numpy()).sum() for sign in (1, -1)
    )
    np.testing.assert_allclose(float(gradient), (above - below) / (2 * step), rtol=1e-4, atol=1e-5)


@given(libraries(), st.sampled_from([0.0, 0.5, 3.0]))
def test_a_chosen_importance_is_as_good_as_a_given_one(case: Library, factor: float) -> None:
    graph = entity_graph(sp.csr_matrix(case.borrowed), case.side, case.schema)
    changed = reweighted(graph, importance_factors(case.schema, {"follows": factor / case.importance}))
    degree = case.dense(factor).sum(axis=1)[: len(case.borrowed)]
    expected_norm = np.where(degree > 0, np.maximum(degree, 1e-30), np.inf) ** -0.5
    np.testing.assert_allclose(changed.nodes["reader"].data["norm"], expected_norm, **TOLERANCE)
    borrowed = ("reader", "borrowed", "book")
    assert changed.edges[borrowed].data["weight"] is graph.edges[borrowed].data["weight"]


@given(libraries())
def test_propagation_never_grows(case: Library) -> None:
    values = np.linalg.eigvals(dense.normalised(case.dense()))
    assert np.abs(values).max() <= 1 + 1e-9


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_both_codebooks_score_alike_on_a_bipartite_graph(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    r = (rng.random((9, 8)) < 0.5).astype(float)
    r[0], r[:, 0] = 1, 1
    b = torch.as_tensor(r / np.sqrt(r.sum(axis=1)[:, None] * r.sum(axis=0)))
    items = torch.as_tensor(rng.normal(size=(8, 6)))
    users = b @ items
    p = torch.zeros(17, 17, dtype=FLOAT)
    p[:9, 9:], p[9:, :9] = b, b.T
    w, t, values = ritz_codebook(users, items, d)
    e = w @ t * values.sqrt()
    rows = torch.cat([users, items])
    w_graph, t_graph, s_graph = graph_codebook(rows, lambda x: p @ x, d)
    e_graph = w_graph @ t_graph
    torch.testing.assert_close(s_graph, values, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        (users @ e_graph) @ (items @ e_graph).T, (users @ e) @ (items @ e).T, rtol=1e-6, atol=1e-6
    )


def test_a_learned_importance_weighs_a_relation_and_its_reverse() -> None:
    borrows, follows = ("reader", "borrows", "book"), ("reader", "follows", "reader")
    factors = RelationImportance({borrows: 2.0, follows: 3.0}).factors()
    assert {etype: round(factor.item(), 5) for etype, factor in factors.items()} == {
        borrows: 2.0,
        reverse(borrows): 2.0,
        follows: 3.0,
    }
