"""Published and measured figures to read a run's against, kept in ``references.json`` with their sources.

Measured ones are those of the bench's records (benchmarks/results/bench), means over seeds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from c2f_dgl.config.schema import DataConfig


@dataclass(frozen=True)
class Reference:
    """Test figures of a model that is not ours to run here, e.g. ``metrics["ndcg@20"]``.

    As the paper prints them, or measured by the bench on the same files. `values` are the numbers it stores and
    `bytes` their size; None where they are not known.
    """

    name: str
    kind: Literal["paper", "measured"]
    source: str
    values: int | None
    bytes: int | None
    metrics: dict[str, float]


def references_for(data: DataConfig) -> list[Reference]:
    """What there is for a run's data: only for a data set of the catalogue, split by its files and the paper's rule."""
    if data.split not in ("auto", "given") or data.protocol != "paper" or data.source is None:
        return []
    text = (resources.files("c2f_dgl.report") / "references.json").read_text(encoding="utf-8")
    return [Reference(**entry) for entry in json.loads(text).get(data.source, [])]
