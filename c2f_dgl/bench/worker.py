"""A job in a process of its own, so that its peak memory is its own and a crash takes nothing with it.

python -m c2f_dgl.bench.worker OUT JOB     (JOB as JSON; the record goes to the folder OUT)
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from c2f_dgl.baselines.registry import find_system
from c2f_dgl.baselines.system import Context, make_settings
from c2f_dgl.bench.run import Job, write_record
from c2f_dgl.config.schema import DataConfig
from c2f_dgl.data.catalogue import read_data
from c2f_dgl.evaluation.ranking import evaluate, evaluate_per_user
from c2f_dgl.graph.hetero import interaction_graph
from c2f_dgl.io.files import replacing
from c2f_dgl.io.progress import Reporter
from c2f_dgl.training.folder import processor, versions
from c2f_dgl.training.run import choose_device

# Test metrics that are kept for each user, for paired tests.
_PER_USER = ("ndcg@20", "recall@20")


def main() -> int:
    """Run the job given on the command line; 1 where it failed, with the reason in its record."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the bench says that it stopped
    out, job = Path(sys.argv[1]), Job(**json.loads(sys.argv[2]))
    try:
        reporter = Reporter()
        with reporter.busy(f"{job.system}, {job.occasion}"):
            record = run(job, out, reporter)
    # Whatever goes wrong is the record of this job: the others go on.
    except Exception as error:
        write_record(out, job, "failed", {"error": error_line(error), "traceback": traceback.format_exc()})
        return 1
    write_record(out, job, "done", record)
    return 0


def error_line(error: Exception) -> str:
    """An error on one line, to stand in a row of a table."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def run(job: Job, out: Path, reporter: Reporter) -> dict[str, Any]:
    """Train and evaluate; the record. Per-user test metrics of a run of the table are written beside it."""
    system = find_system(job.system)
    device = choose_device(job.device)
    with reporter.busy("reading the data"):
        split = read_data(job.data, DataConfig(**job.reading), job.seed)
        graph = interaction_graph(split.train)
    resting = _peak_bytes()
    settings = make_settings(system, job.settings)
    started = time.monotonic()
    deadline = started + 60 * job.minutes
    fitted = system.train(Context(split, graph, job.values, settings, job.seed, device, reporter, deadline))
    record: dict[str, Any] = {
        "fingerprint": split.fingerprint,
        "settings": settings.model_dump(mode="json"),
        "values": {**fitted.values, "total": sum(fitted.values.values())},
        "bytes": fitted.bytes,
        "seconds": round(time.monotonic() - started, 2),
        "peak_bytes": _peak_bytes(),
        "resting_bytes": resting,
        "phases": list(fitted.phases),
        "processor": processor(),
        "versions": versions(),
    }
    if device.type == "cuda":
        record["device"] = torch.cuda.get_device_name(device)
        record["peak_device_bytes"] = torch.cuda.max_memory_allocated(device)
    with reporter.busy("ranking"):
        record["valid"] = evaluate(fitted.ranker, split.train, split.valid)
        if job.trial is None:
            users, metrics = evaluate_per_user(fitted.ranker, split.train, split.test)
            record["test"] = {name: float(values.mean()) for name, values in metrics.items()}
            per_user = of_all_users(users, {name: metrics[name] for name in _PER_USER}, split.n_users, np.float32)
            write_tensors(job.path(out).with_suffix(".safetensors"), per_user)
    return record


def of_all_users(
    users: np.ndarray, metrics: dict[str, np.ndarray], n_users: int, dtype: type[np.floating]
) -> dict[str, np.ndarray]:
    """Metrics of some users as arrays (n_users,): NaN elsewhere, where a user has nothing held out."""
    tensors = {name: np.full(n_users, np.nan, dtype) for name in metrics}
    for name, values in metrics.items():
        tensors[name][users] = values
    return tensors


def write_tensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Write a safetensors file, whole or not at all."""
    with replacing(path) as aside:
        save_file(tensors, aside)


def _peak_bytes() -> int:
    """Most memory this process has had resident."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.exit(main())
