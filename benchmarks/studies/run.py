"""Run studies: `python -m benchmarks.studies STUDY ... [--data lastfm planted] [--budget MINUTES]`.

Each run leaves a record, and its metrics per user, under benchmarks/results/studies/<study>/<data set>/: a stopped
sweep goes on with what has none. A run that fails leaves a record that says so, and is tried again by the next call.
`python -m benchmarks.tables` then renews the page and the figures.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

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
from c2f_dgl.io.files import write_text
from c2f_dgl.io.progress import Reporter
from c2f_dgl.training.checkpoint import load_checkpoint
from c2f_dgl.training.checks import check_device, stage_names
from c2f_dgl.training.folder import RunFolder

RESULTS = measure.RESULTS / "studies"
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

    def path(self, results: Path) -> Path:
        """The job's record."""
        return results / self.study / Path(self.data).name / f"{self.variant}-{self.seed}.json"

    def is_done(self, results: Path) -> bool:
        """Whether the job's record is there, is no failure, and is of the configuration the job has now."""
        path = self.path(results)
        record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"status": "not run"}
        return record["status"] == "done" and record["config"] == self.config.model_dump(mode="json")

    def write(self, results: Path, figures: dict[str, Any]) -> None:
        """Write the job's record; its figures have a status."""
        head = {"study": self.study, "variant": self.variant, "data": Path(self.data).name, "seed": self.seed}
        record = {**head, **figures, "config": self.config.model_dump(mode="json")}
        write_text(self.path(results), json.dumps(record, indent=1) + "\n")


def main() -> None:
    parser = measure.parser(__doc__, seeds=[2024, 2025, 2026], budget=float("inf"), results=RESULTS, device="auto")
    parser.add_argument("study", nargs="+", choices=[*STUDIES, "all"])
    parser.add_argument("--data", nargs="+", action="extend", help="names or paths (default: lastfm and planted)")
    arguments = parser.parse_args()
    names = list(STUDIES) if "all" in arguments.study else arguments.study
    try:
        check_device(arguments.device)
        failed = sweep(
            [STUDIES[name] for name in names],
            arguments.data or ["lastfm", "planted"],
            arguments.seeds,
            results=arguments.results,
            budget=60 * arguments.budget,
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
    results: Path,
    budget: float = float("inf"),
    device: str = "auto",
) -> int:
    """Make the runs that have no record yet, start none after `budget` seconds, and return how many failed."""
    deadline = time.monotonic() + budget
    pending = [job for job in plan(studies, data, seeds) if not job.is_done(results)]
    n_failed = 0
    for number, job in enumerate(pending):
        if time.monotonic() >= deadline:
            print(f"out of budget with {len(pending) - number} runs to go: the same command goes on")
            break
        try:
            record = run_job(job, results, device)
        except Exception as error:
            traceback.print_exc()
            record = {"status": "failed", "reason": error_line(error)}
        job.write(results, record)
        outcome = f"failed: {record['reason']}" if record["status"] == "failed" else _figures(record)
        n_failed += record["status"] == "failed"
        print(f"{number + 1} of {len(pending)}: {job.data} {job.seed} {job.study} {job.variant}: {outcome}", flush=True)
    return n_failed


def _figures(record: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} valid {stage['valid']['ndcg@20']:.4f} test {stage['test']['ndcg@20']:.4f}"
        for name, stage in record["stages"].items()
    )


def plan(studies: Iterable[Study], data: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """All jobs, study by study; sizes that follow from the data are resolved."""
    jobs = []
    for study in studies:
        for name in data:
            for seed in seeds:
                for variant in study.variants:
                    config = study.config(variant, name, seed)
                    split = _split(config)
                    config = resolve_sizes(config, split.n_users, split.n_items)
                    jobs.append(Job(study.name, variant.name, name, seed, config))
    return jobs


def run_job(job: Job, results: Path, device: str) -> dict[str, Any]:
    """Train a job's run, write its last stage's metrics per user, and return its figures."""
    started, last, split = time.perf_counter(), stage_names(job.config)[-1], _split(job.config)
    with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as name:
        folder = RunFolder(Path(name) / "run")
        run = train_run(split, folder.path, job.config, device=device, reporter=Reporter(quiet=True))
        scorer, per_user = run.model(last).scorer(), {}
        for part, held_out in (("valid", split.valid), ("test", split.test)):
            users, metrics = evaluate_per_user(scorer, split.train, held_out)
            named = {f"{part}.{metric}": metrics[metric] for metric in METRICS}
            per_user |= of_all_users(users, named, split.n_users, np.float16)  # off by less than 0.0003
        validated = [line for line in folder.records() if line["stage"] == last and "valid" in line]
        write_tensors(job.path(results).with_suffix(".safetensors"), per_user)
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


def read_records(results: Path, study: str, data: str, variant: str) -> list[dict[str, Any]]:
    """Records of a variant on a data set, by seed; those that are done with their ``per_user`` metrics."""
    records = []
    for path in sorted((results / study / data).glob(f"{variant}-*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["variant"] != variant:  # a longer name that starts the same
            continue
        if record["status"] == "done":
            per_user = load_file(path.with_suffix(".safetensors"))
            record["per_user"] = {name: values.astype(np.float64) for name, values in per_user.items()}
        records.append(record)
    return records
