"""Run reports as one HTML page without any external resource: tables, inline SVG, and data for the two look-ups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from c2f_dgl.config.schema import RunConfig
from c2f_dgl.errors import InputError
from c2f_dgl.report.charts import LARGE, Chart, Curve, Point, chart, thinned
from c2f_dgl.report.collect import MAP_HEIGHT, MAP_WIDTH, CoarseNode, RunReport
from c2f_dgl.report.references import Reference, references_for

MAX_BYTES = 2_000_000
MAX_RUNS = 6  # as many colours and shapes as can be told apart

_MOST_EPOCH_ROWS = 60
_CURVES = (
    ("ndcg@20", "Validation NDCG@20"),
    ("recall@20", "Validation recall@20"),
    ("loss", "Training loss"),
)
_SHADES = 5


@dataclass(frozen=True)
class _Limits:
    """How much of what was collected goes into the page."""

    users: int
    node_items: int
    node_rows: int

    def halved(self) -> _Limits:
        return _Limits(self.users // 2, self.node_items // 2, self.node_rows // 2)

    @property
    def exhausted(self) -> bool:
        return self.users < 2


@dataclass(frozen=True)
class _Group:
    """Runs on the same data, which can be compared."""

    data: str
    runs: list[tuple[int, RunReport]]
    references: list[Reference]
    charts: list[Chart]
    curves: list[tuple[str, list[Chart]]]
    tiers: list[tuple[str, Chart | None]]
    training: list[Chart]
    missing: list[str]
    unsized: bool


def render_page(reports: Sequence[RunReport]) -> str:
    """The page.

    Parameters
    ----------
    reports : sequence of RunReport
        1 to `MAX_RUNS` of them.

    Raises
    ------
    InputError
        Too many runs, or ids so long that not even two users fit into `MAX_BYTES`.
    """
    if len(reports) > MAX_RUNS:
        raise InputError(f"{len(reports)} runs on one page", expected=f"at most {MAX_RUNS}")
    sources = dict.fromkeys(report.config.data.source for report in reports)
    groups = [_group([(n, r) for n, r in enumerate(reports) if r.config.data.source == source]) for source in sources]
    template = _environment().get_template("page.html")
    limits = _Limits(users=200 // len(reports), node_items=30, node_rows=600 // len(reports))
    while not limits.exhausted:
        page = template.render(
            reports=reports,
            groups=groups,
            limits=limits,
            shown_valid=list(dict.fromkeys(["ndcg@20", "recall@20", *(report.config.select for report in reports)])),
            parts=list(dict.fromkeys(part for report in reports for part in report.best.values)),
            differing=_differing([report.config for report in reports]),
            data=_data(reports, groups, limits),
            map_size=(MAP_WIDTH, MAP_HEIGHT),
        )
        if len(page.encode()) <= MAX_BYTES:
            return page
        limits = limits.halved()
    raise InputError(f"the page would be larger than {MAX_BYTES:,} bytes", expected="fewer runs, or shorter ids")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("c2f_dgl.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"size": _size, "number": _number, "epoch_rows": _epoch_rows}
    environment.globals |= {"shades": _shades, "reference_letter": _letter}
    return environment


def _group(runs: list[tuple[int, RunReport]]) -> _Group:
    references = references_for(runs[0][1].config.data)
    stages = list(dict.fromkeys(stage.name for _, run in runs for stage in run.stages))
    curves = [(stage, [c for key, title in _CURVES if (c := _curve(runs, stage, key, title))]) for stage in stages]
    tiers = list(dict.fromkeys(tier.name for _, run in runs for tier in run.tiers))
    training = [
        c
        for key, title in (("sparsity", "sparsity of the codebook"), ("churn", "assignment churn"))
        for stage in stages
        if (c := _curve(runs, stage, key, f"{stage}: {title}", from_zero=True))
    ]
    return _Group(
        runs[0][1].data,
        runs,
        references,
        [c for key in ("values", "bytes") if (c := _size_chart(runs, references, key))],
        curves,
        [(tier, _usage_chart(runs, tier)) for tier in tiers],
        training,
        _missing(runs),
        any(reference.values is None for reference in references),
    )


def _missing(runs: list[tuple[int, RunReport]]) -> list[str]:
    """Why a chart that one may look for is not there."""
    records = [record for _, run in runs for record in run.records]
    said = []
    if any(tier.sparsity is not None for _, run in runs for tier in run.tiers) and not any(
        "sparsity" in record for record in records
    ):
        said.append("Sparsity was not recorded per epoch; the table has that of the best checkpoint.")
    if not any("churn" in record for record in records):
        said.append("No assignment was updated during training, so there is no churn to show.")
    return said


def _size_chart(runs: list[tuple[int, RunReport]], references: list[Reference], key: str) -> Chart | None:
    """Test NDCG@20 against learned values or bytes; references whose size is not known are left to the table."""
    points, rules = [], []
    for number, reference in enumerate(references):
        size, y = getattr(reference, key), reference.metrics["ndcg@20"]
        if size is not None:
            title = f"{reference.name}: {_amount(size, key)}, NDCG@20 {y:.4f}"
            points.append(Point(size, y, title, "reference", _letter(number)))
        elif reference.values is None:
            rules.append((y, _letter(number)))
    for number, run in runs:
        for stage in sorted(run.stages, key=lambda stage: stage.name != run.chosen):
            size = stage.values["total"] if key == "values" else stage.bytes
            y = stage.test["ndcg@20"]
            title = f"{run.name}, {stage.name}: {_amount(size, key)}, NDCG@20 {y:.4f}"
            points.append(
                Point(size, y, title, f"run r{number} {'' if stage.name == run.chosen else 'hollow'}", symbol=number)
            )
    title = "Test NDCG@20 against learned values" if key == "values" else "Test NDCG@20 against bytes"
    return chart(
        title, "learned values" if key == "values" else "bytes", points=points, rules=rules, size=LARGE, log_x=True
    )


def _amount(size: float, key: str) -> str:
    return f"{size:,} values" if key == "values" else _size(size)


def _curve(
    runs: list[tuple[int, RunReport]], stage: str, key: str, title: str, *, from_zero: bool = False
) -> Chart | None:
    """One figure of the records of a stage against epochs; the updating phase is dashed, its churn is marked."""
    curves, points = [], []
    for number, run in runs:
        phases: dict[str, list[tuple[float, float]]] = {"fixed": [], "updating": []}
        last: tuple[float, float] | None = None
        for record in (record for record in run.records if record["stage"] == stage):
            value = record.get("valid", {}).get(key) if "@" in key else record.get(key)
            if value is None:
                continue
            at = (record["epoch"], value)
            line = phases["updating" if record["phase"] == "updating" else "fixed"]
            if record["phase"] == "updating" and not line and last is not None and key != "churn":
                line.append(last)
            line.append(at)
            last = at
        curves += [Curve(line, f"r{number} {phase}") for phase, line in phases.items()]
        drawn = [at for line in phases.values() for at in line]
        best = next((s.epoch for s in run.stages if s.name == stage), None)
        for x, y in thinned(drawn, 60):
            small = "small" if len(drawn) > 1 else "run"
            points.append(Point(x, y, f"{run.name}, epoch {x}: {y:.4g}", f"{small} r{number}", symbol=number))
        if "@" in key:
            points += [
                Point(x, y, f"{run.name}, best at epoch {x}: {y:.4g}", f"run r{number}", symbol=number)
                for x, y in dict.fromkeys(drawn)
                if x == best
            ]
    return chart(title, "epoch", curves=curves, points=points, whole_x=True, from_zero=from_zero)


def _usage_chart(runs: list[tuple[int, RunReport]], tier: str) -> Chart | None:
    """Rows above that use each atom, from the most to the least used."""
    curves, points = [], []
    for number, run in runs:
        for report in run.tiers:
            if report.name == tier:
                counts = sorted(report.counts.tolist(), reverse=True)
                share = 100 / max(len(counts) - 1, 1)
                ranked = [(i * share, float(count)) for i, count in enumerate(counts)]
                curves.append(Curve(ranked, f"r{number} fixed"))
                points += [
                    Point(x, y, f"{run.name}: {y:,.0f} uses at {x:.0f} %", f"small r{number}", symbol=number)
                    for x, y in thinned(ranked, 6)
                ]
    return chart(
        f"{tier}: uses of each meta-embedding",
        "% of the codebook, most used first",
        curves=curves,
        points=points,
        from_zero=True,
    )


def _epoch_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Validated epochs, thinned where there are very many."""
    validated = [record for record in records if "valid" in record]
    step = -(-len(validated) // _MOST_EPOCH_ROWS)
    return validated[:: max(step, 1)]


def _differing(configs: list[RunConfig]) -> list[tuple[str, list[str]]]:
    """Options that are not the same in all runs, and their values."""
    flat = [dict(_flatten(config.model_dump(mode="json"))) for config in configs]
    keys = dict.fromkeys(key for options in flat for key in options)
    rows = [(key, [str(options.get(key, "not there")) for options in flat]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def _flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _data(reports: Sequence[RunReport], groups: list[_Group], limits: _Limits) -> dict[str, Any]:
    """What the script needs: the inside of coarse nodes, and the users; lists rather than objects, for size."""
    return {
        "runs": [
            {
                "name": report.name,
                "nodes": {
                    node.number: [node.n_items, node.n_users, node.items[: limits.node_items], _weights(node)]
                    for node in report.nodes
                },
                "users": {
                    str(user.user): [
                        user.n_history,
                        user.history,
                        [
                            [
                                r.item,
                                _round(r.score),
                                int(r.held_out),
                                _because(r.because),
                                _round(r.others),
                                _round(r.rest),
                            ]
                            for r in user.recommended
                        ],
                    ]
                    for user in _taken(report, limits.users)
                },
            }
            for report in reports
        ],
        "groups": [
            {
                "runs": [number for number, _ in group.runs],
                "users": [str(user.user) for user in _taken(group.runs[0][1], limits.users)],
            }
            for group in groups
        ],
    }


def _taken(report: RunReport, n: int) -> list[Any]:
    """Half of the drawn, half of the most active users."""
    half = len(report.users) // 2
    return report.users if n >= len(report.users) else [*report.users[: n // 2], *report.users[half : half + n // 2]]


def _weights(node: CoarseNode) -> list[list[Any]]:
    return [[atom, _round(weight)] for atom, weight in node.fine]


def _because(reasons: list[tuple[Any, float]]) -> list[list[Any]]:
    return [[item, _round(value)] for item, value in reasons]


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def _shades(nodes: list[CoarseNode]) -> tuple[dict[int, int], list[tuple[float, float]]]:
    """A shade per node with items, from the least to the most popular ones, and each shade's range of popularity."""
    ordered = sorted((node for node in nodes if node.n_items), key=lambda node: node.popularity)
    shade = {node.number: i * _SHADES // len(ordered) for i, node in enumerate(ordered)}
    members = [[node.popularity for node in ordered if shade[node.number] == s] for s in range(_SHADES)]
    return shade, [(min(values), max(values)) for values in members if values]


def _letter(number: int) -> str:
    return chr(ord("A") + number)


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _size(size: float) -> str:
    for unit in ("B", "kB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} MB"
