"""Tables of docs/cluster.md: what hosts.py measured, and from it a model of what more and larger machines would take.

The model takes a phase to need a / n + b seconds on each of n machines, fitted to the processor seconds measured on 1,
2 and 4 of them, a and b growing with what the phase does (`_WORK`). Nothing was measured at the sizes it is for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np
from scipy.optimize import nnls

from benchmarks.measure import read, read_all, table
from c2f_dgl.config.load import load_config
from c2f_dgl.config.sizes import resolve_sizes

# The record that the model is fitted to, the one its memory is (of the same shape), and phases as tables have them.
_FITTED, _LARGE = "50000x10000x1000000", "hundred-fast"
_COLUMNS = {
    "solve": ("solve", "singular values"),
    "filter": ("filter",),
    "comparisons": ("candidates", "comparisons"),
    "ranking": ("ranking", "ranking of the most popular"),
    "rest": ("rest",),
}

# Matrices of entities x atoms in float64 that a solve holds (c2f_dgl/training/build.py).
_COPIES = 2


@dataclass(frozen=True)
class Size:
    """Users, items and interactions, and atoms: by default those of the preset `fast`."""

    users: int
    items: int
    interactions: int
    atoms: int = 0

    @property
    def m(self) -> int:
        """Atoms."""
        return self.atoms or resolve_sizes(load_config("fast"), self.users, self.items).coarse.m

    @property
    def n(self) -> int:
        """Users and items."""
        return self.users + self.items

    @property
    def scores(self) -> int:
        """Scores that validating and testing take (`c2f_dgl.evaluation.sampling.drawn_users`)."""
        return self.items * min(self.users, max(10_000, 2**33 // self.items))

    @classmethod
    def of(cls, interactions: int, atoms: int = 0) -> Size:
        """5 users and 1 item per 100 interactions, as the generated data have."""
        return cls(interactions // 20, interactions // 100, interactions, atoms)


# What the shared part of a phase grows with, and the rest of it.
_WORK: dict[str, tuple[Callable[[Size], float], Callable[[Size], float]]] = {
    "solve": (lambda s: s.m * s.interactions, lambda s: s.n * s.m**2),
    "singular values": (lambda s: 0, lambda s: s.interactions),
    "filter": (lambda s: 0, lambda s: s.interactions),
    "candidates": (lambda s: s.items, lambda s: s.items),
    "comparisons": (lambda s: 1, lambda s: s.items * s.m**2),
    "ranking": (lambda s: s.scores, lambda s: s.scores),
    "ranking of the most popular": (lambda s: s.items, lambda s: s.items),
    "rest": (lambda s: 0, lambda s: s.interactions),
}


def processor_seconds(row: dict[str, Any], phase: str) -> float:
    """Of a rank, on average."""
    return mean(rank["phases"][phase]["processor seconds"] for rank in row["ranks"])


def exchanging(row: dict[str, Any]) -> float:
    """Share of a rank's seconds that are of exchanges, waiting for other ranks included, on average."""
    of_ranks = [rank["phases"].values() for rank in row["ranks"]]
    return mean(sum(p["seconds of exchanges"] for p in ps) / sum(p["seconds"] for p in ps) for ps in of_ranks)


def fitted(rows: list[dict[str, Any]], phase: str) -> tuple[float, float]:
    """a and b, neither below 0, of a phase: a / n + b processor seconds on n hosts."""
    hosts = np.array([row["hosts"] for row in rows])
    seconds = np.array([processor_seconds(row, phase) for row in rows])
    if _WORK[phase][0](Size.of(10**6)) == 0:
        return 0.0, float(seconds.mean())
    a, b = nnls(np.stack([1 / hosts, np.ones(len(hosts))], axis=1), seconds)[0]
    return float(a), float(b)


def work(size: Size) -> tuple[float, float]:
    """Processor seconds of a run that solves once: what is shared, and what every process does."""
    rows = read("hosts", _FITTED)["rows"]
    base = Size(*map(int, _FITTED.split("x")))
    shared = whole = 0.0
    for phase, (of_shared, of_whole) in _WORK.items():
        a, b = fitted(rows, phase)
        solves = rows[0]["ranks"][0]["phases"]["solve"]["times"] if phase in ("solve", "singular values") else 1
        shared += a / solves * of_shared(size) / max(of_shared(base), 1)
        whole += b / solves * of_whole(size) / of_whole(base)
    return shared, whole


def memory(size: Size) -> float:
    """Bytes of each process: the basis, and per interaction what the largest measured run had beside it."""
    record = read("whole_process", _LARGE)
    m, entities = record["scalars"]["d"], record["entities"]
    each = (record["peak_bytes"] - _COPIES * 8 * m * entities) / 10**8
    return _COPIES * 8 * size.m * size.n + each * size.interactions


def wire(size: Size, n: int, rate: float, delay: float) -> tuple[float, float]:
    """Seconds that the parts of a basis take, one host's after the other's down a tree, and those of the exchanges."""
    hops = math.ceil(math.log2(n))
    phases = read("hosts", _FITTED)["rows"][0]["ranks"][0]["phases"]
    return hops * 8 * size.n * size.m / rate, phases["comparisons"]["times"] * (n + 2) * hops * delay


def model() -> str:
    """A thousand million interactions on 1, 8 and 32 machines, by the model, after runs that it can be held against."""
    lines = []
    for name, size, power in (("ten", Size.of(10**7), "10⁷"), ("hundred", Size.of(10**8), "10⁸")):
        record, shared, whole = read("whole_process", f"{name}-fast"), *work(size)
        peak = f"{memory(size) / 1e9:.0f} ({record['peak_bytes'] / 1e9:.0f} measured)"
        hours = f"{(shared + whole) / 3600:.2f} ({record['processor_seconds'] / 3600:.2f} measured)"
        lines.append(f"{power}, `{name}` | {size.m} | 1 | {peak} | {hours} | {shared / 3600:.2f} | | |")
    for atoms, options in ((0, "`fast`"), (512, "`coarse.m=512`")):
        size = Size.of(10**9, atoms)
        shared, whole = (seconds / 3600 for seconds in work(size))
        for n in (1, 8, 32):
            hours = f"{shared / n + whole:.2f} | {shared / n:.2f}"
            lines.append(f"10⁹, {options} | {size.m} | {n} | {memory(size) / 1e9:,.0f} | {hours} | ")
            if n == 1:
                lines[-1] += "| |"
                continue
            slow, fast = (wire(size, n, rate, 1e-3) for rate in (1e9 / 8, 1e10 / 8))
            lines[-1] += f"{8 * size.n * size.m * (n - 1) / n / 1e9:,.1f} | "
            lines[-1] += f"{slow[0] / 60:.1f} / {fast[0] / 60:.1f} | {slow[1]:.1f}"
    head = "interactions | m | machines | memory of each, GB | processor hours of each | of these shared work"
    head += " | GB of the basis to each | minutes of that at 1 / 10 Gbit/s | seconds of exchanges' delays"
    return table(head, lines)


def measured() -> str:
    """Hosts of namespaces: processor seconds of each rank by phase, what went over the wire, and the figures."""
    lines = []
    for name, record in read_all("hosts").items():
        alone = record["rows"][0]
        for row in record["rows"]:
            assert row["scalars"] == alone["scalars"]
            cells = [f"{name}, {row['hosts']}", f"{row['seconds']:.0f} ({row['load']:.1f})"]
            cells += [f"{sum(processor_seconds(row, phase) for phase in phases):.1f}" for phases in _COLUMNS.values()]
            sent = [
                sum(rank["phases"][phase]["bytes sent"] for rank in row["ranks"] for phase in _COLUMNS[column])
                for column in ("solve", "comparisons", "ranking")
            ]
            exchanges = sum(phase["exchanges"] for phase in row["ranks"][0]["phases"].values())
            apart = max(abs(row[part][key] - value) for part in ("valid", "test") for key, value in alone[part].items())
            wired = [*(f"{size / 1e6:.1f}" for size in sent), f"{exchanges:.0f}", f"{exchanging(row):.0%}"]
            *wired, apart_cell = [*wired, f"{apart:.0e}"] if row["hosts"] > 1 else [""] * 6
            lines.append(" | ".join([*cells, *wired, f"{row['test']['ndcg@20']:.4f}", apart_cell]))
    head = ["data, hosts", "seconds (load)", *_COLUMNS, *(f"MB, {x}" for x in ("solve", "comparisons", "ranking"))]
    return table(" | ".join([*head, "exchanges | share of time | test N@20 | figures apart by"]), lines)
