"""What a run leaves behind to be committed: a JSON record, and its last stage's metrics per user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from benchmarks.studies.spec import Job
from c2f_dgl.checks import stage_names
from c2f_dgl.files import replacing, write_text
from c2f_dgl.training.checkpoint import load_checkpoint
from c2f_dgl.training.folder import RunFolder

RESULTS = Path(__file__).parents[1] / "results" / "studies"
PER_USER = "per_user.safetensors"
PARTS = ("valid", "test")
METRICS = ("ndcg@20", "recall@20")


def path(results: Path, job: Job) -> Path:
    """The record of a job."""
    return results / job.study / Path(job.data).name / f"{job.variant.name}-{job.seed}.json"


def is_done(results: Path, job: Job) -> bool:
    """Whether the job's record is there, is no failure, and is of the configuration the job has now."""
    where = path(results, job)
    if not where.is_file():
        return False
    record = json.loads(where.read_text(encoding="utf-8"))
    return record["status"] == "done" and record["config"] == job.config.model_dump(mode="json")


def write(results: Path, job: Job, folder: Path, seconds: float) -> None:
    """Record a finished run.

    Parameters
    ----------
    folder : Path
        The run's.
    seconds : float
        Of the call that finished it; the stages' own stand beside them.
    """
    run = RunFolder(folder)
    summary = run.summary()
    if summary is None:
        raise ValueError(f"{folder} is not a finished run")
    last = stage_names(job.config)[-1]
    validated = [line for line in run.records() if line["stage"] == last and "valid" in line]
    where = path(results, job)
    with replacing(where.with_suffix(".safetensors")) as aside:
        aside.write_bytes((folder / PER_USER).read_bytes())
    record = {
        **_head(job),
        "status": "done",
        "stage": last,
        "stages": summary["stages"],
        "end": {key: validated[-1][key] for key in ("epoch", "valid", "parameters")},
        "bytes": stored_bytes(run.checkpoint(last)),
        "seconds": round(seconds, 1),
        "environment": json.loads((folder / "environment.json").read_text(encoding="utf-8")),
        "fingerprint": summary["fingerprint"],
        "config": job.config.model_dump(mode="json"),
    }
    write_text(where, json.dumps(record, indent=1) + "\n")


def write_failure(results: Path, job: Job, reason: str) -> None:
    """Record that a run failed, and why."""
    record = {**_head(job), "status": "failed", "reason": reason, "config": job.config.model_dump(mode="json")}
    write_text(path(results, job), json.dumps(record, indent=1) + "\n")


def _head(job: Job) -> dict[str, Any]:
    return {"study": job.study, "variant": job.variant.name, "data": Path(job.data).name, "seed": job.seed}


def stored_bytes(checkpoint: Path) -> dict[str, int]:
    """Bytes of the tensors of a checkpoint: indices of S, weights of S, all other values, and the file itself."""
    tensors, _ = load_checkpoint(checkpoint)
    counts = {"indices": 0, "weights": 0, "values": 0}
    for name, tensor in tensors.items():
        part = name.rpartition(".")[2]
        counts[part if part in counts else "values"] += tensor.nbytes
    return {**counts, "file": checkpoint.stat().st_size}


def write_per_user(where: Path, measured: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]], n_users: int) -> None:
    """Keep metrics per user, float16: off by less than 0.0003, and NaN for users without held-out items."""
    tensors = {}
    for part, (users, metrics) in measured.items():
        for metric in METRICS:
            values = np.full(n_users, np.nan, dtype=np.float16)
            values[users] = metrics[metric]
            tensors[f"{part}.{metric}"] = values
    with replacing(where) as aside:
        save_file(tensors, aside)


def read_per_user(where: Path) -> dict[str, np.ndarray]:
    """What `write_per_user` kept, by ``<part>.<metric>``; float64, shape (n_users,)."""
    return {name: values.astype(np.float64) for name, values in load_file(where).items()}


def read(results: Path, study: str, data: str, variant: str) -> list[dict[str, Any]]:
    """Records of a variant on a data set, by seed; each with its ``per_user`` metrics if it is done."""
    found = []
    for where in sorted((results / study / data).glob(f"{variant}-*.json")):
        record = json.loads(where.read_text(encoding="utf-8"))
        if record["variant"] != variant:  # a longer name that starts the same
            continue
        if record["status"] == "done":
            record["per_user"] = read_per_user(where.with_suffix(".safetensors"))
        found.append(record)
    return found
