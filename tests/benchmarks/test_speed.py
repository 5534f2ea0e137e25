"""The speed benchmarks at small size: they run, count what they say they count, and refuse steps that differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu, measure, roofline, scaling, speed, throughput
from c2f_dgl.data.splits import Split
from c2f_dgl.engines.pairs import pair_scores


@pytest.fixture(scope="module")
def split() -> Split:
    return measure.load("400x350x6000")


def test_all_ways_take_the_same_step(split: Split) -> None:
    found = throughput.steps(split, [40], 1)["40"]
    compositional = {name for name, row in found.items() if "gradient_error" in row}
    ours = {"collapsed", "message passing, csr", "message passing, dgl"}
    theirs = {f"dgl heterograph, compositional, weights on {where}" for where in ("edges", "nodes")}
    assert compositional == {*ours, *theirs, "coo, as published"}
    assert found["collapsed"]["times_collapsed"] == 1
    assert all(row["gradient_error"] < 1e-4 for name, row in found.items() if name in compositional)


def test_a_step_with_another_gradient_is_refused() -> None:
    with pytest.raises(SystemExit, match="differ"):
        throughput._compare({"collapsed": torch.ones(2), "other": torch.tensor([1.0, 1.01])})


@pytest.mark.parametrize(("n", "c", "m", "d"), [(2, 3, 4, 1), (5, 2, 4, 4), (40, 3, 8, 2), (40, 3, 8, 3), (3, 1, 2, 9)])
def test_operations_of_a_step_are_those_that_are_done(n: int, c: int, m: int, d: int) -> None:
    basis, learned = torch.randn(50, m), torch.randn(m, d, requires_grad=True)
    users, items = torch.randint(50, (n,)), torch.randint(50, (n, c))
    with FlopCounterMode(display=False) as counter:
        pair_scores(basis, learned, users, items).sum().backward()
    operations, traffic = roofline.needed(n, c, m, d)
    pairs = 2 * 2 * n * c * m  # forward and backward, in kernels that the counter does not know
    products = counter.get_flop_counts()["Global"]
    assert operations == pairs + products[torch.ops.aten.mm]
    assert traffic == 4 * m * (n + 2 * n * c)


def test_runs_alternate_and_the_first_round_is_left_out() -> None:
    order: list[str] = []
    seconds = measure.alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b"] * 3
    assert [len(times) for times in seconds.values()] == [2, 2]


def test_options_are_typed_by_their_defaults() -> None:
    def main(
        data: Sequence[str],
        what: Annotated[str, ("effect", "cost")],
        seeds: Sequence[int] = (1, 2),
        minutes: float = 10.0,
        keep_all: bool = False,
        budget: float | None = None,
    ) -> tuple:
        return data, what, seeds, minutes, keep_all, budget

    assert measure.command(main, ["a", "b", "cost"]) == (["a", "b"], "cost", (1, 2), 10.0, False, None)
    options = ["--seeds", "3", "--minutes", "1", "--keep-all", "--budget", "2"]
    assert measure.command(main, ["a", "effect", *options]) == (["a"], "effect", [3], 1.0, True, 2.0)
    with pytest.raises(SystemExit):
        measure.command(main, ["a", "other"])


def test_a_point_of_the_scaling_benchmark() -> None:
    size = {"interactions": 6000, "users": 400, "items": 350, "m": 20, "d": 8, "steps": 2, "memory_budget": None}
    point = scaling.one(size)
    assert point["basis"] == "full"
    assert all(point[figure] > 0 for figure in scaling.FIGURES)  # type: ignore[operator]
    small = scaling.one({**size, "memory_budget": 770 * 20 * 2 / 2**30})
    assert small["basis"] == "half"
    assert scaling.exponent([1, 10, 100], [3.0, 30.0, 300.0]) == pytest.approx(1)
    assert scaling.exponent([5], [1.0]) is None


def test_the_gpu_benchmark_takes_its_way_on_a_cpu(
    split: Split, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setattr(gpu, "whole_run", lambda *run: {"seconds": 1.0})  # a run of its own, tested as such
    monkeypatch.setattr(roofline, "COPIED", 1 << 12)
    monkeypatch.setattr(roofline, "SIDE", 64)
    measure.command(gpu.main, ["400x350x6000", "--device", "cpu", "--batches", "40", "--runs", "1", "--seeds"])
    record = json.loads((tmp_path / "gpu" / "400x350x6000.json").read_text())
    assert set(record["steps"]["40"]) >= {"collapsed", "message passing, csr", "message passing, dgl"}
    assert record["roofline"]["steps"]["40"]["times_bound"] > 0
    assert record["parts"]["whole assignment update"]["median_seconds"] > 0
    assert "| message passing, csr | 40 |" in speed.gpu("400x350x6000")
