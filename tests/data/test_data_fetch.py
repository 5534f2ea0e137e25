"""Downloads from a local server that can stop half way."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from c2f_dgl.data.cards import Card, RemoteFile
from c2f_dgl.data.fetch import fetch
from c2f_dgl.errors import InputError

FILES = {"/tiny/train.txt": b"0 1 2\n" * 50_000, "/tiny/test.txt": b"0 3\n"}


class Server(ThreadingHTTPServer):
    """Serves `FILES`; the tests turn its faults on and off."""

    ranges = True
    stop_after: int | None = None
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.seen.append((self.path, asked))
        content = FILES.get(self.path)
        if content is None:
            return self.send_error(404)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.stop_after])
        return None

    def log_message(self, *_args: object) -> None:
        """Stay quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def card(base_url: str, train_sha256: str | None = None) -> Card:
    train_sha256 = train_sha256 or hashlib.sha256(FILES["/tiny/train.txt"]).hexdigest()
    files = (
        RemoteFile("train.txt", f"{base_url}tiny/train.txt", train_sha256),
        RemoteFile("test.txt", f"{base_url}tiny/test.txt"),
    )
    return Card("tiny", "", "", "LightGCN text", files, 1, 3, 3)


def test_fetch_brings_every_file_and_nothing_else(server, tmp_path):
    folder = fetch(card(server.url), tmp_path)
    assert folder == tmp_path / "tiny"
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        "train.txt": FILES["/tiny/train.txt"],
        "test.txt": FILES["/tiny/test.txt"],
    }
    asked = len(server.seen)
    fetch(card(server.url), tmp_path)
    assert len(server.seen) == asked, "what is there is not fetched again"


@pytest.mark.parametrize("ranges", [True, False])
def test_a_truncated_download_is_refused_and_resumed(server, tmp_path, ranges):
    server.stop_after = 70_000
    with pytest.raises(InputError, match=r"truncated: 70,000 of 300,000 bytes .expected all; fetch again to resume"):
        fetch(card(server.url), tmp_path)
    assert [file.name for file in (tmp_path / "tiny").iterdir()] == ["train.txt.part"]
    server.stop_after, server.ranges = None, ranges
    folder = fetch(card(server.url), tmp_path)
    assert server.seen[1] == ("/tiny/train.txt", "bytes=70000-")
    assert (folder / "train.txt").read_bytes() == FILES["/tiny/train.txt"]
    assert sorted(file.name for file in folder.iterdir()) == ["test.txt", "train.txt"]


@pytest.mark.parametrize("part", [FILES["/tiny/train.txt"], b"x" * 400_000], ids=["whole", "too long"])
def test_a_part_that_is_whole_already_is_taken_and_a_longer_one_thrown_away(server, tmp_path, part):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "train.txt.part").write_bytes(part)
    folder = fetch(card(server.url), tmp_path)
    assert (folder / "train.txt").read_bytes() == FILES["/tiny/train.txt"]


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(InputError, match=f"train.txt: sha256 is [0-9a-f]{{64}} .expected {'0' * 64}"):
        fetch(card(server.url, "0" * 64), tmp_path)
    assert list((tmp_path / "tiny").iterdir()) == []


def test_what_cannot_be_reached_is_one_line(server, tmp_path):
    with pytest.raises(InputError, match=r"other/tiny/train\.txt: cannot be fetched: Not Found"):
        fetch(card(f"{server.url}other/"), tmp_path)
    closed = Server()
    closed.server_close()
    with pytest.raises(InputError, match=r"cannot be fetched: .*refused") as caught:
        fetch(card(closed.url), tmp_path)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "tiny").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_refused(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        fetch(card(server.url), tmp_path / "file")
    assert server.seen == []
