"""What the documents claim: their code runs, their tables are those of committed runs, their options exist."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

from c2f_dgl import load_config, load_dataset, load_run, train
from c2f_dgl.config.load import options
from c2f_dgl.errors import InputError

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_tables_are_generated_from_committed_results() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.tables", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_python_example_is_a_doctest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert tried == 9 and failed == 0


def test_every_option_of_the_symbol_table_exists() -> None:
    known = {key for key, _, _ in options()}
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    table = glossary.partition("| symbol | option |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`((?:model|coarse|fine)\.[a-z0-9_.]+)`", table))
    assert len(named) > 15
    assert named <= known


def test_links_between_documents_lead_somewhere() -> None:
    links = [
        (path, target)
        for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "c2f_dgl").rglob("*.md"))
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text())
    ]
    assert len(links) > 30
    assert [(path.name, target) for path, target in links if not (path.parent / target).exists()] == []


def test_data_in_memory_are_split_trained_on_and_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(
        r"In memory the same is\n\n```python\n(.*?)```", (ROOT / "docs" / "data.md").read_text(), re.DOTALL
    )
    assert code is not None
    monkeypatch.chdir(tmp_path)
    exec(code[1], {})
    assert (tmp_path / "memory.c2f").stat().st_size < 20_000
    with pytest.raises(InputError, match="trained on data in memory"):
        load_run(tmp_path / "runs" / "memory")
    with pytest.raises(InputError, match="csr_matrix is no Split"):
        train(load_dataset("planted").train, tmp_path / "run", load_config("quick"))
