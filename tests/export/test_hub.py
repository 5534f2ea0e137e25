"""Pushing and pulling with the hub's own library, against a server that keeps repositories in a folder."""

from __future__ import annotations

import sys
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from c2f_dgl.export.card import card_path
from c2f_dgl.serving import ServingModel
from tests.command import c2f
from tests.export.test_card import made
from tests.hub import TOKEN, run
from tests.serving.coded import coded


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
