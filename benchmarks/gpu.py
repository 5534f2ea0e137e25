"""Everything that is to be known of a GPU, in one command: `python -m benchmarks.gpu DATASET`.

In this order: our steps on each kernel that this DGL has, and what training does beside them (`benchmarks.throughput`);
the collapsed step as a share of the device's bound (`benchmarks.roofline`); a whole run of the `fast` preset from an
empty process; and the `published` preset to convergence for three seeds, resumed in runs/published. Writes
benchmarks/results/gpu/<data set>.json after each, so that a stopped run leaves what it has measured.
`--device cpu` takes the same way without a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure, roofline, throughput
from c2f_dgl.training.checks import check_device


def main(
    dataset: str,
    device: str = "cuda",
    batches: Sequence[int] = (8192, 32768),
    runs: int = 9,
    seeds: Sequence[int] = (2024, 2025, 2026),
) -> None:
    check_device(device)
    split = measure.load(dataset)
    record: dict[str, Any] = {"data": split.name, "device": device, "machine": measure.machine()}

    def keep(name: str, figures: dict[str, Any]) -> None:
        record[name] = figures
        print(name, json.dumps(figures, indent=1), measure.keep("gpu", split.name, record))

    keep("steps", throughput.steps(split, batches, runs, device))
    rate = record["steps"][str(batches[0])]["collapsed"]["triplets_a_second"]
    keep("parts", throughput.beside(split, runs, rate, device))
    keep("roofline", roofline.measured(split, batches, runs, device))
    with measure.folder() as folder:
        keep("fast", whole_run(dataset, folder / "run", "--device", device))
    for seed in seeds:
        out = Path("runs") / "published" / f"{Path(dataset).name}-{seed}"
        options = ("--preset", "published", "--seed", str(seed), "--device", device, "--resume")
        keep(f"published, seed {seed}", whole_run(dataset, out, *options))


def whole_run(dataset: str, out: Path, *options: str) -> dict[str, Any]:
    """Seconds of a run from an empty process, and what it reached."""
    seconds, summary = measure.train_run(dataset, out, options)
    return {"seconds": seconds, "chosen": summary["chosen"], "stages": summary["stages"]}


if __name__ == "__main__":
    measure.command(main)
