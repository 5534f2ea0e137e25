"""PEP: embedding entries pruned by learned soft thresholds, then retrained under the mask that was found.

Source: Liu, Gao, Chen, Jin, Li. *Learnable Embedding Sizes for Recommender Systems.* ICLR 2021.

    V^ = S(V, s) = sign(V) max(|V| - g(s), 0),   g = sigmoid          (Eq. 4)
    min over V and s of L(V^)                                         (Eq. 5)
    m = 1[V^ != 0];   min over V of L(V * m), from V = V_0            (Sec. 3.3, the winning ticket)

s is one number, one per column, per row or per entry (the paper's global, dimension-, feature- and
feature-dimension-wise thresholds).

Deviations
----------
- The loss is BPR on propagated embeddings, not cross-entropy on clicks.
- What pushes s up against the loss is a constant pull, where the paper's code has a decay of s towards 0; its strength
  serves any number of thresholds (see `c2f_dgl.baselines.thresholds`). It grows fourfold with every epoch beyond
  `search_epochs`, of which there are as many again at most.
- The mask is taken at the first step that leaves no more entries than the budget, as in the paper, or where the search
  ends before that. It keeps exactly the budget: the entries with the largest |V| - g(s).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from c2f_dgl.baselines.fitting import layout_of
from c2f_dgl.baselines.masked import random_table
from c2f_dgl.baselines.searching import SEARCH_SPACE, PruningSettings, retrain
from c2f_dgl.baselines.system import Context, Fitted, System
from c2f_dgl.baselines.thresholds import SoftThresholded, prune
from c2f_dgl.embedding import ComputedTable
from c2f_dgl.graph.layout import NodeLayout

Granularity = Literal["global", "dimension", "entity", "entry"]


class PepSettings(PruningSettings):
    """Hyper-parameters of PEP."""

    granularity: Granularity = Field("global", description="what shares a threshold")


class ThresholdedTable(ComputedTable):
    """The table V^ while its thresholds are learned.

    Parameters
    ----------
    layout : NodeLayout
    start : Tensor, shape (N, d)
        V_0.
    granularity, start_logit, rate
        See `PepSettings` and `SoftThresholded`.
    """

    def __init__(
        self, layout: NodeLayout, start: Tensor, granularity: Granularity, start_logit: float, rate: float
    ) -> None:
        super().__init__(layout)
        n, d = start.shape
        shape = {"global": (1, 1), "dimension": (1, d), "entity": (n, 1), "entry": (n, d)}[granularity]
        self.pruned = SoftThresholded(start, shape, start_logit=start_logit, rate=rate)

    def table(self) -> Tensor:
        """V^ (N x d)."""
        return self.pruned()

    def count_values(self) -> dict[str, int]:
        """Entries not pruned, and the thresholds."""
        return {"table": self.pruned.count(), "thresholds": self.pruned.logit.numel()}


def train(context: Context[PepSettings]) -> Fitted:
    """Prune to the budget, then retrain."""
    settings = context.settings
    start = random_table(context.n_entities, settings.d, settings.std, context.generator("table"))
    rate = settings.rate(context.split.train.nnz)
    layer = ThresholdedTable(layout_of(context), start, settings.granularity, settings.start_logit, rate)
    (mask,), record = prune(context, layer, [layer.pruned])
    return retrain(context, mask, start, [record])


SYSTEMS = (
    System(
        "pep",
        "PEP",
        "Liu et al. 2021 (ICLR)",
        PepSettings(),
        train,
        {**SEARCH_SPACE, "pull": (1e-4, 3e-4, 1e-3), "granularity": ("global", "dimension", "entity", "entry")},
    ),
)
