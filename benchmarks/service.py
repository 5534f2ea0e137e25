"""The HTTP service in a process of its own, a model of random codes for it, and a client that costs next to nothing."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from c2f_dgl.serving import ItemCodes, Level, Neighbours, Rows, ServingModel
from c2f_dgl.serving.codes import degree_levels, level_means


@contextmanager
def served(path: Path, *options: str) -> Iterator[tuple[int, str, int]]:
    """The process id, host and port of ``c2f-dgl serve``."""
    command = [sys.executable, "-m", "c2f_dgl", "serve", str(path), "--port", "0", *options]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        address = next(match for line in server.stderr if (match := re.search(r"http://(\S+?):(\d+)", line)))
        # A pipe that nobody reads is full after 64 KiB, and then whoever writes waits.
        threading.Thread(target=server.stderr.read, daemon=True).start()
        yield server.pid, address[1], int(address[2])
    finally:
        server.kill()
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
