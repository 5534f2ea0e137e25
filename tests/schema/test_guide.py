"""docs/graph.md: its code runs, its preset is the example's, its diagram is what the command draws."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from c2f_dgl import load_config
from c2f_dgl.config.diagram import mermaid
from c2f_dgl.config.graph import NodeConfig, RelationConfig
from c2f_dgl.examples.communities.train import prepare as with_communities
from c2f_dgl.examples.tiers.train import prepare as with_tiers

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "graph.md").read_text()
EXAMPLES = ROOT / "c2f_dgl" / "examples"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)


@pytest.mark.parametrize("number", range(3))
def test_code_runs_as_it_stands(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, names = blocks("python")[number], {}
    assert len(blocks("python")) == 3 and len(code.splitlines()) < 30
    exec(code, names)
    if number == 0:
        assert names["books"].shape == (3, 5) and np.isfinite(names["scores"]).all()
        assert set(names["model"].importances()) == {"written_by", "follows"}
    if number == 1:
        assert set(names["split"].side.relations) == {"made_by", "viewed"}
    if number == 2:
        names["score"].sum().backward()
        assert names["embedding"].weight.grad.abs().sum() > 0


def test_the_preset_is_that_of_the_example_and_is_drawn_as_it_stands() -> None:
    path = EXAMPLES / "social" / "social.yaml"
    assert yaml.safe_load(blocks("yaml")[0]) == yaml.safe_load(path.read_text())
    assert blocks("mermaid")[0].strip() == mermaid(load_config(str(path)))


def test_every_key_of_the_tables_exists() -> None:
    for title, model in (("a relation", RelationConfig), ("a node type", NodeConfig)):
        table = GUIDE.partition(f"| key of {title} |")[2].partition("\n\n")[0]
        named = {key for row in table.splitlines()[2:] for key in re.findall(r"`(\w+)`", row.split("|")[1])}
        assert named and named <= set(model.model_fields)


def test_examples_are_laid_out_alike() -> None:
    folders = [path for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert {path.name for path in folders} == {"social", "tiers", "counts", "communities"}
    for folder in folders:
        assert (folder / "README.md").is_file() and (folder / "train.py").is_file()
        assert f"python -m c2f_dgl.examples.{folder.name}.train" in (folder / "README.md").read_text()
        for preset in folder.glob("*.yaml"):
            load_config(str(preset))


def test_examples_add_what_they_say() -> None:
    split, config = with_communities("planted", 2024, True)
    assert split.side is not None and split.side.relations["belongs_to"].nnz == split.n_items
    assert set(config.graph.nodes) == {"community"}
    assert with_communities("planted", 2024, False)[0].side is None
    assert list(with_tiers("planted", 2024, True)[1].finer) == ["fine", "finest"]
