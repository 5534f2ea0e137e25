"""`c2f-dgl train DATASET` as a process of its own: `python -m benchmarks.whole_process DATASET... [--preset fast]`.

Wall-clock and processor time and the largest resident memory of the whole process, with reading and ranking, and the
figures it ends with: benchmarks/results/whole_process/<data>-<preset>.json.
"""

from __future__ import annotations

import resource
from collections.abc import Sequence
from typing import Any

from benchmarks import measure


def main(datasets: Sequence[str], preset: str = "fast") -> None:
    for dataset in datasets:
        record = measure.apart(whole, dataset, preset)
        print({key: record[key] for key in ("seconds", "processor_seconds", "peak_bytes")})
        print(measure.keep("whole_process", f"{record['data']}-{preset}", record))


def whole(dataset: str, preset: str) -> dict[str, Any]:
    """What the process took, the only one that this one starts, and what it reached."""
    machine = measure.machine()
    with measure.folder() as folder:
        seconds, summary = measure.train_run(dataset, folder / "run", ["--preset", preset])
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = {
        "seconds": seconds,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": 1024 * used.ru_maxrss,
    }
    stage = summary["stages"][summary["chosen"]]
    reached = {key: stage[key] for key in ("valid", "test", "parameters", "scalars")}
    about = {key: summary[key] for key in ("entities", "users_drawn")}
    return {"data": summary["data"], "preset": preset, **taken, **about, **reached, "machine": machine}


if __name__ == "__main__":
    measure.command(main)
