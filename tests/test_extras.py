"""What is installed with which extra, and what is said of a library that is not there."""

from __future__ import annotations

import ast
import configparser
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import c2f_dgl
from c2f_dgl.errors import InputError
from c2f_dgl.extras import EXTRAS, MissingExtraError, check_installed, missing
from tests.command import c2f

ROOT = Path(__file__).parents[1]
# Distributions that are not called as what is imported from them; others that no module imports.
IMPORTED_AS = {
    "scikit-learn": "sklearn",
    "PyYAML": "yaml",
    "Jinja2": "jinja2",
    "faiss-cpu": "faiss",
    "mlflow-skinny": "mlflow",
}
ONLY_USED_BY_UVICORN = {"httptools", "uvloop"}


def requirements(lines: str) -> set[str]:
    names = {re.split(r"[ ;<>=]", line)[0] for line in lines.split("\n") if line}
    return {IMPORTED_AS.get(name, name).replace("-", "_") for name in names} - ONLY_USED_BY_UVICORN


def declared() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_the_extras_that_are_told_of_are_those_of_setup_cfg() -> None:
    extras = declared()["options.extras_require"]
    assert {name: set(modules.split()) for name, modules in EXTRAS.items()} == {
        name: requirements(extras[name]) for name in EXTRAS
    }


def test_every_library_that_is_imported_is_required() -> None:
    known = requirements(declared()["options"]["install_requires"]) | set(" ".join(EXTRAS.values()).split())
    assert {"numpy", "safetensors"} <= known
    found: set[str] = set()
    for path in (ROOT / "c2f_dgl").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    assert len(found) > 40
    # threadpoolctl comes with implicit and scikit-learn.
    assert found - set(sys.stdlib_module_names) - known - {"c2f_dgl", "threadpoolctl"} == set()


def test_the_error_names_the_extras_and_is_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(missing("torch")) == "torch is not installed (expected pip install 'c2f_dgl[train]')"
    assert str(missing("typer")).endswith("(expected pip install 'c2f_dgl[train]' or 'c2f_dgl[serve]')")
    assert missing("no_such_module") is None
    check_installed("numpy", where="here")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"^tune: optuna is not installed .*c2f_dgl\[tune\]"):
        check_installed("numpy", "optuna", where="tune")
    assert issubclass(MissingExtraError, ImportError) and issubclass(MissingExtraError, InputError)


@pytest.mark.parametrize(("module", "name"), [("c2f_dgl", "train"), ("c2f_dgl.data", "Split")])
def test_a_name_that_needs_an_extra_says_so(module: str, name: str) -> None:
    hidden = "import sys; sys.modules['scipy'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{hidden}from {module} import {name}"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("scipy is not installed (expected pip install 'c2f_dgl[train]')")
    assert done.stderr.count("Traceback") == 1
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = importlib.import_module(module).no_such_name


@pytest.mark.parametrize(
    ("absent", "command", "extra"),
    [
        ("typer", "--help", "'c2f_dgl[train]' or 'c2f_dgl[serve]'"),
        ("scipy", "train planted --out run", "'c2f_dgl[train]'"),
    ],
)
def test_the_command_line_says_in_one_line_what_it_lacks(tmp_path: Path, absent: str, command: str, extra: str) -> None:
    hidden = f"import sys; sys.modules['{absent}'] = None\nfrom c2f_dgl.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", hidden, *command.split()], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == f"c2f-dgl: {absent} is not installed (expected pip install {extra})"


def test_the_version_is_said_once() -> None:
    assert declared()["metadata"]["version"] == "attr: c2f_dgl.__version__"
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", c2f_dgl.__version__)
    assert f"version: {c2f_dgl.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {c2f_dgl.__version__.partition('.dev')[0]}" in (ROOT / "CHANGELOG.md").read_text()


def test_what_the_image_of_the_service_takes_exists() -> None:
    """As far as there is no engine to build it: the files that are copied, and the command that is run."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    let_in = (ROOT / ".dockerignore").read_text().split()
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    assert len(copied) == 6
    for name in copied:
        assert (ROOT / name).exists() and f"!{name}" in let_in
    command = next(json.loads(line.partition(" ")[2]) for line in lines if line.startswith("ENTRYPOINT "))
    assert command[0] == "c2f-dgl"
    done = c2f(*command[1:], "no-such.c2f")
    assert done.returncode == 2 and "no-such.c2f" in done.stderr and "No such option" not in done.stderr
