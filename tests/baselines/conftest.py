from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from c2f_dgl import load_dataset
from c2f_dgl.baselines.system import Context, Settings
from c2f_dgl.data.splits import Split
from c2f_dgl.evaluation.ranking import evaluate, most_popular
from c2f_dgl.graph.hetero import interaction_graph
from c2f_dgl.io.progress import Reporter


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small are slower on two threads, and far slower where another process wants the second core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def planted() -> Split:
    return load_dataset("planted")


@pytest.fixture(scope="session")
def popular_ndcg(planted: Split) -> float:
    """Validation N@20 of most popular on `planted`."""
    return evaluate(most_popular(planted.train), planted.train, planted.valid)["ndcg@20"]


@pytest.fixture
def planted_context(planted: Split) -> Callable[..., Context[Any]]:
    """A context on `planted` for some settings, 9,600 values (a 16th of a table of 85 a row) by default."""

    def make(settings: Settings, values: int = 9_600, seed: int = 2024) -> Context[Any]:
        graph = interaction_graph(planted.train)
        return Context(planted, graph, values, settings, seed, torch.device("cpu"), Reporter(quiet=True))

    return make
