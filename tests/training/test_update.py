"""New interactions in a run: all are trained on, with the scalars it has chosen, and what was held out stays so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from c2f_dgl import load_config, load_dataset, load_run, train
from c2f_dgl.api import train_run
from c2f_dgl.data import Interactions, Split
from c2f_dgl.data.writers import write_split
from c2f_dgl.errors import InputError
from c2f_dgl.training.run import Run
from c2f_dgl.training.update import update, with_new
from tests.command import c2f


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Interactions, Split]:
    """A run of `fast` without 40 users, 30 items and a tenth of the rest of `planted`, and what is left out."""
    folder, split = tmp_path_factory.mktemp("update"), load_dataset("planted")
    pairs = split.train.tocoo()
    late = (pairs.row < 40) | (pairs.col < 30) | (np.random.default_rng(0).random(pairs.nnz) < 0.1)
    train_part = split.train.copy()
    train_part.data[late[np.lexsort((pairs.col, pairs.row)).argsort()]] = 0
    train_part.eliminate_zeros()
    known = [part[40:, 30:] for part in (train_part, split.valid, split.test)]
    write_split(Split("planted", *known, split.user_ids[40:], split.item_ids[30:]), folder / "data")
    config = load_config("fast", [f"data.source={folder / 'data'}", "model.budget=1", "coarse.search_work=0"])
    train(load_dataset(folder / "data"), folder / "run", config)
    frame = pd.DataFrame({"user": split.user_ids[pairs.row[late]], "item": split.item_ids[pairs.col[late]]})
    return folder, Interactions.from_frame(frame), split


def test_all_that_is_new_is_trained_on(early: tuple[Path, Interactions, Split]) -> None:
    folder, new, whole = early
    old = load_dataset(folder / "data")
    merged = with_new(old, new)
    assert merged.train.nnz == whole.train.nnz and merged.train.shape == whole.train.shape
    assert (merged.train != whole.train).nnz == 0
    for part in ("valid", "test"):
        assert getattr(merged, part).nnz == getattr(old, part).nnz
    held = Interactions.from_frame(
        pd.DataFrame({"user": old.user_ids[old.test.nonzero()[0]][:9], "item": old.item_ids[old.test.nonzero()[1]][:9]})
    )
    assert with_new(old, held).train.nnz == old.train.nnz and "nothing new" in with_new(old, held).notes


def test_the_command_solves_again_without_a_search(early: tuple[Path, Interactions, Split]) -> None:
    folder, new, whole = early
    pd.DataFrame({"user": new.user_ids[new.users], "item": new.item_ids[new.items]}).to_parquet(folder / "new.parquet")
    done = c2f("update", folder / "run", folder / "new.parquet", "--out", folder / "later")
    assert done.returncode == 0, done.stderr
    assert f"{len(new):,} interactions added to train" not in done.stderr
    before, after = (json.loads((folder / name / "summary.json").read_text()) for name in ("run", "later"))
    scalars = [summary["stages"]["coarse"]["scalars"] for summary in (before, after)]
    assert scalars[0] == scalars[1]
    _, split = load_run(folder / "later")
    assert split.train.nnz == whole.train.nnz and split.n_users == 1000 and split.n_items == 800
    found = json.loads(c2f("recommend", folder / "later", "--user", "3", "-k", "5", "--json").stdout)
    assert len(found["3"]) == 5  # user 3 was not known before
    # Beside a search of its own on the same data it loses little.
    config = load_config("fast", ["model.budget=1", "coarse.search_work=0"])
    fitted = train_run(split, None, config).summary["stages"]["coarse"]["test"]["ndcg@20"]
    assert after["stages"]["coarse"]["test"]["ndcg@20"] > 0.95 * fitted
    again = update(folder / "later", new, folder / "again")  # an updated run is a run
    assert again.split.train.nnz == whole.train.nnz
    assert again.summary["stages"]["coarse"]["test"] == after["stages"]["coarse"]["test"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError])
def test_an_update_that_ends_early_leaves_nothing(
    early: tuple[Path, Interactions, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    folder, new, _ = early

    def stopped(self: Run) -> None:
        assert (tmp_path / "new" / "data").is_dir()
        raise error("stopped")

    monkeypatch.setattr(Run, "train", stopped)
    with pytest.raises(error):
        update(folder / "run", new, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_another_kind_is_refused(early: tuple[Path, Interactions, Split], tmp_path: Path) -> None:
    _, new, whole = early
    short = ["table.fixed_epochs=1", "model.d=4", "data.source=planted"]
    train(whole, tmp_path / "table", load_config("lightgcn", short))
    with pytest.raises(InputError, match="has nothing to solve again with"):
        update(tmp_path / "table", new, tmp_path / "out")
    assert not (tmp_path / "out").exists()
