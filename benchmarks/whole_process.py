"""`c2f-dgl train DATASET` as a process of its own: `python -m benchmarks.whole_process DATASET... [--preset fast]`.

Wall-clock and processor time and the largest resident memory of the whole process, with reading and ranking, and the
figures it ends with: benchmarks/results/whole_process/<data>-<preset>.json.
"""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import measure


def main() -> None:
    parser = measure.parser(__doc__, preset="fast")
    parser.add_argument("datasets", nargs="+", metavar="DATASET")
    arguments = parser.parse_args()
    for dataset in arguments.datasets:
        record = measure.apart(whole, dataset, arguments.preset)
        print({key: record[key] for key in ("seconds", "processor_seconds", "peak_bytes")})
        print(measure.keep("whole_process", f"{record['data']}-{arguments.preset}", record))


def whole(dataset: str, preset: str) -> dict[str, Any]:
    """What the process took, the only one that this one starts, and what it reached."""
    machine = measure.machine()
    with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as folder:
        seconds, summary = measure.train_run(dataset, Path(folder) / "run", ["--preset", preset])
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    stage = summary["stages"][summary["chosen"]]
    return {
        "data": summary["data"],
        "preset": preset,
        "seconds": seconds,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": 1024 * used.ru_maxrss,
        "entities": summary["entities"],
        "users_drawn": summary["users_drawn"],
        **{key: stage[key] for key in ("valid", "test", "parameters", "scalars")},
        "machine": machine,
    }


if __name__ == "__main__":
    main()
