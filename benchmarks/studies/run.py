"""Run studies: `python -m benchmarks.studies STUDY ... [--data lastfm planted]`.

Each run leaves a record, and its metrics per user, under benchmarks/results/studies/<study>/<data set>/: a stopped
sweep goes on with what has none. A run that fails leaves a record that says so, and is tried again by the next call.
`python -m benchmarks.tables` then renews the page and the figures.
"""

from __future__ import annotations

import itertools
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from safetensors.numpy import load_file

from benchmarks import measure
from benchmarks.studies.catalogue import STUDIES, Study
from c2f_dgl.api import train_run
from c2f_dgl.bench.worker import error_line, of_all_users, write_tensors
from c2f_dgl.config.schema import RunConfig
from c2f_dgl.config.sizes import resolve_sizes
from c2f_dgl.data.catalogue import load_split
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate_per_user
from c2f_dgl.io.progress import Reporter
from c2f_dgl.training.checkpoint import load_checkpoint
from c2f_dgl.training.checks import check_device, stage_names
from c2f_dgl.training.folder import RunFolder

PARTS = ("valid", "test")
METRICS = ("ndcg@20", "recall@20")


@dataclass(frozen=True)
class Job:
    """One variant of a study on one data set with one seed."""

    study: str
    variant: str
    data: str
    seed: int
    config: RunConfig

    @property
    def place(self) -> tuple[str, str]:
        """Folder and name of the job's record."""
        return f"studies/{self.study}/{Path(self.data).name}", f"{self.variant}-{self.seed}"

    def is_done(self) -> bool:
        """Whether the job's record is there, is no failure, and is of the configuration the job has now."""
        record = measure.read(*self.place) or {"status": "not run"}
        return record["status"] == "done" and record["config"] == self.config.model_dump(mode="json")

    def keep(self, figures: dict[str, Any]) -> None:
        """Write the job's record; its figures have a status."""
        head = {"study": self.study, "variant": self.variant, "data": Path(self.data).name, "seed": self.seed}
        measure.keep(*self.place, {**head, **figures, "config": self.config.model_dump(mode="json")})


def main(
    study: Annotated[Sequence[str], [*STUDIES, "all"]],
    data: Sequence[str] = ("lastfm", "planted"),
    seeds: Sequence[int] = (2024, 2025, 2026),
    device: str = "auto",
) -> None:
    try:
        check_device(device)
        failed = sweep([STUDIES[name] for name in (STUDIES if "all" in study else study)], data, seeds, device)
    except InputError as error:
        sys.exit(f"studies: {error}")
    sys.exit(1 if failed else 0)


def sweep(studies: Iterable[Study], data: Sequence[str], seeds: Sequence[int], device: str = "auto") -> int:
    """Make the runs that have no record yet, and return how many failed."""
    pending = [job for job in plan(studies, data, seeds) if not job.is_done()]
    n_failed = 0
    for number, job in enumerate(pending, 1):
        try:
            figures = run_job(job, device)
            scores = {name: [stage[part]["ndcg@20"] for part in PARTS] for name, stage in figures["stages"].items()}
            outcome = ", ".join(f"{name} valid {valid:.4f} test {test:.4f}" for name, (valid, test) in scores.items())
        except Exception as error:
            traceback.print_exc()
            figures = {"status": "failed", "reason": error_line(error)}
            outcome, n_failed = f"failed: {figures['reason']}", n_failed + 1
        job.keep(figures)
        print(f"{number} of {len(pending)}: {job.data} {job.seed} {job.study} {job.variant}: {outcome}", flush=True)
    return n_failed


def plan(studies: Iterable[Study], data: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """All jobs, study by study; sizes that follow from the data are resolved."""
    jobs = []
    for study, name, seed in itertools.product(studies, data, seeds):
        for variant in study.variants:
            config = study.config(variant, name, seed)
            split = _split(config)
            jobs.append(Job(study.name, variant.name, name, seed, resolve_sizes(config, split.n_users, split.n_items)))
    return jobs


def run_job(job: Job, device: str) -> dict[str, Any]:
    """Train a job's run, write its last stage's metrics per user, and return its figures."""
    started, last, split = time.perf_counter(), stage_names(job.config)[-1], _split(job.config)
    with measure.folder() as parent:
        folder = RunFolder(parent / "run")
        run = train_run(split, folder.path, job.config, device=device, reporter=Reporter(quiet=True))
        scorer, per_user = run.model(last).scorer(), {}
        for part in PARTS:
            users, metrics = evaluate_per_user(scorer, split.train, getattr(split, part))
            named = {f"{part}.{metric}": metrics[metric] for metric in METRICS}
            per_user |= of_all_users(users, named, split.n_users, np.float16)  # off by less than 0.0003
        validated = [line for line in folder.records() if line["stage"] == last and "valid" in line]
        write_tensors(tensors_of(*job.place), per_user)
        return {
            "status": "done",
            "stage": last,
            "stages": run.summary["stages"],
            "end": {key: validated[-1][key] for key in ("epoch", "valid", "parameters")},
            "bytes": stored_bytes(folder.checkpoint(last)),
            "seconds": round(time.perf_counter() - started, 1),
            "environment": folder.environment(),
            "fingerprint": split.fingerprint,
        }


@lru_cache(maxsize=4)
def _read_split(config: str) -> Split:
    return load_split(RunConfig.model_validate_json(config))


def _split(config: RunConfig) -> Split:
    """The data of a run; read only once for all runs of a seed."""
    return _read_split(RunConfig(seed=config.seed, data=config.data).model_dump_json())


def stored_bytes(checkpoint: Path) -> dict[str, int]:
    """Bytes of the tensors of a checkpoint: indices of S, weights of S, all other values, and the file itself."""
    tensors, _ = load_checkpoint(checkpoint)
    counts = {"indices": 0, "weights": 0, "values": 0}
    for name, tensor in tensors.items():
        part = name.rpartition(".")[2]
        counts[part if part in counts else "values"] += tensor.nbytes
    return {**counts, "file": checkpoint.stat().st_size}


def tensors_of(folder: str, name: str) -> Path:
    """Where a run's metrics per user are."""
    return measure.RESULTS / folder / f"{name}.safetensors"


def read_records(study: str, data: str, variant: str) -> list[dict[str, Any]]:
    """Records of a variant on a data set, by seed; those that are done with their ``per_user`` metrics."""
    folder = f"studies/{study}/{data}"
    of_names = measure.read_all(folder, f"{variant}-*")  # a longer name may start the same
    kept = {name: record for name, record in of_names.items() if record["variant"] == variant}
    for name, record in kept.items():
        if record["status"] == "done":
            per_user = load_file(tensors_of(folder, name))
            record["per_user"] = {metric: values.astype(np.float64) for metric, values in per_user.items()}
    return list(kept.values())
