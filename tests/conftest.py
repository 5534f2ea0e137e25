import os
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

# Processes that run tests side by side, and what they start, take a thread each.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.hub import started

torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, os.cpu_count() or 1))

# Graph building has a fixed cost per example; what counts is that many shapes are tried. The examples are the same in
# every run, so that what fails does so because of a change; `bin/test --hypothesis-profile=search` draws others.
settings.register_profile(
    "default", deadline=None, max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", settings.get_profile("default"), derandomize=False, print_blob=True)
settings.load_profile("default")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    """A hub of models."""
    with started(tmp_path / "hub") as server:
        yield server
