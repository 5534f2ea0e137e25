"""Small trained runs to report on; nothing changes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from c2f_dgl import load_config, train
from c2f_dgl.data.catalogue import load_split

TINY = {
    "coarse.m": 16,
    "fine.m": 6,
    "fine.t": 2,
    "fine.components": 8,
    "fine.start": "normal",
    "fine.threshold": 0.5,
    "model.d": 8,
} | {
    f"{stage}.training.{key}": value
    for stage in ("coarse", "fine")
    for key, value in {"fixed_epochs": 2, "updating_epochs": 2, "evaluate_every": 1, "patience": 5}.items()
}


def train_tiny(out: Path, source: Path | str = "planted", preset: str = "paper", **options: object) -> Path:
    tiny = {"table.fixed_epochs": 1, "model.d": 8} if preset == "lightgcn" else TINY
    settings = {**tiny, "data.source": source, **options}
    config = load_config(preset, [f"{key}={value}" for key, value in settings.items()])
    train(load_split(config), out, config)
    return out


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """Work this small gains nothing from threads, and on a busy machine they wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny(tmp_path_factory.mktemp("report") / "one")


@pytest.fixture(scope="session")
def other_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny(tmp_path_factory.mktemp("report") / "two", seed=7)


@pytest.fixture(scope="session")
def table_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without tiers."""
    return train_tiny(tmp_path_factory.mktemp("report") / "table", preset="lightgcn")


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on data whose ids, and whose folder, would be markup if they were not escaped; ids turn what is around."""
    folder = tmp_path_factory.mktemp("hostile") / "<b>&amp;"
    folder.mkdir()
    bad = "</script><img src=x onerror=alert(1)>"
    for part, items in (("train", range(20)), ("test", range(20, 24))):
        rows = [f'" \u202eu{u}\n{bad}"\t"\u202ei{(u * 3 + i) % 40}{bad}"' for u in range(30) for i in items]
        (folder / f"{part}.tsv").write_text("user\titem\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return train_tiny(folder / "<i>run", folder)
