"""Write the tables and figures of the docs from committed results: `python -m benchmarks.tables [--check]`.

A table stands between `<!-- table: NAME -->` and `<!-- end -->` in a Markdown file, a study's figure in docs/figures.
With --check nothing is written and the exit code says whether all of them are up to date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import relation_tables, speed
from benchmarks.studies import figures, report
from benchmarks.studies.catalogue import STUDIES
from benchmarks.studies.significance import MARGIN
from c2f_dgl.bench.table import read_results
from c2f_dgl.bench.table import table as bench_table
from c2f_dgl.evaluation.significance import LEVEL

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FIGURES = ROOT / "docs" / "figures"
EXAMPLES = ROOT / "c2f_dgl" / "examples"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(EXAMPLES.glob("*/README.md"))]


def everywhere() -> str:
    """Test figures of the presets and the anchors on every data set; the best of each in bold."""
    found = _everywhere()
    heads = [f"{data}, {_seeds(rows)}" for data, rows in found.items()]
    lines = [f"| test N@20 / R@20 | {' | '.join(heads)} |", "|---" * (len(found) + 1) + "|"]
    best = {data: max(row["test"].get("ndcg@20", 0.0) for row in rows.values()) for data, rows in found.items()}
    for name, title in _titles(found).items():
        cells = []
        for data, rows in found.items():
            row = rows.get(name)
            if row is None or not row["test"]:
                cells.append("not run" if row is None else "failed")
                continue
            cell = f"{_mean(row)} / {row['test']['recall@20']:.4f}"
            cells.append(f"**{cell}**" if row["test"]["ndcg@20"] == best[data] else cell)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def everywhere_cost() -> str:
    """What they take on every data set: seconds of training, memory of the whole process, values and bytes."""
    found = _everywhere()
    lines = [
        f"| seconds, MiB of memory, learned values, MB stored | {' | '.join(found)} |",
        "|---" * (len(found) + 1) + "|",
    ]
    for name, title in _titles(found).items():
        cells = []
        for rows in found.values():
            row = rows.get(name)
            if row is None or not row["test"]:
                cells.append("")
                continue
            cost = f"{row['seconds']:.1f} s, {row['peak_bytes'] / 2**20:,.0f} MiB"
            cells.append(f"{cost}, {row['values']:,}, {row['bytes'] / 1e6:.2f} MB")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _everywhere() -> dict[str, dict[str, dict]]:
    """Rows of the benches of presets and anchors, by data set and system."""
    paths = sorted((RESULTS / "bench" / "everywhere").glob("*.json"))
    return {path.stem: {row["name"]: row for row in json.loads(path.read_text())["rows"]} for path in paths}


def _titles(found: dict[str, dict[str, dict]]) -> dict[str, str]:
    return {name: row["title"] for rows in found.values() for name, row in rows.items()}


def _seeds(rows: dict[str, dict]) -> str:
    most = max(len(row["seeds"]) for row in rows.values())
    return f"{most} seed{'s' * (most > 1)}"


def device() -> str:
    """Test N@20 of device models within a number of bytes, beside other ways to make the same items small."""
    titles = {
        "ours": "codes, and neighbours where they pay",
        "fine": "a coarse and fine codes",
        "coarse": "a coarse code alone",
        "opq": "OPQ",
        "pq": "PQ",
        "int4": "SVD, int4",
        "int8": "SVD, int8",
        "float32": "SVD, float32",
        "pruned": "SVD, pruned",
    }
    lines = [f"| test N@20 | bytes | {' | '.join(titles.values())} |", "|---" * (len(titles) + 2) + "|"]
    for path in sorted((RESULTS / "device").glob("*.json")):
        record = json.loads(path.read_text())
        for budget in sorted({row["budget"] for row in record["rows"]}):
            figures = {row["system"]: row["test"]["ndcg@20"] for row in record["rows"] if row["budget"] == budget}
            best = max(figures.values())
            cells = (
                "not run"
                if (figure := figures.get(name)) is None
                else f"**{figure:.4f}**"
                if figure == best
                else f"{figure:.4f}"
                for name in titles
            )
            lines.append(f"| {record['data']} | {budget:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def further_terms() -> str:
    """Gain in N@20 of a further term on users that it was not fitted on, with its standard error, by data set."""
    records = [json.loads(path.read_text()) for path in sorted((RESULTS / "further_terms").glob("*.json"))]
    names = [name for name, cell in records[0].items() if isinstance(cell, dict)]
    lines = [f"| gain in N@20, per cent | {' | '.join(record['data'] for record in records)} |"]
    lines.append("|---" * (len(records) + 1) + "|")
    for name in names:
        cells = []
        for record in records:
            gain, error = (100 * record[name][key] / record["ndcg@20"][1] for key in ("gain", "error"))
            cells.append(f"{gain:+.1f} ± {error:.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def full_test(data: str) -> str:
    """The whole test part: ours beside published figures."""
    lines = ["| whole test part | N@20 | R@20 | source |", "|---|---|---|---|"]
    for path in sorted((RESULTS / "full_test").glob(f"{data}-*.json")):
        record = json.loads(path.read_text())
        runs = [run["test"] for run in record["runs"]]
        cells = (f"{sum(run[name] for run in runs) / len(runs):.4f}" for name in ("ndcg@20", "recall@20"))
        count = f"{len(runs)} seed{'s' * (len(runs) > 1)}"
        lines.append(f"| Coarse to fine, {record['preset']} | {' | '.join(cells)} | this package, {count} |")
    published = json.loads((RESULTS / "full_test" / "published.json").read_text())[data]
    for row in published:
        lines.append(f"| {row['system']} | {row['ndcg@20']:.4f} | {row['recall@20']:.4f} | {row['source']} |")
    return "\n".join(lines)


def exported() -> str:
    """Test figures of model files of trained runs."""
    lines = ["| run | bytes of the file | test N@20 | test R@20 |", "|---|---|---|---|"]
    for path in sorted((RESULTS / "exported").glob("*.json")):
        record = json.loads(path.read_text())
        data, preset, _ = path.stem.rsplit("-", 2)
        cells = (f"{record['bytes']:,}", f"{record['ndcg@20']:.4f}", f"{record['recall@20']:.4f}")
        lines.append(f"| {data}, {preset} | {' | '.join(cells)} |")
    return "\n".join(lines)


def leads(folder: str) -> str:
    """Every lead's answer: a system of the bench against the control, paired over users; (n): on n seeds alone."""
    result = json.loads((RESULTS / "leads" / folder / "results.json").read_text())
    (control,) = (row for row in result["rows"] if row["name"] == result["control"])
    n_seeds = len(control["seeds"])
    lines = [
        f"| {result['bench']['name']}, {n_seeds} seed{'s' * (n_seeds > 1)} | test N@20 | learned values "
        "| difference, 95 % interval | p, adjusted | answer |",
        "|---|---|---|---|---|---|",
        f"| {control['title']} | {_mean(control)} | {control['values']:,} | | | |",
    ]
    for row in result["rows"]:
        if row is control:
            continue
        title = row["title"]
        if row["against"] is None:
            lines.append(f"| {title} | {'; '.join(row['errors']) or 'not run'} | | | | |")
            continue
        if len(row["seeds"]) != n_seeds:
            title += f" ({len(row['seeds'])})"
        lines.append(f"| {title} | {_mean(row)} | {row['values']:,} | {_compared(row['against'])} |")
    return "\n".join(lines)


def fair_leads() -> str:
    """Leads that learn more values, each against the control that spends as many on atoms."""
    lines = [
        "| | data | seeds | test N@20 | learned values | with atoms alone | learned values "
        "| difference, 95 % interval | p, adjusted | answer |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted((RESULTS / "leads" / "as-many-values").glob("*/results.json")):
        result = json.loads(path.read_text())
        control, lead = sorted(result["rows"], key=lambda row: row["name"] != result["control"])
        cells = [lead["title"], result["bench"]["name"], str(len(lead["seeds"]))]
        cells += [cell for row in (lead, control) for cell in (_mean(row), f"{row['values']:,}")]
        lines.append(f"| {' | '.join(cells)} | {_compared(lead['against'])} |")
    return "\n".join(lines)


def _compared(against: dict) -> str:
    """Cells of the difference, p and the answer."""
    percent, low, high, p = (against[key] for key in ("percent", "low", "high", "p"))
    least = "< 0.001" if p < 0.001 else f"{p:.3f}"
    return f"{percent:+.1f} % ({low:+.1f} to {high:+.1f}) | {least} | {_answer(percent, high, p)}"


def _mean(row: dict) -> str:
    figure, deviation = row["test"]["ndcg@20"], row["spread"].get("ndcg@20")
    return f"{figure:.4f}" if deviation is None else f"{figure:.4f} ± {deviation:.4f}"


def _answer(percent: float, high: float, p: float) -> str:
    """The rule of the studies: a gain with p < 0.05; or one that surely ends short of 1 %."""
    if percent > 0 and p < LEVEL:
        return "**yes**"
    return "no" if high < 100 * MARGIN else "undecided"


def budget(data: str) -> str:
    """Accuracy and bytes at one budget of learned values after another."""
    found = [json.loads(path.read_text()) for path in (RESULTS / "budget").glob(f"{data}-*.json")]
    found.sort(key=lambda record: (record["system"], record["seed"], record["budget"]))
    lines = ["| system | learned values | test N@20 | test R@20 | bytes, fp32 |", "|---|---|---|---|---|"]
    names = {"coarse": "coarse tier of `fast`", "svd": "truncated SVD", "legcf": "LEGCF", "gfcf": "GF-CF"}
    for record in found:
        test = f"{record['test']['ndcg@20']:.4f} | {record['test']['recall@20']:.4f}"
        # Records of before 0.6.0 have the bytes of what was exported.
        size = record["bytes"] if "bytes" in record else record["precisions"]["fp32"]["learned_bytes"]
        lines.append(f"| {names[record['system']]} | {record['values']:,} | {test} | {size:,} |")
    return "\n".join(lines)


def bench(data: str) -> str:
    """Systems side by side, with the command."""
    results = read_results(RESULTS / "bench" / data / "results.json")
    return f"`{results.command}`\n\n{bench_table(results)}"


TABLES: dict[str, Callable[[], str]] = {
    "presets everywhere": everywhere,
    "presets everywhere, cost": everywhere_cost,
    "device models": device,
    "exported": exported,
    "further terms": further_terms,
    "full test gowalla": lambda: full_test("gowalla"),
    "relations lastfm": lambda: relation_tables.effect("lastfm"),
    **{f"{name} lastfm": partial(relation_tables.effect, "lastfm", name) for name in relation_tables.EXAMPLES},
    "relations cost lastfm": lambda: relation_tables.cost("lastfm"),
    "leads gowalla": lambda: leads("gowalla"),
    "leads lastfm": lambda: leads("lastfm"),
    "leads planted": lambda: leads("planted"),
    "leads gowalla-longer": lambda: leads("gowalla-longer"),
    "leads gowalla-links": lambda: leads("gowalla-links"),
    "leads as many values": fair_leads,
    "budget gowalla": lambda: budget("gowalla"),
    "budget lastfm": lambda: budget("lastfm"),
    "budget planted": lambda: budget("planted"),
    "bench gowalla": lambda: bench("gowalla"),
    "bench gowalla-anchors": lambda: bench("gowalla-anchors"),
    "bench lastfm": lambda: bench("lastfm"),
    **{f"steps {data}": partial(speed.steps, data) for data in ("gowalla", "yelp2020-shape", "amazon-book-shape")},
    "parts gowalla": lambda: speed.parts("gowalla"),
    "ratios gowalla": lambda: speed.ratios("gowalla"),
    "roofline gowalla": lambda: speed.bound("gowalla"),
    "time to accuracy gowalla": lambda: speed.accuracy("gowalla"),
    "scaling": lambda: speed.growth("planted"),
    "gpu gowalla": lambda: speed.gpu("gowalla"),
    "found": lambda: report.page(STUDIES.values()),
}


def renewed(text: str) -> str:
    """`text` with every table written anew."""

    def fill(match: re.Match[str]) -> str:
        return f"<!-- table: {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table: (.+?) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


def main() -> None:
    texts = {path: renewed(path.read_text(encoding="utf-8")) for path in DOCUMENTS}
    stale = [path for path, text in texts.items() if text != path.read_text(encoding="utf-8")]
    shown = {FIGURES / f"{name}.svg": (study.title, report.points(study)) for name, study in STUDIES.items()}
    drawn = {path: what for path, what in shown.items() if what[1]}
    old = [path for path, (_, points) in drawn.items() if not figures.is_current(path, points)]
    if "--check" in sys.argv[1:]:
        names = ", ".join(path.name for path in (*stale, *old))
        sys.exit(f"out of date: {names}" if names else 0)
    for path in stale:
        path.write_text(texts[path], encoding="utf-8")
    for path in old:
        figures.draw(path, *drawn[path])


if __name__ == "__main__":
    main()
