"""The page "What we found" and its figures, from the records alone: no figure and no verdict is typed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

from benchmarks import measure
from benchmarks.measure import mean_spread, table
from benchmarks.studies.catalogue import Study, Variant
from benchmarks.studies.run import METRICS, PARTS, read_records
from benchmarks.studies.significance import RULE, Verdict, against_all, table_4, verdict
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

    def percent(self) -> list[float]:
        """Difference in test accuracy and its interval, in per cent of the control's."""
        return [100 * value / self.control_test for value in (self.test.mean, self.test.low, self.test.high)]


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


def findings(study: Study) -> list[Findings]:
    """What the records of a study say, by data set."""
    folders = sorted((measure.RESULTS / "studies" / study.name).glob("*/"))
    return [_findings(study, folder.name) for folder in folders]


def _findings(study: Study, data: str) -> Findings:
    records = {variant.name: read_records(study.name, data, variant.name) for variant in study.variants}
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
    scores, levels = ([_last(run)["test"][METRIC] for run in side] for side in zip(*pairs, strict=True))
    seeds = paired(scores, levels) if len(pairs) > 1 else None
    return Comparison(variant, control, users, seeds, len(pairs), mean(levels), users[f"test.{METRIC}"].p)


def _last(run: Record) -> dict[str, Any]:
    """Figures of a run's last stage."""
    return run["stages"][run["stage"]]


def answers(study: Study, by_data: list[Findings]) -> dict[str, dict[str, tuple[Verdict, int]]]:
    """Verdict and seeds by variant and data set, for every variant that was compared with all its controls."""
    found: dict[str, dict[str, tuple[Verdict, int]]] = {}
    for variant in study.variants:
        for one in by_data:
            against = [each for each in one.comparisons if each.variant is variant]
            if variant.controls and len(against) == len(variant.controls):
                answer = against_all([each.verdict for each in against]), min(each.n_seeds for each in against)
                found.setdefault(variant.name, {})[one.data] = answer
    return found


def page(studies: Iterable[Study]) -> str:
    """The body of docs/found.md."""
    found = [(study, findings(study)) for study in studies]
    return "\n\n".join([RULE, _overview(found), *(_section(*one) for one in found if one[1])])


def _overview(found: list[tuple[Study, list[Findings]]]) -> str:
    every = [one for _, by_data in found for one in by_data]
    data = sorted({one.data for one in every})
    most = max((each.n_seeds for one in every for each in one.comparisons), default=1)
    lines = []
    for study, by_data in found:
        of_variants = answers(study, by_data)
        lines += [f"**{study.title}** |" + " |" * (len(data) - 1)] if of_variants else []
        for variant in study.variants:
            if of_data := of_variants.get(variant.name):
                cells = (_answer(*of_data[name], most) if name in of_data else "" for name in data)
                lines.append(f"{variant.asks} | {' | '.join(cells)}")
    note = f"On {most} seeds, or on the number in brackets."
    return "\n\n".join(["## Every question and its answer", note, table(f"question | {' | '.join(data)}", lines)])


def _answer(answer: Verdict, n_seeds: int, most: int) -> str:
    return _bold(answer) if n_seeds == most else f"{_bold(answer)} ({n_seeds})"


def _bold(answer: Verdict) -> str:
    return f"**{answer}**" if answer == "yes" else answer


def _section(study: Study, by_data: list[Findings]) -> str:
    parts = [f"## {study.title}", study.about, f"`python -m benchmarks.studies {study.name}`"]
    if any(one.comparisons for one in by_data):
        parts.append(f"![{study.title}: difference to the control](figures/{study.name}.svg)")
    for one in by_data:
        parts += [_runs_table(study, one), *([_comparisons_table(one)] if one.comparisons else [])]
    return "\n\n".join([*parts, table_4()] if study.name == "significance" else parts)


def _runs_table(study: Study, one: Findings) -> str:
    most = max(map(len, one.done.values()))
    lines = []
    for variant in study.variants:
        if runs := one.done[variant.name]:
            lasts = [_last(run) for run in runs]
            valid, test = (mean_spread([last[part][METRIC] for last in lasts]) for part in PARTS)
            epochs, end = ", ".join(str(last["epoch"]) for last in lasts), [run["end"]["valid"][METRIC] for run in runs]
            stored = [sum(run["bytes"][part] for part in ("indices", "weights", "values")) for run in runs]
            indices = mean(run["bytes"]["indices"] / size for run, size in zip(runs, stored, strict=True))
            lines.append(
                f"`{variant.name}`{f' ({len(runs)})' * (len(runs) < most)} | {valid} | {test} | {epochs} | "
                f"{mean_spread(end)} | {mean(last['parameters']['total'] for last in lasts):,.0f} | "
                f"{_finer_values(lasts)} | {mean(stored) / 1024:,.0f} | {indices:.0%}"
            )
        for run in one.failed[variant.name]:
            reason = run["reason"].replace("|", "/")
            lines.append(f"`{variant.name}`, seed {run['seed']} | failed: {reason} |" + " |" * 6)
    head = f"{one.data}, {most} seed{'s' * (most != 1)} | valid N@20 | test N@20 | best epoch | valid N@20 at the end"
    return table(f"{head} | learned values | of it E^r | KiB | of it indices", lines)


def _finer_values(lasts: list[dict[str, Any]]) -> str:
    """Non-zero values of the codebooks below the first; nothing where there are none."""
    counts = [
        [count for part, count in last["parameters"].items() if part.endswith(" codebook") and part[:-9] != COARSE]
        for last in lasts
    ]
    return f"{mean(map(sum, counts)):,.0f}" if any(counts) else ""


def _comparisons_table(one: Findings) -> str:
    lines = []
    for each in one.comparisons:
        (percent, low, high), test = each.percent(), each.test
        recall, valid = each.users["test.recall@20"], each.users[f"valid.{METRIC}"]
        lines.append(
            f"`{each.variant.name}` | `{each.control}` | {each.n_seeds} | {test.n:,} | "
            f"{percent:+.2f} % ({low:+.2f} to {high:+.2f}) | {test.effect:+.3f} | {p_cell(test.p)} | "
            f"{p_cell(each.p)} | {p_cell(test.wilcoxon)} | {p_cell(each.seeds.p) if each.seeds else ''} | "
            f"{recall.mean:+.4f} ({p_cell(recall.p)}) | {valid.mean:+.4f} ({p_cell(valid.p)}) | {_bold(each.verdict)}"
        )
    head = f"{one.data} | against | seeds | users | Δ test N@20, 95 % interval | d_z | p, users | p, adjusted"
    return table(f"{head} | p, Wilcoxon | p, seeds | Δ test R@20 (p) | Δ valid N@20 (p) | answer", lines)


def p_cell(value: float) -> str:
    """A p-value as tables have it."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def points(study: Study) -> list[dict[str, Any]]:
    """What the study's figure shows: each comparison's relative difference and interval, in per cent."""
    at_control, compared = [], []
    for one in findings(study):
        for variant in one.same:
            if variant.at and one.comparisons:
                nought = {"percent": 0.0, "low": 0.0, "high": 0.0}
                at_control.append({"data": one.data, "label": variant.name, "at": variant.at, **nought})
        for each in one.comparisons:
            name = each.variant.name
            label = name if len(each.variant.controls) == 1 else f"{name} – {each.control}"
            percent, low, high = (round(value, 3) for value in each.percent())
            figures = {"percent": percent, "low": low, "high": high}
            compared.append({"data": one.data, "label": label, "at": each.variant.at, **figures})
    return at_control + compared


def digest(plotted: list[dict[str, Any]]) -> str:
    """Fingerprint of what a figure shows; it stands in the file, so a drawing need not be compared byte by byte."""
    return hashlib.sha256(json.dumps(plotted, sort_keys=True).encode()).hexdigest()[:16]
