"""Records to rows: means and spreads over seeds, and whether a system ranks otherwise than ours."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from c2f_dgl.baselines.registry import SYSTEMS, find_system
from c2f_dgl.baselines.system import System
from c2f_dgl.bench.paper import table_3
from c2f_dgl.bench.run import SELECT, Bench
from c2f_dgl.evaluation.ranking import CUTOFFS
from c2f_dgl.evaluation.significance import adjusted, over_users

METRICS = tuple(f"{metric}@{k}" for metric in ("ndcg", "recall") for k in CUTOFFS)


@dataclass(frozen=True)
class Against:
    """A system's test N@20 against the control's, paired over users.

    Parameters
    ----------
    percent, low, high : float
        Mean difference and its 95 % interval, in percent of the control's figure.
    p : float
        Of the paired t-test, adjusted for the number of systems (Benjamini and Hochberg).
    """

    percent: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Row:
    """A system in the table.

    Parameters
    ----------
    name, title, source : str
    budgeted : bool
        Whether its size follows the budget.
    seeds : list of int
        Finished ones. Without any, all figures are None.
    values, bytes : int, optional
        Learned values and the bytes that store them, most over seeds.
    test, spread : dict of str to float
        Mean test metrics and their standard deviation over seeds (empty for one seed).
    valid : float, optional
        Mean validation N@20.
    seconds : float, optional
        Mean, of training.
    cut_short : bool
        Whether the budget of minutes ended a phase of any seed.
    peak_bytes : int, optional
        Most memory of the whole process, most over seeds.
    settings : dict
        Hyper-parameters.
    trials : list of dict
        Settings, validation N@20 and seconds of each tuning trial, or its error.
    against : Against, optional
    paper : dict, optional
        The paper's values, N@10, R@10, N@20 and R@20.
    errors : list of str
        Why seeds failed.
    """

    name: str
    title: str
    source: str
    budgeted: bool
    seeds: list[int]
    values: int | None
    bytes: int | None
    test: dict[str, float]
    spread: dict[str, float]
    valid: float | None
    seconds: float | None
    cut_short: bool
    peak_bytes: int | None
    settings: dict[str, Any]
    trials: list[dict[str, Any]]
    against: Against | None
    paper: dict[str, float] | None
    errors: list[str]


def collect(bench: Bench, out: Path, control: str) -> list[Row]:
    """The rows of all records in the folder of a bench, in the order of the registry, others last."""
    records = _records(out / "runs")
    by_system: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_system.setdefault(record["job"]["system"], []).append(record)
    known = list(SYSTEMS)
    references = sorted(by_system, key=lambda name: known.index(name) if name in known else len(known))
    compared = {
        name: _differences(out, by_system[name], by_system[control])
        for name in references
        if name != control and control in by_system
    }
    tested = {name: found for name, found in compared.items() if found is not None}
    data = "" if "protocol" in bench.reading else bench.name  # the paper has no figures for another protocol
    p_values = dict(zip(tested, adjusted([found[0].p for found in tested.values()]), strict=True))
    rows = []
    for name in references:
        against = None
        if name in tested:
            found, scale = tested[name]
            percent, low, high = (100 * value / scale for value in (found.mean, found.low, found.high))
            against = Against(percent, low, high, p_values[name])
        rows.append(_row(find_system(name), by_system[name], _records(out / "tuning"), data, against))
    return rows


def _records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def _done(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted((record for record in records if record["status"] == "done"), key=lambda each: each["job"]["seed"])


def _differences(
    out: Path, records: Sequence[dict[str, Any]], controls: Sequence[dict[str, Any]]
) -> tuple[Any, float] | None:
    """Paired comparison on the seeds both have, and the control's mean figure there."""
    control_of = {record["job"]["seed"]: record for record in _done(controls)}
    pairs = [
        (record, control_of[record["job"]["seed"]]) for record in _done(records) if record["job"]["seed"] in control_of
    ]
    if not pairs:
        return None
    ours, theirs = ([_per_user(out, pair[side]) for pair in pairs] for side in (0, 1))
    return over_users(ours, theirs), mean(pair[1]["test"][SELECT] for pair in pairs)


def _per_user(out: Path, record: dict[str, Any]) -> np.ndarray:
    name = find_system(record["job"]["system"]).name
    return load_file(out / "runs" / f"{name}-{record['job']['seed']}.safetensors")[SELECT]


def _row(
    system: System,
    records: Sequence[dict[str, Any]],
    tuning: Sequence[dict[str, Any]],
    data: str,
    against: Against | None,
) -> Row:
    done = _done(records)
    trials = [
        {
            "settings": record["job"]["settings"],
            **(
                {"valid": record["valid"][SELECT], "seconds": record["seconds"]}
                if record["status"] == "done"
                else {"error": record["error"]}
            ),
        }
        for record in sorted(tuning, key=lambda each: each["job"]["trial"])
        if find_system(record["job"]["system"]).name == system.name
    ]
    test = {name: mean(record["test"][name] for record in done) for name in METRICS} if done else {}
    return Row(
        name=system.name,
        title=system.title,
        source=system.source,
        budgeted=system.budgeted,
        seeds=[record["job"]["seed"] for record in done],
        values=max((record["values"]["total"] for record in done), default=None),
        bytes=max((record["bytes"] for record in done), default=None),
        test=test,
        spread={name: stdev(r["test"][name] for r in done) for name in METRICS} if len(done) > 1 else {},
        valid=mean(record["valid"][SELECT] for record in done) if done else None,
        seconds=mean(record["seconds"] for record in done) if done else None,
        cut_short=any(phase.get("stopped_by_time", False) for record in done for phase in record["phases"]),
        peak_bytes=max((record["peak_bytes"] for record in done), default=None),
        settings=records[0]["job"]["settings"],
        trials=trials,
        against=against,
        paper=table_3(data, system),
        errors=_errors(records),
    )


def _errors(records: Sequence[dict[str, Any]]) -> list[str]:
    """What went wrong, once for all seeds that it went wrong with."""
    seeds: dict[str, list[str]] = {}
    for record in records:
        if record["status"] == "failed":
            seeds.setdefault(record["error"], []).append(str(record["job"]["seed"]))
    return [f"seed{'s' * (len(some) > 1)} {', '.join(some)}: {error}" for error, some in seeds.items()]


@dataclass(frozen=True)
class Results:
    """What ``results.json`` holds.

    Parameters
    ----------
    bench : Bench
    command : str
        That made it.
    control : str
        Name of the system the others are compared with.
    rows : list of Row
    """

    bench: Bench
    command: str
    control: str
    rows: list[Row]


def as_json(results: Results) -> str:
    """All of it."""
    return json.dumps(asdict(results), indent=2) + "\n"


def read_results(path: Path) -> Results:
    """What `as_json` wrote to `path`."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    rows = [Row(**{**row, "against": Against(**row["against"]) if row["against"] else None}) for row in tree["rows"]]
    return Results(Bench(**tree["bench"]), tree["command"], tree["control"], rows)


def as_csv(rows: Sequence[Row]) -> str:
    """A line per system; spreads, the comparison and the paper's figures in their own columns."""
    file = io.StringIO()
    paper = ("values", "ndcg@10", "recall@10", "ndcg@20", "recall@20")
    head = ["system", "seeds", "values", "bytes", *METRICS, *(f"{name} sd" for name in METRICS)]
    head += ["valid ndcg@20", "seconds", "peak bytes", "difference %", "low %", "high %", "p"]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*head, *(f"paper {name}" for name in paper), "errors"])
    for row in rows:
        against = asdict(row.against) if row.against else {}
        cells: list[Any] = [row.name, len(row.seeds), row.values, row.bytes]
        cells += [row.test.get(name) for name in METRICS] + [row.spread.get(name) for name in METRICS]
        cells += [row.valid, row.seconds, row.peak_bytes]
        cells += [against.get(name) for name in ("percent", "low", "high", "p")]
        cells += [(row.paper or {}).get(name) for name in paper]
        writer.writerow(["" if cell is None else cell for cell in [*cells, "; ".join(row.errors)]])
    return file.getvalue()


def as_markdown(results: Results) -> str:
    """The table as people read it, what its columns are, and the settings behind it."""
    bench, rows = results.bench, results.rows
    seeds = max((len(row.seeds) for row in rows), default=0)
    lines = [
        f"# {bench.name}: {len(rows)} systems, {seeds} {'seed' if seeds == 1 else 'seeds'}",
        "",
        f"    {results.command}",
        "",
        table(results),
        "",
        "## Hyper-parameters",
        "",
        f"{bench.tune} trials each, chosen on validation N@20 of seed {bench.seed}."
        if bench.tune
        else "Each system's defaults.",
        "",
        "| system | settings | trials | valid N@20 of the trials |",
        "|---|---|---|---|",
    ]
    for row in rows:
        figures = ", ".join(f"{trial['valid']:.4f}" if "valid" in trial else "failed" for trial in row.trials)
        settings = ", ".join(f"{name} {value}" for name, value in row.settings.items())
        lines.append(f"| {row.name} | {settings} | {len(row.trials)} | {figures} |")
    return "\n".join(lines) + "\n"


def table(results: Results) -> str:
    """The main table with its legend."""
    titles = [f"{'N' if metric.startswith('ndcg') else 'R'}@{metric.partition('@')[2]}" for metric in METRICS]
    head = ["system", "#Param", "bytes", *titles, "seconds", "peak MiB", "Δ N@20"]
    paper = ["ndcg@20", "recall@20"] if any(row.paper for row in results.rows) else []
    head += [f"paper {'N' if metric.startswith('ndcg') else 'R'}@20" for metric in paper]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    most = max((len(row.seeds) for row in results.rows), default=0)
    for row in results.rows:
        published = [_figure((row.paper or {}).get(metric)) for metric in paper]
        title = row.title if row.budgeted else f"{row.title} †"
        if not row.seeds:
            cells = [title, f"failed: {'; '.join(row.errors)}", *[""] * (len(head) - len(paper) - 2), *published]
            lines.append(f"| {' | '.join(cells)} |")
            continue
        if len(row.seeds) < most:
            title += f" ({len(row.seeds)})"
        cells = [title, f"{row.values:,}", f"{row.bytes:,}"]
        cells += [_figure(row.test[name], row.spread.get(name)) for name in METRICS]
        cells += [f"{row.seconds:,.1f}{' ‡' if row.cut_short else ''}", f"{(row.peak_bytes or 0) / 2**20:,.0f}"]
        cells += ["control" if row.name == results.control else _difference(row.against), *published]
        lines.append(f"| {' | '.join(cells)} |")
    partly = " ((n): over n of them)" if any(0 < len(row.seeds) < most for row in results.rows) else ""
    legend = (
        f"Learned values, the most over seeds, within {results.bench.values:,}, except where the size is the system's "
        f"own (†). Test figures: mean ± standard deviation over seeds{partly}. "
        "Seconds are of training (‡: ended by the budget of "
        f"{results.bench.minutes:g} minutes), memory of the whole process. "
        f"Δ: mean difference to {results.control} over users, averaged over seeds before the test; * where p < 0.05 in "
        "a paired t-test, adjusted for the number of systems."
    )
    failed = [f"{row.name}: {'; '.join(row.errors)}" for row in results.rows if row.errors and row.seeds]
    return "\n".join([*lines, "", legend, *([f"Failed: {'; '.join(failed)}."] if failed else [])])


def _figure(value: float | None, spread: float | None = None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if spread is None else f"{value:.4f} ± {spread:.4f}"


def _difference(against: Against | None) -> str:
    return "" if against is None else f"{against.percent:+.1f} %{'*' if against.p < 0.05 else ''}"
