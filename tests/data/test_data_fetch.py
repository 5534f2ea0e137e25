"""Downloads from a local server that can stop half way."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from c2f_dgl.data.cards import CARDS, Card, RemoteFile
from c2f_dgl.data.catalogue import load_dataset
from c2f_dgl.data.fetch import fetch
from c2f_dgl.errors import InputError

RATINGS = b"userId,movieId,rating,timestamp\n" + b"1,10,4.5,1\n" * 1_000


def zipped(member: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny/README.txt", "read me")
        archive.writestr(member, RATINGS)
    return file.getvalue()


FILES = {
    "/tiny/train.txt": b"0 1 2\n" * 50_000,
    "/tiny/test.txt": b"0 3\n",
    "/tiny.zip": zipped("tiny/ratings.csv"),
    "/other.zip": zipped("other/ratings.csv"),
}


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
        RemoteFile("train.txt", f"{base_url}tiny/train.txt", f"sha256:{train_sha256}"),
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
    with pytest.raises(InputError, match=f"train.txt: sha256 checksum is [0-9a-f]{{64}} .expected {'0' * 64}"):
        fetch(card(server.url, "0" * 64), tmp_path)
    assert list((tmp_path / "tiny").iterdir()) == []


# The first is what `git hash-object` says of the file.
@pytest.mark.parametrize(
    "checksum",
    ["git:65c9b94edf74d6d9deb325c42d8a874189c9f202", f"md5:{hashlib.md5(FILES['/tiny/test.txt']).hexdigest()}"],
)
def test_checksums_are_those_that_the_places_give(server, tmp_path, checksum):
    file = RemoteFile("test.txt", f"{server.url}tiny/test.txt", checksum)
    tiny = Card("tiny", "", "", "LightGCN text", (file,), 1, 1, 1)
    assert (fetch(tiny, tmp_path) / "test.txt").read_bytes() == FILES["/tiny/test.txt"]
    wrong = replace(tiny, name="wrong", files=(file._replace(checksum=f"{checksum[:-1]}x"),))
    with pytest.raises(InputError, match=f"{checksum.partition(':')[0]} checksum is "):
        fetch(wrong, tmp_path)
    assert list((tmp_path / "wrong").iterdir()) == []


def packed(server, name: str) -> Card:
    checksum = f"md5:{hashlib.md5(FILES[f'/{name}']).hexdigest()}"
    file = RemoteFile("ratings.csv", f"{server.url}{name}", checksum, "tiny/ratings.csv")
    return Card("tiny", "", "", "log", (file,), 1, 1, 1_000)


def test_what_is_packed_is_unpacked_and_only_the_file_stays(server, tmp_path, monkeypatch):
    folder = fetch(packed(server, "tiny.zip"), tmp_path)
    assert [file.name for file in folder.iterdir()] == ["ratings.csv"]
    assert (folder / "ratings.csv").read_bytes() == RATINGS
    monkeypatch.setitem(CARDS, "tiny", packed(server, "tiny.zip"))
    assert load_dataset("tiny", split="leave-last", data_dir=tmp_path).name == "tiny"


@pytest.mark.parametrize("name", ["other.zip", "tiny/test.txt"])
def test_an_archive_without_the_file_is_one_line_and_leaves_nothing(server, tmp_path, name):
    with pytest.raises(InputError, match=r"cannot be unpacked: .*expected zip with tiny/ratings\.csv"):
        fetch(packed(server, name), tmp_path)
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
