"""`doctor` shows what there is, tries it, and says what to do where something is amiss."""

from __future__ import annotations

import importlib.util

import pytest

from c2f_dgl.cli import doctor
from tests.command import c2f


def test_an_installation_that_works() -> None:
    done = c2f("doctor")
    assert done.returncode == 0, done.stdout
    for words in ("torch", "dgl", "kernel of propagate", "data folder", "trained and ranked in"):
        assert words in done.stdout


def test_what_serves_alone_is_not_asked_to_train(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    done = c2f("doctor")
    assert done.returncode == 0, done.stdout
    assert "memory" in done.stdout and "serve" in done.stdout and "torch" not in done.stdout


def test_what_is_broken_is_a_row_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def _dgl() -> None:
        raise ImportError("no such library\nat all")

    monkeypatch.setattr(doctor, "_dgl", _dgl)
    monkeypatch.setattr(doctor, "_self_test", lambda: [("self-test", "poor", "report it")])
    done = c2f("doctor")
    assert done.returncode == 1
    assert "ImportError: no such library" in done.stdout and "at all" not in done.stdout
    assert "data folder" in done.stdout and "report it" in done.stdout
