"""docs/architecture.md against the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def test_no_folder_imports_one_above_it() -> None:
    table = PAGE.partition("| folder |")[2].partition("\n\n")[0]
    rows = [
        re.findall(r"`([a-z_]+)(?:/|\.py)`", line.split("|")[1]) for line in table.splitlines() if line.count("|") > 2
    ]
    floor = {name: number for number, names in enumerate(rows) for name in names}
    assert len(floor) > 15
    climbs = []
    for path in (ROOT / "c2f_dgl").rglob("*.py"):
        own = path.relative_to(ROOT / "c2f_dgl").parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("c2f_dgl."):
                other = str(node.module).split(".")[1]
                if own in floor and other in floor and floor[other] < floor[own]:
                    climbs.append((path.name, node.module))
    assert climbs == []


def test_files_and_names_of_the_page_exist() -> None:
    named = re.findall(r"`([a-z_/]+\.py)(?:: ([A-Za-z_.]+))?`", PAGE)
    assert len(named) > 25
    for file, name in named:
        found = [path for path in (ROOT / "c2f_dgl").rglob("*.py") if str(path).endswith("/" + file)]
        assert found, file
        if name:
            last = name.split(".")[-1]
            assert any(re.search(rf"\b{last}\b", path.read_text()) for path in found), (file, name)
