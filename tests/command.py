"""The command line in this process: what a command prints, and how it ends."""

from __future__ import annotations

import contextlib
import io
import sys
from subprocess import CompletedProcess

import pytest

from c2f_dgl.cli.main import main
from c2f_dgl.io import progress


def c2f(*arguments: object) -> CompletedProcess[str]:
    """Run ``c2f-dgl`` with 120 columns, without colours and without the lines that long work prints."""
    words, out, err = [str(argument) for argument in arguments], io.StringIO(), io.StringIO()
    code: object = 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["c2f-dgl", *words])
        patch.setenv("COLUMNS", "120")
        patch.setenv("NO_COLOR", "1")
        for name in ("_FIRST", "_EVERY"):
            patch.setattr(progress, name, 3600.0)
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
    assert isinstance(code, int)
    return CompletedProcess(words, code, out.getvalue(), err.getvalue())
