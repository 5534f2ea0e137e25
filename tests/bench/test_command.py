"""The command end to end on `planted`, with the system that docs/baselines.md adds."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from c2f_dgl.bench.table import read_results
from c2f_dgl.cli.bench import bench
from c2f_dgl.data import load_dataset
from c2f_dgl.errors import InputError

ROOT = Path(__file__).parents[2]


def test_the_system_of_the_docs_runs_beside_the_packages_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "baselines.md").read_text(), flags=re.DOTALL)
    (tmp_path / "hashed.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    out = tmp_path / "bench"
    bench("planted", out, systems="hashed:SYSTEM", against="anchor-knn", seeds=1, budget=0.1)
    assert re.search(r"anchor-knn +seed 2024 +test N@20 0\.\d{4}", capsys.readouterr().out)
    written = {".lock", "bench.json", "runs", "accuracy.svg", "accuracy.png"}
    written |= {f"results.{suffix}" for suffix in ("json", "csv", "md")}
    assert {path.name for path in out.iterdir()} == written
    results = read_results(out / "results.json")
    rows = {row.name: row for row in results.rows}
    hashed = rows["hashed"]
    assert hashed.seeds == [2024] and not hashed.errors
    assert hashed.values == results.bench.values == 4_800
    assert hashed.against is not None and hashed.against.percent < 0
    # Of a process that has imported torch.
    assert hashed.peak_bytes is not None and hashed.peak_bytes > 100 * 2**20
    record = json.loads((out / "runs" / "hashed-2024.json").read_text())
    assert set(record["test"]) == {f"{metric}@{k}" for metric in ("ndcg", "recall") for k in (5, 10, 20, 50)}
    assert "| Hashing trick | 4,800 | 19,200 |" in (out / "results.md").read_text()
    assert "<svg" in (out / "accuracy.svg").read_text()


def test_a_bench_that_is_terminated_ends_its_run_and_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "bench"
    command = [sys.executable, "-m", "c2f_dgl", "bench", "planted", "--out", str(out)]
    options = ["--systems", "qr-sum", "--against", "qr-sum", "--seeds", "1"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any("qr-sum, seed 2024" in line for line in process.stderr)  # the run says what it does
    (run,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGTERM)
    assert "goes on with" in process.communicate()[1].splitlines()[-1]
    assert process.returncode == 130
    status = Path("/proc", run, "status")
    assert not status.exists() or "State:\tZ" in status.read_text()  # gone, or waiting for init to note its end


def test_data_is_read_by_the_options_that_train_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, out = tmp_path / "log.csv", tmp_path / "bench"
    rows = (f"u{u},i{(u * 7 + k) % 30},{1 + k % 5},{100 * k + u}\n" for u in range(40) for k in range(15))
    log.write_text("who,what,stars,when\n" + "".join(rows))
    reading = {"split": "temporal", "valid": 0.2, "user": "who", "item": "what", "rating": "stars"}
    reading |= {"min_rating": 3.0, "timestamp": "when"}
    options = [f"data.{name}={value}" for name, value in reading.items()]

    def run(*more: str) -> None:
        chosen = {"systems": "anchor-popular", "against": "anchor-popular", "seeds": 1}
        bench(str(log), out, **chosen, set_=[*options, *more])  # type: ignore[arg-type]

    run()
    split = load_dataset(log, **reading)  # type: ignore[arg-type]
    assert (split.n_users, split.train.nnz + split.valid.nnz + split.test.nnz) == (40, 360)
    path = out / "runs" / "anchor-popular-2024.json"
    record, first = json.loads(path.read_text()), path.stat().st_mtime_ns
    assert record["status"] == "done" and record["fingerprint"] == split.fingerprint
    assert record["job"]["reading"] == json.loads((out / "bench.json").read_text())["reading"] == reading
    assert read_results(out / "results.json").bench.reading == reading
    capsys.readouterr()
    run()
    assert path.stat().st_mtime_ns == first and "anchor-popular   seed 2024  test" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"holds a bench with reading .*, not .*'test': 0\.3"):
        run("data.test=0.3")


def test_data_that_nothing_can_be_judged_on_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user,item\n" + "".join(f"u{u},i{u % 3}\n" for u in range(9)))
    with pytest.raises(InputError, match=r"no valid interactions .*data split --valid 0\.2"):
        bench(str(log), tmp_path / "bench", systems="anchor-popular", against="anchor-popular")
    assert not (tmp_path / "bench").exists()


FAILING = """
from c2f_dgl.baselines.system import Settings, System

def train(context):
    raise ValueError("made up")

SYSTEM = System("failing", "Failing", "-", Settings(), train, {}, budgeted=False)
"""


def test_a_bench_of_failures_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with pytest.raises(typer.Exit) as ended:
        bench("planted", tmp_path / "bench", systems="failing:SYSTEM", against="failing:SYSTEM", seeds=1)
    assert ended.value.exit_code == 1
    assert "failed: ValueError: made up" in capsys.readouterr().out


def test_an_unknown_system_or_setting_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--systems: no system 'qr-sun' \(expected e\.g\. qr-sum"):
        bench("planted", tmp_path / "bench", systems="qr-sun")
    for option, message in {"lrr=1": "no system has 'lrr=1'", "k=-3": "greater than or equal to 1"}.items():
        with pytest.raises(InputError, match=message):
            bench("planted", tmp_path / "bench", systems="anchor-knn", set_=[option])
    assert not (tmp_path / "bench").exists()
