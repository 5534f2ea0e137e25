"""The HTTP service under load: `python benchmarks/service.py ARTIFACT [--rate 1000] [--seconds 10] [--precompute 0]`.

Starts `c2f-dgl serve` in a process of its own and asks it `/recommend?user=..&k=20` for users at random, at a fixed
rate on a few connections. Requests are due at times that do not depend on answers, and latency counts from when a
request was due, so that a service that falls behind shows it. Then SIGTERM is sent while the load goes on, and every
request that was sent and not answered counts as lost. Writes benchmarks/results/service/<data set>-<way>.json.
The client runs on the same machine and takes a part of its cores.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import uvloop

from c2f_dgl.files import write_text
from c2f_dgl.serving import read_artifact
from c2f_dgl.training.folder import processor

K = 20
AFTER_SIGTERM = 1.0


@dataclass
class Load:
    """What became of the requests."""

    due: list[float] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    sent: int = 0
    lost: int = 0
    refused: int = 0

    @property
    def latencies(self) -> list[float]:
        return [finished - due for finished, due in zip(self.finished, self.due, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--rate", type=int, default=1000, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warm-up", type=float, default=2.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--precompute", type=int, default=0)
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "c2f_dgl.cli.main", "serve", str(arguments.artifact), "--port", "0"]
    started = time.perf_counter()
    server = subprocess.Popen([*command, "--precompute", str(arguments.precompute)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        (host, port) = re.search(r"http://(\S+?):(\d+)", server.stdout.readline()).groups()  # type: ignore[union-attr]
        seconds_to_start = time.perf_counter() - started
        with urllib.request.urlopen(f"http://{host}:{port}/health") as response:
            health = json.load(response)
        users = user_ids(arguments.artifact)
        measured, stopped, busy, memory = uvloop.run(load(arguments, host, int(port), users, server))
        code = server.wait(30)
    finally:
        server.kill()
    milliseconds = 1000 * np.array(measured.latencies)
    result = {
        "data": health["data"],
        "users": health["users"],
        "items": health["items"],
        "k": K,
        "precomputed": health["precomputed"],
        "connections": arguments.connections,
        "requests a second asked for": arguments.rate,
        "requests a second answered": len(milliseconds) / (max(measured.finished) - min(measured.due)),
        "milliseconds": {f"p{q:g}": float(np.percentile(milliseconds, q)) for q in (50, 90, 99, 99.9, 100)},
        "statuses": {str(status): n for status, n in sorted(measured.statuses.items())},
        "processor milliseconds of the service a request": 1000 * busy,
        "peak bytes of the service": memory,
        "seconds to start": seconds_to_start,
        "SIGTERM under load": {
            "sent": stopped.sent,
            "answered": {str(status): n for status, n in sorted(stopped.statuses.items())},
            "lost": stopped.lost,
            "connections refused": stopped.refused,
            "exit code": code,
        },
        "cores": len(os.sched_getaffinity(0)),
        "load average at the end": os.getloadavg()[0],
        "processor": processor(),
        "versions": versions_of("numpy", "fastapi", "uvicorn", "httptools", "uvloop", "prometheus-client"),
    }
    way = f"top-{health['precomputed']}" if health["precomputed"] else "computed"
    path = Path(__file__).parent / "results" / "service" / f"{health['data']}-{way}-{arguments.rate}.json"
    write_text(path, json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def versions_of(*names: str) -> dict[str, str]:
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def user_ids(artifact: Path) -> list[str]:
    return [str(user) for user in read_artifact(artifact).user_ids.tolist()]


async def load(
    arguments: argparse.Namespace, host: str, port: int, users: list[str], server: subprocess.Popen[str]
) -> tuple[Load, Load, float, int]:
    """Warm up, measure, and send SIGTERM under load: what became of requests, processor use, memory."""
    rng = np.random.default_rng(0)
    pool: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
    for _ in range(arguments.connections):
        pool.put_nowait(Connection(host, port))

    async def drive(seconds: float, into: Load, *, stop: bool = False) -> None:
        n = int(arguments.rate * seconds)
        paths = [f"/recommend?user={users[row]}&k={K}" for row in rng.integers(0, len(users), n)]
        start, tasks = time.perf_counter() + 0.05, set()
        for place, path in enumerate(paths):
            due = start + place / arguments.rate
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            if stop and place == n // 4:
                server.send_signal(signal.SIGTERM)
            tasks.add(asyncio.create_task(one(pool, path, due, into)))
        await asyncio.gather(*tasks)

    await drive(arguments.warm_up, Load())
    measured, stopped = Load(), Load()
    before = processor_seconds(server)
    await drive(arguments.seconds, measured)
    busy = (processor_seconds(server) - before) / max(len(measured.finished), 1)
    memory = peak_bytes(server)
    await drive(4 * AFTER_SIGTERM, stopped, stop=True)
    return measured, stopped, busy, memory


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

    async def get(self, path: str) -> int:
        assert self.streams is not None
        reader, writer = self.streams
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        await reader.readexactly(int(length.group(1)))
        if b"connection: close" in head:
            self.close()
        return int(head.split(b" ", 2)[1])

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
        self.streams = None


async def one(pool: asyncio.LifoQueue[Connection], path: str, due: float, into: Load) -> None:
    connection = await pool.get()
    try:
        try:
            await connection.open()
        except OSError:
            into.refused += 1
            return
        into.sent += 1
        try:
            into.statuses[await connection.get(path)] += 1
            into.finished.append(time.perf_counter())
            into.due.append(due)
        except (OSError, EOFError):
            into.lost += 1
            connection.close()
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
