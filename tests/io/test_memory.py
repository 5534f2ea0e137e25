"""What will not fit is refused in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from c2f_dgl.errors import InputError
from c2f_dgl.io.memory import available_bytes, check_memory
from c2f_dgl.training.folder import RunFolder
from tests.command import c2f


def test_what_does_not_fit_is_refused_with_what_to_change() -> None:
    with pytest.raises(InputError, match=r"coarse.m: a start needs about .* GiB of memory, and .* \(expected fewer\)"):
        check_memory(2**60, "a start", where="coarse.m", expected="fewer")
    check_memory(1, "a start", where="coarse.m", expected="fewer")


def test_a_limit_of_the_address_space_counts() -> None:
    code = (  # what is left of the limit is less than any machine has free
        "import resource; from pathlib import Path; from c2f_dgl.io.memory import available_bytes;"
        "used = resource.getpagesize() * int(Path('/proc/self/statm').read_text().split()[0]);"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26)); assert available_bytes() <= 2**26"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert available_bytes() > 0


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_memory_that_is_not_there_is_one_line(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config(self: RunFolder) -> None:
        raise error

    monkeypatch.setattr(RunFolder, "config", config)
    done = c2f("info", tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("c2f-dgl: out of memory") and done.stderr.count("\n") == 1
