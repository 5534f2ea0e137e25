"""The page "What we found" and its figures, from the records alone: no figure and no verdict is typed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.measure import mean_spread
from benchmarks.studies.catalogue import Study, Variant
from benchmarks.studies.run import METRICS, PARTS, RESULTS, read_records
from benchmarks.studies.significance import RULE, Verdict, against_all, table_4, verdict
from c2f_dgl.bench.table import markdown_table
from c2f_dgl.evaluation.significance import Paired, adjusted, over_users, paired
from c2f_dgl.training.build import COARSE

METRIC = "ndcg@20"

Record = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """A variant against one control on one data set, on the seeds both have; `control_test` is the control's figure.

    `users` are paired over users, by ``<part>.<metric>``, `seeds` over seeds on the test part, None for a single one;
    `p` is of `test`, adjusted for the other comparisons on the data set.
    """

    variant: Variant
    control: str
    users: dict[str, Paired]
    seeds: Paired | None
    n_seeds: int
    control_test: float
    p: float

    @property
    def test(self) -> Paired:
        """Over users, on the test part: what the verdict is read from."""
        return self.users[f"test.{METRIC}"]

    @property
    def verdict(self) -> Verdict:
        """By the rule, with the adjusted p-value `p`."""
        return verdict(self.test, self.p, self.control_test, self.variant.yes_if)

    def percent(self) -> tuple[float, float, float]:
        """Difference in test accuracy and its interval, in per cent of the control's."""
        mean, low, high = (100 * value / self.control_test for value in (self.test.mean, self.test.low, self.test.high))
        return mean, low, high


@dataclass(frozen=True)
class Findings:
    """All of a study on one data set: records by variant (done ones, and failures apart), and comparisons.

    A sweep passes through its base: `same` are the variants that are their control, and cannot differ from it.
    """

    data: str
    done: dict[str, list[Record]]
    failed: dict[str, list[Record]]
    comparisons: list[Comparison]
    same: list[Variant]


def findings(study: Study, results: Path = RESULTS) -> list[Findings]:
    """What the records of a study say, by data set."""
    folder = results / study.name
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [_findings(study, name, results) for name in names]


def _findings(study: Study, data: str, results: Path) -> Findings:
    records = {variant.name: read_records(results, study.name, data, variant.name) for variant in study.variants}
    done, failed = (
        {name: [run for run in runs if run["status"] == status] for name, runs in records.items()}
        for status in ("done", "failed")
    )
    comparisons, same = [], []
    for variant in study.variants:
        for control in variant.controls:
            of_seed = {run["seed"]: run for run in done[control]}
            pairs = [(run, of_seed[run["seed"]]) for run in done[variant.name] if run["seed"] in of_seed]
            if pairs and all(run["config"] == other["config"] for run, other in pairs):
                same.append(variant)
            elif pairs:
                comparisons.append(_compare(variant, control, pairs))
    p = adjusted([each.p for each in comparisons])
    comparisons = [replace(each, p=corrected) for each, corrected in zip(comparisons, p, strict=True)]
    return Findings(data, done, failed, comparisons, same)


def _compare(variant: Variant, control: str, pairs: list[tuple[Record, Record]]) -> Comparison:
    """The comparison of runs with their controls; its p is not yet adjusted."""
    for run, other in pairs:
        if run["fingerprint"] != other["fingerprint"]:
            raise ValueError(f"{run['study']} on {run['data']}: records of seed {run['seed']} are of different data")
    users = {
        key: over_users([run["per_user"][key] for run, _ in pairs], [other["per_user"][key] for _, other in pairs])
        for key in (f"{part}.{metric}" for part in PARTS for metric in METRICS)
    }
    scores, levels = ([_last(pair[side])["test"][METRIC] for pair in pairs] for side in (0, 1))
    seeds = paired(scores, levels) if len(pairs) > 1 else None
    return Comparison(variant, control, users, seeds, len(pairs), mean(levels), users[f"test.{METRIC}"].p)


def _last(run: Record) -> dict[str, Any]:
    """Figures of a run's last stage."""
    return run["stages"][run["stage"]]


def answers(study: Study, by_data: list[Findings]) -> dict[str, dict[str, tuple[Verdict, int]]]:
    """Verdict and seeds by variant and data set, for every variant that was compared with all its controls."""
    table: dict[str, dict[str, tuple[Verdict, int]]] = {}
    for variant in study.variants:
        for one in by_data:
            against = [each for each in one.comparisons if each.variant is variant]
            if variant.controls and len(against) == len(variant.controls):
                answer = against_all([each.verdict for each in against]), min(each.n_seeds for each in against)
                table.setdefault(variant.name, {})[one.data] = answer
    return table


def page(studies: Iterable[Study], results: Path = RESULTS) -> str:
    """The body of docs/found.md."""
    studies = list(studies)
    by_study = {study.name: findings(study, results) for study in studies}
    parts = [RULE, _overview(studies, by_study)]
    parts += [_section(study, by_study[study.name]) for study in studies if by_study[study.name]]
    return "\n\n".join(parts)


def _overview(studies: list[Study], by_study: dict[str, list[Findings]]) -> str:
    every = [one for by_data in by_study.values() for one in by_data]
    data = sorted({one.data for one in every})
    most = max((each.n_seeds for one in every for each in one.comparisons), default=1)
    rows: list[list[str | None]] = []
    for study in studies:
        table = answers(study, by_study[study.name])
        asked = [variant for variant in study.variants if variant.name in table]
        if asked:
            rows.append([f"**{study.title}**", *[None] * len(data)])
        for variant in asked:
            rows.append([variant.asks, *(_answer(table[variant.name].get(name), most) for name in data)])
    note = f"On {most} seeds, or on the number in brackets."
    return "\n\n".join(["## Every question and its answer", note, markdown_table(["question", *data], rows)])


def _answer(answer: tuple[Verdict, int] | None, most: int) -> str:
    if answer is None:
        return ""
    word, n_seeds = answer
    return _bold(word) if n_seeds == most else f"{_bold(word)} ({n_seeds})"


def _bold(answer: Verdict) -> str:
    return f"**{answer}**" if answer == "yes" else answer


def _section(study: Study, by_data: list[Findings]) -> str:
    parts = [f"## {study.title}", study.about, f"`python -m benchmarks.studies {study.name}`"]
    if any(one.comparisons for one in by_data):
        parts.append(f"![{study.title}: difference to the control](figures/{study.name}.svg)")
    for one in by_data:
        parts.append(_runs_table(study, one))
        if one.comparisons:
            parts.append(_comparisons_table(one))
    return "\n\n".join([*parts, table_4()] if study.name == "significance" else parts)


def _runs_table(study: Study, one: Findings) -> str:
    most = max((len(runs) for runs in one.done.values() if runs), default=0)
    head = [f"{one.data}, {most} seed{'s' * (most != 1)}", "valid N@20", "test N@20", "best epoch"]
    head += ["valid N@20 at the end", "learned values", "of it E^r", "KiB", "of it indices"]
    rows: list[list[str | None]] = []
    for variant in study.variants:
        if runs := one.done[variant.name]:
            lasts = [_last(run) for run in runs]
            stored = [sum(run["bytes"][part] for part in ("indices", "weights", "values")) for run in runs]
            indices = mean(run["bytes"]["indices"] / size for run, size in zip(runs, stored, strict=True))
            cells: list[str | None] = [
                f"`{variant.name}`" + (f" ({len(runs)})" if len(runs) < most else ""),
                mean_spread([last["valid"][METRIC] for last in lasts]),
                mean_spread([last["test"][METRIC] for last in lasts]),
                ", ".join(str(last["epoch"]) for last in lasts),
                mean_spread([run["end"]["valid"][METRIC] for run in runs]),
                f"{mean(last['parameters']['total'] for last in lasts):,.0f}",
                _finer_values(lasts),
                f"{mean(stored) / 1024:,.0f}",
                f"{indices:.0%}",
            ]
            rows.append(cells)
        for run in one.failed[variant.name]:
            reason = f"failed: {run['reason'].replace('|', '/')}"
            rows.append([f"`{variant.name}`, seed {run['seed']}", reason, *[None] * 7])
    return markdown_table(head, rows)


def _finer_values(lasts: list[dict[str, Any]]) -> str:
    """Non-zero values of the codebooks below the first; nothing where there are none."""
    first = f"{COARSE} codebook"
    counts = [
        [count for part, count in last["parameters"].items() if part.endswith(" codebook") and part != first]
        for last in lasts
    ]
    return f"{mean(map(sum, counts)):,.0f}" if any(counts) else ""


def _comparisons_table(one: Findings) -> str:
    head = [one.data, "against", "seeds", "users", "Δ test N@20, 95 % interval", "d_z", "p, users", "p, adjusted"]
    head += ["p, Wilcoxon", "p, seeds", "Δ test R@20 (p)", "Δ valid N@20 (p)", "answer"]
    rows = []
    for each in one.comparisons:
        percent, low, high = each.percent()
        recall, valid = each.users["test.recall@20"], each.users[f"valid.{METRIC}"]
        cells = [
            f"`{each.variant.name}`",
            f"`{each.control}`",
            each.n_seeds,
            f"{each.test.n:,}",
            f"{percent:+.2f} % ({low:+.2f} to {high:+.2f})",
            f"{each.test.effect:+.3f}",
            *(p_cell(p) for p in (each.test.p, each.p, each.test.wilcoxon)),
            "" if each.seeds is None else p_cell(each.seeds.p),
            *(f"{over.mean:+.4f} ({p_cell(over.p)})" for over in (recall, valid)),
            _bold(each.verdict),
        ]
        rows.append(cells)
    return markdown_table(head, rows)


def p_cell(value: float) -> str:
    """A p-value as tables have it."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def points(study: Study, results: Path = RESULTS) -> list[dict[str, Any]]:
    """What the study's figure shows: each comparison's relative difference and interval, in per cent."""
    by_data = findings(study, results)
    at_control = [
        {"data": one.data, "label": variant.name, "at": variant.at, "percent": 0.0, "low": 0.0, "high": 0.0}
        for one in by_data
        for variant in one.same
        if variant.at and one.comparisons
    ]
    compared = []
    for one in by_data:
        for each in one.comparisons:
            name = each.variant.name
            label = name if len(each.variant.controls) == 1 else f"{name} – {each.control}"
            figures = zip(("percent", "low", "high"), each.percent(), strict=True)
            rounded = {key: round(value, 3) for key, value in figures}
            compared.append({"data": one.data, "label": label, "at": each.variant.at, **rounded})
    return at_control + compared


def digest(plotted: list[dict[str, Any]]) -> str:
    """Fingerprint of what a figure shows; it stands in the file, so a drawing need not be compared byte by byte."""
    return hashlib.sha256(json.dumps(plotted, sort_keys=True).encode()).hexdigest()[:16]
