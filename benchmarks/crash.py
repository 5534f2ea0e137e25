"""Commands ended by ``kill -9`` at random moments: `python -m benchmarks.crash [--kills 10] [--aimed]`.

Each command that writes runs once to its end. Then, --kills times, it is killed in a new folder at a moment drawn from
the time that took, without that of importing torch and DGL (or its first half, where that is less), and given again;
--aimed: from its first half, and then where a temporary file is there. Counts what is amiss after either, against the
run left alone: benchmarks/results/reliability/crash.json, or crash-aimed.json.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

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
    """Test figures once both systems have theirs: the table is renewed after each."""
    results = bench / "results.json"
    rows = [row["test"] for row in json.loads(results.read_text())["rows"]] if results.is_file() else []
    return rows if len(rows) == 2 and all(rows) else None


# `data fetch made`, of two files that a server on this machine sends slowly.
_PARTS, _PART_BYTES, _BYTES_A_SECOND = ("train.txt", "test.txt"), 2**24, 2**23
_FETCH = """
from c2f_dgl.cli.main import main
from c2f_dgl.data.cards import CARDS, Card, RemoteFile
files = tuple(RemoteFile(name, "http://127.0.0.1:{port}/" + name) for name in {names})
CARDS["made"] = Card("made", "", "", "", files, 0, 0, 0)
main()
"""


class _Slow(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Zeros from where the request says on, block by block."""
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.send_response(416 if start >= _PART_BYTES else 206 if start else 200)
        self.send_header("Content-Range", f"bytes */{_PART_BYTES}")
        self.send_header("Content-Length", str(_PART_BYTES - start))
        self.end_headers()
        for at in range(start, _PART_BYTES, 2**16):
            self.wfile.write(bytes(min(2**16, _PART_BYTES - at)))
            time.sleep(2**16 / _BYTES_A_SECOND)

    def handle(self) -> None:
        """A client that was killed is none that needs an answer."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


def _fetched(folder: Path) -> Any:
    files = [folder / "made" / name for name in _PARTS]
    return [_digest(file) for file in files] if all(file.is_file() for file in files) else None


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
    program: tuple[str, ...] = ("-m", "c2f_dgl")

    def started(
        self, run: Path, out: Path, again: bool = False, before: Sequence[str] = (), stderr: int = subprocess.DEVNULL
    ) -> subprocess.Popen[str]:
        """The command as a process of a group of its own, behind the words of another one."""
        words = f"{self.words} {self.again if again else ''}".replace("RUN", str(run)).replace("OUT", str(out)).split()
        command, null = [*before, sys.executable, *self.program, *words], subprocess.DEVNULL
        return subprocess.Popen(command, stdout=null, stderr=stderr, text=True, start_new_session=True)


_QUICK = "bench planted --out OUT --seeds 1 --systems anchor-popular,anchor-svd-budget --against anchor-popular"
CASES = {
    "train": Case(f"train planted --preset paper --out OUT --set {' --set '.join(_OPTIONS)}", _figures, "--resume"),
    "export": Case("export RUN --out OUT --bytes 30kB"),
    "data prepare": Case("data prepare RUN.csv --out OUT"),
    "data fetch": Case("data fetch made --data-dir OUT", _fetched),
    "bench": Case(_QUICK, _rows),
    "export --format web": Case("export RUN --out OUT --format web"),
    "report": Case("report RUN --out OUT"),
    "recommend --all": Case("recommend RUN --all --out OUT.csv", lambda out: _digest(out.with_suffix(".csv"))),
    "data planted": Case("data planted --out OUT --users 3000 --items 2000 --interactions 100000"),
}


def main(kills: int = 10, seed: int = 2024, aimed: bool = False) -> None:
    rng, kind = random.Random(seed), "crash-aimed" if aimed else "crash"
    rows = (measure.read("reliability", kind) or {"rows": []})["rows"]  # a stopped benchmark goes on
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fetch = _FETCH.format(port=server.server_port, names=_PARTS)
    with measure.folder() as folder:
        run = folder / "run"
        prepared(run)
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "import c2f_dgl.training.run"], check=True)
        imports = time.monotonic() - began
        for command in [name for name in CASES if all(row["command"] != name for row in rows)]:
            case = CASES[command]
            if command == "data fetch":
                case = replace(case, program=("-c", fetch))
            row = killed(case, run, folder / command.replace(" ", ""), kills, None if aimed else imports, rng)
            rows.append({"command": command, **row})
            print(rows[-1], measure.keep("reliability", kind, {"rows": rows, "machine": measure.machine()}))


def prepared(run: Path) -> None:
    """A run, and a log beside it."""
    assert Case("train planted --preset quick --out OUT").started(run, run).wait() == 0
    drawn = np.random.default_rng(0).integers(0, 100_000, (2_000_000, 2))
    pd.DataFrame(drawn, columns=["user", "item"]).to_csv(f"{run}.csv", index=False)


def killed(
    case: Case, run: Path, folder: Path, kills: int, imports: float | None, rng: random.Random
) -> dict[str, Any]:
    """What came of killing a command after its imports, or (None) aimed, and of giving it once more."""
    alone, began = folder / "alone", time.monotonic()
    assert case.started(run, alone).wait() == 0 and case.result(alone) is not None, case.words
    seconds, expected = time.monotonic() - began, case.result(alone)
    counts = {"killed": 0, "output in part": 0, "second run failed": 0, "other result": 0, "temporary files left": 0}
    for kill in range(kills):
        out = folder / str(kill) / "out"
        out.parent.mkdir(parents=True)
        first, last = (0, seconds / 2) if imports is None else (min(imports, seconds / 2), seconds)
        process, moment = case.started(run, out), time.monotonic() + rng.uniform(first, last)
        while process.poll() is None:
            time.sleep(0.001)
            if time.monotonic() > moment and (imports is not None or any(out.parent.rglob("*.part"))):
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
    measure.command(main)
