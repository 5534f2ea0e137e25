"""Social links: who trusts whom, as the relation user-trusts-user."""

from __future__ import annotations

from pathlib import Path

from c2f_dgl.config.schema import RunConfig
from c2f_dgl.data.splits import Split
from c2f_dgl.examples.compare import main, prepared


def prepare(dataset: str, seed: int, added: bool) -> tuple[Split, RunConfig]:
    """`fast`, with the links of ``trust.tsv`` if they are to be added."""
    return prepared(Path(__file__).with_name("social.yaml") if added else "fast", dataset, seed)


if __name__ == "__main__":
    main(prepare, __doc__)
