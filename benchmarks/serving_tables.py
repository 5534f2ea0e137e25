"""Tables of docs/serving.md from the records of the serving benchmarks (see `benchmarks.tables`)."""

from __future__ import annotations

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def records(benchmark: str) -> list[dict]:
    """All records of a benchmark, by name."""
    return [json.loads(path.read_text()) for path in sorted((RESULTS / benchmark).glob("*.json"))]


def latencies() -> str:
    """Seconds to rank all items, and the memory of a process that does, of each way to serve the same embeddings."""
    lines = [
        "| data | way | 1 user, ms | 1,000 users, s | peak memory, MiB | same items as numpy |",
        "|---|---|---|---|---|---|",
    ]
    for record in records("serving"):
        one, many = (record["median seconds"][size] for size in ("1 user", "1,000 users"))
        for way in one:
            memory = record["peak bytes of a process"][way] / 2**20
            lines.append(
                f"| {record['data']}, d = {record['d']} | {way} | {1000 * one[way]:.1f} | {many[way]:.2f} | "
                f"{memory:,.0f} | {record['same items as numpy'][way]:.2%} |"
            )
    return "\n".join(lines)


def loads() -> str:
    """The service under load."""
    lines = [
        "| data | lists | asked for, requests/s | answered | p50, ms | p99, ms | p99.9, ms | lost at SIGTERM | "
        "peak memory, MiB | start, s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records("service"):
        of, stopped = record["milliseconds"], record["SIGTERM under load"]
        lists = f"best {record['precomputed']} of each user" if record["precomputed"] else "none"
        lines.append(
            f"| {record['data']} | {lists} | {record['requests a second asked for']:,} | "
            f"{record['requests a second answered']:,.0f} | {of['p50']:.2f} | {of['p99']:.2f} | {of['p99.9']:.2f} | "
            f"{stopped['lost']} of {stopped['sent']:,} | {record['peak bytes of the service'] / 2**20:,.0f} | "
            f"{record['seconds to start']:.0f} |"
        )
    return "\n".join(lines)


def folded() -> str:
    """Accuracy for users who are folded in, beside training with them and popularity."""
    lines = [
        "| data | users left out | test N@20 folded in | trained with | popularity | R@20 folded in | trained with | "
        "popularity | folding in, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records("foldin"):
        cells = [
            f"{record[way][metric]:.4f}"
            for metric in ("ndcg@20", "recall@20")
            for way in ("folded in", "trained with", "popularity")
        ]
        lines.append(
            f"| {record['data']}, seed {record['seed']} | {record['left out']:,} of {record['users']:,} | "
            f"{' | '.join(cells)} | {record['seconds']['folding in']:.2f} |"
        )
    return "\n".join(lines)
