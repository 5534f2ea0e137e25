"""From a trained model to what serves: the same ranking, no interactions, and other programs' files."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import onnxruntime
import pytest
import scipy.sparse as sp
import torch
from safetensors.numpy import load_file

from c2f_dgl.api import load_run, train
from c2f_dgl.config.load import load_config
from c2f_dgl.data import load_dataset
from c2f_dgl.data.ids import IdMap
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.evaluation.served import Served
from c2f_dgl.export.device_model import coded_model, details_of, read_titles, serving_model, user_histories
from c2f_dgl.export.formats import write_faiss, write_onnx
from c2f_dgl.export.teacher import Teacher, teacher_of
from c2f_dgl.model import Recommender
from c2f_dgl.serving import ServingModel
from c2f_dgl.serving.codes import degree_levels
from c2f_dgl.training.build import start_graph, start_model
from tests.serving.coded import STRUCTURES, coded

Trained = tuple[Recommender, Split]


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    split, run = load_dataset("planted"), tmp_path_factory.mktemp("fast") / "run"
    train(split, run, load_config("fast", ["model.filter_neighbours=0", "model.filter_weight=0"]))
    return load_run(run, split=split)


def test_fast_is_exact(fast: Trained) -> None:
    """Users are their items: up to a factor of the user the scores are the model's."""
    model, split = fast
    teacher = teacher_of(model, split)
    assert teacher.exact and teacher.neighbours is None
    wanted = model.scorer().scores(torch.arange(split.n_users)).double().numpy()[:, teacher.order]
    history = split.train[:, teacher.order]
    x = teacher.items.astype(np.float64)
    found = ((history @ (x * teacher.history_weight[:, None])) @ x.T) * teacher.item_weight
    factor = np.linalg.norm(wanted, axis=1) / np.linalg.norm(found, axis=1)
    spread = wanted.std(axis=1)
    error = np.abs(found * factor[:, None] - wanted).max(axis=1) / spread
    assert error.max() < 1e-5 * 50  # the torch model computes in float32
    assert np.median(error) < 1e-5
    # Ranked from a file it is as good, though popularity is rounded to levels.
    served = serving_model(teacher, split.item_ids)
    figures = [
        evaluate(ranker, split.train, split.test)["ndcg@20"]
        for ranker in (model.scorer(), Served(served, split.train, split.item_ids))
    ]
    assert figures[0] == pytest.approx(figures[1], abs=1e-3)
    assert (np.diff(served.degree_level.astype(int)) <= 0).all(), "the popular first"


def test_users_that_are_more_than_their_items_are_mapped() -> None:
    split = load_dataset("planted")
    options = ["model.d=16", "coarse.m=20", "coarse.t=2", "model.item_scale=0.2", "finer={}"]
    config = load_config("published", options)
    model = start_model(config, start_graph(split, config.model), split, torch.device("cpu")).model
    assert model.readout.bias is not None
    torch.nn.init.zeros_(model.readout.bias)
    model.readout.bias.data[split.n_users :] = torch.as_tensor(np.log1p(split.train.getnnz(axis=0)))
    teacher = teacher_of(model, split)
    assert not teacher.exact
    served = Served(serving_model(teacher, split.item_ids), split.train, split.item_ids)
    figures = [evaluate(one, split.train, split.test)["ndcg@20"] for one in (model.scorer(), served)]
    assert figures[1] > 0.8 * figures[0] > 0


def test_a_filter_becomes_neighbours() -> None:
    split = load_dataset("planted")
    options = ["model.filter_neighbours=30", "model.filter_weight=0.4", "coarse.m=16", "model.d=16", "finer={}"]
    config = load_config("fast", options)
    model = start_model(config, start_graph(split, config.model), split, torch.device("cpu")).model
    teacher = teacher_of(model, split)
    near = teacher.nearest(30)
    assert near is not None and near.sources.shape == (split.n_items, 30)
    served = Served(serving_model(teacher, split.item_ids), split.train, split.item_ids)
    without = Served(serving_model(replace(teacher, neighbours=None), split.item_ids), split.train, split.item_ids)
    with_, alone, trained = (
        evaluate(one, split.train, split.valid)["ndcg@20"] for one in (served, without, model.scorer())
    )
    assert with_ > 0.97 * trained and with_ > alone


def test_a_filter_loses_little_on_the_way_to_a_file(tmp_path: Path) -> None:
    """Both terms are mixed by one number for all users, and not by each user's spreads."""
    split = load_dataset("planted")
    options = ["coarse.m=60", "model.user_exponent=0.4", "model.item_exponent=0.5", "model.filter_weight=0.5"]
    train(split, tmp_path / "run", load_config("fast", options))
    model, _ = load_run(tmp_path / "run", split=split)
    assert model.readout.filter is not None
    teacher = teacher_of(model, split)
    whole, coded = serving_model(teacher, split.item_ids), coded_model(teacher, split, 60_000)
    figures = [
        evaluate(ranker, split.train, split.test)["ndcg@20"]
        for ranker in (model.scorer(), *(Served(file, split.train, split.item_ids) for file in (whole, coded)))
    ]
    assert figures[1] == pytest.approx(figures[0], rel=0.03)
    assert figures[2] == pytest.approx(figures[0], rel=0.08)


def test_codes_take_the_bytes_they_may(fast: Trained, tmp_path: Path) -> None:
    model, split = fast
    teacher = teacher_of(model, split)
    figure = lambda served: evaluate(Served(served, split.train, split.item_ids), split.train, split.valid)["ndcg@20"]
    whole = figure(serving_model(teacher, split.item_ids))
    for n_bytes in (30_000, 60_000):
        served = coded_model(teacher, split, n_bytes)
        sizes = served.save(tmp_path / "model.c2f")
        assert 0.6 * n_bytes < sum(sizes.values()) <= n_bytes
        assert figure(served) > 0.9 * whole
    least = coded_model(teacher, split, None)
    assert figure(least) >= 0.98 * whole
    with pytest.raises(InputError, match="are left for codes of 800 items"):
        coded_model(teacher, split, 6000)


def test_nobody_can_read_from_a_file_what_users_had(tmp_path: Path) -> None:
    """With the items' vectors and codes held fixed, other pairs of the same degrees make the same file."""
    rng = np.random.default_rng(0)
    n_users, n_items = 311, 120
    degrees = rng.integers(1, 90, n_items)
    vectors, codes, blobs = rng.normal(size=(n_items, 8)).astype(np.float32), coded(near=False, n_items=n_items), []
    for name in ("one", "other"):
        users = np.concatenate([rng.choice(n_users, n, replace=False) for n in degrees])
        pairs = users, np.repeat(np.arange(n_items), degrees)
        train = sp.csr_matrix((np.ones(len(users), np.float32), pairs), shape=(n_users, n_items))
        nothing = sp.csr_matrix(train.shape, dtype=np.float32)
        split = Split("made", train, nothing, nothing, np.arange(n_users), np.arange(n_items))
        had = split.train.getnnz(axis=0)
        order = np.argsort(-degree_levels(had).astype(int), kind="stable")
        w, t = (had + 1.0) ** -0.4, (had + 1.0) ** 0.2
        teacher = Teacher(vectors[order], w[order], t[order], degree_levels(had)[order], order, True)
        details = details_of(load_config("fast"), split)
        for structure in (None, codes.codes):
            path = tmp_path / f"{name}-{structure is None}.c2f"
            model = serving_model(teacher, split.item_ids, structure)
            model.details.update(details)
            model.save(path)
            blobs.append(path.read_bytes())
            sizes = {n for values in load_file(path).values() for n in values.shape}
            assert not sizes & {train.nnz, n_users}
    assert blobs[0] == blobs[2] and blobs[1] == blobs[3]


@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_onnx_scores_as_the_model(tmp_path: Path, structure: str, near: bool) -> None:
    model = coded(structure=structure, near=near, text=True)
    sizes = write_onnx(model, tmp_path / "model.onnx")
    assert sizes == {"file": (tmp_path / "model.onnx").stat().st_size}
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for rows in ([3, 7, 11], [5]):
        (scores,) = session.run(["scores"], {"history": np.array(rows)})
        wanted = model.scores(model.histories([model.items.ids[rows]]))[0]
        np.testing.assert_allclose(scores, wanted, atol=1e-5 * np.abs(wanted).max())
    assert json.loads(session.get_modelmeta().custom_metadata_map["ids"]) == model.items.ids.tolist()


def test_faiss_finds_the_best_items(tmp_path: Path) -> None:
    model = coded(near=False)
    write_faiss(model, tmp_path / "items.faiss")
    histories = model.histories([[103, 107], [110]])
    scores, items = faiss.read_index(str(tmp_path / "items.faiss")).search(
        model.vectors(histories).astype(np.float32), 5
    )
    found, wanted = model.recommend_rows(histories, 5, exclude_seen=False)
    np.testing.assert_array_equal(model.items.ids[items], found)
    np.testing.assert_allclose(scores, wanted, rtol=1e-4)
    with pytest.raises(InputError, match="the model has neighbours"):
        write_faiss(coded(), tmp_path / "items.faiss")


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, write in (("faiss", write_faiss), ("onnx", write_onnx)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(InputError, match=rf"pip install 'c2f_dgl\[{name}\]'"):
            write(coded(near=False), tmp_path / "out")


def test_users_have_all_that_the_data_holds(fast: Trained) -> None:
    model, split = fast
    served: ServingModel = serving_model(teacher_of(model, split), split.item_ids)
    users = user_histories(served, split)
    had = split.train + split.valid + split.test
    for row in (0, 7):
        found = served.items.ids[users.of([split.user_ids[row]]).columns]
        assert set(found.tolist()) == set(split.item_ids[had[row].indices].tolist())
    assert user_histories(served, split, held_out=False).histories.pointers[-1] == split.train.nnz


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("u.item", b"1|Toy Story (1995)|01-Jan\n2|Caf\xe9, the (1995)|x\n5|Nobody|x\n"),
        ("movies.dat", "1::Toy Story (1995)::A|B\n2::Café, the (1995)::A\n".encode()),
        ("movies.csv", 'movieId,title\n1,Toy Story (1995)\n2,"Café, the (1995)"\n'.encode()),
        ("ml.item", "item_id:token\ttitle:token_seq\n2\tCafé, the (1995)\n1\tToy Story (1995)\n".encode()),
        ("names.tsv", "id\tname\n2\tCafé, the (1995)\n1\tToy Story (1995)\n".encode()),
    ],
)
def test_titles_of_a_table(tmp_path: Path, name: str, text: bytes) -> None:
    (tmp_path / name).write_bytes(text)
    titles = read_titles(tmp_path / name, IdMap(np.array([2, 1, 7]), "item"))
    assert titles.tolist() == ["Café, the (1995)", "Toy Story (1995)", ""]


def test_a_table_without_titles_is_refused(tmp_path: Path) -> None:
    for text, problem in (
        ("x\ty\n", "has no title of any item"),
        ("item\n7\n", "1 column .expected at least 2: item, title"),
    ):
        (tmp_path / "names.tsv").write_text(text)
        with pytest.raises(InputError, match=problem):
            read_titles(tmp_path / "names.tsv", IdMap(np.array([7]), "item"))
