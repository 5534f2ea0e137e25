"""One run of the bench: what is trained, and the record it leaves."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from c2f_dgl.baselines.registry import find_system
from c2f_dgl.io.files import write_text

# Test metrics that are kept for each user, for paired tests.
PER_USER = ("ndcg@20", "recall@20")


@dataclass(frozen=True)
class Job:
    """A system, a seed and settings.

    Parameters
    ----------
    data : str
        A catalogue name or a path.
    system : str
        As `find_system` takes it.
    seed : int
        Of the split, the start and the training.
    values : int
        Budget of learned values.
    minutes : float
        After which training stops and keeps what it has.
    device : str
        auto, cpu or cuda.
    settings : dict
        Hyper-parameters that differ from the system's defaults.
    trial : int, optional
        Number of a tuning trial, judged on validation alone; None for a run of the table.
    reading : dict
        Fields of `DataConfig` that say how the data is read and split.
    """

    data: str
    system: str
    seed: int
    values: int
    minutes: float
    device: str
    settings: dict[str, Any]
    trial: int | None = None
    reading: dict[str, Any] = field(default_factory=dict)

    @property
    def occasion(self) -> str:
        """``"seed 2024"``, or ``"trial 3"``."""
        return f"seed {self.seed}" if self.trial is None else f"trial {self.trial}"

    def path(self, out: Path) -> Path:
        """The job's record in the folder of a bench."""
        name = find_system(self.system).name
        if self.trial is not None:
            return out / "tuning" / f"{name}-{self.trial}.json"
        return out / "runs" / f"{name}-{self.seed}.json"

    def per_user_path(self, out: Path) -> Path:
        """Test metrics of each user, `PER_USER`."""
        return self.path(out).with_suffix(".safetensors")


def write_record(out: Path, job: Job, status: str, record: dict[str, Any]) -> None:
    """Write the record of a job that is ``done`` or ``failed``."""
    tree = {"status": status, "job": asdict(job), **record}
    write_text(job.path(out), json.dumps(tree, indent=2, sort_keys=False) + "\n")


def read_record(out: Path, job: Job) -> dict[str, Any] | None:
    """The record of this very job, None where it has not run or has run with other options."""
    path = job.path(out)
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    there = {"reading": {}, **record["job"]}  # records of before 0.6 have none
    return record if there == json.loads(json.dumps(asdict(job))) else None
