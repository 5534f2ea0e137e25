"""The HTTP service for minutes, with trouble beside: `python -m benchmarks.soak [--minutes 5] [--rate 100]`.

Requests of every route are due at a fixed rate, and each answer is compared with that of the same model file in this
process. All the while there are idle connections, heads that are none, and clients that send a few bytes now and then,
several requests at once, or half of one. Latency counts from when a request was due. Writes
benchmarks/results/reliability/soak.json; the client takes a part of the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks import measure
from benchmarks.service import Connection, answer, random_model, request_bytes, served
from benchmarks.service_cases import Case, cases, same
from c2f_dgl.serving import ServingModel, UserHistories

MALFORMED = (
    *(b"GET\r\n\r\n", b"\0\xff" * 40 + b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\r\n\r\n"),
    *(b"GET /health HTTP/1.1\r\nno colon\r\n\r\n", b"POST /recommend HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
    b"POST /recommend HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
)


async def soak(arguments: argparse.Namespace, host: str, port: int, made: list[Case], process: int) -> dict[str, Any]:
    """What became of the requests, of the trouble, and of the service's memory."""
    counts, resident, seconds = Counter[str](), list[int](), 60 * arguments.minutes
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

    idle = [await asyncio.open_connection(host, port) for _ in range(arguments.idle)]
    start, tasks = time.perf_counter() + 0.05, set[asyncio.Task[None]]()
    for number in range(int(arguments.rate * seconds)):
        due = start + number / arguments.rate
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        tasks.add(asyncio.create_task(request(made[number % len(made)], due)))
        if number % arguments.rate == 0:  # once a second
            resident.append(measure.memory("VmRSS", process))
            tasks |= {asyncio.create_task(trouble(number // arguments.rate * 4 + one)) for one in range(4)}
        tasks = {task for task in tasks if not task.done() or task.result()}
    await asyncio.gather(*tasks)
    late = 1000 * (np.array(finished) - due_at)
    return {
        "counts": dict(counts),
        "requests a second answered": len(late) / (max(finished) - start),
        "milliseconds": {f"p{q:g}": float(np.percentile(late, q)) for q in (50, 99, 99.9, 100)},
        "idle connections": {"opened": arguments.idle, "open at the end": sum(not one.at_eof() for one, _ in idle)},
        "load at the end": round(os.getloadavg()[0], 2),
        "resident bytes every second": resident,
    }


def main() -> None:
    arguments = measure.parser(__doc__, minutes=5.0, rate=100, idle=500, items=5000).parse_args()
    model = random_model(arguments.items, 64, 4)
    rng = np.random.default_rng(1)
    users = UserHistories.none(model.items).added((rng.integers(0, 500, 9000), rng.choice(model.items.ids, 9000)))
    with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as name:
        path, of_users = Path(name) / "made.c2f", Path(name) / "users.c2f"
        model.save(path), users.save(of_users)
        made = cases(ServingModel.load(path), users)
        record = {**vars(arguments), "machine": measure.machine()}
        with served(path, "--users", str(of_users)) as (process, host, port):
            record |= uvloop.run(soak(arguments, host, port, made, process))
    print(record["counts"], record["milliseconds"], measure.keep("reliability", "soak", record))


if __name__ == "__main__":
    main()
