"""The protocol full-test: chosen on a part of the training interactions, solved again on all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from c2f_dgl import load_config, load_dataset, load_run, train
from c2f_dgl.config.schema import RunConfig
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.export.teacher import teacher_of
from c2f_dgl.training.run import Run


def options(preset: str, *further: str) -> RunConfig:
    return load_config(preset, ["data.source=planted", "data.protocol=full-test", *further])


@pytest.fixture(scope="module")
def split() -> Split:
    return load_dataset("planted", protocol="full-test")


def test_what_was_chosen_is_solved_on_all_training_items_and_tested(split: Split, tmp_path: Path) -> None:
    config = options("fast", "coarse.m=20")
    summary = train(split, tmp_path / "run", config)["stages"]["coarse"]
    model, data = load_run(tmp_path / "run")
    assert (data.train != split.train + split.valid).nnz == data.valid.nnz == 0
    figures = evaluate(model.scorer(), data.train, split.test)
    assert summary["test"] == pytest.approx({name: figures[name] for name in summary["test"]}, abs=1e-6)
    # The choice is of the part alone: a user's validation items are not among what it had seen.
    chosen = train(split, tmp_path / "part", load_config("fast", ["coarse.m=20"]))["stages"]["coarse"]
    assert chosen["valid"] == summary["valid"] and chosen["scalars"] == summary["scalars"]
    assert chosen["test"] != summary["test"]
    with pytest.raises(InputError, match="no valid interactions"):
        teacher_of(model, data)


def test_a_run_that_ended_before_it_was_solved_again_goes_on(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = options("fast", "coarse.m=20"), tmp_path / "run"
    whole = train(split, tmp_path / "whole", config)

    def killed(self: Run, stage: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Run, "_solve_again", killed)
        train(split, folder, config)
    assert train(split, folder, config, resume=True)["stages"]["coarse"]["test"] == whole["stages"]["coarse"]["test"]


def test_what_is_trained_by_gradient_is_not_trained_again(split: Split, tmp_path: Path) -> None:
    epochs = ["coarse.training.fixed_epochs=1", "coarse.training.updating_epochs=0"]
    train(split, tmp_path / "run", options("paper", "finer={}", "coarse.m=20", "model.d=4", *epochs))
    _, data = load_run(tmp_path / "run")
    np.testing.assert_array_equal(data.train.indices, split.train.indices)
    assert data.valid.nnz
