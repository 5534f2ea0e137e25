"""Commands ended by ``kill -9`` at random moments: `python -m benchmarks.crash [--kills 10]`.

Each command runs once to its end. Then it is killed at a moment drawn uniformly from the time that took, as often as
--kills says, in a new folder each time, and given once more. Counted are kills after which its output was neither
absent nor whole, second runs that failed, and results that differ from those of the run that was left alone. Writes
benchmarks/results/reliability/crash.json.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import measure

_SIZES = ("coarse.m=16", "fine.m=6", "fine.t=2", "fine.components=8", "model.d=8")
_EPOCHS = tuple(
    f"{stage}.training.{option}"
    for stage in ("coarse", "fine")
    for option in ("fixed_epochs=3", "updating_epochs=3", "evaluate_every=1")
)
_SET = tuple(part for option in (*_SIZES, *_EPOCHS) for part in ("--set", option))


@dataclass(frozen=True)
class Case:
    """A command, what is added where it is given again, and its result, None where there is none yet."""

    command: tuple[str, ...]
    result: Callable[[Path], Any]
    again: tuple[str, ...] = ()


def _figures(run: Path) -> Any:
    summary = run / "summary.json"
    if not summary.is_file():
        return None
    stages = json.loads(summary.read_text())["stages"].values()
    return [{key: stage[key] for key in ("valid", "test", "parameters", "epoch")} for stage in stages]


def _rows(bench: Path) -> Any:
    results = bench / "results.json"
    return [row["test"] for row in json.loads(results.read_text())["rows"]] if results.is_file() else None


def _digest(path: Path) -> Any:
    """Of a file, or of the files of a folder by name."""
    if path.is_dir():
        return {file.name: _digest(file) for file in sorted(path.iterdir())}
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def cases(run: str) -> dict[str, Case]:
    """By name; `run` is the folder of a trained run, OUT is where each writes."""
    train = ("train", "planted", "--preset", "paper", "--out", "OUT", *_SET)
    export = ("export", run, "--out", "OUT", "--bytes", "30kB")
    planted = ("data", "planted", "--out", "OUT", "--users", "3000", "--items", "2000", "--interactions", "100000")
    bench = ("bench", "planted", "--out", "OUT", "--systems", "anchor-svd,qr", "--seeds", "1", "--set", "epochs=5")
    return {
        "train": Case(train, _figures, ("--resume",)),
        "export": Case(export, _digest),
        "data planted": Case(planted, _digest),
        "bench": Case(bench, _rows),
    }


def main() -> None:
    arguments = measure.parser(__doc__, kills=10, seed=2024).parse_args()
    rng, found = random.Random(arguments.seed), {}
    with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as name:
        folder = Path(name)
        trained = folder / "trained"
        started_to_end(("train", "planted", "--preset", "quick", "--out", str(trained)))
        for name, case in cases(str(trained)).items():
            found[name] = killed(case, folder / name.replace(" ", "-"), arguments.kills, rng)
            print(f"{name}: {found[name]}", flush=True)
    record = {"kills of each": arguments.kills, "commands": found, "machine": measure.machine()}
    print(measure.keep("reliability", "crash", record))


def killed(case: Case, folder: Path, kills: int, rng: random.Random) -> dict[str, Any]:
    """What came of killing a command, and of giving it once more."""
    folder.mkdir()
    alone = folder / "alone"
    began = time.monotonic()
    started_to_end(_at(case.command, alone))
    seconds, expected = time.monotonic() - began, case.result(alone)
    counts = {"killed": 0, "output in part": 0, "second run failed": 0, "other result": 0, "temporary files left": 0}
    for kill in range(kills):
        out = folder / str(kill) / "out"
        out.parent.mkdir()
        process = _started(_at(case.command, out))
        try:
            process.wait(rng.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            counts["killed"] += 1
            process.wait()
        counts["output in part"] += case.result(out) not in (None, expected)
        counts["second run failed"] += (
            _started(_at((*case.command, *case.again), out)).wait() != 0 and case.result(out) != expected
        )
        counts["other result"] += case.result(out) != expected
        counts["temporary files left"] += sum(1 for path in folder.rglob("*.part"))
        for path in folder.rglob("*.part"):
            path.rename(path.with_suffix(".seen"))
    return {"seconds": round(seconds, 1), **counts}


def started_to_end(command: tuple[str, ...]) -> None:
    """Run a command of the package."""
    if _started(command).wait() != 0:
        sys.exit(f"failed: {' '.join(command)}")


def _started(command: tuple[str, ...]) -> subprocess.Popen[bytes]:
    full = [sys.executable, "-m", "c2f_dgl", *command]
    return subprocess.Popen(full, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def _at(command: tuple[str, ...], out: Path) -> tuple[str, ...]:
    return tuple(str(out) if part == "OUT" else part for part in command)


if __name__ == "__main__":
    main()
