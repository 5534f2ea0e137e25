"""Commands ended by ``kill -9`` at random moments: `python -m benchmarks.crash [--kills 8] [--aimed]`.

Each command that writes runs once to its end. Then, --kills times, it is killed in a new folder at a moment drawn from
the time that took (--aimed: from its first half, and then where a temporary file is there), and given again. Counts
what is amiss after either, against the run left alone: benchmarks/results/reliability/crash.json, or crash-aimed.json.
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
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import measure

_STAGE = ("fixed_epochs=3", "updating_epochs=3", "evaluate_every=1")
_OPTIONS = (
    *("coarse.m=16", "fine.m=6", "fine.t=2", "fine.components=8", "model.d=8"),
    *(f"{stage}.training.{option}" for stage in ("coarse", "fine") for option in _STAGE),
)


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


@dataclass(frozen=True)
class Case:
    """A command with RUN and OUT, its result (None where there is none yet), and what is added the second time."""

    words: str
    result: Callable[[Path], Any] = _digest
    again: str = ""

    def started(self, run: Path, out: Path, again: bool = False) -> subprocess.Popen[bytes]:
        """The command as a process of a group of its own."""
        words = f"{self.words} {self.again if again else ''}".replace("RUN", str(run)).replace("OUT", str(out)).split()
        command, null = [sys.executable, "-m", "c2f_dgl", *words], subprocess.DEVNULL
        return subprocess.Popen(command, stdout=null, stderr=null, start_new_session=True)


CASES = {
    "train": Case(f"train planted --preset paper --out OUT --set {' --set '.join(_OPTIONS)}", _figures, "--resume"),
    "export": Case("export RUN --out OUT --bytes 30kB"),
    "export --format web": Case("export RUN --out OUT --format web"),
    "report": Case("report RUN --out OUT"),
    "recommend --all": Case("recommend RUN --all --out OUT.csv", lambda out: _digest(out.with_suffix(".csv"))),
    "data planted": Case("data planted --out OUT --users 3000 --items 2000 --interactions 100000"),
    "bench": Case("bench planted --out OUT --systems anchor-popular,anchor-svd-budget --against anchor-popular", _rows),
}


def main() -> None:
    arguments = measure.parser(__doc__, kills=8, seed=2024, aimed=False).parse_args()
    rng, kind = random.Random(arguments.seed), "crash-aimed" if arguments.aimed else "crash"
    rows = (measure.read("reliability", kind) or {"rows": []})["rows"]  # a stopped benchmark goes on
    with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as name:
        run = Path(name) / "run"
        assert Case("train planted --preset quick --out OUT").started(run, run).wait() == 0
        for command in [name for name in CASES if all(row["command"] != name for row in rows)]:
            row = killed(CASES[command], run, Path(name) / command.replace(" ", ""), arguments, rng)
            rows.append({"command": command, **row})
            print(rows[-1], measure.keep("reliability", kind, {"rows": rows, "machine": measure.machine()}))


def killed(case: Case, run: Path, folder: Path, how: Namespace, rng: random.Random) -> dict[str, Any]:
    """What came of killing a command, and of giving it once more."""
    alone, began = folder / "alone", time.monotonic()
    assert case.started(run, alone).wait() == 0 and case.result(alone) is not None, case.words
    seconds, expected = time.monotonic() - began, case.result(alone)
    counts = {"killed": 0, "output in part": 0, "second run failed": 0, "other result": 0, "temporary files left": 0}
    for kill in range(how.kills):
        out = folder / str(kill) / "out"
        out.parent.mkdir(parents=True)
        process, moment = case.started(run, out), time.monotonic() + rng.uniform(0, seconds / (2 if how.aimed else 1))
        while process.poll() is None:
            time.sleep(0.001)
            if time.monotonic() > moment and (not how.aimed or any(out.parent.rglob("*.part"))):
                os.killpg(process.pid, signal.SIGKILL)
                counts["killed"] += 1
                process.wait()
        whole = case.result(out)
        counts["output in part"] += whole not in (None, expected)
        counts["temporary files left"] += any(out.parent.rglob("*.part"))
        counts["second run failed"] += case.started(run, out, again=True).wait() != 0 and whole != expected
        counts["other result"] += case.result(out) != expected
    return {"seconds": round(seconds, 1), **counts}


if __name__ == "__main__":
    main()
