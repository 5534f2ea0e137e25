"""A graph with names of its own, from DGL to recommendations, and through every command."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from c2f_dgl import InteractionDataset, from_heterograph, load_config, load_run, train
from c2f_dgl.cli.main import app
from c2f_dgl.config.load import parse_graph
from c2f_dgl.data.dgl_graphs import MASKS, to_heterograph
from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines import Collapsed, MessagePassing
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.evaluation.served import Served
from c2f_dgl.export.device_model import serving_model
from c2f_dgl.export.teacher import teacher_of
from c2f_dgl.graph.entities import entity_graph
from tests.schema.library import library

ROOT = Path(__file__).parents[2]
FAST = ["model.budget=12"]
PAPER = [
    *("model.d=8", "coarse.m=6", "coarse.training.fixed_epochs=2", "coarse.training.updating_epochs=1"),
    *("fine.m=3", "fine.t=2", "fine.components=4", "fine.threshold=0", "fine.training.fixed_epochs=1"),
    *("fine.training.updating_epochs=1", "coarse.training.batch_size=512", "fine.training.batch_size=512"),
]


def test_a_heterograph_becomes_a_split_and_a_schema() -> None:
    graph = library()
    split, schema = from_heterograph(graph, "borrowed", weight="hours", features={"book": "feat"})
    assert schema.roles.entities == ("reader", "book", "author")
    assert set(schema.relations) == {"follows", "written_by"}
    assert schema.relations["follows"].weighted and not schema.relations["written_by"].weighted
    assert split.train.nnz + split.valid.nnz + split.test.nnz == graph.num_edges("borrowed")
    said = "; ".join(split.notes)
    assert "book-borrowed_by-reader: the reverse of reader-borrowed-book, left out" in said
    assert "shelf: nothing links it to the rest, left out" in said
    again = to_heterograph(split, schema)
    for etype in (("reader", "follows", "reader"), ("book", "written_by", "author")):
        mine, theirs = (
            set(zip(*(ends.tolist() for ends in g.edges(etype=etype)), strict=True)) for g in (again, graph)
        )
        assert mine == theirs
    assert again.nodes["book"].data["feat"].equal(graph.nodes["book"].data["feat"])
    assert sum(int(again.edges["borrowed"].data[mask].sum()) for mask in MASKS) == graph.num_edges("borrowed")
    # A split in the masks is taken as it is.
    masked, _ = from_heterograph(again, "borrowed", leave_out=["follows"])
    for part in ("train", "valid", "test"):
        assert (getattr(masked, part) != getattr(split, part)).nnz == 0


@pytest.mark.parametrize(
    ("target", "message"),
    [("burrowed", "no relation 'burrowed'"), ("follows", "both ends are of type 'reader'")],
)
def test_a_target_that_cannot_be_predicted_is_refused(target: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_heterograph(library(), target)


def test_a_graph_with_its_own_names_is_trained_ranked_and_read_again(tmp_path: Path) -> None:
    split, schema = from_heterograph(library(), "borrowed", features={"book": "feat"})
    nodes = {**schema.nodes, "author": schema.nodes["author"].model_copy(update={"codebook": "own", "m": 2, "t": 1})}
    schema = schema.model_copy(update={"nodes": nodes})
    summary = train(split, tmp_path / "run", load_config("fast", [*FAST, "model.d=8"], graph=schema))
    model, _ = load_run(tmp_path / "run", split=split)
    assert isinstance(model.engine, Collapsed)
    assert set(model.importances()) == {"follows", "written_by"}
    figures = summary["stages"][summary["chosen"]]["test"]
    assert evaluate(model.scorer(), split.train, split.test) == pytest.approx(figures)
    chance = 20 / split.n_items
    assert figures["recall@20"] > 1.2 * chance  # readers do like some authors
    # Authors have atoms of their own, which no reader or book uses; the last three are those of the features.
    blocks, tier = model.embedding.blocks, model.embedding.tiers[0]
    assert blocks["author"].start == blocks["book"].stop and blocks["author"].stop == tier.size - 3
    authors = tier.indices[model.embedding.layout.rows("author")]
    assert ((authors >= blocks["author"].start) & (authors < blocks["author"].stop))[:, 0].all()
    # The same H from message passing with E itself, and a model file that ranks nearly so.
    engine = MessagePassing(model.embedding, model.propagation)
    engine.rebuild(model.graph)
    collapsed, passed = model.engine.all_nodes(), engine.all_nodes()
    for node_type in ("reader", "book", "author"):
        assert torch.allclose(passed[node_type], collapsed[node_type], atol=float(0.05 * collapsed[node_type].std()))
    teacher = teacher_of(model, split)
    assert not teacher.exact, "authors speak to readers, too"
    served = Served(serving_model(teacher, split.item_ids), split.train, split.item_ids)
    assert evaluate(served, split.train, split.test)["recall@20"] > 1.1 * chance


def test_a_relation_called_as_the_targets_reverse_keeps_its_own_edges() -> None:
    users, items = torch.arange(20).repeat_interleave(4), torch.arange(80) % 11
    edges = {("user", "interacts", "item"): (users, items), ("item", "interacted_by", "user"): ([0, 3], [5, 7])}
    split, schema = from_heterograph(dgl.heterograph(edges), "interacts")
    assert list(schema.relations) == ["relation_interacted_by"]
    graph = entity_graph(split.train, split.side, schema)
    pairs = [tuple(map(tuple, torch.stack(graph.edges(etype=name), 1).tolist())) for name in schema.relations]
    assert sorted(pairs[0]) == [(0, 5), (3, 7)]
    assert graph.num_edges("interacts") == graph.num_edges("interacted_by") == split.train.nnz


def test_some_of_the_masks_are_refused() -> None:
    graph = library()
    graph.edges["borrowed"].data["train_mask"] = torch.ones(graph.num_edges("borrowed"), dtype=torch.bool)
    with pytest.raises(InputError, match="train_mask without val_mask and test_mask"):
        from_heterograph(graph, "borrowed")


def test_weights_that_the_schema_counts_on_must_be_there(tmp_path: Path) -> None:
    split, _ = from_heterograph(library(), "borrowed", leave_out=["follows", "written_by"])
    tree = {"query": "reader", "target": "borrowed", "ranked": "book", "relations": {"borrowed": {"weighted": True}}}
    with pytest.raises(InputError, match=r"relations\.borrowed: the interactions have no weights"):
        train(split, tmp_path / "run", load_config("fast", FAST, graph=parse_graph(tree, "tree")))
    assert not (tmp_path / "run").exists()


def test_a_learned_importance_moves_and_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    split, schema = from_heterograph(library(), "borrowed", importance="learned")
    with caplog.at_level(logging.INFO, logger="c2f_dgl"):
        summary = train(split, tmp_path / "run", load_config("paper", PAPER, graph=schema))
    assert "message passing at every step, as importances of relations are learned" in caplog.text
    coarse, _ = load_run(tmp_path / "run", split=split, stage="coarse")
    assert isinstance(coarse.engine, MessagePassing)
    learned = coarse.importances()
    assert all(value > 0 for value in learned.values()) and set(learned) == {"follows", "written_by"}
    assert coarse.count_values()["importances"] == 2
    assert evaluate(coarse.scorer(), split.train, split.test) == pytest.approx(summary["stages"]["coarse"]["test"])
    # The fine stage keeps them as they are, and is collapsed again.
    fine, _ = load_run(tmp_path / "run", split=split, stage="fine")
    assert isinstance(fine.engine, Collapsed)
    assert fine.importances() == pytest.approx(learned)
    assert evaluate(fine.scorer(), split.train, split.test) == pytest.approx(summary["stages"]["fine"]["test"])


def written(folder: Path) -> Path:
    """The library as files, and a preset that names them."""
    split, _ = from_heterograph(library(), "borrowed")
    folder.mkdir()
    for name, part in (("train", split.train), ("valid", split.valid), ("test", split.test)):
        coo = part.tocoo()
        np.savetxt(folder / f"{name}.tsv", np.stack([coo.row, coo.col], axis=1), fmt="%d", delimiter="\t")
    for name in ("follows", "written_by"):
        ends = torch.stack(library().edges(etype=name), dim=1).numpy()
        np.savetxt(folder / f"{name}.tsv", ends, fmt="%d", delimiter="\t")
    relations = {
        "follows": {"source": "reader", "destination": "reader", "file": "follows.tsv", "importance": None},
        "written_by": {"source": "book", "destination": "author", "file": "written_by.tsv", "unknown": "drop"},
    }
    tree = {"query": "reader", "target": "borrowed", "ranked": "book", "nodes": {"author": {}}, "relations": relations}
    (folder / "preset.yaml").write_text(json.dumps({"preset": "fast", "graph": tree, "model": {"budget": 12}}))
    return folder


def test_every_command_takes_a_schema(tmp_path: Path) -> None:
    data, run = written(tmp_path / "library"), tmp_path / "run"

    def call(*arguments: object) -> str:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    call("train", data, "--preset", data / "preset.yaml", "--out", run)
    chosen = json.loads((run / "summary.json").read_text())
    found = json.loads(call("evaluate", run, "--json"))
    assert found["ndcg@20"] == pytest.approx(chosen["stages"][chosen["chosen"]]["test"]["ndcg@20"])
    assert len(json.loads(call("recommend", run, "--user", 7, "-k", 3, "--json"))["7"]) == 3
    call("export", run, "--out", tmp_path / "model.c2f")
    call("report", run, "--out", tmp_path / "page.html")
    assert "<svg" in (tmp_path / "page.html").read_text()
    drawn = call("info", run, "--schema")
    assert 'reader == "borrowed" ==> book' in drawn
    assert 'reader -- "follows, importance chosen" --- reader' in drawn
    assert 'author(("author<br>8 nodes"))' in drawn
    assert re.search(r'book -. "composed_of, t = 1" .-> coarse', drawn) and "author -. " not in drawn
    assert drawn.count("\n") == len(set(drawn.splitlines()))


def test_a_dataset_of_dgl_data() -> None:
    dataset = InteractionDataset("planted", transform=dgl.AddReverse())
    assert len(dataset) == 1 and dataset.split.name == "planted"
    graph = dataset[0]
    assert graph.num_edges("interacts") == graph.num_edges("rev_interacts") == 27_996
    again, _ = from_heterograph(InteractionDataset("planted")[0], "interacts")
    assert again.fingerprint == dataset.split.fingerprint
    with pytest.raises(IndexError):
        dataset[1]


def test_the_core_knows_no_node_type_by_name() -> None:
    """Only the defaults of the roles do: a new type touches nothing else."""
    core = [ROOT / "c2f_dgl" / "model.py", *(ROOT / "c2f_dgl" / "graph").glob("*.py")]
    for package in ("tiers", "engines", "training", "nn"):
        core += (ROOT / "c2f_dgl" / package).glob("*.py")
    assert len(core) > 20
    for path in core:
        code = re.sub(r'"""(?:.|\n)*?"""', "", path.read_text())
        assert not re.findall(r"""["'](?:user|item|interacts)["']""", code), path


def test_a_schema_goes_through_yaml_and_back() -> None:
    _, schema = from_heterograph(library(), "borrowed", weight="hours")
    assert parse_graph(json.loads(schema.model_dump_json())) == schema
    assert load_config("fast", graph=schema).graph == schema


@pytest.mark.parametrize(
    "names",
    [
        [("user", "likes it", "item"), ("user", "likes-it", "item"), ("user", "buys now", "item")],
        [("a", "x", "item"), ("a", "x", "user"), ("user", "a_x_item", "item")],
        [("a", "b_c", "user"), ("a", "b_c", "item"), ("a_b", "c", "user"), ("a_b", "c", "item")],
    ],
)
def test_relations_whose_names_meet_are_all_kept(names: list[tuple[str, str, str]]) -> None:
    rng = np.random.default_rng(0)
    edges = {name: (torch.arange(6), torch.as_tensor(rng.permutation(6))) for name in names}
    edges["user", "buys", "item"] = (torch.arange(6).repeat(3), torch.arange(18) % 5)
    split, schema = from_heterograph(dgl.heterograph(edges, num_nodes_dict=dict.fromkeys(ends(edges), 6)), "buys")
    assert len(schema.extra) == len(names)
    ways = {(relation.source, relation.destination) for relation in schema.extra.values()}
    assert ways == {(source, destination) for source, _, destination in names}
    assert split.side is not None and len(split.side.relations) == len(names)


def ends(edges: dict) -> set[str]:
    return {end for source, _, destination in edges for end in (source, destination)}


def test_relations_are_left_out_by_name_or_in_full() -> None:
    graph = library()
    for given in ("follows", ["follows"], [("reader", "follows", "reader")]):
        assert set(from_heterograph(graph, "borrowed", leave_out=given)[1].extra) == {"written_by"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"leave_out": ["folows"]}, "leave_out: no relation 'folows'"),
        ({"weight": "houres"}, "weight: no relation has edge data 'houres'"),
        ({"features": {"book": "typo"}}, "features: no node data 'typo' of type 'book'"),
        ({"features": {"boook": "feat"}}, "features: no node data 'feat' of type 'boook'"),
    ],
)
def test_names_that_the_graph_lacks_are_refused(given: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_heterograph(library(), "borrowed", **given)


def test_weights_of_the_target_come_back() -> None:
    graph = library()
    n = graph.num_edges("borrowed")
    graph.edges["borrowed"].data["hours"] = torch.arange(1, n + 1).float()
    split, schema = from_heterograph(graph, "borrowed", weight="hours")
    again = to_heterograph(split, schema)
    hours = dict(
        zip(zip(*(x.tolist() for x in graph.edges(etype="borrowed")), strict=True), range(1, n + 1), strict=True)
    )
    data = again.edges["borrowed"].data
    pairs = list(zip(*(x.tolist() for x in again.edges(etype="borrowed")), strict=True))
    expected = [hours[pair] if trains else 1 for pair, trains in zip(pairs, data["train_mask"].tolist(), strict=True)]
    assert data["weight"].tolist() == expected
