"""Tuning: chosen on validation alone, gone on with after a stop, and its best preset trains to the same figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from c2f_dgl import load_config, load_dataset
from c2f_dgl.api import train_run
from c2f_dgl.bench.tuning import Tried, _Pruning, tune
from c2f_dgl.config.ranges import Range, default_ranges, parse_range
from c2f_dgl.errors import InputError

QUICK = load_config("quick")
RANGES = [Range("model.layers", (5, 7)), Range("model.item_scale", (), 0.1, 0.3)]


def test_a_search_goes_on_and_its_best_preset_gives_its_figure(tmp_path: Path) -> None:
    split, out, told = load_dataset("planted"), tmp_path / "search", list[Tried]()
    # Without its test part the figures would change if it were looked at.
    whole = tune(split, out, QUICK, RANGES, trials=2, report=told.append)
    assert [tried.number for tried in told] == [0, 1] and set(whole[0].values) == {chosen.key for chosen in RANGES}
    assert told[0].values == {"model.layers": 7, "model.item_scale": 0.2}  # the preset itself
    went_on = tune(split, out, QUICK, RANGES, trials=3)
    assert sorted(tried.number for tried in went_on) == [0, 1, 2]
    assert [tried for tried in went_on if tried.number < 2] == whole
    figures = [tried.figure for tried in went_on]
    assert figures == sorted(figures, reverse=True)
    best = train_run(split, None, load_config(str(out / "best.yaml"))).summary["stages"]["coarse"]
    assert best["valid"]["ndcg@20"] == went_on[0].figure
    assert tune(split, out, QUICK, RANGES, trials=1) == went_on  # as many are over already


def test_the_test_part_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = load_dataset("planted")
    without = replace(split, test=split.test * 0)
    without.test.eliminate_zeros()
    found = [tune(part, tmp_path / name, QUICK, RANGES[:1], trials=1) for name, part in (("a", split), ("b", without))]
    assert found[0] == found[1]


def test_another_search_in_the_folder_is_refused(tmp_path: Path) -> None:
    split = load_dataset("planted")
    tune(split, tmp_path, QUICK, RANGES[:1], trials=1)
    for config, ranges, data, differing in (
        (load_config("quick", ["seed=1"]), RANGES[:1], split, "config"),
        (QUICK, RANGES, split, "ranges"),
        (QUICK, RANGES[:1], load_dataset("planted", protocol="full-test"), "data"),
    ):
        with pytest.raises(InputError, match=f"holds a search with other {differing}"):
            tune(data, tmp_path, config, ranges, trials=1)


def test_values_that_do_not_fit_are_refused_and_the_search_goes_on(tmp_path: Path) -> None:
    split, layers = load_dataset("planted"), Range("model.layers", (7, 8))  # lowpass needs an odd number
    over = tune(split, tmp_path / "some", QUICK, [layers], trials=6)
    refused = [tried for tried in over if tried.figure is None]
    assert refused and over[0].figure is not None
    assert all("odd number of layers" in str(tried.error) for tried in refused)
    with pytest.raises(InputError, match=r"no trial could be trained: .*odd number of layers"):
        tune(split, tmp_path / "none", QUICK, [Range("model.layers", (8,))], trials=1)
    assert not (tmp_path / "none" / "best.yaml").exists()


def test_a_trial_that_falls_behind_is_ended_early() -> None:
    study = optuna.create_study(direction="maximize")
    for _ in range(5):
        trial = study.ask()
        for step in range(3):
            trial.report(0.5, step)
        study.tell(trial, 0.5)
    reporter = _Pruning(quiet=True)
    reporter.select = "ndcg@20"
    for figure, is_ended in ((0.9, False), (0.1, True)):
        reporter.trial, reporter.n_validations = study.ask(), 0
        record = {"valid": {"ndcg@20": figure, "recall@20": 0.0}}
        reporter.end_epoch({})  # not validated
        if is_ended:
            with pytest.raises(optuna.TrialPruned):
                reporter.end_epoch(record)
        else:
            reporter.end_epoch(record)


def test_ranges_are_read_as_they_are_written() -> None:
    assert parse_range("coarse.training.lr=1e-4..1e-2", QUICK) == Range("coarse.training.lr", (), 1e-4, 1e-2)
    whole = parse_range("coarse.m=10..40", QUICK)
    assert (whole.low, whole.high) == (10, 40) and not whole.by_logarithm
    assert parse_range("coarse.grouping=metis, kmeans", QUICK).choices == ("metis", "kmeans")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [whole.suggested(study.ask()) for _ in range(50)]
    assert {type(value) for value in drawn} == {int} and 10 <= min(drawn) < max(drawn) <= 40
    rates = [parse_range("coarse.training.lr=1e-4..1e-2", QUICK).suggested(study.ask()) for _ in range(200)]
    assert 60 < sum(rate < 1e-3 for rate in rates) < 140  # as many below the middle power of ten as above
    for preset in ("fast", "paper", "lightgcn", "published"):
        config = load_config(preset)
        assert [parse_range(text, config) for text in default_ranges(config)]
