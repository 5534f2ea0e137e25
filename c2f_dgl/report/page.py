"""Run reports as one HTML page without any external resource: tables, inline SVG, and data for the two look-ups."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import jinja2

from c2f_dgl.config.load import flattened
from c2f_dgl.config.schema import RunConfig
from c2f_dgl.errors import InputError
from c2f_dgl.report import charts
from c2f_dgl.report.coarse_map import MAP_HEIGHT, MAP_WIDTH, CoarseNode
from c2f_dgl.report.collect import Reference, RunReport, UserReport, references_for

MAX_BYTES = 2_000_000
MAX_RUNS = 6  # as many colours and shapes as can be told apart

_MOST_EPOCH_ROWS = 60
_SHADES = 5


@dataclass(frozen=True)
class _Group:
    """Runs on the same data, with their numbers on the page, which can be compared."""

    runs: list[tuple[int, RunReport]]
    references: list[Reference]

    @property
    def data(self) -> str:
        """Name of the data."""
        return self.runs[0][1].data

    @property
    def stages(self) -> list[str]:
        """Names of the stages of all runs."""
        return list(dict.fromkeys(stage.name for _, run in self.runs for stage in run.stages))

    @property
    def test_metrics(self) -> list[str]:
        """Metrics that some run was tested on."""
        return list(dict.fromkeys(key for _, run in self.runs for stage in run.stages for key in stage.test))

    @property
    def missing(self) -> list[str]:
        """Why charts that one may look for are not there."""
        recorded = {key for _, run in self.runs for record in run.records for key in record}
        thresholded = any(tier.sparsity is not None for _, run in self.runs for tier in run.tiers)
        notes = []
        if thresholded and "sparsity" not in recorded:
            notes.append("Sparsity was not recorded per epoch; the table has that of the best checkpoint.")
        if "churn" not in recorded:
            notes.append("No assignment was updated during training, so there is no churn to show.")
        return notes


def render_page(reports: Sequence[RunReport]) -> str:
    """The page of 1 to `MAX_RUNS` reports; `InputError` where ids are too long for two users in `MAX_BYTES`."""
    if len(reports) > MAX_RUNS:
        raise InputError(f"{len(reports)} runs on one page", expected=f"at most {MAX_RUNS}")
    # What was read and split alike can be compared, whatever the seed.
    data = [report.config.data.model_dump_json(exclude={"seed"}) for report in reports]
    groups = []
    for alike in dict.fromkeys(data):
        runs = [(number, report) for number, report in enumerate(reports) if data[number] == alike]
        groups.append(_Group(runs, references_for(runs[0][1].config.data)))
    template = _environment().get_template("page.html")
    for halvings in itertools.count():
        # How much of what was collected goes into the page.
        n_users = 200 // len(reports) >> halvings
        if n_users < 2:
            break
        page = template.render(
            reports=reports,
            groups=groups,
            node_rows=600 // len(reports) >> halvings,
            shown_valid=list(dict.fromkeys(["ndcg@20", "recall@20", *(report.config.select for report in reports)])),
            parts=list(dict.fromkeys(part for report in reports for part in report.best.values)),
            differing=_differing([report.config for report in reports]),
            data=_data(reports, groups, n_users, n_items=30 >> halvings),
            map_size=(MAP_WIDTH, MAP_HEIGHT),
        )
        if len(page.encode()) <= MAX_BYTES:
            return page
    raise InputError(f"the page would be larger than {MAX_BYTES:,} bytes", expected="fewer runs, or shorter ids")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("c2f_dgl.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"size": charts.format_size, "number": _number, "epoch_rows": _epoch_rows}
    environment.globals |= {"shades": _shades, "charts": charts}
    return environment


def _epoch_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Validated epochs, thinned where there are very many."""
    validated = [record for record in records if "valid" in record]
    step = -(-len(validated) // _MOST_EPOCH_ROWS)
    return validated[:: max(step, 1)]


def _differing(configs: list[RunConfig]) -> list[tuple[str, list[str]]]:
    """Options that are not the same in all runs, and their values."""
    flat = [flattened(config.model_dump(mode="json")) for config in configs]
    keys = dict.fromkeys(key for options in flat for key in options)
    rows = [(key, [str(options.get(key, "not there")) for options in flat]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def _data(reports: Sequence[RunReport], groups: list[_Group], n_users: int, n_items: int) -> dict[str, Any]:
    """What the script needs: the inside of coarse nodes, and the users; lists rather than objects, for size."""
    runs = []
    for report in reports:
        nodes = {node.number: [node.n_items, node.n_users, node.items[:n_items], node.fine] for node in report.nodes}
        users = {str(user.user): astuple(user)[1:] for user in _shown_users(report, n_users)}
        runs.append({"name": report.name, "nodes": _rounded(nodes), "users": _rounded(users)})
    return {
        "runs": runs,
        "groups": [
            {
                "runs": [number for number, _ in group.runs],
                "users": [str(user.user) for user in _shown_users(group.runs[0][1], n_users)],
            }
            for group in groups
        ],
    }


def _shown_users(report: RunReport, n: int) -> list[UserReport]:
    """Half of the drawn, half of the most active users."""
    half = len(report.users) // 2
    return report.users if n >= len(report.users) else [*report.users[: n // 2], *report.users[half : half + n // 2]]


def _rounded(tree: Any) -> Any:
    """As JSON has it, with four digits of each float."""
    return json.loads(json.dumps(tree), parse_float=lambda text: float(f"{float(text):.4g}"))


def _shades(nodes: list[CoarseNode]) -> tuple[dict[int, int], list[tuple[float, float]]]:
    """A shade per node with items, from the least to the most popular ones, and each shade's range of popularity."""
    ordered = sorted((node for node in nodes if node.n_items), key=lambda node: node.popularity)
    shade = {node.number: i * _SHADES // len(ordered) for i, node in enumerate(ordered)}
    members = [[node.popularity for node in ordered if shade[node.number] == s] for s in range(_SHADES)]
    return shade, [(min(values), max(values)) for values in members if values]


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
