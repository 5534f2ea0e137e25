"""Run studies: `python -m benchmarks.studies STUDY ... [--data lastfm planted] [--budget MINUTES]`.

A run is a folder named by its configuration, so a stopped sweep goes on where it was, and equal configurations of
several studies are trained once. Runs that differ only below the first tier share one coarse stage: it is trained in a
folder of its own and copied. Each run is a process of its own, which leaves a record, and its metrics per user, under
benchmarks/results/studies/<study>/<data set>/; one that fails leaves a record that says so, and is tried again by the
next call. `python -m benchmarks.tables` then renews the page and the figures.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from safetensors.numpy import load_file

from benchmarks import measure
from benchmarks.studies.catalogue import STUDIES, Study
from c2f_dgl.api import load_run, train
from c2f_dgl.bench.run import run_process
from c2f_dgl.bench.worker import error_line, of_all_users, write_tensors
from c2f_dgl.config.schema import RunConfig
from c2f_dgl.config.sizes import resolve_sizes
from c2f_dgl.data.catalogue import load_split
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate_per_user
from c2f_dgl.io.files import write_text
from c2f_dgl.io.progress import Reporter, plain_console
from c2f_dgl.training.build import COARSE
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
    options = {"budget": float("inf"), "runs": Path("runs/studies"), "results": RESULTS, "device": "auto"}
    parser = measure.parser(__doc__, seeds=[2024, 2025, 2026], **options)
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
            runs=arguments.runs,
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
    runs: Path,
    results: Path,
    budget: float = float("inf"),
    device: str = "auto",
    console: Console | None = None,
) -> int:
    """Make the runs that have no record yet, start none after `budget` seconds, and return how many failed."""
    console = console or plain_console(stderr=True)
    deadline = time.monotonic() + budget
    pending = [job for job in plan(studies, data, seeds) if not job.is_done(results)]
    n_failed = 0
    for number, job in enumerate(pending):
        if time.monotonic() >= deadline:
            console.print(f"out of budget with {len(pending) - number} runs to go: the same command goes on")
            break
        task = json.dumps({**asdict(job), "config": job.config.model_dump(mode="json")})
        module = ["-m", "benchmarks.studies.run"]
        failure = run_process([sys.executable, *module, task, str(runs), str(results), device])
        if failure is not None:  # killed: a run that raises leaves its own record
            job.write(results, {"status": "failed", "reason": failure})
        record = json.loads(job.path(results).read_text(encoding="utf-8"))
        outcome = f"failed: {record['reason']}" if record["status"] == "failed" else _figures(record)
        n_failed += record["status"] == "failed"
        label = f"{number + 1} of {len(pending)}: {job.data} {job.seed} {job.study} {job.variant}"
        console.print(f"{label}: {outcome}", markup=False, soft_wrap=True)
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


def run_job(job: Job, runs: Path, results: Path, device: str) -> None:
    """Make a job's run, or go on with it, and write its record and its last stage's metrics per user."""
    started = time.perf_counter()
    run = RunFolder(make_run(job.config if job.config.finer else coarse_alone(job.config), runs, device))
    last = stage_names(job.config)[-1]
    model, split = load_run(run.path, stage=last, device=device)
    scorer, per_user = model.scorer(), {}
    for part, held_out in (("valid", split.valid), ("test", split.test)):
        users, metrics = evaluate_per_user(scorer, split.train, held_out)
        named = {f"{part}.{metric}": metrics[metric] for metric in METRICS}
        per_user |= of_all_users(users, named, split.n_users, np.float16)  # off by less than 0.0003
    write_tensors(job.path(results).with_suffix(".safetensors"), per_user)
    summary = run.summary()
    assert summary is not None  # `make_run` finishes a run
    validated = [line for line in run.records() if line["stage"] == last and "valid" in line]
    figures = {
        "status": "done",
        "stage": last,
        "stages": summary["stages"],
        "end": {key: validated[-1][key] for key in ("epoch", "valid", "parameters")},
        "bytes": stored_bytes(run.checkpoint(last)),
        "seconds": round(time.perf_counter() - started, 1),
        "environment": run.environment(),
        "fingerprint": summary["fingerprint"],
    }
    job.write(results, figures)


def make_run(config: RunConfig, runs: Path, device: str) -> Path:
    """The folder of a configuration's finished run; a coarse stage below others is that of a run of its own."""
    folder = run_folder(runs, config)
    if config.finer and not RunFolder(folder).started:
        _start_from(make_run(coarse_alone(config), runs, device), config, folder)
    if RunFolder(folder).summary() is None:
        train(_split(config), folder, config, resume=True, device=device, reporter=Reporter(quiet=True))
    return folder


def coarse_alone(config: RunConfig) -> RunConfig:
    """The coarse stage of a configuration, without what only finer tiers see: equal where that stage is."""
    model = config.model.model_copy(update={"entity_input": "unrefined", "gate_layers": False})
    return config.model_copy(update={"model": model, "finer": {}})


def run_folder(runs: Path, config: RunConfig) -> Path:
    """Where a configuration is run."""
    digest = hashlib.sha256(json.dumps(config.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
    return runs / f"{Path(str(config.data.source)).name}-{config.seed}-{digest[:12]}"


def _start_from(coarse: Path, config: RunConfig, folder: Path) -> None:
    """A run folder whose coarse stage is done: that of another run. Whole or not there."""
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    RunFolder(aside).begin(config)
    (aside / "checkpoints").mkdir()
    for name in ("metrics.jsonl", f"checkpoints/{COARSE}.safetensors", "checkpoints/last.safetensors"):
        shutil.copyfile(coarse / name, aside / name)
    aside.rename(folder)


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


def _run_given() -> None:
    """Run the job given on the command line; where it fails, its record says so."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the sweep says that it stopped
    task, runs, results, device = sys.argv[1:]
    job = Job(**{**json.loads(task), "config": RunConfig.model_validate(json.loads(task)["config"])})
    try:
        run_job(job, Path(runs), Path(results), device)
    except Exception as error:
        traceback.print_exc()
        job.write(Path(results), {"status": "failed", "reason": error_line(error)})


if __name__ == "__main__":
    _run_given()
