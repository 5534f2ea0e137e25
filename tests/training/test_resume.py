"""A run that is killed at any moment and resumed ends where the run that was never stopped ends."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SMALL = (
    *("coarse.m=16", "fine.m=6", "fine.t=2", "fine.components=8", "model.d=8"),
    "model.layers=3",
)
EPOCHS = (
    *(
        f"{stage}.training.{key}={value}"
        for stage in ("coarse", "fine")
        for key, value in {"fixed_epochs": 2, "patience": 5, "evaluate_every": 1}.items()
    ),
    "fine.training.updating_epochs=3",
)


def command(out: Path, *extra: str) -> list[str]:
    options = [part for option in (*SMALL, *EPOCHS) for part in ("--set", option)]
    return [sys.executable, "-m", "c2f_dgl.cli.main", "train", "planted", "--out", str(out), *options, *extra]


def figures(out: Path) -> tuple[dict, list[dict]]:
    summary = json.loads((out / "summary.json").read_text())
    stages = {
        name: {key: stage[key] for key in ("valid", "test", "parameters", "epoch", "phase")}
        for name, stage in summary["stages"].items()
    }
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {"chosen": summary["chosen"], **stages}, [
        {key: value for key, value in record.items() if key not in ("seconds", "valid_seconds")} for record in records
    ]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run(command(out), check=True, capture_output=True)
    return out


def test_kill_and_resume_until_done(tmp_path: Path, uninterrupted: Path) -> None:
    out, rng, kills = tmp_path / "run", random.Random(0), 0
    lines_before = 0
    while not (out / "summary.json").exists():
        process = subprocess.Popen(
            command(out, "--resume"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        # Let it get two to four epochs further, then kill it without warning.
        target, waited = lines_before + rng.randint(2, 4), time.monotonic()
        while process.poll() is None and time.monotonic() - waited < 120:
            lines = (out / "metrics.jsonl").read_text().count("\n") if (out / "metrics.jsonl").exists() else 0
            if lines >= target:
                time.sleep(rng.random() * 0.1)
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.005)
        stderr = process.communicate()[1].decode()
        assert process.returncode in (0, -signal.SIGKILL), stderr
        lines_after = (out / "metrics.jsonl").read_text().count("\n")
        assert lines_after >= lines_before  # at most the epoch under way is lost
        lines_before = lines_after
    assert kills >= 2
    assert figures(out) == figures(uninterrupted)
    assert not list(out.rglob("*.part"))


def test_a_finished_run_resumes_to_the_same(uninterrupted: Path) -> None:
    before = figures(uninterrupted)
    subprocess.run(command(uninterrupted, "--resume"), check=True, capture_output=True)
    assert figures(uninterrupted) == before


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        command(out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # A shell starts background jobs with the interrupt ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None and not (out / "metrics.jsonl").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert "--resume" in process.communicate()[1].decode().splitlines()[-1]
    assert process.returncode == 130
