"""Every exported form scores as the model does, in the program that reads it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.numpy import load_file
from typer.testing import CliRunner

from c2f_dgl import exports
from c2f_dgl.api import load_run, train
from c2f_dgl.checks import FORMATS
from c2f_dgl.cli.main import app
from c2f_dgl.config.load import load_config
from c2f_dgl.data import load_dataset
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.model import Recommender
from c2f_dgl.serving import ServingModel
from c2f_dgl.training.build import start_graph, start_model

ERRORS = {"fp32": 1e-5, "fp16": 2e-3, "int8": 3e-2}


@pytest.fixture(scope="module")
def trained() -> tuple[Recommender, Split]:
    """A model with biases and a scale an item, as it starts."""
    split = load_dataset("planted")
    config = load_config("published", ["model.d=16", "coarse.m=20", "coarse.t=2", "model.item_scale=0.2", "finer={}"])
    return start_model(config, start_graph(split, config.model), split, torch.device("cpu")), split


@pytest.mark.parametrize("precision", ERRORS)
@pytest.mark.parametrize("form", FORMATS)
def test_what_is_read_again_scores_as_the_model(
    trained: tuple[Recommender, Split], tmp_path: Path, form: str, precision: str
) -> None:
    model, split = trained
    again = exports.export(form, model, split, tmp_path / "out", precision=precision)
    rows = torch.arange(50)
    wanted = model.scorer().scores(rows).detach().numpy()
    error = np.abs(again.scores(rows).numpy() - wanted).max()
    assert error < ERRORS[precision] * np.abs(wanted).max()
    assert (error > 0) or precision == "fp32"


@pytest.mark.parametrize("precision", ERRORS)
def test_onnx_in_onnxruntime(trained: tuple[Recommender, Split], tmp_path: Path, precision: str) -> None:
    model, split = trained
    again = exports.export("onnx", model, split, tmp_path / "out", precision=precision)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    users = np.array([3, 7, 11])
    scores, items = session.run(["scores", "items"], {"users": users, "k": np.array([5])})
    wanted = again.scores(torch.as_tensor(users)).topk(5)
    np.testing.assert_allclose(scores, wanted.values.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(items, wanted.indices.numpy())
    ids = json.loads((tmp_path / "out" / "ids.json").read_text())
    assert ids["items"] == split.item_ids.tolist()


@pytest.mark.parametrize("precision", ERRORS)
def test_faiss_finds_the_best_items(trained: tuple[Recommender, Split], tmp_path: Path, precision: str) -> None:
    model, split = trained
    again = exports.export("faiss", model, split, tmp_path / "out", precision=precision)
    index = faiss.read_index(str(tmp_path / "out" / "items.faiss"))
    users = load_file(tmp_path / "out" / "users.safetensors")["users"][:20]
    scores, items = index.search(users, 5)
    wanted = again.scores(torch.arange(20)).topk(5)
    np.testing.assert_allclose(scores, wanted.values.numpy(), rtol=1e-3, atol=1e-4)
    if precision == "fp32":
        np.testing.assert_array_equal(items, wanted.indices.numpy())


def test_forms_and_precisions_have_names(trained: tuple[Recommender, Split], tmp_path: Path) -> None:
    model, split = trained
    with pytest.raises(InputError, match="artifact, embeddings, onnx, faiss"):
        exports.export("pickle", model, split, tmp_path / "out")
    with pytest.raises(InputError, match="fp32, fp16, int8"):
        exports.export("onnx", model, split, tmp_path / "out", precision="int4")
    assert not (tmp_path / "out").exists()


def test_a_missing_extra_is_named(
    trained: tuple[Recommender, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("faiss", "onnx"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(InputError, match=rf"pip install 'c2f_dgl\[{name}\]'"):
            exports.export(name, *trained, tmp_path / "out")


@pytest.mark.parametrize("precision", ERRORS)
@pytest.mark.parametrize("stored", [False, True])
def test_a_solved_for_tier_with_one_below_serves_as_trained(
    solved: tuple[Recommender, Split], tmp_path: Path, precision: str, stored: bool
) -> None:
    """W of E = W T is that of the coarse stage, though there is a fine tier now."""
    model, split = solved
    again = exports.export("artifact", model, split, tmp_path / "out", precision=precision, embeddings=stored)
    users = torch.arange(50)
    wanted = model.scorer().scores(users).detach().numpy()
    np.testing.assert_allclose(again.scores(users).numpy(), wanted, atol=3 * ERRORS[precision] * np.abs(wanted).max())
    if precision == "fp32":
        found = ServingModel.load(tmp_path / "out").explain(0, 5)
        rounding = found.contributions[found.kinds == "rounding"]
        assert np.abs(rounding).sum() < 1e-3 * np.abs(found.contributions).sum()


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recommender, Split]:
    """The fine stage of `fast`, whichever stage validation would have."""
    run, split = tmp_path_factory.mktemp("solved") / "run", load_dataset("planted")
    small = ["coarse.m=40", "fine.m=6", "fine.t=2", "fine.components=8", "model.d=8", "fine.gate=0.4"]
    train(split, run, load_config("fast", small))
    return load_run(run, stage="fine", split=split)


def test_the_command_shows_sizes_and_figures_before_and_after(tmp_path: Path) -> None:
    run, out, split = tmp_path / "run", tmp_path / "out", load_dataset("planted")
    small = ["data.source=planted", "coarse.m=16", "finer={}", "coarse.training.fixed_epochs=1"]
    train(split, run, load_config("fast", small))

    def call(*arguments: object) -> Any:
        return CliRunner().invoke(app, ["export", str(run), *map(str, arguments)])

    done = call("--out", out, "--precision", "int8", "--embeddings")
    assert done.exit_code == 0, done.output
    for words in ("learned part", "embeddings", "test N@20", "N@20 lost"):
        assert words in done.output
    served = ServingModel.load(out)
    figures = evaluate(exports.scorer_of(served), split.train, split.test)
    assert served.details["fingerprint"] == split.fingerprint
    assert served.details["metrics"]["test"]["ndcg@20"] == pytest.approx(figures["ndcg@20"], rel=0.02)
    for arguments, word in [(["--out", out], "is not empty"), (["--out", tmp_path / "x", "--format", "zip"], "faiss")]:
        refused = call(*arguments)
        assert isinstance(refused.exception, InputError) and word in str(refused.exception)
    assert not (tmp_path / "x").exists()
    listed = json.loads(call("--out", tmp_path / "e", "--format", "embeddings", "--json").stdout)
    assert set(listed["files"]) == {"embeddings.safetensors", "ids.json"}
    assert listed["before"] == pytest.approx(listed["after"])
