from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl import load_config, load_dataset, load_run, train
from c2f_dgl.engines import MessagePassing
from c2f_dgl.training.spectral_start import climb


@given(st.integers(1, 9), st.data())
def test_climb_finds_the_peak_of_what_has_one(n: int, data: st.DataObject) -> None:
    peak, first = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1))
    values, asked = [x / 10 for x in range(n)], []

    def figure(value: float) -> float:
        asked.append(value)
        return -abs(value - values[peak])

    assert climb(values, values[first], figure) == values[peak]
    assert len(asked) == len(set(asked))  # nothing is judged twice


@pytest.mark.parametrize("preset", ["fast", "best"])
def test_a_model_read_again_ranks_as_it_was_judged(preset: str, tmp_path: Path) -> None:
    split = load_dataset("planted")
    options = ["data.source=planted", "finer={}", "coarse.training.fixed_epochs=1"]
    summary = train(split, tmp_path / "run", load_config(preset, options))
    model, _ = load_run(tmp_path / "run")
    tier = model.embedding.tiers[0]
    assert tier.whitening is not None and (tier.codebook.triu(1) == 0).all()
    values = summary["stages"]["coarse"]["parameters"]
    assert values["coarse codebook"] == int(torch.ones_like(tier.codebook).tril().sum()) < tier.codebook.numel()
    assert values["total"] <= (split.n_users + split.n_items) * 128 / 48
    assert (model.readout.filter is not None) == (preset == "best")
    # The same H from message passing with E = W T itself.
    engine = MessagePassing(model.embedding, model.propagation)
    engine.rebuild(model.graph)
    collapsed, passed = model.engine.all_nodes(), engine.all_nodes()
    for node_type in ("user", "item"):
        spread = collapsed[node_type].std()
        assert torch.allclose(passed[node_type], collapsed[node_type], atol=float(0.05 * spread))
