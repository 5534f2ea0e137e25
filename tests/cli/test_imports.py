"""What the command line imports before a command runs."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "dgl", "numpy", "scipy", "pandas", "sklearn", "fastapi")


def test_help_waits_for_no_library() -> None:
    code = f"""
import sys
for name in {HEAVY!r}:
    sys.modules[name] = None
from c2f_dgl.cli.main import main
main()
"""
    for arguments, words in ([["--help"], ["train", "serve", "data"]], [["serve", "--help"], ["--precompute"]]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert all(word in done.stdout for word in words)


def test_help_of_train_lists_the_options() -> None:
    done = subprocess.run([sys.executable, "-m", "c2f_dgl.cli.main", "train", "--help"], capture_output=True, text=True)
    assert "coarse.anchor_weight: " in done.stdout
