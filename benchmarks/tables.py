"""Write the tables and figures of the docs from committed results: `python -m benchmarks.tables [--check]`.

A table stands between `<!-- table: NAME -->` and `<!-- end -->` in a Markdown file, a study's figure in docs/figures.
With --check nothing is written and the exit code says whether all of them are up to date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks import (
    cluster,
    cold_items,
    device_report,
    installs,
    interpreters,
    relations,
    reliability,
    reproduction,
    speed,
    updates,
    workers,
)
from benchmarks.measure import RESULTS, mean_spread, read, read_all
from benchmarks.studies import figures, report
from benchmarks.studies.catalogue import STUDIES
from benchmarks.studies.significance import MARGIN
from c2f_dgl.bench import table as bench_table
from c2f_dgl.bench.table import markdown_table, read_results, spread
from c2f_dgl.evaluation.significance import LEVEL

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "figures"
EXAMPLES = ROOT / "c2f_dgl" / "examples"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(EXAMPLES.glob("*/README.md"))]

Rows = dict[str, dict[str, Any]]

# Figures that are not of a study, by their names.
CURVES = {"reproduction": reproduction, "device_report": device_report}


def everywhere() -> str:
    """Test figures of the presets and the anchors on every data set, the best in bold; (n): on n seeds alone."""
    by_data = _everywhere()
    most = {data: max(len(row["seeds"]) for row in rows.values()) for data, rows in by_data.items()}
    best = {data: max(row["test"].get("ndcg@20", 0.0) for row in rows.values()) for data, rows in by_data.items()}

    def cell(data: str, row: dict[str, Any] | None) -> str:
        if row is None or not row["test"]:
            return "not run" if row is None else "failed"
        fewer = f" ({len(row['seeds'])})" if len(row["seeds"]) < most[data] else ""
        return _bold(f"{_score(row)} / {row['test']['recall@20']:.4f}{fewer}", row["test"]["ndcg@20"] == best[data])

    head = [f"{data}, {_seeds(most[data])}" for data in by_data]
    return _by_system("test N@20 / R@20", head, by_data, cell)


def elsewhere() -> str:
    """Test N@20 of the presets and the anchors on data sets that nothing was chosen on, the best of each in bold."""
    by_data = {name: result["rows"] for name, result in read_all("bench/elsewhere").items()}
    # In the order of the record with the most systems.
    titles = {row["name"]: row["title"] for rows in sorted(by_data.values(), key=len, reverse=True) for row in rows}
    table = []
    for data, rows in by_data.items():
        figures = {row["name"]: row["test"]["ndcg@20"] for row in rows if row["test"]}
        best = max(figures.values())
        cells = (_bold(f"{figures[name]:.4f}", figures[name] == best) if name in figures else "" for name in titles)
        table.append([data, *cells])
    return markdown_table(["test N@20", *titles.values()], table)


def everywhere_cost() -> str:
    """What they take on every data set: seconds of training, memory of the whole process, values and bytes."""

    def cell(data: str, row: dict[str, Any] | None) -> str:
        if row is None or not row["test"]:
            return ""
        cost = f"{row['seconds']:.1f} s, {row['peak_bytes'] / 2**20:,.0f} MiB"
        return f"{cost}, {row['values']:,}, {row['bytes'] / 1e6:.2f} MB"

    by_data = _everywhere()
    return _by_system("seconds, MiB of memory, learned values, MB stored", list(by_data), by_data, cell)


def _everywhere() -> dict[str, Rows]:
    """Rows of the benches of presets and anchors, by data set and system."""
    results = read_all("bench/everywhere")
    return {data: {row["name"]: row for row in result["rows"]} for data, result in results.items()}


def _by_system(
    corner: str, head: list[str], by_data: dict[str, Rows], cell: Callable[[str, dict[str, Any] | None], str]
) -> str:
    titles = {name: row["title"] for rows in by_data.values() for name, row in rows.items()}
    table = [[title, *(cell(data, rows.get(name)) for data, rows in by_data.items())] for name, title in titles.items()]
    return markdown_table([corner, *head], table)


def further_terms() -> str:
    """Gain in N@20 of a further term on users that it was not fitted on, with its standard error, by data set."""
    records = list(read_all("further_terms").values())

    def cell(record: dict[str, Any], name: str) -> str:
        gain, error = (100 * record[name][key] / record["ndcg@20"][1] for key in ("gain", "error"))
        return f"{gain:+.1f} ± {error:.1f}"

    names = [name for name, term in records[0].items() if isinstance(term, dict)]
    table = [[name, *(cell(record, name) for record in records)] for name in names]
    return markdown_table(["gain in N@20, per cent", *(record["data"] for record in records)], table)


def full_test(data: str) -> str:
    """The whole test part: ours beside published figures."""
    table = []
    for record in read_all("full_test", f"{data}-*").values():
        tests = [run["test"] for run in record["runs"]]
        cells = [f"{mean(test[name] for test in tests):.4f}" for name in ("ndcg@20", "recall@20")]
        system = f"Coarse to fine, {record['preset']}" + ", chosen on a third of it" * record["chosen_on_test"]
        table.append([system, *cells, f"this package, {_seeds(len(tests))}"])
    for row in read("full_test", "published")[data]:
        table.append([row["system"], f"{row['ndcg@20']:.4f}", f"{row['recall@20']:.4f}", row["source"]])
    return markdown_table(["whole test part", "N@20", "R@20", "source"], table)


def exported() -> str:
    """Test figures of model files of trained runs: of a seed, or means of some."""
    table = []
    for name, record in read_all("exported").items():
        data, preset, _ = name.rsplit("-", 2)
        files = record if isinstance(record, list) else [record]
        scores = [f"{mean(file[metric] for file in files):.4f}" for metric in ("ndcg@20", "recall@20")]
        table.append([f"{data}, {preset}, {_seeds(len(files))}", f"{max(file['bytes'] for file in files):,}", *scores])
    return markdown_table(["run", "bytes of the file", "test N@20", "test R@20"], table)


def leads(folder: str) -> str:
    """Every lead's answer: a system of the bench against the control, paired over users; (n): on n seeds alone."""
    result = read(f"leads/{folder}", "results")
    (control,) = (row for row in result["rows"] if row["name"] == result["control"])
    n_seeds = len(control["seeds"])
    head = [f"{result['bench']['name']}, {_seeds(n_seeds)}", "test N@20", "learned values"]
    table = [[control["title"], _score(control), f"{control['values']:,}", None, None, None]]
    for row in result["rows"]:
        title = row["title"]
        if row["against"] is not None:
            title += f" ({len(row['seeds'])})" if len(row["seeds"]) != n_seeds else ""
            table.append([title, _score(row), f"{row['values']:,}", *_compared(row["against"])])
        elif row is not control:
            table.append([title, "; ".join(row["errors"]) or "not run", *[None] * 4])
    return markdown_table([*head, *COMPARED], table)


def fair_leads() -> str:
    """Leads that learn more values, each against the control that spends as many on atoms."""
    head = [None, "data", "seeds", "test N@20", "learned values", "with atoms alone", "learned values", *COMPARED]
    table = []
    for folder in sorted((RESULTS / "leads" / "as-many-values").iterdir()):
        result = read(f"leads/as-many-values/{folder.name}", "results")
        control, lead = sorted(result["rows"], key=lambda row: row["name"] != result["control"])
        cells = [cell for row in (lead, control) for cell in (_score(row), f"{row['values']:,}")]
        described = [lead["title"], result["bench"]["name"], len(lead["seeds"])]
        table.append([*described, *cells, *_compared(lead["against"])])
    return markdown_table(head, table)


COMPARED = ("difference, 95 % interval", "p, adjusted", "answer")


def _compared(against: dict[str, float]) -> list[str]:
    """Cells of `COMPARED`, by the rule of the studies: a gain with p < 0.05; or one that surely ends short of 1 %."""
    percent, low, high, p = (against[key] for key in ("percent", "low", "high", "p"))
    answer = "**yes**" if percent > 0 and p < LEVEL else "no" if high < 100 * MARGIN else "undecided"
    return [f"{percent:+.1f} % ({low:+.1f} to {high:+.1f})", report.p_cell(p), answer]


def _score(row: dict[str, Any]) -> str:
    return spread(row["test"]["ndcg@20"], row["spread"].get("ndcg@20"))


def _seeds(n: int) -> str:
    return f"{n} seed{'s' * (n > 1)}"


def _bold(text: str, best: bool) -> str:
    return f"**{text}**" if best else text


def budget(data: str) -> str:
    """Accuracy and bytes at one budget of learned values after another."""
    records = sorted(
        read_all("budget", f"{data}-*").values(),
        key=lambda record: (record["system"], record["seed"], record["budget"]),
    )
    names = {"coarse": "coarse tier of `fast`", "svd": "truncated SVD", "legcf": "LEGCF", "gfcf": "GF-CF"}
    table = []
    for record in records:
        scores = [f"{record['test'][metric]:.4f}" for metric in ("ndcg@20", "recall@20")]
        # Records of before 0.6.0 have the bytes of what was exported.
        size = record["bytes"] if "bytes" in record else record["precisions"]["fp32"]["learned_bytes"]
        table.append([names[record["system"]], f"{record['values']:,}", *scores, f"{size:,}"])
    return markdown_table(["system", "learned values", "test N@20", "test R@20", "bytes, fp32"], table)


def bench(data: str) -> str:
    """Systems side by side, with the command."""
    results = read_results(RESULTS / "bench" / data / "results.json")
    return f"`{results.command}`\n\n{bench_table.table(results)}"


def relations_effect(data: str, only: str | None = None) -> str:
    """Each addition beside the model without it, and the mean change of test NDCG@20, seed by seed."""
    head = [data, "valid N@20", "test N@20", "test R@20", "learned values", "change of test N@20", "importances chosen"]
    table: dict[str | None, list[str]] = {}

    def row(name: str, runs: list[dict[str, Any]], change: str, chosen: str) -> list[str]:
        parts = (("valid", "ndcg@20"), ("test", "ndcg@20"), ("test", "recall@20"))
        scores = [mean_spread([run[part][metric] for run in runs]) for part, metric in parts]
        return [name, *scores, f"{max(run['learned_values'] for run in runs):,}", change, chosen]

    for example, (baseline, added, base) in relations.EXAMPLES.items():
        if only not in (None, example):
            continue
        after = list(read_all("relations", f"{example}-{data}-[0-9]*").values())
        if baseline is None:
            before = [_before_last(run) for run in after]
        else:
            before = list(read_all("relations", f"{baseline}-{data}-[0-9]*").values())
        if [run["seed"] for run in before] != [run["seed"] for run in after]:
            raise SystemExit(f"benchmarks/results/relations: {example} and {baseline} have other seeds")
        table.setdefault(baseline, row(base, before, "", ""))
        changes = [100 * (b["test"]["ndcg@20"] / a["test"]["ndcg@20"] - 1) for a, b in zip(before, after, strict=True)]
        change = f"{mean(changes):+.1f} % ({', '.join(f'{c:+.1f}' for c in changes)})"
        chosen = ", ".join(f"{value:g}" for run in after for value in run["importances"].values())
        table[example] = row(f"{base} with {added}", after, change, chosen)
    return markdown_table(head, list(table.values()))


def _before_last(run: dict[str, Any]) -> dict[str, Any]:
    """A run as it was before its last stage: the stage that validates better of the others."""
    stages = list(run["stages"].values())[:-1]
    return {"seed": run["seed"], **max(stages, key=lambda stage: stage["valid"]["ndcg@20"])}


def relations_cost(data: str) -> str:
    """Processor seconds of a collapse and of a step, by number of further relations."""
    timed = ("rebuild", "collapsed", "message_passing")
    table = [
        [row["relations"], f"{row['edges']:,}", *(f"{row[key]:.3f} s" for key in timed)]
        for row in read("relations", f"cost-{data}")["rows"]
    ]
    head = [f"further relations, {data}", "edges", "collapse", "step, collapsed", "step, message passing"]
    return markdown_table(head, table)


TABLES: dict[str, Callable[[], str]] = {
    "presets everywhere": everywhere,
    "presets everywhere, cost": everywhere_cost,
    "presets elsewhere": elsewhere,
    "device models": device_report.table,
    "cold items": cold_items.table,
    "installs": installs.table,
    "interpreters": interpreters.table,
    "updates": updates.table,
    "hosts": cluster.measured,
    "cluster model": cluster.model,
    "workers": workers.table,
    "exported": exported,
    "further terms": further_terms,
    "leads as many values": fair_leads,
    "scaling": partial(speed.growth, "planted"),
    "whole process": speed.whole_process,
    "prepared": speed.prepared,
    "reproduction curves": reproduction.curves,
    "reproduction updating": reproduction.updating,
    "reproduction ends": reproduction.ends,
    "errata": reproduction.errata,
    "crash": reliability.crash,
    "hindered": reliability.hindered,
    "mutations": reliability.mutations,
    "soak": reliability.soak,
    "found": lambda: report.page(STUDIES.values()),
}

# Those that are named with a data set, or a folder, behind.
OF_DATA: dict[str, Callable[[str], str]] = {
    "full test": full_test,
    "leads": leads,
    "budget": budget,
    "bench": bench,
    "relations": relations_effect,
    **{name: partial(relations_effect, only=name) for name in relations.EXAMPLES},
    "relations cost": relations_cost,
    "steps": speed.steps,
    "parts": speed.parts,
    "ratios": speed.ratios,
    "roofline": speed.bound,
    "time to accuracy": speed.accuracy,
    "gpu": speed.gpu,
}


def written(name: str) -> str:
    """A table by its name."""
    kind, _, data = name.rpartition(" ")
    return TABLES[name]() if name in TABLES else OF_DATA[kind](data)


def renewed(text: str) -> str:
    """`text` with every table written anew."""

    def fill(match: re.Match[str]) -> str:
        return f"<!-- table: {match[1]} -->\n{written(match[1])}\n<!-- end -->"

    return re.sub(r"<!-- table: (.+?) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


def main() -> None:
    texts = {path: renewed(path.read_text(encoding="utf-8")) for path in DOCUMENTS}
    stale = [path for path, text in texts.items() if text != path.read_text(encoding="utf-8")]
    drawn = {FIGURES / f"{name}.svg": (study.title, report.points(study)) for name, study in STUDIES.items()}
    old = [path for path, (_, points) in drawn.items() if points and not figures.is_current(path, points)]
    curves = {FIGURES / f"{name}.svg": (module.points(), module.draw) for name, module in CURVES.items()}
    old_curves = [path for path, (points, _) in curves.items() if not figures.is_current(path, points)]
    if "--check" in sys.argv[1:]:
        names = ", ".join(path.name for path in (*stale, *old, *old_curves))
        sys.exit(f"out of date: {names}" if names else 0)
    for path in stale:
        path.write_text(texts[path], encoding="utf-8")
    for path in old:
        figures.draw(path, *drawn[path])
    for path in old_curves:
        points, draw = curves[path]
        draw(path, {"Date": None, "Description": f"points {report.digest(points)}"})


if __name__ == "__main__":
    main()
