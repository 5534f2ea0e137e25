"""Records to rows: means and spreads over seeds, and whether a system ranks otherwise than ours."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter
from safetensors.numpy import load_file

from c2f_dgl.baselines.registry import SYSTEMS, find_system
from c2f_dgl.baselines.system import SELECT, System
from c2f_dgl.bench.run import Bench
from c2f_dgl.evaluation.ranking import CUTOFFS
from c2f_dgl.evaluation.significance import Paired, adjusted, over_users

Record = dict[str, Any]

METRICS = tuple(f"{metric}@{k}" for metric in ("ndcg", "recall") for k in CUTOFFS)


@dataclass(frozen=True)
class Against:
    """A system's test N@20 against the control's, paired over users: difference and 95 % interval in per cent.

    `p` is of the paired t-test, adjusted for the number of systems (Benjamini and Hochberg).
    """

    percent: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Row:
    """A system in the table: means over the finished seeds and their deviations; without one, figures are None."""

    name: str
    title: str
    source: str
    budgeted: bool
    seeds: list[int]
    values: int | None  # the most over seeds, as bytes and memory are
    bytes: int | None
    test: dict[str, float]
    spread: dict[str, float]
    valid: float | None
    seconds: float | None
    cut_short: bool  # whether the budget of minutes ended a phase of any seed
    peak_bytes: int | None
    settings: dict[str, Any]
    trials: list[dict[str, Any]]
    against: Against | None
    paper: dict[str, float] | None  # its values, N@10, R@10, N@20 and R@20
    errors: list[str]  # why seeds failed


@dataclass(frozen=True)
class Results:
    """What ``results.json`` holds: the bench, the command that made it, the control's name, and all rows."""

    bench: Bench
    command: str
    control: str
    rows: list[Row]


def collect(bench: Bench, out: Path, control: str) -> list[Row]:
    """The rows of all records in the folder of a bench, in the order of the registry, others last."""
    by_system: dict[str, list[Record]] = {}
    for record in _records(out / "runs"):
        by_system.setdefault(record["job"]["system"], []).append(record)
    order = {name: number for number, name in enumerate(SYSTEMS)}
    references = sorted(by_system, key=lambda name: order.get(name, len(order)))
    controls = _done(by_system.get(control, []))
    compared: dict[str, tuple[Paired, float]] = {}
    for name in references:
        seeds = [seed for seed in _done(by_system[name]) if seed in controls]
        if name != control and seeds:
            scores, control_scores = ([_per_user(out, side, seed) for seed in seeds] for side in (name, control))
            level = mean(controls[seed]["test"][SELECT] for seed in seeds)
            compared[name] = over_users(scores, control_scores), level
    p_values = adjusted([paired.p for paired, _ in compared.values()])
    against = {
        name: Against(100 * paired.mean / level, 100 * paired.low / level, 100 * paired.high / level, p)
        for (name, (paired, level)), p in zip(compared.items(), p_values, strict=True)
    }
    data = "" if "protocol" in bench.reading else bench.name  # the paper has no figures for another protocol
    trials = _records(out / "tuning")
    return [_row(find_system(name), by_system[name], trials, data, against.get(name)) for name in references]


def _records(folder: Path) -> list[Record]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def _done(records: Sequence[Record]) -> dict[int, Record]:
    """Finished records by their seeds, ascending."""
    done = {record["job"]["seed"]: record for record in records if record["status"] == "done"}
    return dict(sorted(done.items()))


def _per_user(out: Path, reference: str, seed: int) -> np.ndarray:
    return load_file(out / "runs" / f"{find_system(reference).name}-{seed}.safetensors")[SELECT]


def _row(
    system: System, records: Sequence[Record], tuning: Sequence[Record], data: str, against: Against | None
) -> Row:
    done = list(_done(records).values())
    trials = [record for record in tuning if find_system(record["job"]["system"]).name == system.name]
    most = lambda figures: max(figures, default=None)
    return Row(
        name=system.name,
        title=system.title,
        source=system.source,
        budgeted=system.budgeted,
        seeds=[record["job"]["seed"] for record in done],
        values=most(record["values"]["total"] for record in done),
        bytes=most(record["bytes"] for record in done),
        test={name: mean(record["test"][name] for record in done) for name in METRICS} if done else {},
        spread={name: stdev(record["test"][name] for record in done) for name in METRICS} if len(done) > 1 else {},
        valid=mean(record["valid"][SELECT] for record in done) if done else None,
        seconds=mean(record["seconds"] for record in done) if done else None,
        cut_short=any(phase.get("stopped_by_time", False) for record in done for phase in record["phases"]),
        peak_bytes=most(record["peak_bytes"] for record in done),
        settings=records[0]["job"]["settings"],
        trials=[
            {"settings": record["job"]["settings"], "error": record["error"]}
            if record["status"] == "failed"
            else {"settings": record["job"]["settings"], "valid": record["valid"][SELECT], "seconds": record["seconds"]}
            for record in sorted(trials, key=lambda each: each["job"]["trial"])
        ],
        against=against,
        paper=table_3(data, system),
        errors=_errors(records),
    )


def _errors(records: Sequence[Record]) -> list[str]:
    """What went wrong, once for all seeds that it went wrong with."""
    seeds: dict[str, list[str]] = {}
    for record in records:
        if record["status"] == "failed":
            seeds.setdefault(record["error"], []).append(str(record["job"]["seed"]))
    return [f"seed{'s' * (len(failed) > 1)} {', '.join(failed)}: {error}" for error, failed in seeds.items()]


def table_3(data: str, system: System) -> dict[str, float] | None:
    """The paper's Table 3: learned values and N@10, R@10, N@20, R@20, by system, or by family where it has no more."""
    text = (resources.files("c2f_dgl.bench") / "paper.json").read_text(encoding="utf-8")
    rows: dict[str, dict[str, float]] = json.loads(text).get(data, {})
    return rows.get(system.name, rows.get(system.family))


def as_json(results: Results) -> str:
    """All of it."""
    return json.dumps(asdict(results), indent=2) + "\n"


def read_results(path: Path) -> Results:
    """What `as_json` wrote to `path`."""
    return TypeAdapter(Results).validate_json(path.read_bytes())


def as_csv(rows: Sequence[Row]) -> str:
    """A line per system; spreads, the comparison and the paper's figures in their own columns."""
    paper = ("values", "ndcg@10", "recall@10", "ndcg@20", "recall@20")
    head = ["system", "seeds", "values", "bytes", *METRICS, *(f"{name} sd" for name in METRICS)]
    head += ["valid ndcg@20", "seconds", "peak bytes", "difference %", "low %", "high %", "p"]
    head += [*(f"paper {name}" for name in paper), "errors"]
    lines = []
    for row in rows:
        cells: list[Any] = [row.name, len(row.seeds), row.values, row.bytes]
        cells += [figures.get(name) for figures in (row.test, row.spread) for name in METRICS]
        cells += [row.valid, row.seconds, row.peak_bytes, *(asdict(row.against).values() if row.against else [""] * 4)]
        lines.append([*cells, *((row.paper or {}).get(name) for name in paper), "; ".join(row.errors)])
    return pd.DataFrame(lines, columns=head, dtype=object).to_csv(index=False)


def as_markdown(results: Results) -> str:
    """The table as people read it, what its columns are, and the settings behind it."""
    bench, seeds = results.bench, _most_seeds(results)
    rows = []
    for row in results.rows:
        figures = ", ".join(f"{trial['valid']:.4f}" if "valid" in trial else "failed" for trial in row.trials)
        settings = ", ".join(f"{name} {value}" for name, value in row.settings.items())
        rows.append([row.name, settings, len(row.trials), figures])
    tuned = f"{bench.tune} trials each, chosen on validation N@20 of seed {bench.seed}."
    parts = [
        f"# {bench.name}: {len(rows)} systems, {seeds} {'seed' if seeds == 1 else 'seeds'}",
        f"    {results.command}",
        table(results),
        "## Hyper-parameters",
        tuned if bench.tune else "Each system's defaults.",
        markdown_table(["system", "settings", "trials", "valid N@20 of the trials"], rows),
    ]
    return "\n\n".join(parts) + "\n"


def table(results: Results) -> str:
    """The main table with its legend."""
    paper = ["ndcg@20", "recall@20"] if any(row.paper for row in results.rows) else []
    head = ["system", "#Param", "bytes", *map(_short, METRICS), "seconds", "peak MiB", "Δ N@20"]
    head += [f"paper {_short(metric)}" for metric in paper]
    most, rows = _most_seeds(results), []
    for row in results.rows:
        published = [spread((row.paper or {}).get(metric)) for metric in paper]
        title = row.title if row.budgeted else f"{row.title} †"
        if not row.seeds:
            empty = [""] * (len(head) - len(paper) - 2)
            rows.append([title, f"failed: {'; '.join(row.errors)}", *empty, *published])
            continue
        if len(row.seeds) < most:
            title += f" ({len(row.seeds)})"
        figures = [spread(row.test[name], row.spread.get(name)) for name in METRICS]
        cost = [f"{row.seconds:,.1f}{' ‡' if row.cut_short else ''}", f"{(row.peak_bytes or 0) / 2**20:,.0f}"]
        difference = f"{row.against.percent:+.1f} %{'*' if row.against.p < 0.05 else ''}" if row.against else ""
        compared = "control" if row.name == results.control else difference
        rows.append([title, f"{row.values:,}", f"{row.bytes:,}", *figures, *cost, compared, *published])
    partly = " ((n): over n of them)" if any(0 < len(row.seeds) < most for row in results.rows) else ""
    legend = (
        f"Learned values, the most over seeds, within {results.bench.values:,}, except where the size is the system's "
        f"own (†). Test figures: mean ± standard deviation over seeds{partly}. Seconds are of training (‡: ended by "
        f"the budget of {results.bench.minutes:g} minutes), memory of the whole process. Δ: mean difference to "
        f"{results.control} over users, averaged over seeds before the test; * where p < 0.05 in a paired t-test, "
        "adjusted for the number of systems."
    )
    failed = "; ".join(f"{row.name}: {'; '.join(row.errors)}" for row in results.rows if row.errors and row.seeds)
    return "\n".join(
        [markdown_table(head, rows, align="---:"), "", legend, *([f"Failed: {failed}."] if failed else [])]
    )


def _short(metric: str) -> str:
    return metric.replace("ndcg", "N").replace("recall", "R")


def _most_seeds(results: Results) -> int:
    return max((len(row.seeds) for row in results.rows), default=0)


def spread(value: float | None, deviation: float | None = None) -> str:
    """A figure, with its standard deviation where there is one."""
    if value is None:
        return ""
    return f"{value:.4f}" if deviation is None else f"{value:.4f} ± {deviation:.4f}"


def markdown_table(head: Sequence[object], rows: Iterable[Sequence[object]], align: str = "---") -> str:
    """A Markdown table; `align` is the rule below all columns but the first, a cell of None has no text at all."""
    lines = ["|" + "".join(" |" if cell is None else f" {cell} |" for cell in cells) for cells in (head, *rows)]
    return "\n".join([lines[0], "|---|" + f"{align}|" * (len(head) - 1), *lines[1:]])
