"""The page "What we found" and its figures, from the records alone: no figure and no verdict is typed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.studies import records
from benchmarks.studies.paper import table_4
from benchmarks.studies.significance import RULE, Verdict, against_all, verdict
from benchmarks.studies.spec import Study, Variant
from c2f_dgl.evaluation.significance import Paired, adjusted, over_users, paired
from c2f_dgl.training.build import COARSE

METRIC = "ndcg@20"


@dataclass(frozen=True)
class Comparison:
    """A variant against one control on one data set, on the seeds both have.

    Parameters
    ----------
    variant : Variant
    control : str
    users : dict of str to Paired
        Over users, by ``<part>.<metric>``.
    seeds : Paired, optional
        Over seeds, on the test part; None for a single one.
    n_seeds : int
    control_test : float
        The control's figure on the test part.
    p : float
        Of `test`, adjusted for the other comparisons on the data set.
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

    def percent(self, difference: float) -> float:
        """A difference in test accuracy in per cent of the control's."""
        return 100 * difference / self.control_test


@dataclass(frozen=True)
class Findings:
    """All of a study on one data set: records by variant (done ones, and failures apart), and comparisons.

    A sweep passes through its base: `same` are the variants that are their control, and cannot differ from it.
    """

    data: str
    done: dict[str, list[dict[str, Any]]]
    failed: dict[str, list[dict[str, Any]]]
    comparisons: list[Comparison]
    same: list[Variant]


def findings(study: Study, results: Path = records.RESULTS) -> list[Findings]:
    """What the records of a study say, by data set."""
    folder = results / study.name
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [_findings(study, name, results) for name in names]


def _findings(study: Study, data: str, results: Path) -> Findings:
    found = {variant.name: records.read(results, study.name, data, variant.name) for variant in study.variants}
    done = {name: [run for run in runs if run["status"] == "done"] for name, runs in found.items()}
    failed = {name: [run for run in runs if run["status"] == "failed"] for name, runs in found.items()}
    comparisons, same = [], []
    for variant in study.variants:
        for control in variant.controls:
            pairs = _matched(done[variant.name], done[control])
            if pairs and all(run["config"] == other["config"] for run, other in pairs):
                same.append(variant)
            elif pairs:
                comparisons.append(_compare(variant, control, pairs))
    p = adjusted([each.p for each in comparisons])
    comparisons = [replace(each, p=corrected) for each, corrected in zip(comparisons, p, strict=True)]
    return Findings(data, done, failed, comparisons, same)


def _matched(runs: list[dict[str, Any]], controls: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Runs and their controls of the same seed."""
    by_seed = {run["seed"]: run for run in controls}
    return [(run, by_seed[run["seed"]]) for run in runs if run["seed"] in by_seed]


def _compare(variant: Variant, control: str, pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> Comparison:
    """The comparison of runs with their controls; its p is not yet adjusted."""
    for run, other in pairs:
        if run["fingerprint"] != other["fingerprint"]:
            raise ValueError(f"{run['study']} on {run['data']}: records of seed {run['seed']} are of different data")
    users = {
        key: over_users([run["per_user"][key] for run, _ in pairs], [other["per_user"][key] for _, other in pairs])
        for key in (f"{part}.{metric}" for part in records.PARTS for metric in records.METRICS)
    }
    figures, levels = [_test(run) for run, _ in pairs], [_test(other) for _, other in pairs]
    seeds = paired(figures, levels) if len(pairs) > 1 else None
    return Comparison(variant, control, users, seeds, len(pairs), mean(levels), users[f"test.{METRIC}"].p)


def _test(run: dict[str, Any]) -> float:
    return run["stages"][run["stage"]]["test"][METRIC]


def answers(study: Study, found: list[Findings]) -> dict[str, dict[str, tuple[Verdict, int]]]:
    """Verdict and seeds by variant and data set, for every variant that was compared with all its controls."""
    table: dict[str, dict[str, tuple[Verdict, int]]] = {}
    for variant in study.variants:
        for one in found:
            against = [each for each in one.comparisons if each.variant is variant]
            if variant.controls and len(against) == len(variant.controls):
                answer = against_all([each.verdict for each in against]), min(each.n_seeds for each in against)
                table.setdefault(variant.name, {})[one.data] = answer
    return table


def page(studies: Iterable[Study], results: Path = records.RESULTS) -> str:
    """The body of docs/found.md."""
    studies = list(studies)
    found = {study.name: findings(study, results) for study in studies}
    parts = [RULE, _overview(studies, found)]
    parts += [_section(study, found[study.name]) for study in studies if found[study.name]]
    return "\n\n".join(parts)


def _overview(studies: list[Study], found: dict[str, list[Findings]]) -> str:
    data = sorted({one.data for each in found.values() for one in each})
    most = max((each.n_seeds for some in found.values() for one in some for each in one.comparisons), default=1)
    said = f"On {most} seeds, or on the number in brackets."
    head = [f"| question | {' | '.join(data)} |", f"|---|{'---|' * len(data)}"]
    lines = ["## Every question and its answer", "", said, "", *head]
    for study in studies:
        table = answers(study, found[study.name])
        asked = [variant for variant in study.variants if variant.name in table]
        if asked:
            lines.append(f"| **{study.title}** |{' |' * len(data)}")
        for variant in asked:
            cells = [_answered(table[variant.name].get(name), most) for name in data]
            lines.append(f"| {variant.asks} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _answered(answer: tuple[Verdict, int] | None, most: int) -> str:
    if answer is None:
        return ""
    said, n_seeds = answer
    return _mark(said) if n_seeds == most else f"{_mark(said)} ({n_seeds})"


def _mark(answer: Verdict) -> str:
    return f"**{answer}**" if answer == "yes" else answer


def _section(study: Study, found: list[Findings]) -> str:
    parts = [f"## {study.title}", study.about, f"`python -m benchmarks.studies {study.name}`"]
    if any(one.comparisons for one in found):
        parts.append(f"![{study.title}: difference to the control](figures/{study.name}.svg)")
    for one in found:
        parts.append(_runs_table(study, one))
        if one.comparisons:
            parts.append(_comparisons_table(one))
    if study.name == "significance":
        parts.append(table_4())
    return "\n\n".join(parts)


def _runs_table(study: Study, one: Findings) -> str:
    seeds = {len(runs) for runs in one.done.values() if runs}
    counted = f"{max(seeds)} seeds" if max(seeds, default=0) != 1 else "1 seed"
    lines = [
        f"| {one.data}, {counted} | valid N@20 | test N@20 | best epoch | valid N@20 at the end | learned values "
        "| of it E^r | KiB | of it indices |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for variant in study.variants:
        runs = one.done[variant.name]
        if runs:
            lasts = [run["stages"][run["stage"]] for run in runs]
            few = f" ({len(runs)})" if len(runs) < max(seeds) else ""
            cells = [
                spread([last["valid"][METRIC] for last in lasts]),
                spread([last["test"][METRIC] for last in lasts]),
                ", ".join(str(last["epoch"]) for last in lasts),
                spread([run["end"]["valid"][METRIC] for run in runs]),
                f"{mean(last['parameters']['total'] for last in lasts):,.0f}",
                _finer_values(lasts),
                f"{mean(_stored(run) for run in runs) / 1024:,.0f}",
                f"{mean(run['bytes']['indices'] / _stored(run) for run in runs):.0%}",
            ]
            lines.append(f"| `{variant.name}`{few} | {' | '.join(cells)} |")
        for run in one.failed[variant.name]:
            lines.append(
                f"| `{variant.name}`, seed {run['seed']} | failed: {run['reason'].replace('|', '/')} {'| ' * 7}|"
            )
    return "\n".join(lines)


def _finer_values(lasts: list[dict[str, Any]]) -> str:
    """Non-zero values of the codebooks below the first; nothing where there are none."""
    first = f"{COARSE} codebook"
    counts = [
        [count for part, count in last["parameters"].items() if part.endswith(" codebook") and part != first]
        for last in lasts
    ]
    return f"{mean(map(sum, counts)):,.0f}" if any(counts) else ""


def _stored(run: dict[str, Any]) -> int:
    return sum(run["bytes"][part] for part in ("indices", "weights", "values"))


def _comparisons_table(one: Findings) -> str:
    lines = [
        f"| {one.data} | against | seeds | users | Δ test N@20, 95 % interval | d_z | p, users | p, adjusted "
        "| p, Wilcoxon | p, seeds | Δ test R@20 (p) | Δ valid N@20 (p) | answer |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in one.comparisons:
        test = each.test
        cells = [
            f"`{each.variant.name}`",
            f"`{each.control}`",
            str(each.n_seeds),
            f"{test.n:,}",
            f"{each.percent(test.mean):+.2f} % ({each.percent(test.low):+.2f} to {each.percent(test.high):+.2f})",
            f"{test.effect:+.3f}",
            _p(test.p),
            _p(each.p),
            _p(test.wilcoxon),
            "" if each.seeds is None else _p(each.seeds.p),
            _difference(each.users["test.recall@20"]),
            _difference(each.users[f"valid.{METRIC}"]),
            _mark(each.verdict),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Mean and, for several runs, standard deviation."""
    centre = f"{mean(values):.4f}"
    return centre if len(values) < 2 else f"{centre} ± {stdev(values):.4f}"


def _difference(over: Paired) -> str:
    return f"{over.mean:+.4f} ({_p(over.p)})"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def points(study: Study, results: Path = records.RESULTS) -> list[dict[str, Any]]:
    """What the study's figure shows: each comparison's relative difference and interval, in per cent."""
    found = findings(study, results)
    at_control = [
        {"data": one.data, "label": variant.name, "at": variant.at, "percent": 0.0, "low": 0.0, "high": 0.0}
        for one in found
        for variant in one.same
        if variant.at and one.comparisons
    ]
    return at_control + [
        {
            "data": one.data,
            "label": each.variant.name if len(each.variant.controls) == 1 else f"{each.variant.name} – {each.control}",
            "at": each.variant.at,
            "percent": round(each.percent(each.test.mean), 3),
            "low": round(each.percent(each.test.low), 3),
            "high": round(each.percent(each.test.high), 3),
        }
        for one in found
        for each in one.comparisons
    ]


def digest(plotted: list[dict[str, Any]]) -> str:
    """Fingerprint of what a figure shows; it stands in the file, so a drawing need not be compared byte by byte."""
    return hashlib.sha256(json.dumps(plotted, sort_keys=True).encode()).hexdigest()[:16]
