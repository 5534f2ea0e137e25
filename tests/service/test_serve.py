"""``c2f-dgl serve`` as a process."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from c2f_dgl.cli.serve import serve
from c2f_dgl.errors import InputError
from c2f_dgl.serving import UserHistories
from tests.serving.coded import coded


@contextlib.contextmanager
def serving(*command: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = ""
        while (match := re.search(r"http://\S+?:\d+", said)) is None:
            line = process.stderr.readline()
            assert line, said
            said += line
        yield process, match.group()
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder, model = tmp_path_factory.mktemp("service"), coded()
    model.save(folder / "model.c2f")
    UserHistories.none(model.items).added({3: [100, 101], 7: [105]}).save(folder / "users.c2f")
    return folder / "model.c2f", folder / "users.c2f"


def test_a_model_and_its_users_are_served_without_torch(files: tuple[Path, Path]) -> None:
    code = """
import sys
for name in ("torch", "dgl", "scipy", "pandas", "sklearn"):
    sys.modules[name] = None
from c2f_dgl.cli.main import main
main()
"""
    model, users = map(str, files)
    with serving("-c", code, "serve", model, "--users", users, "--port", "0") as (process, address):
        assert address.startswith("http://127.0.0.1:")
        assert httpx.get(f"{address}/health").json() == {"status": "ok", "data": "made", "items": 20, "users": 2}
        answers: list[int] = []

        def ask() -> None:
            with httpx.Client() as client:
                for _ in range(40):
                    answers.append(client.get(f"{address}/recommend", params={"user": 3, "k": 5}).status_code)
                    body = {"history": [100, 103], "k": 5}
                    answers.append(client.post(f"{address}/recommend", json=body).status_code)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [200] * 640
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)


def workers_of(parent: int) -> list[int]:
    """Processes that a server has started to answer."""
    started = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(one) for one in started if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


def test_two_workers_answer_alike_and_end_together(files: tuple[Path, Path]) -> None:
    model, users = map(str, files)
    command = ["-m", "c2f_dgl", "serve", model, "--users", users, "--port", "0", "--workers", "2"]
    with serving(*command) as (process, address):
        said = ""
        assert process.stderr is not None
        while said.count("Application startup complete") < 2:
            said += process.stderr.readline()
        workers = workers_of(process.pid)
        assert len(workers) == 2
        body, answers = {"history": [100, 103], "k": 5}, dict[int, list[tuple[int, list[int]]]]()
        for stopped, answering in (workers, reversed(workers)):
            os.kill(stopped, signal.SIGSTOP)  # and the other one alone accepts
            try:
                found = httpx.post(f"{address}/recommend", json=body), httpx.get(f"{address}/recommend?user=3&k=5")
                answers[answering] = [(answer.status_code, answer.json()["items"]) for answer in found]
            finally:
                os.kill(stopped, signal.SIGCONT)
        first, second = answers.values()
        assert first == second
        assert [(status, len(items)) for status, items in first] == [(200, 5), (200, 5)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)
        assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_what_cannot_be_served_is_said_in_one_line(files: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match=r"nowhere\.c2f: cannot read"):
        serve(files[0].parent / "nowhere.c2f")
    with pytest.raises(InputError, match=r"model\.c2f: is no c2f_dgl users file"):
        serve(files[0], files[0])
