"""Run studies: `python -m benchmarks.studies STUDY ... [--data lastfm --data planted] [--jobs N] [--budget MINUTES]`.

A run is a folder named by its configuration, so a stopped sweep goes on where it was, and equal configurations of
several studies are trained once. Runs that differ only below the first tier share one coarse stage: it is trained in a
folder of its own and copied. Each finished run leaves a record (and its metrics per user) under
benchmarks/results/studies/<study>/<data set>/; one that fails leaves a record that says so, and is tried again by the
next call. `python -m benchmarks.tables` then renews the page and the figures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.studies import records
from benchmarks.studies.catalogue import STUDIES
from benchmarks.studies.spec import Job, Study
from c2f_dgl.api import load_run, train
from c2f_dgl.checks import stage_names
from c2f_dgl.config.schema import RunConfig
from c2f_dgl.config.sizes import resolve_sizes
from c2f_dgl.data.configured import load_split
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate_per_user
from c2f_dgl.progress import Reporter
from c2f_dgl.training.build import COARSE
from c2f_dgl.training.folder import RunFolder


@dataclass
class Task:
    """A run to make, the run its coarse stage comes from, and the jobs it is the answer to."""

    config: RunConfig
    folder: Path
    coarse: Path | None
    jobs: list[Job] = field(default_factory=list)

    @property
    def label(self) -> str:
        """For people."""
        first = f"{self.jobs[0].study} {self.jobs[0].variant.name}" if self.jobs else "shared coarse stage"
        return f"{self.config.data.source} {self.config.seed} {first}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies", description=__doc__.splitlines()[0])
    parser.add_argument("study", nargs="+", choices=[*STUDIES, "all"])
    parser.add_argument("--data", action="append", help="name or path; repeatable (default: lastfm and planted)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2024, 2025, 2026])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--budget", type=float, metavar="MINUTES", help="start no run after so long")
    parser.add_argument("--runs", type=Path, default=Path("runs/studies"), help="folder of the run folders")
    parser.add_argument("--results", type=Path, default=records.RESULTS, help="folder of the records")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error("--jobs: expected 1 or more")
    # The workers inherit it; numpy's and torch's libraries read it when they are loaded.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // arguments.jobs)))
    chosen = list(STUDIES) if "all" in arguments.study else arguments.study
    try:
        failed = sweep(
            [STUDIES[name] for name in chosen],
            arguments.data or ["lastfm", "planted"],
            arguments.seeds,
            runs=arguments.runs,
            results=arguments.results,
            n_jobs=arguments.jobs,
            budget=None if arguments.budget is None else 60 * arguments.budget,
            device=arguments.device,
        )
    except InputError as error:
        sys.exit(f"studies: {error}")
    except KeyboardInterrupt:
        print("stopped: the same command goes on", file=sys.stderr)
        sys.exit(130)
    sys.exit(1 if failed else 0)


def sweep(
    studies: Iterable[Study],
    data: Sequence[str],
    seeds: Sequence[int],
    *,
    runs: Path,
    results: Path,
    n_jobs: int = 1,
    budget: float | None = None,
    device: str = "auto",
    console: Console | None = None,
) -> int:
    """Make the runs that have no record yet.

    Parameters
    ----------
    budget : float, optional
        Seconds after which no run is started; those under way are finished.

    Returns
    -------
    int
        Number of runs that failed.
    """
    console = console or Console(stderr=True)
    deadline = float("inf") if budget is None else time.monotonic() + budget
    pending = tasks([job for job in plan(studies, data, seeds) if not records.is_done(results, job)], runs)
    running: dict[Future[float], Task] = {}
    failures: dict[Path, str] = {}

    def fail(task: Task, reason: str) -> None:
        failures[task.folder] = reason
        for job in task.jobs:
            records.write_failure(results, job, reason)
        console.print(f"{task.label}: failed: {reason}", markup=False, soft_wrap=True)

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("runs", total=len(pending))
        pool = _pool(n_jobs)
        try:
            while True:
                while len(running) < n_jobs and time.monotonic() < deadline:
                    task = _startable(pending, running.values())
                    if task is None:
                        break
                    pending.remove(task)
                    if task.coarse in failures:
                        fail(task, f"its coarse stage failed: {failures[task.coarse]}")
                        progress.advance(bar)
                    else:
                        running[pool.submit(make_run, task.config, task.folder, task.coarse, device)] = task
                if not running:
                    break
                progress.update(bar, description="; ".join(task.label for task in running.values()))
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    task, error = running.pop(future), future.exception()
                    if error is None:
                        for job in task.jobs:
                            records.write(results, job, task.folder, future.result())
                        console.print(f"{task.label}: {_figures(task.folder)}, {future.result():.0f} s", soft_wrap=True)
                    else:
                        console.print("".join(traceback.format_exception(error)).rstrip(), markup=False, soft_wrap=True)
                        fail(task, f"{type(error).__name__}: {error}")
                    progress.advance(bar)
                    if isinstance(error, BrokenProcessPool):  # a worker was killed, and the pool with it
                        pool.shutdown()
                        pool = _pool(n_jobs)
        finally:
            pool.shutdown(cancel_futures=True)
    if pending:
        console.print(f"out of budget with {len(pending)} runs to go: the same command goes on")
    return len(failures)


def _startable(pending: Sequence[Task], running: Iterable[Task]) -> Task | None:
    """The first task whose coarse stage is neither to be made nor being made."""
    ahead = {task.folder for task in (*pending, *running)}
    return next((task for task in pending if task.coarse not in ahead), None)


def plan(studies: Iterable[Study], data: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """All jobs, study by study; sizes that follow from the data are resolved."""
    jobs = []
    for study in studies:
        for name in data:
            for seed in seeds:
                for variant in study.variants:
                    config = study.config(variant, name, seed)
                    split = _split(config)
                    jobs.append(
                        Job(study.name, variant, name, seed, resolve_sizes(config, split.n_users, split.n_items))
                    )
    return jobs


def tasks(jobs: Iterable[Job], runs: Path) -> list[Task]:
    """The runs that the jobs need, each once and after the run its coarse stage comes from."""
    found: dict[Path, Task] = {}

    def add(config: RunConfig) -> Task:
        folder = run_folder(runs, config)
        if folder not in found:
            coarse = add(coarse_alone(config)).folder if config.finer else None
            found[folder] = Task(config, folder, coarse)
        return found[folder]

    for job in jobs:
        add(job.config if job.config.finer else coarse_alone(job.config)).jobs.append(job)
    return list(found.values())


def coarse_alone(config: RunConfig) -> RunConfig:
    """The coarse stage of a configuration, without what only finer tiers see: equal where that stage is."""
    model = config.model.model_copy(update={"entity_input": "unrefined", "gate_layers": False})
    return config.model_copy(update={"model": model, "finer": {}})


def run_folder(runs: Path, config: RunConfig) -> Path:
    """Where a configuration is run."""
    digest = hashlib.sha256(json.dumps(config.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
    return runs / f"{Path(str(config.data.source)).name}-{config.seed}-{digest[:12]}"


def make_run(config: RunConfig, folder: Path, coarse: Path | None, device: str) -> float:
    """Make a run, or go on with it, and measure its last stage per user.

    Parameters
    ----------
    coarse : Path, optional
        Finished run whose coarse stage this one starts from.

    Returns
    -------
    float
        Seconds of this call.
    """
    started = time.perf_counter()
    run, per_user = RunFolder(folder), folder / records.PER_USER
    if coarse is not None and not run.started:
        _start_from(coarse, config, folder)
    if run.summary() is None:
        train(_split(config), folder, config, resume=True, device=device, reporter=Reporter(quiet=True))
    if not per_user.is_file():
        model, split = load_run(folder, stage=stage_names(config)[-1], device=device)
        scorer = model.scorer()
        parts = {"valid": split.valid, "test": split.test}
        measured = {part: evaluate_per_user(scorer, split.train, held_out) for part, held_out in parts.items()}
        records.write_per_user(per_user, measured, split.n_users)
    return time.perf_counter() - started


def _start_from(coarse: Path, config: RunConfig, folder: Path) -> None:
    """A run folder whose coarse stage is done: that of another run. Whole or not there."""
    aside = folder.with_name(f".{folder.name}.part")
    if aside.exists():
        shutil.rmtree(aside)
    RunFolder(aside).begin(config)
    shutil.copyfile(coarse / "metrics.jsonl", aside / "metrics.jsonl")
    (aside / "checkpoints").mkdir()
    for name in (f"{COARSE}.safetensors", "last.safetensors"):
        shutil.copyfile(coarse / "checkpoints" / name, aside / "checkpoints" / name)
    aside.rename(folder)


@lru_cache(maxsize=4)
def _read_split(source: str, config: str) -> Split:
    return load_split(RunConfig.model_validate_json(config))


def _split(config: RunConfig) -> Split:
    """The data of a run; a worker reads each only once."""
    alone = RunConfig(seed=config.seed, data=config.data)
    return _read_split(str(config.data.source), alone.model_dump_json())


def _pool(n_jobs: int) -> ProcessPoolExecutor:
    # Spawned, not forked: torch's threads do not survive a fork.
    return ProcessPoolExecutor(n_jobs, mp_context=get_context("spawn"), initializer=_set_threads)


def _set_threads() -> None:
    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))


def _figures(folder: Path) -> str:
    summary: dict[str, Any] = RunFolder(folder).summary() or {}
    return ", ".join(
        f"{name} valid {stage['valid']['ndcg@20']:.4f} test {stage['test']['ndcg@20']:.4f}"
        for name, stage in summary["stages"].items()
    )
