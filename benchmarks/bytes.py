"""Bytes on disk against accuracy: what a run's learned part weighs in each precision, and what it loses.

    python -m benchmarks.bytes RUN [RUN...]

Every run is exported as an artifact in fp32, fp16 and int8, read again with numpy alone, propagated and evaluated on
the run's test part. One JSON per run goes to benchmarks/results/bytes/<data set>-<seed>-<values>.json. A run that is
there already is left out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from c2f_dgl import api, exports
from c2f_dgl.data.splits import Split
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.model import Recommender
from c2f_dgl.serving.precision import PRECISIONS
from c2f_dgl.training.folder import RunFolder, processor, versions

RESULTS = Path(__file__).parent / "results" / "bytes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    for run in parser.parse_args().runs:
        measure(run)


def measure(run: Path) -> None:
    """Write a run's record, unless it is there."""
    model, split = api.load_run(run)
    values = model.count_values()["total"]
    seed = RunFolder(run).config().seed
    path = RESULTS / f"{split.name}-{seed}-{values}.json"
    if path.exists():
        print(f"{path.name}: there already")
        return
    record = {
        "data": split.name,
        "seed": seed,
        "learned_values": values,
        "filter_weight": model.readout.filter_weight,
        "processor": processor(),
        "versions": versions(),
        "run": _figures(evaluate(model.scorer(), split.train, split.test)),
        "precisions": by_precision(model, split),
    }
    for precision, figures in record["precisions"].items():
        size, accuracy = figures["learned_bytes"], figures["ndcg@20"]
        print(f"{split.name} {seed}, {values:,} values, {precision}: {size:,} bytes, N@20 {accuracy:.4f}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")


def by_precision(model: Recommender, split: Split) -> dict[str, dict[str, float]]:
    """Bytes of a model's artifact, by part, and test figures of what is read from it, in each precision.

    Propagated embeddings, in float32, are what the graph can be left out for.
    """
    found, scorer = {}, model.scorer()
    embeddings = 4 * (scorer.users.numel() + scorer.items.numel())
    for precision in PRECISIONS:
        with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as folder:
            out = Path(folder) / "artifact"
            scorer = exports.export("artifact", model, split, out, precision=precision)
            sizes = {f"{path.stem}_bytes": path.stat().st_size for path in sorted(out.glob("*.safetensors"))}
        found[precision] = {
            **sizes,
            "embeddings_bytes": embeddings,
            **_figures(evaluate(scorer, split.train, split.test)),
        }
    return found


def _figures(metrics: dict[str, float]) -> dict[str, float]:
    return {name: metrics[name] for name in ("ndcg@20", "recall@20")}


if __name__ == "__main__":
    main()
