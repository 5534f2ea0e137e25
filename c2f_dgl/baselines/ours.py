"""Coarse to fine: the presets `fast` and `best` of this package through its usual trainer, within the budget.

What they choose on validation besides they choose in every run, so there is nothing left for tuning to try. The
neighbours of the filter term of `best` are no learned values and take bytes. Half of the time there is goes into
choosing; what is found by then is kept.
"""

from __future__ import annotations

import time
from dataclasses import replace

from pydantic import Field

from c2f_dgl.api import train_run
from c2f_dgl.baselines.fitting import fitted
from c2f_dgl.baselines.item_item import csr_bytes
from c2f_dgl.baselines.system import Context, Fitted, Settings, System
from c2f_dgl.config.load import load_config


class PresetSettings(Settings):
    """A preset."""

    preset: str = Field("fast", description="name or YAML file; its sizes follow from the budget where they are null")


def train(context: Context[PresetSettings]) -> Fitted:
    """All stages of the preset; the one chosen on validation."""
    overrides = [f"seed={context.seed}", f"model.budget={context.values / context.n_entities!r}"]
    if (deadline := context.within(0.5).deadline) is not None:
        overrides.append(f"coarse.search_seconds={max(1.0, deadline - time.monotonic())!r}")
    config, device = load_config(context.settings.preset, overrides), context.device.type
    run = train_run(context.split, None, config, device=device, reporter=context.reporter)
    model = run.model()
    phases = [
        {"phase": name, "seconds": stage["seconds"], "epochs": stage["epoch"], "valid": stage["valid"]}
        for name, stage in run.summary["stages"].items()
    ]
    graph_filter = model.readout.filter
    neighbours = 0 if graph_filter is None else csr_bytes(graph_filter.term.pairs)
    return replace(fitted(model, phases), bytes=model.count_bytes() + neighbours)


SYSTEMS = (
    System("c2f-fast", "Coarse to fine, fast", "this package", PresetSettings(), train, {}),
    System("c2f-best", "Coarse to fine, best", "this package", PresetSettings(preset="best"), train, {}),
)
