"""As much of the hub as pushing and pulling take: a server that keeps repositories in a folder."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

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


@contextmanager
def started(folder: Path) -> Iterator[ThreadingHTTPServer]:
    """The server, which keeps repositories in a folder."""
    kind = type("Of", (Hub,), {"folder": folder, "made": {}})
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
