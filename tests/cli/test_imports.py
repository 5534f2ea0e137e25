"""What the command line imports before a command runs."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "dgl", "numpy", "scipy", "pandas", "sklearn", "fastapi")


def test_help_waits_for_no_library() -> None:
    cases = [
        (["--help"], ["train", "serve", "data", "bench"], (*HEAVY, "pydantic")),
        # Typer itself imports pydantic for the options of a command.
        (["serve", "--help"], ["--precompute"], HEAVY),
        (["bench", "--help"], ["--systems"], HEAVY),
    ]
    for arguments, words, absent in cases:
        code = f"""
import sys
for name in {absent!r}:
    sys.modules[name] = None
from c2f_dgl.cli.main import main
main()
"""
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert all(word in done.stdout for word in words)


def test_help_of_train_lists_the_options() -> None:
    done = subprocess.run([sys.executable, "-m", "c2f_dgl.cli.main", "train", "--help"], capture_output=True, text=True)
    assert "coarse.anchor_weight: " in done.stdout
