"""Write the tables and figures of the docs from committed results: `python -m benchmarks.tables [--check]`.

A table stands between `<!-- table: NAME -->` and `<!-- end -->` in a Markdown file, a study's figure in docs/figures.
With --check nothing is written and the exit code says whether all of them are up to date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
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
    measure,
    relations,
    reliability,
    reproduction,
    speed,
    updates,
    workers,
)
from benchmarks.measure import RESULTS, mean_spread, read, read_all, table
from benchmarks.studies import figures, report
from benchmarks.studies.catalogue import STUDIES
from benchmarks.studies.significance import MARGIN
from c2f_dgl.bench import table as bench_table
from c2f_dgl.bench.table import read_results, spread
from c2f_dgl.evaluation.significance import LEVEL

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "figures"
EXAMPLES = ROOT / "c2f_dgl" / "examples"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(EXAMPLES.glob("*/README.md"))]

Row = dict[str, Any]

# Figures that are not of a study, by their names.
CURVES = {"reproduction": reproduction, "device_report": device_report}


def everywhere() -> str:
    """Test figures of the presets and the anchors on every data set, the best in bold; (n): on n seeds alone."""
    by_data = _everywhere()
    most = {data: max(len(row["seeds"]) for row in rows.values()) for data, rows in by_data.items()}
    best = {data: max(row["test"].get("ndcg@20", 0.0) for row in rows.values()) for data, rows in by_data.items()}

    def cell(data: str, row: Row) -> str:
        if not row["test"]:
            return "failed"
        fewer = f" ({len(row['seeds'])})" if len(row["seeds"]) < most[data] else ""
        return _bold(f"{_score(row)} / {row['test']['recall@20']:.4f}{fewer}", row["test"]["ndcg@20"] == best[data])

    return _by_system("test N@20 / R@20", [f"{data}, {_seeds(most[data])}" for data in by_data], cell, "not run")


def everywhere_cost() -> str:
    """What they take on every data set: seconds of training, memory of the whole process, values and bytes."""

    def cell(data: str, row: Row) -> str:
        if not row["test"]:
            return ""
        cost = f"{row['seconds']:.1f} s, {row['peak_bytes'] / 2**20:,.0f} MiB"
        return f"{cost}, {row['values']:,}, {row['bytes'] / 1e6:.2f} MB"

    return _by_system("seconds, MiB of memory, learned values, MB stored", list(_everywhere()), cell, "")


def _everywhere() -> dict[str, dict[str, Row]]:
    """Rows of the benches of presets and anchors, by data set and system."""
    results = read_all("bench/everywhere")
    return {data: {row["name"]: row for row in result["rows"]} for data, result in results.items()}


def _by_system(corner: str, head: list[str], cell: Callable[[str, Row], str], absent: str) -> str:
    by_data = _everywhere()
    titles = {name: row["title"] for rows in by_data.values() for name, row in rows.items()}
    lines = []
    for name, title in titles.items():
        cells = (cell(data, rows[name]) if name in rows else absent for data, rows in by_data.items())
        lines.append(" | ".join([title, *cells]))
    return table(" | ".join([corner, *head]), lines)


def elsewhere() -> str:
    """Test N@20 of the presets and the anchors on data sets that nothing was chosen on, the best of each in bold."""
    by_data = {name: result["rows"] for name, result in read_all("bench/elsewhere").items()}
    # In the order of the record with the most systems.
    titles = {row["name"]: row["title"] for rows in sorted(by_data.values(), key=len, reverse=True) for row in rows}
    lines = []
    for data, rows in by_data.items():
        figures = {row["name"]: row["test"]["ndcg@20"] for row in rows if row["test"]}
        best = max(figures.values())
        cells = (_bold(f"{figures[name]:.4f}", figures[name] == best) if name in figures else "" for name in titles)
        lines.append(" | ".join([data, *cells]))
    return table(" | ".join(["test N@20", *titles.values()]), lines)


def further_terms() -> str:
    """Gain in N@20 of a further term on users that it was not fitted on, with its standard error, by data set."""
    records = list(read_all("further_terms").values())
    lines = []
    for name in (name for name, term in records[0].items() if isinstance(term, dict)):
        percent = [[100 * of[name][key] / of["ndcg@20"][1] for key in ("gain", "error")] for of in records]
        lines.append(" | ".join([name, *(f"{gain:+.1f} ± {error:.1f}" for gain, error in percent)]))
    return table(" | ".join(["gain in N@20, per cent", *(record["data"] for record in records)]), lines)


def full_test(data: str) -> str:
    """The whole test part: ours beside published figures."""
    lines = []
    for record in read_all("full_test", f"{data}-*").values():
        tests = [run["test"] for run in record["runs"]]
        system = f"Coarse to fine, {record['preset']}" + ", chosen on a third of it" * record["chosen_on_test"]
        lines.append(f"{system} | {_means(tests)} | this package, {_seeds(len(tests))}")
    for row in read("full_test", "published")[data]:
        lines.append(f"{row['system']} | {_means([row])} | {row['source']}")
    return table("whole test part | N@20 | R@20 | source", lines)


def exported() -> str:
    """Test figures of model files of trained runs: of a seed, or means of some."""
    lines = []
    for name, record in read_all("exported").items():
        data, preset, _ = name.rsplit("-", 2)
        files = record if isinstance(record, list) else [record]
        size = max(file["bytes"] for file in files)
        lines.append(f"{data}, {preset}, {_seeds(len(files))} | {size:,} | {_means(files)}")
    return table("run | bytes of the file | test N@20 | test R@20", lines)


def leads(folder: str) -> str:
    """Every lead's answer: a system of the bench against the control, paired over users; (n): on n seeds alone."""
    result = read(f"leads/{folder}", "results")
    (control,) = (row for row in result["rows"] if row["name"] == result["control"])
    n_seeds = len(control["seeds"])
    lines = [f"{control['title']} | {_learned(control)} | | |"]
    for row in result["rows"]:
        if row["against"] is not None:
            fewer = f" ({len(row['seeds'])})" if len(row["seeds"]) != n_seeds else ""
            lines.append(f"{row['title']}{fewer} | {_learned(row)} | {_compared(row['against'])}")
        elif row is not control:
            lines.append(f"{row['title']} | {'; '.join(row['errors']) or 'not run'} | | | |")
    return table(f"{result['bench']['name']}, {_seeds(n_seeds)} | test N@20 | learned values | {COMPARED}", lines)


def fair_leads() -> str:
    """Leads that learn more values, each against the control that spends as many on atoms."""
    lines = []
    for folder in sorted((RESULTS / "leads" / "as-many-values").iterdir()):
        result = read(f"leads/as-many-values/{folder.name}", "results")
        control, lead = sorted(result["rows"], key=lambda row: row["name"] != result["control"])
        described = f"{lead['title']} | {result['bench']['name']} | {len(lead['seeds'])}"
        lines.append(f"{described} | {_learned(lead)} | {_learned(control)} | {_compared(lead['against'])}")
    head = "data | seeds | test N@20 | learned values | with atoms alone | learned values"
    return table(f"| {head} | {COMPARED}", lines)


COMPARED = "difference, 95 % interval | p, adjusted | answer"


def _compared(against: dict[str, float]) -> str:
    """Cells of `COMPARED`, by the rule of the studies: a gain with p < 0.05; or one that surely ends short of 1 %."""
    percent, low, high, p = (against[key] for key in ("percent", "low", "high", "p"))
    answer = "**yes**" if percent > 0 and p < LEVEL else "no" if high < 100 * MARGIN else "undecided"
    return f"{percent:+.1f} % ({low:+.1f} to {high:+.1f}) | {report.p_cell(p)} | {answer}"


def _learned(row: Row) -> str:
    return f"{_score(row)} | {row['values']:,}"


def _score(row: Row) -> str:
    return spread(row["test"]["ndcg@20"], row["spread"].get("ndcg@20"))


def _means(rows: Sequence[Row]) -> str:
    """Cells of N@20 and R@20."""
    return " | ".join(f"{mean(row[metric] for row in rows):.4f}" for metric in ("ndcg@20", "recall@20"))


def _seeds(n: int) -> str:
    return f"{n} seed{'s' * (n > 1)}"


def _bold(text: str, best: bool) -> str:
    return f"**{text}**" if best else text


def budget(data: str) -> str:
    """Accuracy and bytes at one budget of learned values after another."""
    records = read_all("budget", f"{data}-*").values()
    names = {"coarse": "coarse tier of `fast`", "svd": "truncated SVD", "legcf": "LEGCF", "gfcf": "GF-CF"}
    lines = []
    for record in sorted(records, key=lambda record: (record["system"], record["seed"], record["budget"])):
        # Records of before 0.6.0 have the bytes of what was exported.
        size = record["bytes"] if "bytes" in record else record["precisions"]["fp32"]["learned_bytes"]
        lines.append(f"{names[record['system']]} | {record['values']:,} | {_means([record['test']])} | {size:,}")
    return table("system | learned values | test N@20 | test R@20 | bytes, fp32", lines)


def bench(data: str) -> str:
    """Systems side by side, with the command."""
    results = read_results(RESULTS / "bench" / data / "results.json")
    return f"`{results.command}`\n\n{bench_table.table(results)}"


def relations_effect(data: str, only: str | None = None) -> str:
    """Each addition beside the model without it, and the mean change of test NDCG@20, seed by seed."""
    lines: dict[str | None, str] = {}

    def cells(runs: list[dict[str, Any]]) -> str:
        parts = (("valid", "ndcg@20"), ("test", "ndcg@20"), ("test", "recall@20"))
        scores = [mean_spread([run[part][metric] for run in runs]) for part, metric in parts]
        return " | ".join([*scores, f"{max(run['learned_values'] for run in runs):,}"])

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
        changes = [100 * (b["test"]["ndcg@20"] / a["test"]["ndcg@20"] - 1) for a, b in zip(before, after, strict=True)]
        change = f"{mean(changes):+.1f} % ({', '.join(f'{c:+.1f}' for c in changes)})"
        chosen = ", ".join(f"{value:g}" for run in after for value in run["importances"].values())
        lines.setdefault(baseline, f"{base} | {cells(before)} |  | ")
        lines[example] = f"{base} with {added} | {cells(after)} | {change} | {chosen}"
    head = "valid N@20 | test N@20 | test R@20 | learned values | change of test N@20 | importances chosen"
    return table(f"{data} | {head}", lines.values())


def _before_last(run: dict[str, Any]) -> dict[str, Any]:
    """A run as it was before its last stage: the stage that validates better of the others."""
    stages = list(run["stages"].values())[:-1]
    return {"seed": run["seed"], **max(stages, key=lambda stage: stage["valid"]["ndcg@20"])}


def relations_cost(data: str) -> str:
    """Processor seconds of a collapse and of a step, by number of further relations."""
    lines = [
        f"{row['relations']} | {row['edges']:,} | {row['rebuild']:.3f} s | {row['collapsed']:.3f} s | "
        f"{row['message_passing']:.3f} s"
        for row in read("relations", f"cost-{data}")["rows"]
    ]
    return table(f"further relations, {data} | edges | collapse | step, collapsed | step, message passing", lines)


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
    "reproduction table 3": reproduction.table_3,
    "reproduction studies": reproduction.studied,
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


def main(check: bool = False) -> None:
    texts = {path: renewed(path.read_text(encoding="utf-8")) for path in DOCUMENTS}
    stale = {path: text for path, text in texts.items() if text != path.read_text(encoding="utf-8")}
    plots = {name: (report.points(study), partial(figures.draw, title=study.title)) for name, study in STUDIES.items()}
    plots |= {name: (module.points(), module.draw) for name, module in CURVES.items()}
    drawn = {FIGURES / f"{name}.svg": plot for name, plot in plots.items() if plot[0]}
    old = {path: plot for path, plot in drawn.items() if not figures.is_current(path, plot[0])}
    if check:
        names = ", ".join(path.name for path in (*stale, *old))
        sys.exit(f"out of date: {names}" if names else 0)
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
    for path, (points, draw) in old.items():
        draw(path, points)


if __name__ == "__main__":
    measure.command(main)
