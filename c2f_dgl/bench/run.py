"""Plan the jobs of a bench, tune, run each in its own process, and go on where a stopped bench left off."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import ParameterGrid

from c2f_dgl.baselines.registry import find_system
from c2f_dgl.baselines.system import SELECT, System, make_settings
from c2f_dgl.errors import InputError
from c2f_dgl.io.files import check_new_folder, locked, write_text

# Reading, ranking and writing come on top of the minutes for training.
_GRACE_SECONDS = 180.0

_WORKER = (sys.executable, "-m", "c2f_dgl.bench.worker")


@dataclass(frozen=True)
class Job:
    """A run of a system, or a tuning trial, which has a number and is judged on validation alone."""

    data: str
    system: str
    seed: int
    values: int  # learned ones that it may have
    minutes: float  # that it may take
    device: str
    settings: dict[str, Any]  # all hyper-parameters
    trial: int | None = None
    reading: dict[str, Any] = field(default_factory=dict)  # fields of `DataConfig`

    @property
    def occasion(self) -> str:
        """``"seed 2024"``, or ``"trial 3"``."""
        return f"seed {self.seed}" if self.trial is None else f"trial {self.trial}"

    def path(self, out: Path) -> Path:
        """The job's record in the folder of a bench."""
        folder, number = ("runs", self.seed) if self.trial is None else ("tuning", self.trial)
        return out / folder / f"{find_system(self.system).name}-{number}.json"


@dataclass(frozen=True)
class Bench:
    """What all runs of a bench have in common; kept in ``bench.json``.

    `name`, `fingerprint` and `n_entities` (N) are of the data as the first seed, which trials use, splits it.
    """

    data: str
    name: str
    fingerprint: str
    n_entities: int
    values: int  # learned ones that a run or trial may have
    minutes: float  # that it may take
    tune: int  # trials of a system: its defaults, and settings drawn at random
    seed: int
    device: str
    settings: dict[str, Any] = field(default_factory=dict)  # in place of defaults, in every system that has them
    reading: dict[str, Any] = field(default_factory=dict)  # fields of `DataConfig`

    def begin(self, out: Path) -> None:
        """Make the folder, or raise `InputError` where it holds something else than this bench."""
        path, options = out / "bench.json", asdict(self)
        if not path.is_file():
            check_new_folder(out, expected="a new folder, or that of a bench to go on with")
            write_text(path, json.dumps(options, indent=2) + "\n")
            return
        begun = {"reading": {}, **json.loads(path.read_text(encoding="utf-8"))}  # before 0.6 it had none
        for name in ("reading", *options):
            if begun.get(name) != options[name]:
                message = f"holds a bench with {name} {begun.get(name)}, not {options[name]}"
                raise InputError(message, where=out, expected="a new folder")

    def job(self, reference: str, seed: int, changes: dict[str, Any], trial: int | None = None) -> Job:
        """A run of a system with changes to its settings."""
        system = find_system(reference)
        common = {name: value for name, value in self.settings.items() if name in type(system.defaults).model_fields}
        settings = make_settings(system, {**common, **changes}).model_dump(mode="json")
        return Job(self.data, reference, seed, self.values, self.minutes, self.device, settings, trial, self.reading)


def run_bench(
    bench: Bench, references: list[str], seeds: int, out: Path, report: Callable[[Job, dict[str, Any]], None]
) -> None:
    """Run what is not done yet, trials first, then each of `seeds` seeds of all systems; `report` each job and record.

    Raises `InputError` where the folder holds another bench, or another process runs it.
    """
    bench.begin(out)
    with locked(out, "runs a bench"):
        for seed in range(bench.seed, bench.seed + seeds):
            for reference in references:
                if seed == bench.seed:
                    for job in trials(bench, reference):
                        report(job, run_job(job, out))
                job = bench.job(reference, seed, best_settings(bench, reference, out))
                report(job, run_job(job, out))


def trials(bench: Bench, reference: str) -> list[Job]:
    """The tuning jobs of a system: as many for each, fewer where its space has fewer points, none without a space."""
    system = find_system(reference)
    points = itertools.islice(draw_settings(system, bench.seed), bench.tune if system.space else 0)
    return [bench.job(reference, bench.seed, changes, trial) for trial, changes in enumerate(points)]


def draw_settings(system: System, seed: int) -> Iterator[dict[str, Any]]:
    """Distinct points of the system's space, as changes to its defaults: those first, the others in random order."""
    yield {}
    points, defaults = ParameterGrid(dict(system.space)), system.defaults.model_dump(mode="json")
    rng = np.random.default_rng([seed, zlib.crc32(system.name.encode())])
    for number in rng.permutation(len(points)).tolist():
        if any(defaults[name] != value for name, value in points[number].items()):
            yield points[number]


def best_settings(bench: Bench, reference: str, out: Path) -> dict[str, Any]:
    """The settings of the best finished trial on validation; none without one."""
    records = [read_record(out, job) for job in trials(bench, reference)]
    done = [record for record in records if record is not None and record["status"] == "done"]
    return max(done, key=lambda record: record["valid"][SELECT])["job"]["settings"] if done else {}


def run_job(job: Job, out: Path) -> dict[str, Any]:
    """The record of a job: that of a run that is done, else of a process that runs it now."""
    record = read_record(out, job)
    if record is not None and record["status"] == "done":
        return record
    job.path(out).unlink(missing_ok=True)
    failure = _run_worker([str(out), json.dumps(asdict(job))], 2 * 60 * job.minutes + _GRACE_SECONDS)
    record = read_record(out, job)
    return write_record(out, job, "failed", {"error": failure}) if record is None else record


def _run_worker(arguments: Sequence[str], seconds: float) -> str | None:
    """Why a worker's process failed, or None."""
    try:
        code = subprocess.run([*_WORKER, *arguments], timeout=seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds / 60:.0f} minutes"
    if code >= 0:
        return f"the process ended with code {code}" if code else None
    name = signal.Signals(-code).name
    return f"the process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def write_record(out: Path, job: Job, status: str, figures: dict[str, Any]) -> dict[str, Any]:
    """Write and return the record of a job that is ``done`` or ``failed``."""
    record = {"status": status, "job": asdict(job), **figures}
    write_text(job.path(out), json.dumps(record, indent=2) + "\n")
    return record


def read_record(out: Path, job: Job) -> dict[str, Any] | None:
    """The record of this very job, None where it has not run or has run with other options."""
    path = job.path(out)
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    recorded = {"reading": {}, **record["job"]}  # records of before 0.6 have none
    return record if recorded == json.loads(json.dumps(asdict(job))) else None
