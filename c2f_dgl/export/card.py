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
    data, details = escaped(split.name), model.details
    n_train, n_valid, n_test = split.train.nnz, split.valid.nnz, split.test.nnz
    seed = config.seed if config.data.seed is None else config.data.seed
    rated = "" if config.data.min_rating is None else f"; only what was rated {config.data.min_rating:g} or more"
    drawn = "".join(f"; {escaped(note)}" for note in split.notes if "drawn from" in note)
    parts = [(name, details[name]) for name in ("valid", "test") if name in details]
    figures = "\n".join(f"| {name} | {of['ndcg@20']:.4f} | {of['recall@20']:.4f} |" for name, of in parts)
    history = model.items.ids[:3].tolist()  # the most popular
    items = "Codes (a coarse meta-embedding and fine ones each)" if sizes.get("codes") else "Vectors"
    nearest = "" if exact else "\n- Users of the run are more than their items: this is the nearest model of items."
    n_cold = details.get("cold_items", 0)
    cold = f"\n- {n_cold:,} items are coded by features alone, and were not ranked for the figures." if n_cold else ""
    return f"""---
library_name: c2f_dgl
tags: [recommender-systems, collaborative-filtering, embedding-compression]
---

# Recommendations from a history, {data}

One file of {sum(sizes.values()):,} bytes recommends {model.n_items:,} items to whoever has had some.

```python
from c2f_dgl.serving import ServingModel  # pip install c2f_dgl; nothing is unpickled

items, scores = ServingModel.load("model.c2f").recommend({history!r}, k=10)
```

```sh
c2f-dgl recommend model.c2f -k 10 --history {shlex.join(printable(str(item)) for item in history)}
```

## Data

{data}: {split.n_users:,} users, {split.n_items:,} items, {n_train + n_valid + n_test:,} interactions
({n_train:,} train, {n_valid:,} validation, {n_test:,} test).
Split (`data.split`): {how}, seed {seed}{drawn}{rated}.

## Figures of this file

| | NDCG@20 | Recall@20 |
|---|---:|---:|
{figures}

Means over users with held-out items, of whom the file is told the training items; all items but these are ranked, those
of validation in the test as well. What is in the file was chosen on validation: compare on test, and on this split.

## What is in the file

{items} of the items, their popularity, ids and, if any, neighbours and titles; no user and nobody's history, though an
item's vector says what it was had together with.
Bytes: {", ".join(f"{name} {size:,}" for name, size in sizes.items() if size)}.

Made with {escaped(details["created_with"])}, configuration {details["config"]}.

## Limits

- An item that is not in the file is left out of a history; an empty one gets the most popular items.{cold}
- Whatever bias the interactions have is repeated; the figures are means over users, and of no group of them.{nearest}
"""


def escaped(text: str) -> str:
    """Text as a line of Markdown shows it, whatever it holds."""
    return _MARKS.sub(r"\\\1", printable(text))
