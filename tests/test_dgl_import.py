"""`import dgl` where it fails by itself, where it works, and where it is absent; each in its own interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WORKS = """
import logging, sys
logging.basicConfig(level=logging.INFO)
from c2f_dgl.dgl_import import dgl, import_dgl
import torch
graph = dgl.heterograph({("user", "likes", "item"): (torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]))})
x = torch.ones(2, 3, requires_grad=True)
graph.nodes["user"].data["x"] = x
graph.edges["likes"].data["w"] = torch.tensor([1.0, 2.0, 4.0])
graph.update_all(dgl.function.u_mul_e("x", "w", "m"), dgl.function.sum("m", "y"))
y = graph.nodes["item"].data["y"]
assert y.tolist() == [[3.0] * 3, [4.0] * 3], y
y.sum().backward()
assert x.grad.tolist() == [[1.0] * 3, [6.0] * 3]
assert import_dgl() is dgl is sys.modules["dgl"]
"""

FAKE = '__version__ = "9.9"\n'


def run(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[1]
    prelude = "import sys; sys.path[:0] = " + repr([*map(str, path), str(root)]) + "\n"
    return subprocess.run([sys.executable, "-c", prelude + code], capture_output=True, text=True)


def test_message_passing_works_beside_the_installed_torch() -> None:
    done = run(WORKS)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("does not import by itself") <= 1


@pytest.mark.parametrize("setuptools", ["none", "old"])
def test_stand_ins_for_graphbolt_and_setuptools(tmp_path: Path, setuptools: str) -> None:
    """A DGL that needs graphbolt's library and setuptools.extern, as the wheels do."""
    (tmp_path / "dgl").mkdir()
    (tmp_path / "dgl" / "__init__.py").write_text(
        "from setuptools.extern import packaging\nassert packaging.version.Version('1.0')\nfrom . import graphbolt\n"
        + FAKE
    )
    (tmp_path / "dgl" / "graphbolt.py").write_text("raise FileNotFoundError('Cannot find DGL C++ graphbolt library')\n")
    (tmp_path / "setuptools").mkdir()
    (tmp_path / "setuptools" / "__init__.py").write_text("")
    if setuptools == "old":
        (tmp_path / "setuptools" / "extern").mkdir()
        (tmp_path / "setuptools" / "extern" / "__init__.py").write_text("import packaging, packaging.version\n")
        (tmp_path / "setuptools" / "extern" / "packaging.py").write_text("from packaging import version\n")
    done = run(
        "import logging; logging.basicConfig(level=logging.INFO)\n"
        "from c2f_dgl.dgl_import import dgl; print(dgl.__version__)",
        tmp_path,
    )
    assert done.stdout.strip() == "9.9", done.stderr
    line = next(line for line in done.stderr.splitlines() if "does not import by itself" in line)
    assert ("setuptools.extern" in line.partition("stand-ins")[2]) == (setuptools == "none")


def test_a_dgl_that_imports_by_itself_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "dgl").mkdir()
    (tmp_path / "dgl" / "__init__.py").write_text("from . import graphbolt\n" + FAKE)
    (tmp_path / "dgl" / "graphbolt.py").write_text("real = True\n")
    done = run(
        "import logging; logging.basicConfig(level=logging.INFO)\n"
        "from c2f_dgl.dgl_import import dgl; print(dgl.graphbolt.real)",
        tmp_path,
    )
    assert done.stdout.strip() == "True", done.stderr
    assert "stand-ins" not in done.stderr


def test_a_missing_dgl_stays_missing() -> None:
    hidden = (
        "class No:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'dgl': raise ModuleNotFoundError(\"No module named 'dgl'\", name='dgl')\n"
        "sys.meta_path.insert(0, No())\nimport c2f_dgl.dgl_import\n"
    )
    done = run(hidden)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("No module named 'dgl'")


def test_a_dgl_broken_otherwise_says_so(tmp_path: Path) -> None:
    (tmp_path / "dgl").mkdir()
    (tmp_path / "dgl" / "__init__.py").write_text("raise ImportError('no CUDA driver')\n")
    done = run("import c2f_dgl.dgl_import", tmp_path)
    assert done.returncode == 1
    assert "no CUDA driver" in done.stderr
