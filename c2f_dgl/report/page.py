"""Run reports as one HTML page without any external resource: tables, inline SVG, and data for the two look-ups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from c2f_dgl.config.schema import RunConfig
from c2f_dgl.errors import InputError
from c2f_dgl.report.collect import MAP_HEIGHT, MAP_WIDTH, CoarseNode, RunReport
from c2f_dgl.report.figures import Group, format_size, group_runs, reference_letter

MAX_BYTES = 2_000_000
MAX_RUNS = 6  # as many colours and shapes as can be told apart

_MOST_EPOCH_ROWS = 60
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
    # What was read and split alike can be compared, whatever the seed.
    alike = [report.config.data.model_dump_json(exclude={"seed"}) for report in reports]
    groups = [
        group_runs([(n, report) for n, report in enumerate(reports) if alike[n] == data])
        for data in dict.fromkeys(alike)
    ]
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
    environment.filters |= {"size": format_size, "number": _number, "epoch_rows": _epoch_rows}
    environment.globals |= {"shades": _shades, "reference_letter": reference_letter}
    return environment


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


def _data(reports: Sequence[RunReport], groups: list[Group], limits: _Limits) -> dict[str, Any]:
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


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
