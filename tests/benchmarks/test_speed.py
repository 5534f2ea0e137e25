"""The speed benchmarks at small size: they run, count what they say they count, and refuse steps that differ."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmarks import gpu, measure, roofline, scaling, throughput
from c2f_dgl.data.splits import Split


@pytest.fixture(scope="module")
def split() -> Split:
    return measure.load("400x350x6000")


def test_all_ways_take_the_same_step(split: Split) -> None:
    found = throughput.steps(split, [40], 1, ("pyg",), Console(quiet=True))["40"]
    compositional = {name for name, row in found.items() if "gradient_error" in row}
    ours = {"collapsed", "message passing, csr", "message passing, dgl"}
    theirs = {f"dgl heterograph, compositional, weights on {where}" for where in ("edges", "nodes")}
    assert compositional == {*ours, *theirs, "coo, as published"}
    assert found["collapsed"]["times_collapsed"] == 1
    assert all(row["gradient_error"] < 1e-4 for name, row in found.items() if name in compositional)


def test_a_step_with_another_gradient_is_refused() -> None:
    with pytest.raises(SystemExit, match="differ"):
        throughput._compare({"collapsed": torch.ones(2), "other": torch.tensor([1.0, 1.01])})


def test_operations_and_bytes_of_a_step_by_hand() -> None:
    # 2 users of 3 items, m = 4, d = 1: v_u = (b_u E) E^T costs 2 * 4 * 2 * 4 * 1 / 2, less than by the Gram matrix.
    operations, traffic = roofline.needed(2, 3, 4, 1)
    by_codebook, dots, weighted, one_sided, codebook = 4 * 2 * 4, 2 * 2 * 3 * 4, 2 * 2 * 3 * 4, 2 * 2 * 16, 2 * 16
    assert operations == by_codebook + dots + weighted + one_sided + codebook
    assert traffic == 4 * 4 * (2 + 6 + 6)


def test_runs_alternate_and_the_first_round_is_left_out() -> None:
    order: list[str] = []
    seconds = measure.alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b"] * 3
    assert [len(times) for times in seconds.values()] == [2, 2]


def test_a_point_of_the_scaling_benchmark() -> None:
    point = scaling.one(6000, 400, 350, 20, 8, steps=2, memory_budget=None)
    assert point["basis"] == "full"
    assert all(point[figure] > 0 for figure in scaling.FIGURES)  # type: ignore[operator]
    small = scaling.one(6000, 400, 350, 20, 8, steps=2, memory_budget=770 * 20 * 2 / 2**30)
    assert small["basis"] == "half"
    assert scaling.exponent([1, 10, 100], [3.0, 30.0, 300.0]) == pytest.approx(1)
    assert scaling.exponent([5], [1.0]) is None


def test_the_gpu_benchmark_takes_its_way_on_a_cpu(
    split: Split, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setattr(gpu, "whole_run", lambda dataset, device: {"seconds": 1.0})  # a run of its own, tested as such
    monkeypatch.setattr(roofline, "COPIED", 1 << 12)
    monkeypatch.setattr(roofline, "SIDE", 64)
    monkeypatch.setattr(
        "sys.argv", ["gpu", "400x350x6000", "--device", "cpu", "--batches", "40", "--runs", "1", "--seeds"]
    )
    gpu.main()
    record = json.loads((tmp_path / "gpu" / "400x350x6000.json").read_text())
    assert set(record["steps"]["40"]) == {"collapsed, csr", "message_passing, csr", "message_passing, dgl"}
    assert record["roofline"]["steps"]["40"]["times_bound"] > 0
    assert record["parts"]["whole assignment update"]["median_seconds"] > 0
