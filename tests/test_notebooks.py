"""docs/notebooks: they run, and what stands in them is what a run prints."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest

from c2f_dgl.data.cards import CARDS, default_data_dir, is_here
from tests.notebooks import FOLDER, METADATA, executed

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NUMBER = r"\d[\d,]*(?:\.\d+)?"


def figures(notebook: nbformat.NotebookNode) -> list[str]:
    """What is printed, and the tables of metrics; lists of recommendations are those of one machine."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [output["text"] if "text" in output else output["data"]["text/plain"] for output in outputs]
    return [text for output, text in zip(outputs, texts, strict=True) if "text" in output or "ndcg" in text]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_prints_what_stands_in_it(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if path.stem == "movielens":
        beside = Path(__file__).parents[1] / ".." / "shared" / "data"
        folder = next((folder for folder in (default_data_dir(), beside) if is_here(CARDS["ml-100k"], folder)), None)
        if folder is None:
            pytest.skip("MovieLens is not at hand (c2f-dgl data fetch ml-100k)")
        monkeypatch.setenv("C2F_DGL_DATA", str(folder.resolve()))
    written, run = figures(nbformat.read(path, as_version=4)), figures(executed(path, tmp_path))
    assert written
    words = [[re.sub(NUMBER, "0", text).split() for text in texts] for texts in (written, run)]
    assert words[0] == words[1]
    for before, now in zip(written, run, strict=True):
        numbers = [[float(number.replace(",", "")) for number in re.findall(NUMBER, text)] for text in (before, now)]
        assert numbers[1] == pytest.approx(numbers[0], rel=0.15), now  # threads and versions move them a little


def test_notebooks_are_those_of_no_machine() -> None:
    assert len(NOTEBOOKS) == 3
    for path in NOTEBOOKS:
        notebook, text = nbformat.read(path, as_version=4), path.read_text()
        assert notebook.metadata == METADATA
        assert [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"] == list(
            range(1, 1 + sum(cell.cell_type == "code" for cell in notebook.cells))
        ), "run from top to bottom, and each cell once"
        assert "stderr" not in text and "Traceback" not in text
        assert re.search(r"/(home|root|tmp|work|Users|usr|opt)/", text) is None
        assert os.path.getsize(path) < 50_000
