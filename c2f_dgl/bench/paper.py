"""The paper's Table 3, printed beside our figures; by system, or by family where the paper does not say which."""

from __future__ import annotations

import json
from importlib import resources

from c2f_dgl.baselines.system import System


def table_3(data: str, system: System) -> dict[str, float] | None:
    """The paper's learned values and N@10, R@10, N@20, R@20 of a system on a data set; None where it has none."""
    text = (resources.files("c2f_dgl.bench") / "paper.json").read_text(encoding="utf-8")
    rows: dict[str, dict[str, float]] = json.loads(text).get(data, {})
    return rows.get(system.name, rows.get(system.family))
