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
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import uvloop

from c2f_dgl.io.files import write_text
from c2f_dgl.serving import ItemCodes, Level, Neighbours, Rows, ServingModel
from c2f_dgl.serving.codes import degree_levels, level_means
from c2f_dgl.training.folder import processor

K = 20


@dataclass
class Load:
    """What became of the requests."""

    due: list[float] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def latencies(self) -> list[float]:
        return [finished - due for finished, due in zip(self.finished, self.due, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--rate", type=int, default=1000, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warm-up", type=float, default=2.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--history", type=int, default=50, help="items of a history")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as folder:
        path = arguments.model
        if path is None:
            path = Path(folder) / "made.c2f"
            made().save(path)
        model = ServingModel.load(path)
        rng = np.random.default_rng(0)
        bodies = [
            json.dumps({"history": rng.choice(model.items.ids, arguments.history, replace=False).tolist(), "k": K})
            for _ in range(2000)
        ]
        alone = timed(path, [json.loads(body)["history"] for body in bodies[:200]])
        command = [sys.executable, "-m", "c2f_dgl", "serve", str(path), "--port", "0"]
        started = time.perf_counter()
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            assert server.stderr is not None
            said = ""
            while (found := re.search(r"http://(\S+?):(\d+)", said)) is None:
                said = server.stderr.readline()
            host, port = found.groups()
            seconds_to_start = time.perf_counter() - started
            measured, busy, memory = uvloop.run(load(arguments, host, int(port), bodies, server))
        finally:
            server.kill()
        milliseconds = 1000 * np.array(measured.latencies)
        result = {
            "data": model.details["data"],
            "items": model.n_items,
            "bytes": path.stat().st_size,
            "history": arguments.history,
            "k": K,
            "alone": alone,
            "connections": arguments.connections,
            "requests a second asked for": arguments.rate,
            "requests a second answered": len(milliseconds) / (max(measured.finished) - min(measured.due)),
            "milliseconds": {f"p{q:g}": float(np.percentile(milliseconds, q)) for q in (50, 90, 99, 99.9, 100)},
            "statuses": {str(status): n for status, n in sorted(measured.statuses.items())},
            "processor milliseconds of the service a request": 1000 * busy,
            "peak bytes of the service": memory,
            "seconds to start": seconds_to_start,
            "cores": len(os.sched_getaffinity(0)),
            "load average at the end": os.getloadavg()[0],
            "processor": processor(),
            "versions": versions_of("numpy", "fastapi", "uvicorn", "httptools", "uvloop"),
        }
    target = Path(__file__).parent / "results" / "service" / f"{result['data']}-{arguments.rate}.json"
    write_text(target, json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def made(n_items: int = 40_981, d: int = 256, n_levels: int = 8, k: int = 4) -> ServingModel:
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


def timed(path: Path, histories: list[list[int]]) -> dict[str, float]:
    """Milliseconds to load a model, and to recommend by one history after the other, in this process."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        model = ServingModel.load(path)
        times.append(time.perf_counter() - started)
    ranked = []
    for history in histories:
        started = time.perf_counter()
        model.recommend(history, K)
        ranked.append(time.perf_counter() - started)
    return {"load": 1000 * float(np.median(times)), "recommend": 1000 * float(np.median(ranked))}


def versions_of(*names: str) -> dict[str, str]:
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


async def load(
    arguments: argparse.Namespace, host: str, port: int, bodies: list[str], server: subprocess.Popen[str]
) -> tuple[Load, float, int]:
    """Warm up and measure: what became of requests, processor use, memory."""
    pool: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
    for _ in range(arguments.connections):
        pool.put_nowait(Connection(host, port))

    async def drive(seconds: float, into: Load) -> None:
        start, tasks = time.perf_counter() + 0.05, set()
        for place in range(int(arguments.rate * seconds)):
            due = start + place / arguments.rate
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            tasks.add(asyncio.create_task(one(pool, bodies[place % len(bodies)], due, into)))
        await asyncio.gather(*tasks)

    await drive(arguments.warm_up, Load())
    measured, before = Load(), processor_seconds(server)
    await drive(arguments.seconds, measured)
    return measured, (processor_seconds(server) - before) / max(len(measured.finished), 1), peak_bytes(server)


class Connection:
    """HTTP/1.1 over one connection, opened when needed: so little that it is not the client that is measured."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> None:
        if self.streams is not None and self.streams[0].at_eof():  # closed by the service while it was idle
            self.close()
        if self.streams is None:
            self.streams = await asyncio.open_connection(self.host, self.port)

    async def post(self, body: str) -> int:
        assert self.streams is not None
        reader, writer = self.streams
        head = f"POST /recommend HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: (\d+)", answer)
        assert length is not None
        await reader.readexactly(int(length.group(1)))
        return int(answer.split(b" ", 2)[1])

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
        self.streams = None


async def one(pool: asyncio.LifoQueue[Connection], body: str, due: float, into: Load) -> None:
    connection = await pool.get()
    try:
        await connection.open()
        into.statuses[await connection.post(body)] += 1
        into.finished.append(time.perf_counter())
        into.due.append(due)
    finally:
        pool.put_nowait(connection)


def processor_seconds(server: subprocess.Popen[str]) -> float:
    """User and system time of the process so far (from /proc, so on Linux)."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes(server: subprocess.Popen[str]) -> int:
    """Most memory the process has held (from /proc)."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) * 1024  # type: ignore[union-attr]


if __name__ == "__main__":
    main()
