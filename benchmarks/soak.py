"""The HTTP service for minutes, with trouble beside: `python -m benchmarks.soak [--minutes 5] [--rate 100]`.

Requests of every route are due at a fixed rate, and each answer is compared with that of the same model file in this
process. All the while there are idle connections, heads that are none, and clients that send a few bytes now and then,
several requests at once, or half of one. Latency counts from when a request was due. Writes
benchmarks/results/reliability/soak.json; the client takes a part of the machine's cores.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import uvloop

from benchmarks import measure
from c2f_dgl.serving import ItemCodes, Level, Neighbours, Rows, ServingModel, UserHistories
from c2f_dgl.serving.codes import degree_levels, level_means

# A request (method, target, body), and what it is answered with.
Case = tuple[tuple[str, str, str], dict[str, Any]]

MALFORMED = (
    *(b"GET\r\n\r\n", b"\0\xff" * 40 + b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\r\n\r\n"),
    *(b"GET /health HTTP/1.1\r\nno colon\r\n\r\n", b"POST /recommend HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
    b"POST /recommend HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
)


@contextmanager
def served(path: Path, *options: str, workers: int = 1) -> Iterator[tuple[int, str, int]]:
    """The process id, host and port of ``c2f-dgl serve`` once all workers have started."""
    command = [sys.executable, "-m", "c2f_dgl", "serve", str(path), "--port", "0", "--workers", str(workers), *options]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        said = ""
        while said.count("startup complete") < workers or "http://" not in said:
            line = server.stderr.readline()
            assert line, said
            said += line
        host, port = re.findall(r"http://(\S+?):(\d+)", said)[0]
        # A pipe that nobody reads is full after 64 KiB, and then whoever writes waits.
        threading.Thread(target=server.stderr.read, daemon=True).start()
        yield server.pid, host, int(port)
    finally:
        server.terminate()
        server.wait()


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


def cases(model: ServingModel, users: UserHistories, n: int = 400) -> list[Case]:
    """Requests (method, target, body) of every kind, and what each is answered with."""
    rng, made = np.random.default_rng(0), list[Case]()
    for number in range(n):
        history = rng.choice(model.items.ids, rng.integers(60), replace=False).tolist()
        user, item, k = int(rng.choice(users.ids.ids)), int(rng.choice(model.items.ids)), int(rng.integers(1, 50))
        some = rng.choice(model.items.ids, 200, replace=False).tolist() if number % 4 == 0 else None
        rank = {"k": k, "exclude_seen": bool(number % 2)}
        theirs, explain = model.items.ids[users.of([user]).columns].tolist(), {"item": item, "k": k}
        wanted = {"unknown": [], **_ranked(model.recommend(history, **rank, candidates=some))}
        made += [
            (("POST", "/recommend", json.dumps({"history": history, "candidates": some, **rank})), wanted),
            (("POST", "/explain", json.dumps({"history": history, **explain})), _terms(model, history, item, k)),
            (("GET", f"/recommend?{urlencode({'user': user, **rank})}", ""), _ranked(model.recommend(theirs, **rank))),
            (("GET", f"/explain?{urlencode({'user': user, **explain})}", ""), _terms(model, theirs, item, k)),
            (("GET", f"/similar?{urlencode(explain)}", ""), _ranked(model.similar_items(item, k), "similarities")),
        ]
    return made


def _ranked(found: tuple[np.ndarray, np.ndarray], name: str = "scores") -> dict[str, Any]:
    return {"items": found[0].tolist(), name: found[1].tolist()}


def _terms(model: ServingModel, history: list[int], item: int, k: int) -> dict[str, Any]:
    found = model.explain(history, item)
    terms = zip(found.ids[:k].tolist(), found.contributions[:k].tolist(), strict=True)
    return {"score": found.score, "parts": [dict(zip(("item", "contribution"), term, strict=True)) for term in terms]}


def same(found: Any, wanted: Any) -> bool:
    """Whether everything wanted is there, numbers to nine digits."""
    if isinstance(wanted, dict):
        return all(same(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9) if isinstance(wanted, float) else found == wanted


async def soak(
    minutes: float, rate: int, idle: int, host: str, port: int, made: list[Case], process: int
) -> dict[str, Any]:
    """What became of the requests, of the trouble, and of the service's memory."""
    counts, resident = Counter[str](), list[int]()
    due_at, finished = list[float](), list[float]()
    pool: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
    for _ in range(64):
        pool.put_nowait(Connection(host, port))

    def judge(status: int, body: bytes, wanted: dict[str, Any], kind: str = "") -> None:
        counts[f"{kind}answers"] += 1
        counts[f"{kind}wrong"] += status != 200 or not same(json.loads(body), wanted)

    async def request(case: Case, due: float) -> None:
        connection = await pool.get()
        status, body = await connection.ask(*case[0])
        due_at.append(due)
        finished.append(time.perf_counter())
        pool.put_nowait(connection)
        judge(status, body, case[1])

    async def trouble(number: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        some = random.choices(made, k=8)
        if number % 4 == 0:  # a few bytes now and then
            sent = request_bytes(*some[0][0])
            for start in range(0, len(sent), 1 + len(sent) // 20):
                writer.write(sent[start : start + 1 + len(sent) // 20])
                await asyncio.sleep(0.25)
            judge(*await answer(reader), some[0][1], "slow ")
        elif number % 4 == 1:
            writer.write(b"".join(request_bytes(*case[0]) for case in some))
            for case in some:
                judge(*await answer(reader), case[1], "pipelined ")
        elif number % 4 == 2:
            writer.write(random.choice(MALFORMED))
            head = await asyncio.wait_for(reader.read(12), 30)
            counts["malformed"] += 1
            counts["malformed, not refused"] += head != b"HTTP/1.1 400"
        else:
            writer.write(request_bytes(*some[0][0])[: random.randrange(100)])
            counts["gone halfway"] += 1
        writer.close()

    quiet = [await asyncio.open_connection(host, port) for _ in range(idle)]
    start, tasks = time.perf_counter() + 0.05, set[asyncio.Task[None]]()
    for number in range(int(rate * 60 * minutes)):
        due = start + number / rate
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        tasks.add(asyncio.create_task(request(made[number % len(made)], due)))
        if number % rate == 0:  # once a second
            resident.append(measure.memory("VmRSS", process))
            tasks |= {asyncio.create_task(trouble(number // rate * 4 + one)) for one in range(4)}
        tasks = {task for task in tasks if not task.done() or task.result()}
    await asyncio.gather(*tasks)
    late = 1000 * (np.array(finished) - due_at)
    return {
        "counts": dict(counts),
        "requests a second answered": len(late) / (max(finished) - start),
        "milliseconds": {f"p{q:g}": float(np.percentile(late, q)) for q in (50, 99, 99.9, 100)},
        "idle connections": {"opened": idle, "open at the end": sum(not one.at_eof() for one, _ in quiet)},
        "load at the end": round(os.getloadavg()[0], 2),
        "resident bytes every second": resident,
    }


def main(minutes: float = 5.0, rate: int = 100, idle: int = 500, items: int = 5000) -> None:
    model = random_model(items, 64, 4)
    rng = np.random.default_rng(1)
    users = UserHistories.none(model.items).added((rng.integers(0, 500, 9000), rng.choice(model.items.ids, 9000)))
    record = {"minutes": minutes, "rate": rate, "idle": idle, "items": items, "machine": measure.machine()}
    with measure.folder() as folder:
        path, of_users = folder / "made.c2f", folder / "users.c2f"
        model.save(path), users.save(of_users)
        made = cases(ServingModel.load(path), users)
        with served(path, "--users", str(of_users)) as (process, host, port):
            record |= uvloop.run(soak(minutes, rate, idle, host, port, made, process))
    print(record["counts"], record["milliseconds"], measure.keep("reliability", "soak", record))


if __name__ == "__main__":
    measure.command(main)
