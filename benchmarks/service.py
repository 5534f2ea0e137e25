"""The HTTP service under load: `python -m benchmarks.service [MODEL] [--rate 1000] [--seconds 10] [--history 50]`.

Starts `c2f-dgl serve` in a process of its own and posts histories of items at random, at a fixed rate on a few
connections. Requests are due at times that do not depend on answers, and latency counts from when a request was due, so
that a service that falls behind shows it. Loading, and one recommendation, are timed without a service, too. Without
MODEL one of random codes is served, of Gowalla's shape: 40,981 items, a coarse and seven fine codes, 256 columns, four
neighbours. Writes benchmarks/results/service/<data set>-<rate>.json. The client runs on the same machine and takes a
part of its cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks import measure
from c2f_dgl.serving import ItemCodes, Level, Neighbours, Rows, ServingModel
from c2f_dgl.serving.codes import degree_levels, level_means
from c2f_dgl.training.folder import processor

K = 20


@dataclass
class Load:
    """When requests were due and finished, and the statuses of their answers."""

    due: list[float] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)


def main() -> None:
    parser = measure.parser(__doc__, rate=1000, seconds=10.0, warm_up=2.0, connections=64, history=50)
    parser.add_argument("model", type=Path, nargs="?")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as folder:
        path = arguments.model or Path(folder) / "made.c2f"
        if arguments.model is None:
            random_model().save(path)
        result = measured(arguments, path)
    measure.keep("service", f"{result['data']}-{arguments.rate}", result)
    print(json.dumps(result, indent=2))


def measured(arguments: argparse.Namespace, path: Path) -> dict[str, Any]:
    """Figures of a model file, alone and served."""
    model, rng = ServingModel.load(path), np.random.default_rng(0)
    histories = [rng.choice(model.items.ids, arguments.history, replace=False).tolist() for _ in range(2000)]
    bodies = [json.dumps({"history": history, "k": K}) for history in histories]
    alone = {
        "load": milliseconds([lambda: ServingModel.load(path)] * 5),
        "recommend": milliseconds([lambda history=history: model.recommend(history, K) for history in histories[:200]]),
    }
    started = time.perf_counter()
    with served(path) as (process, host, port):
        seconds_to_start = time.perf_counter() - started
        done, busy = uvloop.run(load(arguments, host, port, bodies, process))
        memory = measure.memory(process=process)
    latencies = 1000 * (np.array(done.finished) - done.due)
    names = ("numpy", "fastapi", "uvicorn", "httptools", "uvloop")
    return {
        "data": model.details["data"],
        "items": model.n_items,
        "bytes": path.stat().st_size,
        "history": arguments.history,
        "k": K,
        "alone": alone,
        "connections": arguments.connections,
        "requests a second asked for": arguments.rate,
        "requests a second answered": len(latencies) / (max(done.finished) - min(done.due)),
        "milliseconds": {f"p{q:g}": float(np.percentile(latencies, q)) for q in (50, 90, 99, 99.9, 100)},
        "statuses": {str(status): n for status, n in sorted(done.statuses.items())},
        "processor milliseconds of the service a request": 1000 * busy,
        "peak bytes of the service": memory,
        "seconds to start": seconds_to_start,
        "cores": len(os.sched_getaffinity(0)),
        "load average at the end": os.getloadavg()[0],
        "processor": processor(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
    }


@contextmanager
def served(path: Path, *options: str) -> Iterator[tuple[int, str, int]]:
    """The process id, host and port of ``c2f-dgl serve``."""
    command = [sys.executable, "-m", "c2f_dgl", "serve", str(path), "--port", "0", *options]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        address = next(match for line in server.stderr if (match := re.search(r"http://(\S+?):(\d+)", line)))
        yield server.pid, address[1], int(address[2])
    finally:
        server.kill()
        server.communicate()


def random_model(n_items: int = 40_981, d: int = 256, n_levels: int = 8, k: int = 4) -> ServingModel:
    """A model of random codes."""
    rng = np.random.default_rng(0)
    books = [Rows.stored(rng.normal(size=(256, d)) / (1 + level), "int8") for level in range(n_levels)]
    codes = ItemCodes(tuple(Level(book, rng.integers(0, 256, n_items).astype(np.uint8)) for book in books))
    degrees = (10 * rng.pareto(1.0, n_items) + 1).astype(np.int64)
    level = degree_levels(degrees)
    w, t = level_means(level, degrees**-0.4), level_means(level, degrees**0.2)
    sources = rng.integers(0, n_items, (n_items, k)).astype(np.uint16)
    near = Neighbours(
        sources, rng.integers(0, 256, (n_items, k)).astype(np.uint8), np.linspace(0, 1, 256, dtype="f4"), w
    )
    return ServingModel(codes, level, w, t, np.arange(n_items), neighbours=near, details={"data": "made"})


def milliseconds(calls: list[Callable[[], object]]) -> float:
    """Median of some calls, one after the other, in this process."""
    times = []
    for call in calls:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1000 * float(np.median(times))


async def load(
    arguments: argparse.Namespace, host: str, port: int, bodies: list[str], process: int
) -> tuple[Load, float]:
    """Warm up and measure: what became of requests, and the service's processor seconds for each."""
    pool: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
    for _ in range(arguments.connections):
        pool.put_nowait(Connection(host, port))

    async def request(body: str, due: float, into: Load) -> None:
        connection = await pool.get()
        try:
            status, _ = await connection.ask("POST", "/recommend", body)
            into.statuses[status] += 1
            into.finished.append(time.perf_counter())
            into.due.append(due)
        finally:
            pool.put_nowait(connection)

    async def drive(seconds: float) -> Load:
        start, tasks, done = time.perf_counter() + 0.05, set(), Load()
        for number in range(int(arguments.rate * seconds)):
            due = start + number / arguments.rate
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            tasks.add(asyncio.create_task(request(bodies[number % len(bodies)], due, done)))
        await asyncio.gather(*tasks)
        return done

    await drive(arguments.warm_up)
    before = processor_seconds(process)
    done = await drive(arguments.seconds)
    return done, (processor_seconds(process) - before) / max(len(done.finished), 1)


class Connection:
    """HTTP/1.1 over one connection, opened when needed: so little that it is not the client that is measured."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port, self.used = host, port, 0.0
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, target: str, body: str = "") -> tuple[int, bytes]:
        """Status and body of the answer to a request."""
        if self.streams is not None and time.monotonic() - self.used > 2:  # the service closes idle ones after 5 s
            self.streams[1].close()
            self.streams = None
        if self.streams is None:
            self.streams = await asyncio.open_connection(self.host, self.port)
        reader, writer = self.streams
        writer.write(request_bytes(method, target, body))
        status, found = await answer(reader)
        self.used = time.monotonic()
        return status, found


def request_bytes(method: str, target: str, body: str = "") -> bytes:
    """A request as it is sent."""
    head = f"{method} {target} HTTP/1.1\r\nHost: c2f\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of the next answer on a connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None
    return int(head.split(b" ", 2)[1]), await reader.readexactly(int(length.group(1)))


def processor_seconds(process: int) -> float:
    """User and system time of a process so far (from /proc, so on Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
