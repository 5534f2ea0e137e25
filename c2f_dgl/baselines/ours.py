"""Coarse to fine: the presets `fast` and `best` of this package through its usual trainer, within the budget.

What they choose on validation besides (exponents, number of directions, item scale, the filter's weight) they choose in
every run, so there is nothing left for tuning to try. The neighbours of the filter term of `best` are no learned values
and take bytes. Half of the time there is goes into choosing; what is found by then is kept.
"""

from __future__ import annotations

import tempfile
import time

from pydantic import Field

from c2f_dgl.baselines.item_item import csr_bytes
from c2f_dgl.baselines.system import Context, Fitted, Settings, System
from c2f_dgl.config.load import load_config
from c2f_dgl.config.sizes import resolve_sizes
from c2f_dgl.training.build import stage_names
from c2f_dgl.training.folder import RunFolder
from c2f_dgl.training.run import load_model, train_run


class PresetSettings(Settings):
    """A preset."""

    preset: str = Field("fast", description="name or YAML file; its sizes follow from the budget where they are null")


def train(context: Context[PresetSettings]) -> Fitted:
    """All stages of the preset; the one chosen on validation."""
    overrides = [f"seed={context.seed}", f"model.budget={context.values / context.n_entities!r}"]
    if (seconds := context.share_of_time(0.5)) is not None:
        overrides.append(f"coarse.search_seconds={max(1.0, seconds - time.monotonic())!r}")
    config = resolve_sizes(
        load_config(context.settings.preset, overrides), context.split.n_users, context.split.n_items
    )
    with tempfile.TemporaryDirectory(prefix="c2f-dgl-") as path:
        folder = RunFolder(path)
        folder.begin(config)
        summary = train_run(config, context.split, folder, context.reporter, stage_names(config), context.device)
        model = load_model(folder, context.split, None, context.device)
    counts = model.count_values()
    del counts["total"]
    phases = [
        {"phase": name, "seconds": stage["seconds"], "epochs": stage["epoch"], "valid": stage["valid"]}
        for name, stage in summary["stages"].items()
    ]
    filter = model.readout.filter
    neighbours = 0 if filter is None else csr_bytes(filter.term.weights)
    return Fitted(model.scorer(), counts, model.count_bytes() + neighbours, phases)


SYSTEMS = (
    System("c2f-fast", "Coarse to fine, fast", "this package", PresetSettings(), train, {}),
    System("c2f-best", "Coarse to fine, best", "this package", PresetSettings(preset="best"), train, {}),
)
