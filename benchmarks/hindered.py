"""Commands that cannot write or read what they should: `python -m benchmarks.hindered`, as root on Linux.

Each command is given an almost full disk (a tmpfs), a folder that nobody may write in, a run or log that another user
owns, and a second process that does the same at once. It should end with exit code 2 and one line, and leave what was
there as it was; of two at once one or both should write the whole. benchmarks/results/reliability/hindered.json.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.crash import CASES, Case, prepared

# Root without them may do what the owner of its files may: read-only folders are read-only, others' folders closed.
_WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--")
_NOBODY = 65534

COMMANDS = ("train", "export", "export --format web", "data prepare", "report", "recommend --all")
# Lines about how far it is come where work takes more than two seconds.
_PROGRESS = (" s)", "left)", "dense)", "drawn from test")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    line: str
    lines: int  # without those on how far it is

    @classmethod
    def of(cls, process: subprocess.Popen[str]) -> Ended:
        """Of a process, once it has ended."""
        said = [line for line in (process.communicate()[1] or "").splitlines() if not line.endswith(_PROGRESS)]
        return cls(process.returncode, said[-1] if said else "", len(said))


def started(case: Case, run: Path, out: Path, before: Sequence[str] = ()) -> subprocess.Popen[str]:
    """The command as a process that is heard."""
    return case.started(run, out, before=before, stderr=subprocess.PIPE)


def contents(folder: Path) -> list[str]:
    """What is in a folder, locks aside."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.name.endswith(".lock"))


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """A disk with room for next to nothing."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=True)
    try:
        (folder / "filling").write_bytes(bytes(240 * 2**10))
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def refused(case: Case, run: Path, folder: Path, before: Sequence[str] = ()) -> dict[str, Any]:
    """How a command ends that cannot write in a folder, and what it leaves there."""
    there = contents(folder)
    ended = Ended.of(started(case, run, folder / "out", before))
    return judged(ended, contents(folder) != there)


def judged(ended: Ended, left: bool) -> dict[str, Any]:
    """A cell of the record."""
    return {"as it should": ended.code == 2 and ended.lines == 1 and not left, **vars(ended), "left behind": left}


def together(case: Case, run: Path, folder: Path) -> dict[str, Any]:
    """How the second of two ends that write to one place at once, and whether the whole is there then."""
    alone = folder / "alone"
    assert Ended.of(started(case, run, alone)).code == 0
    pair = [started(case, run, folder / "out") for _ in range(2)]
    ended = sorted((Ended.of(process) for process in pair), key=lambda one: one.code)
    whole = case.result(folder / "out") == case.result(alone)
    good = ended[0].code == 0 and whole and (ended[1].code == 0 or (ended[1].code, ended[1].lines) == (2, 1))
    return {"as it should": good, **vars(ended[1]), "other result": not whole}


def main() -> None:
    if os.geteuid() != 0:
        raise SystemExit("expected root: it mounts a small disk and gives folders to another user")
    rows = list[dict[str, Any]]()
    with measure.folder() as root:
        run = root / "run"
        prepared(run)
        for command in COMMANDS:
            case, row = CASES[command], dict[str, Any](command=command)
            small, closed, shared = (root / f"{command.replace(' ', '')}{n}" for n in range(3))
            for folder in (small, closed, shared):
                folder.mkdir()
            with full_disk(small):
                row["full_disk"] = refused(case, run, small)
            closed.chmod(0o555)
            row["read_only"] = refused(case, run, closed, _WITHOUT_RIGHTS)
            row["two at once"] = together(case, run, shared)
            rows.append(row)
        theirs = [run, Path(f"{run}.csv")]
        for path in theirs:
            path.chmod(0o700)
            os.chown(path, _NOBODY, _NOBODY)
        for row in rows:
            case = CASES[row["command"]]
            if row["command"] == "train":
                case = Case("train planted --preset quick --out RUN --resume")
            ended = Ended.of(started(case, run, root / "new", _WITHOUT_RIGHTS))
            row["another user's"] = judged(ended, (root / "new").exists())
            print(row)
        print(measure.keep("reliability", "hindered", {"rows": rows, "machine": measure.machine()}))


if __name__ == "__main__":
    measure.command(main)
