"""``c2f-dgl serve`` as a process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from c2f_dgl.cli.serve import serve
from c2f_dgl.errors import InputError
from tests.serving.made import made


@contextlib.contextmanager
def serving(*command: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.search(r"http://\S+?:\d+", line)
        assert match, line + (process.communicate()[1] if not line else "")
        yield process, match.group()
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("service") / "made.c2f"
    made().save(path)
    return path


async def until_asked_to_close(address: str, answers: list[int]) -> None:
    """One request after another on a connection, as long as the service keeps it open."""
    async with httpx.AsyncClient(timeout=30) as client:
        while True:
            response = await client.get(f"{address}/recommend", params={"user": len(answers) % 30, "k": 7})
            answers.append(response.status_code)
            if response.headers.get("connection") == "close":
                return


def test_nothing_is_lost_on_sigterm(artifact: Path) -> None:
    answers: list[int] = []

    async def load(process: subprocess.Popen[str], address: str) -> None:
        tasks = [asyncio.create_task(until_asked_to_close(address, answers)) for _ in range(8)]
        while len(answers) < 50:
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        await asyncio.gather(*tasks)  # raises where a request has no answer

    command = ["-m", "c2f_dgl.cli.main", "serve", str(artifact), "--port", "0", "--precompute", "4", "--max-k", "7"]
    with serving(*command) as (process, address):
        assert address.startswith("http://127.0.0.1:")
        assert httpx.get(f"{address}/health").json()["precomputed"] == 4
        assert httpx.get(f"{address}/recommend", params={"user": 29, "k": 8}).status_code == 422
        asyncio.run(load(process, address))
        assert process.wait(20) == 0
        assert process.communicate()[1] == ""
    assert set(answers) == {200}


def test_a_request_half_read_when_the_signal_comes_is_answered_without_torch(artifact: Path) -> None:
    # The body arrives in two halves with the signal between them.
    body = json.dumps({"items": [100, 101]}).encode()
    code = """
import sys
for name in ("torch", "dgl", "scipy", "pandas", "sklearn"):
    sys.modules[name] = None
from c2f_dgl.cli.main import main
main()
"""
    with serving("-c", code, "serve", str(artifact), "--port", "0", "--drain", "0") as (process, address):
        with contextlib.suppress(httpx.TransportError):  # the connection may be closed before the answer is read
            assert httpx.get(f"{address}/health", headers={"x": "1" * 5_000_000}).status_code == 431
        host, _, port = address.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            head = f"POST /fold-in HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
            connection.sendall(f"{head}\r\n\r\n".encode() + body[:5])
            httpx.get(f"{address}/health")  # by then the first half has been read
            process.send_signal(signal.SIGINT)
            with pytest.raises(httpx.TransportError):
                while True:
                    httpx.get(f"{address}/health")
            connection.sendall(body[5:])
            answer = b""
            while part := connection.recv(4096):
                answer += part
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b'"items":[' in answer
        assert process.wait(20) == 0


def received(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    answer = b""
    while part := connection.recv(4096):
        answer += part
    return answer


def test_slow_clients_are_answered_408_and_let_go(artifact: Path) -> None:
    command = ["-m", "c2f_dgl.cli.main", "serve", str(artifact), "--port", "0", "--read-timeout", "0.5"]
    with serving(*command) as (process, address):
        host, _, port = address.removeprefix("http://").partition(":")
        head = b"POST /fold-in HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        slow = {
            b"GET /health HTTP/1.1\r\nHost: ": "the head of the request was not read within 0.5 s",
            head + b'{"items"': "the body was not read within 0.5 s",
            b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /hea": "the head of the request was not read within 0.5 s",
        }
        for sent, problem in slow.items():
            with socket.create_connection((host, int(port)), timeout=20) as connection:
                connection.sendall(sent)
                answer = received(connection)
            assert b"HTTP/1.1 408 " in answer
            assert json.loads(answer.rpartition(b"\r\n\r\n")[2]) == {"detail": problem}
            assert b"connection: close" in answer.lower()
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            assert received(connection) == b"", "a connection without a request is closed without a word"
        # Nor do bytes after an answer that begin no request keep a connection open.
        for length in (0, 10):
            with socket.create_connection((host, int(port)), timeout=20) as connection:
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length)
                answer = b""
                while not answer.endswith(b"}"):
                    answer += connection.recv(4096)
                connection.settimeout(3)  # sooner than one that waits for the next request is closed
                connection.sendall(b"\r\n")
                assert received(connection) == b""
        # Bytes that come one by one, each in time, do not prolong it; nor is anybody else kept waiting.
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.settimeout(0.1)
            answer = b""
            for _ in range(100):
                with contextlib.suppress(OSError):
                    connection.sendall(b"G")
                with contextlib.suppress(TimeoutError):
                    answer = connection.recv(4096)
                    break
            assert answer.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 400 "))
        assert httpx.get(f"{address}/health").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_what_cannot_be_served_is_said_in_one_line(artifact: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.c2f"):
        serve(artifact.parent / "nowhere.c2f")
    with pytest.raises(InputError, match=r"192\.0\.2\.1:8000: .*expected a free address"):
        serve(artifact, host="192.0.2.1")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError, match="expected a free address"):
        serve(artifact, port=taken.getsockname()[1])
