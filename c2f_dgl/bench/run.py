"""Plan the jobs of a bench, tune, run each in its own process, and go on where a stopped bench left off."""

from __future__ import annotations

import itertools
import json
import math
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from c2f_dgl.baselines.registry import find_system
from c2f_dgl.baselines.system import System, make_settings
from c2f_dgl.bench.job import Job, read_record, write_record
from c2f_dgl.errors import InputError
from c2f_dgl.io.files import check_new_folder, locked, write_text

SELECT = "ndcg@20"

# Reading, ranking and writing come on top of the minutes for training.
_GRACE_SECONDS = 180.0

_WORKER = (sys.executable, "-m", "c2f_dgl.bench.worker")

Told = Callable[[Job, dict[str, Any]], None]


@dataclass(frozen=True)
class Bench:
    """What all runs of a bench have in common; kept in ``bench.json``.

    Parameters
    ----------
    data : str
        A catalogue name or a path.
    name : str
        Of the data set.
    fingerprint : str
        Of the first seed's split.
    n_entities : int
        N.
    values : int
        Budget of learned values.
    minutes : float
        For the training of each run and trial.
    tune : int
        Trials of each system: its defaults and settings drawn at random; 0 runs the defaults.
    seed : int
        The first seed, which trials use.
    device : str
    settings : dict
        Hyper-parameters in place of defaults, of every system that has one of that name.
    reading : dict
        Fields of `DataConfig` that say how the data is read and split.
    """

    data: str
    name: str
    fingerprint: str
    n_entities: int
    values: int
    minutes: float
    tune: int
    seed: int
    device: str
    settings: dict[str, Any] = field(default_factory=dict)
    reading: dict[str, Any] = field(default_factory=dict)

    def begin(self, out: Path) -> None:
        """Make the folder, or see that it is of this bench.

        Raises
        ------
        InputError
            It holds something else.
        """
        path, options = out / "bench.json", asdict(self)
        if not path.is_file():
            check_new_folder(out, expected="a new folder, or that of a bench to go on with")
            write_text(path, json.dumps(options, indent=2) + "\n")
            return
        there = {"reading": {}, **json.loads(path.read_text(encoding="utf-8"))}  # before 0.6 it had none
        other = [name for name in ("reading", *options) if there.get(name) != options[name]]
        if other:
            name = other[0]
            raise InputError(
                f"holds a bench with {name} {there.get(name)}, not {options[name]}", where=out, expected="a new folder"
            )


def run_bench(bench: Bench, references: list[str], seeds: int, out: Path, told: Told) -> None:
    """Run what is not done yet: trials first, then each seed of all systems.

    Parameters
    ----------
    references : list of str
        Systems, as `find_system` takes them.
    seeds : int
        Number of seeds, ascending from the bench's.
    told : callable
        Told of each job and its record, whether it ran now or before.

    Raises
    ------
    InputError
        The folder holds another bench, or another process runs it.
    """
    bench.begin(out)
    with locked(out, "runs a bench"):
        for seed in range(bench.seed, bench.seed + seeds):
            for reference in references:
                told_of = lambda job: told(job, run_job(job, out))
                system = find_system(reference)
                if seed == bench.seed:
                    for job in trials(bench, reference, system):
                        told_of(job)
                settings = best_settings(bench, reference, system, out)
                told_of(_job(bench, reference, system, seed, settings))


def trials(bench: Bench, reference: str, system: System) -> list[Job]:
    """The tuning jobs of a system: as many for each, fewer where its space has fewer points, none without a space."""
    points = itertools.islice(draw_settings(system, bench.seed), bench.tune if system.space else 0)
    return [_job(bench, reference, system, bench.seed, changes, trial=number) for number, changes in enumerate(points)]


def draw_settings(system: System, seed: int) -> Iterator[dict[str, Any]]:
    """Distinct points of the system's space, as changes to its defaults: those first, the others in random order."""
    names = sorted(system.space)
    defaults = system.defaults.model_dump(mode="json")
    yield {}
    n = math.prod(len(system.space[name]) for name in names)
    rng = np.random.default_rng([seed, zlib.crc32(system.name.encode())])
    for place in rng.permutation(n) if names else []:
        indices = np.unravel_index(int(place), [len(system.space[name]) for name in names])
        point = {name: system.space[name][int(k)] for name, k in zip(names, indices, strict=True)}
        if any(defaults[name] != value for name, value in point.items()):
            yield point


def best_settings(bench: Bench, reference: str, system: System, out: Path) -> dict[str, Any]:
    """The changes to the defaults that the best finished trial on validation has; none without one."""
    best, best_figure = {}, -math.inf
    for job, changes in zip(trials(bench, reference, system), draw_settings(system, bench.seed), strict=False):
        record = read_record(out, job)
        if record is not None and record["status"] == "done" and record["valid"][SELECT] > best_figure:
            best, best_figure = changes, record["valid"][SELECT]
    return best


def run_job(job: Job, out: Path) -> dict[str, Any]:
    """The record of a job: the one that is there if it is done, else of a process that runs it now."""
    record = read_record(out, job)
    if record is not None and record["status"] == "done":
        return record
    limit = 2 * 60 * job.minutes + _GRACE_SECONDS
    job.path(out).unlink(missing_ok=True)
    try:
        done = subprocess.run([*_WORKER, str(out), json.dumps(asdict(job))], timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        write_record(out, job, "failed", {"error": f"stopped after {limit / 60:.0f} minutes"})
    else:
        if read_record(out, job) is None:
            write_record(out, job, "failed", {"error": _ending(done.returncode)})
    record = read_record(out, job)
    assert record is not None  # written by the worker or just above
    return record


def _ending(code: int) -> str:
    if code >= 0:
        return f"the process ended with code {code}"
    name = signal.Signals(-code).name
    return f"the process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def _job(
    bench: Bench, reference: str, system: System, seed: int, changes: dict[str, Any], trial: int | None = None
) -> Job:
    given = {name: value for name, value in bench.settings.items() if name in type(system.defaults).model_fields}
    settings = make_settings(system, {**given, **changes}).model_dump(mode="json")
    return Job(bench.data, reference, seed, bench.values, bench.minutes, bench.device, settings, trial, bench.reading)
