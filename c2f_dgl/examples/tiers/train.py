"""A third tier: meta-embeddings that refine the fine ones."""

from __future__ import annotations

from pathlib import Path

from c2f_dgl.config.schema import RunConfig
from c2f_dgl.data.splits import Split
from c2f_dgl.examples.compare import main, prepared


def prepare(dataset: str, seed: int, added: bool) -> tuple[Split, RunConfig]:
    """Two tiers, with the tier ``finest`` below ``fine`` if it is to be added."""
    return prepared(Path(__file__).with_name("three.yaml" if added else "two.yaml"), dataset, seed)


if __name__ == "__main__":
    main(prepare, __doc__)
