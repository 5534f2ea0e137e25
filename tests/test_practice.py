"""docs/practice.md: its commands and its code run as they stand, from top to bottom in one folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.command import c2f

GUIDE = (Path(__file__).parents[1] / "docs" / "practice.md").read_text()


def test_the_guide_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shelf.csv").write_text("".join(f"{item}\n" for item in range(300)))
    (tmp_path / "sold.csv").write_text("item\n7\n8\n")
    blocks, names = re.findall(r"```(sh|python)\n(.*?)```", GUIDE, flags=re.DOTALL), dict[str, object]()
    assert len(blocks) == GUIDE.count("```") / 2
    for language, code in blocks:
        if language == "python":
            exec(code, names)
            continue
        for command in code.splitlines():
            name, *arguments = shlex.split(command, comments=True)
            assert name == "c2f-dgl"
            done = c2f(*arguments)
            assert done.returncode == 0, (command, done.stderr)
