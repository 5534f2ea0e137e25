"""Pushing and pulling with the hub's own library, against a server that keeps repositories in a folder."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml

from c2f_dgl.export.card import card_path
from c2f_dgl.serving import ServingModel
from tests.command import c2f
from tests.export.test_card import made
from tests.serving.coded import coded

TOKEN = "hf_of_the_test"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as making a repository, one commit of small files, and a download take."""

    folder: Path
    made: dict[str, dict]  # what each repository was made with

    @property
    def address(self) -> str:
        return f"http://{self.headers['Host']}"

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, code: int, body: object = b"", **headers: str) -> None:
        blob = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(blob)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(blob)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid username or password."})
        if self.path == "/api/validate-yaml":  # the header of a README
            header = yaml.safe_load(json.loads(body)["content"].split("---")[1])
            errors = [] if header["library_name"] == "c2f_dgl" else [{"message": "another library"}]
            return self.answer(200, {"errors": errors, "warnings": []})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.made:
                return self.answer(409, {"url": f"{self.address}/{name}"})
            self.made[name] = asked
            return self.answer(200, {"url": f"{self.address}/{name}"})
        name = self.path.removeprefix("/api/models/").rpartition("/")[0].rpartition("/")[0]
        if self.path.endswith("/preupload/main"):
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            return self.answer(200, {"files": [{**file, "shouldIgnore": False} for file in files]})
        assert self.path.endswith("/commit/main"), self.path
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                path = self.folder / name / line["value"]["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(line["value"]["content"]))
        return self.answer(
            200, {"commitUrl": f"{self.address}/{name}/commit/1", "commitOid": "1" * 40, "success": True}
        )

    def do_GET(self) -> None:
        name, _, file = self.path.removeprefix("/").partition("/resolve/main/")
        if not (self.folder / name).is_dir():
            return self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        if not (path := self.folder / name / file).is_file():
            return self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
        self.answer(200, path.read_bytes(), ETag='"1"', X_Repo_Commit="1" * 40)

    do_HEAD = do_GET


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    kind = type("Of", (Hub,), {"folder": tmp_path / "hub", "made": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def run(hub: ThreadingHTTPServer, *arguments: object, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, whose hub is the server."""
    folder: Path = hub.RequestHandlerClass.folder
    secret = {} if token is None else {"HF_TOKEN": token}
    home = {"HF_HOME": str(folder.parent / "home"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return subprocess.run(
        [sys.executable, "-m", "c2f_dgl", *map(str, arguments)],
        env={**kept, **home, **secret, "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}"},
        capture_output=True,
        text=True,
    )


def test_what_is_pushed_is_pulled(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    model, pulled = tmp_path / "mine.c2f", tmp_path / "theirs.c2f"
    coded().save(model)
    card_path(model).write_text(made("Ünder | <b>", np.arange(60)), "utf-8")
    done = run(hub, "push", model, "me/gowalla")
    assert done.returncode == 0 and done.stdout.strip().endswith("/me/gowalla/commit/1"), done.stderr
    assert hub.RequestHandlerClass.made["me/gowalla"]["visibility"] == "private"
    there = hub.RequestHandlerClass.folder / "me" / "gowalla"
    assert {file.name for file in there.iterdir()} == {"model.c2f", "README.md"}
    assert (there / "README.md").read_bytes() == card_path(model).read_bytes()
    assert run(hub, "push", model, "me/gowalla").returncode == 0, "again, into the repository that is there"
    done = run(hub, "pull", "me/gowalla", "--out", pulled)
    assert done.returncode == 0, done.stderr
    assert pulled.read_bytes() == model.read_bytes() and not pulled.is_symlink()
    assert ServingModel.load(pulled).n_items == 20
    # What somebody else put there is looked at before it has a name here.
    (there / "model.c2f").write_bytes(b"cos\nsystem\n(S'echo owned'\ntR.")
    (tmp_path / "home").rename(tmp_path / "old")
    done = run(hub, "pull", "me/gowalla", "--out", tmp_path / "bad.c2f")
    assert done.returncode == 2 and "is no c2f_dgl model file" in done.stderr, done.stderr
    assert not (tmp_path / "bad.c2f").exists() and not list(tmp_path.glob(".*.part"))


def test_what_the_hub_refuses_is_one_line(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    model, bare, log = tmp_path / "mine.c2f", tmp_path / "bare.c2f", tmp_path / "log.csv"
    for path in (model, bare):
        coded().save(path)
    card_path(model).write_text("card")
    log.write_text("user,item\n1,2\n")
    (hub.RequestHandlerClass.folder / "me" / "empty").mkdir(parents=True)
    out = tmp_path / "out.c2f"
    for arguments, token, words in (
        (("push", model, "me/new"), None, "me/new: no token (expected `hf auth login` once, or HF_TOKEN set)"),
        (("push", model, "me/new"), "hf_wrong", "401"),
        (("push", model, "me/new/er"), TOKEN, "Repo id must be in the form"),
        (("push", bare, "me/new"), TOKEN, "bare.c2f.md: no such file (expected the card that"),
        (("push", log, "me/new"), TOKEN, "is no c2f_dgl model file"),
        (("pull", "me/none", "--out", out), None, "me/none: no such repository, or no access to it (expected OWNER/"),
        (("pull", "me/empty", "--out", out), None, "me/empty: holds no model.c2f (expected what `c2f-dgl push`"),
        (("pull", "me/empty", "--out", model), None, "mine.c2f: is there already"),
    ):
        done = run(hub, *arguments, token=token)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert hub.RequestHandlerClass.made == {} and not out.exists()
    hub.shutdown()
    hub.server_close()
    done = run(hub, "push", model, "me/new")
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("c2f-dgl: me/new: "), done.stderr


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for arguments in (("push", tmp_path / "x.c2f", "a/b"), ("pull", "a/b", "--out", tmp_path / "x.c2f")):
        done = c2f(*arguments)
        expected = "c2f-dgl: a/b: huggingface_hub is not installed (expected pip install 'c2f_dgl[hub]')\n"
        assert done.returncode == 2 and done.stderr == expected
