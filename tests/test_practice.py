"""The guides: their commands and their code run as they stand, each from top to bottom in one folder."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from c2f_dgl import load_dataset
from tests.command import c2f
from tests.hub import run

DOCS = Path(__file__).parents[1] / "docs"
# Other people's libraries, which are not all installed for the tests.
OTHERS = {"implicit", "lightfm", "recbole", "lenskit"}


def run_guide(name: str, hub: ThreadingHTTPServer | None = None) -> set[str]:
    """Run every block of a page, but code with libraries that are not here, which is only parsed; those it took.

    Commands that ask the hub ask the one given.
    """
    guide = (DOCS / name).read_text()
    blocks, names, taken = re.findall(r"```(sh|python)\n(.*?)```", guide, flags=re.DOTALL), dict[str, object](), set()
    assert len(blocks) == guide.count("```") / 2
    for language, code in blocks:
        if language == "python":
            imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
            others = OTHERS & {str(node.module).partition(".")[0] for node in imports}
            if all(map(importlib.util.find_spec, others)):
                exec(code, names)
                taken |= others
            continue
        for command in code.splitlines():
            name, *arguments = shlex.split(command, comments=True)
            assert name == "c2f-dgl"
            done = run(hub, *arguments) if hub and arguments[0] in ("push", "pull") else c2f(*arguments)
            assert done.returncode == 0, (command, done.stderr)
    return taken


def test_everyday_work_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: ThreadingHTTPServer
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shelf.csv").write_text("".join(f"{item}\n" for item in range(300)))
    (tmp_path / "sold.csv").write_text("item\n7\n8\n")
    write_ratings(tmp_path)
    run_guide("practice.md", hub)
    assert Path("pulled.c2f").read_bytes() == Path("model.c2f").read_bytes()
    lists = pd.read_parquet("lists.parquet")
    assert lists["user"].nunique() == 120 and lists.groupby("user").size().eq(20).all()
    had = pd.read_csv("ratings.csv").query("rating >= 4")
    assert len(lists.merge(had, left_on=["user", "item"], right_on=["userId", "movieId"])) == 0
    assert "Film 50" in c2f("recommend", "films.c2f", "--history", "51", "172", "-k", "800").stdout


def write_ratings(folder: Path) -> None:
    """Files such as those of MovieLens: `ratings.csv` of 120 users, `movies.csv`."""
    pairs, rng = load_dataset("planted").train[:120].tocoo(), np.random.default_rng(0)
    log = {"userId": pairs.row, "movieId": pairs.col, "rating": rng.integers(3, 6, pairs.nnz), "timestamp": pairs.row}
    pd.DataFrame(log).to_csv(folder / "ratings.csv", index=False)
    films = pd.DataFrame({"movieId": np.arange(800), "title": [f"Film {n}" for n in range(800)], "genres": "Drama"})
    films.to_csv(folder / "movies.csv", index=False)


def test_coming_from_another_library_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # else implicit warns
    write_ratings(tmp_path)
    # The extra `bench` brings implicit.
    assert "implicit" in run_guide("coming_from.md")
    assert {path.name for path in tmp_path.glob("*.c2f")} == {"model.c2f", "users.c2f", "liked.c2f", "liked-users.c2f"}
