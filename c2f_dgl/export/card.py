"""The card of a device model: Markdown that is the README of a repository of models, too."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from c2f_dgl.errors import printable

if TYPE_CHECKING:
    from c2f_dgl.config.schema import RunConfig
    from c2f_dgl.data.splits import Split
    from c2f_dgl.serving import ServingModel

# Characters that Markdown, HTML or a formula would be made of within a line.
_MARKS = re.compile(r"([\\`*_\[\]<>|&~$#])")

_CARD = """---
library_name: c2f_dgl
tags: [recommender-systems, collaborative-filtering, embedding-compression]
---

# Recommendations from a history, {data}

One file of {bytes:,} bytes recommends {items:,} items to whoever has had some: a user is no more than a history.

```python
from c2f_dgl.serving import ServingModel  # pip install c2f_dgl; nothing is unpickled

items, scores = ServingModel.load("model.c2f").recommend({history!r}, k=10)
```

```sh
c2f-dgl recommend model.c2f -k 10 --history {words}
```

## Data

{data}: {users:,} users, {items:,} items, {all:,} interactions ({train:,} train, {valid:,} validation, {test:,} test).
Split (`data.split`): {how}, seed {seed}{notes}.

## Figures of this file

| | {heads} |
|---|{rules}
{figures}

Means over users with held-out items, of whom the file is told the training items; all items but these are ranked, those
of validation in the test as well. What is in the file was chosen on validation: compare on test, and on this split.

## What is in the file

Codes of the items (a coarse meta-embedding and fine ones each), their popularity and ids{titles}; no user and nobody's
history, though vectors of items say which were had together. Bytes: {parts}.

Made with {made}, configuration {config}.

## Limits

- An item that training has not seen is unknown, and left out of a history; an empty one gets the most popular items.
- Whatever bias the interactions have is repeated; the figures are means over users, and of no group of them.{nearest}
"""


def card_path(model: str | Path) -> Path:
    """Where the card of a model file stands: beside it, ``model.c2f.md``."""
    return Path(f"{model}.md")


def model_card(
    model: ServingModel, split: Split, config: RunConfig, sizes: Mapping[str, int], *, how: str, exact: bool
) -> str:
    """The card of a model file, whose figures are those of the model's details.

    `sizes` are what `ServingModel.save` returns, `how` says how the data were split, and `exact` whether the file ranks
    as the run does, and not only nearly.
    """
    details, seed = model.details, config.seed if config.data.seed is None else config.data.seed
    figures = {name: details[name] for name in ("valid", "test") if name in details}
    counts = {"train": split.train.nnz, "valid": split.valid.nnz, "test": split.test.nnz}
    history = model.items.ids[:3].tolist()  # the most popular
    least = [] if config.data.min_rating is None else [f"only what was rated {config.data.min_rating:g} or more"]
    notes = [*least, *(note for note in split.notes if "drawn from" in note)]
    rows = [
        f"| {title} | {' | '.join(f'{part[metric]:.4f}' for part in figures.values())} |"
        for metric, title in (("ndcg@20", "NDCG@20"), ("recall@20", "Recall@20"))
    ]
    return _CARD.format(
        **counts,
        all=sum(counts.values()),
        users=split.n_users,
        items=split.n_items,
        data=escaped(split.name),
        how=how,
        seed=seed,
        notes="".join(f"; {escaped(note)}" for note in notes),
        history=history,
        words=shlex.join(printable(str(item)) for item in history),
        heads=" | ".join(figures),
        rules="---:|" * len(figures),
        figures="\n".join(rows),
        bytes=sum(sizes.values()),
        parts=", ".join(f"{name} {size:,}" for name, size in sizes.items() if size),
        titles="" if model.titles is None else " and titles",
        made=escaped(details["created_with"]),
        config=details["config"],
        nearest="" if exact else "\n- Users of the run are more than their items: this is the nearest model of items.",
    )


def escaped(text: str) -> str:
    """Text as a line of Markdown shows it, whatever it holds."""
    return _MARKS.sub(r"\\\1", printable(text))
