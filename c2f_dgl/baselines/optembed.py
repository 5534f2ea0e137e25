"""OptEmbed: rows pruned by learned thresholds in a supernet of sizes, sizes then found by evolution.

Source: Lyu, Tang, Zhu et al. *OptEmbed: Learning Optimal Embedding Table for Click-through Rate
Prediction.* CIKM 2022.

    E = E_full * m_e * m_d
    m_e,n = 1[||e_n||_1 - t_f(n) > 0]          a learned threshold per field, long-tail derivative for the step
    m_d,f: the first d_f entries               drawn per field and batch while the supernet is trained
    L = L_BPR + alpha sum_f exp(-t_f)          what pushes thresholds up

Then an evolutionary search (the best, their crossovers and mutations) over d_f on the trained supernet, and retraining
under both masks from where the table started.

Deviations
----------
- The fields of an id-based recommender are users and items: two sizes to search. `fields` cuts each of them into so
  many fields of equal size by training interactions; 1 is the paper's.
- ||.|| is the mean over the row, and thresholds are in units of its mean over the field. They start at 0 and have a
  learning rate with which they rise to no more than `reach` in the search: with that of the table they would pass every
  row's norm in ten steps, before there is anything in the rows.
- Sizes are drawn uniformly on a logarithmic scale, by the supernet's training and by the evolution: a budget of a few
  values an entity is at the very end of a linear one.
- The paper has no budget. Here an individual of the evolution is repaired to meet it: the thresholds of its fields are
  raised together, until the rows that are left cost what may be spent. Rows and sizes are so traded on validation.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from c2f_dgl.baselines.fitting import SELECT, build_model, layout_of
from c2f_dgl.baselines.masked import prefix_mask, random_table
from c2f_dgl.baselines.searching import (
    SEARCH_SPACE,
    SearchSettings,
    degrees,
    judged,
    retrain,
    search_loss,
    search_phase,
)
from c2f_dgl.baselines.system import Context, Fitted, System
from c2f_dgl.embedding import ComputedTable
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.graph.layout import NodeLayout
from c2f_dgl.model import Recommender
from c2f_dgl.training.sampler import Triplets


class OptEmbedSettings(SearchSettings):
    """Hyper-parameters of OptEmbed."""

    d: int = Field(64, ge=1, description="d, the largest size")
    fields: int = Field(4, ge=1, description="fields of users and of items")
    alpha: float = Field(1e-1, ge=0, description="alpha: weight of the term that pushes thresholds up")
    reach: float = Field(1.0, gt=0, description="where thresholds end if nothing resists, in mean norms of a field")
    population: int = Field(12, ge=2, description="individuals of a generation")
    parents: int = Field(4, ge=1, description="best individuals that are crossed and mutated")
    generations: int = Field(8, ge=1, description="generations")
    mutation: float = Field(0.2, ge=0, le=1, description="chance of a size to be drawn anew in a mutation")
    judges: int = Field(4096, ge=1, description="most validation users that the evolution looks at")


class _LongTailStep(torch.autograd.Function):
    """1[x > 0], with the derivative 2 - 4|x| up to 0.4, 0.4 up to 1, and 0 from there."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x)
        return (x > 0).to(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        size = x.abs()
        return gradient * torch.where(size <= 0.4, 2 - 4 * size, torch.where(size <= 1, 0.4, 0.0))


class Supernet(ComputedTable):
    """A full table with a threshold per field, and the sizes its fields are cut to at present.

    Parameters
    ----------
    layout : NodeLayout
    start : Tensor, shape (N, d)
    field : Tensor, shape (N,), int64
        Of each entity.
    rate : float
        Learning rate of thresholds as a multiple of that of the table (t is learned as ``rate`` times a parameter,
        which is the same under Adam).
    """

    field: Tensor
    sizes: Tensor

    def __init__(self, layout: NodeLayout, start: Tensor, field: Tensor, rate: float) -> None:
        super().__init__(layout)
        n_fields = int(field.max()) + 1
        self.weight = nn.Parameter(start.clone())
        self.raw_threshold, self.rate = nn.Parameter(torch.zeros(n_fields)), rate
        self.register_buffer("field", field)
        self.register_buffer("sizes", torch.full((n_fields,), start.shape[1]))

    def thresholds(self) -> Tensor:
        """t of each field, in units of the mean norm of its rows."""
        return self.rate * self.raw_threshold

    def margins(self) -> Tensor:
        """||e_n|| - t ||e|| (N,), ||e|| the mean over the field: what is positive is not pruned."""
        norms, zeros = self.weight.abs().mean(dim=1), torch.zeros_like(self.raw_threshold)
        total = zeros.index_add(0, self.field, norms.detach())
        mean = total / zeros.index_add(0, self.field, torch.ones_like(norms))
        return norms - (self.thresholds() * mean)[self.field]

    def row_mask(self) -> Tensor:
        """m_e (N,), 0 or 1, differentiable as the paper has it."""
        kept: Tensor = _LongTailStep.apply(self.margins())
        return kept

    def table(self) -> Tensor:
        """E (N x d)."""
        return self.weight * self.row_mask()[:, None] * prefix_mask(self.sizes, self.weight.shape[1])[self.field]

    def count_values(self) -> dict[str, int]:
        """What both masks keep, and the thresholds."""
        with torch.no_grad():
            return {"table": int((self.sizes[self.field] * (self.margins() > 0)).sum()), "thresholds": len(self.sizes)}


def fields_of(layout: NodeLayout, degree: Tensor, n_fields: int) -> Tensor:
    """Fields (N,), int64: each node type's entities by degree, in `n_fields` parts of equal size; users first."""
    parts = []
    for number, node_type in enumerate(layout.types):
        own = degree[layout.rows(node_type)]
        rank = torch.empty(len(own), dtype=torch.int64)
        rank[own.argsort(stable=True)] = torch.arange(len(own))
        parts.append(rank * n_fields // len(own) + number * n_fields)
    return torch.cat(parts)


def draw_sizes(n: int, d: int, generator: torch.Generator) -> Tensor:
    """Sizes (n,), int64, from 1 to d, their logarithms uniform."""
    return ((d + 1) ** torch.rand(n, generator=generator)).long().clamp(1, d)


def rows_within(margins: Tensor, cost: Tensor, budget: int) -> Tensor:
    """Rows (n,), bool, with the largest margins whose costs sum to no more than a budget.

    Rows are taken in the order of their margins up to the first that does not fit: a threshold raised for all.
    """
    order = margins.argsort(descending=True, stable=True)
    kept = torch.zeros(len(margins), dtype=torch.bool)
    kept[order[cost[order].cumsum(0) <= budget]] = True
    return kept


class Evolution:
    """Sizes of fields, their figures, and how a generation follows from the last.

    Parameters
    ----------
    n_fields, d : int
        An individual has `n_fields` sizes from 1 to d.
    settings : OptEmbedSettings
    generator : torch.Generator
    """

    def __init__(self, n_fields: int, d: int, settings: OptEmbedSettings, generator: torch.Generator) -> None:
        self.d, self.settings, self.generator = d, settings, generator
        self.figures: dict[tuple[int, ...], float] = {}
        self.generation = [self._drawn(n_fields) for _ in range(settings.population)]

    def best(self) -> list[tuple[int, ...]]:
        """The parents, best first."""
        return sorted(self.figures, key=lambda sizes: -self.figures[sizes])[: self.settings.parents]

    def breed(self) -> None:
        """The next generation: half of it crossovers of two parents, half of it mutations of one."""
        parents = self.best()
        half = self.settings.population // 2
        self.generation = [self._crossed(self._one(parents), self._one(parents)) for _ in range(half)]
        self.generation += [self._mutated(self._one(parents)) for _ in range(self.settings.population - half)]

    def _drawn(self, n: int) -> tuple[int, ...]:
        return tuple(draw_sizes(n, self.d, self.generator).tolist())

    def _one(self, parents: list[tuple[int, ...]]) -> tuple[int, ...]:
        return parents[int(torch.randint(len(parents), (), generator=self.generator))]

    def _crossed(self, left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
        take = (torch.rand(len(left), generator=self.generator) < 0.5).tolist()
        return tuple(a if mine else b for a, b, mine in zip(left, right, take, strict=True))

    def _mutated(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        anew = (torch.rand(len(sizes), generator=self.generator) < self.settings.mutation).tolist()
        drawn = self._drawn(len(sizes))
        return tuple(b if change else a for a, b, change in zip(sizes, drawn, anew, strict=True))


@torch.no_grad()
def evolve(context: Context[OptEmbedSettings], model: Recommender[Supernet]) -> tuple[Tensor, dict[str, Any]]:
    """The mask (N x d, bool) of the best individual, and what is worth recording."""
    settings, net = context.settings, model.embedding
    valid, d = judged(context, settings.judges), net.weight.shape[1]
    margins, field = net.margins().cpu(), net.field.cpu()
    evolution = Evolution(len(net.sizes), d, settings, context.generator("evolution"))

    def mask_of(sizes: tuple[int, ...]) -> Tensor:
        cost = torch.tensor(sizes)[field]
        kept = rows_within(margins, cost, context.values) & (margins > 0)
        return prefix_mask(cost * kept, d)

    def figure_of(sizes: tuple[int, ...]) -> float:
        features = model.propagation(model.graph, net, [net.weight * mask_of(sizes).to(net.weight.device)])
        scorer = model.readout.scorer(features["user"], features["item"])
        return evaluate(scorer, context.split.train, valid)[SELECT]

    history = []
    with context.reporter.bar("evolution") as progress:
        for generation in range(settings.generations):
            for sizes in evolution.generation:
                if sizes not in evolution.figures:
                    evolution.figures[sizes] = figure_of(sizes)
            history.append(evolution.figures[evolution.best()[0]])
            evolution.breed()
            progress(generation + 1, settings.generations)
    sizes = evolution.best()[0]
    mask = mask_of(sizes)
    return mask, {"phase": "evolution", "sizes": list(sizes), "rows": int(mask[:, 0].sum()), "best": history}


def train(context: Context[OptEmbedSettings]) -> Fitted:
    """Train the supernet, search the sizes of its fields, retrain."""
    settings, layout = context.settings, layout_of(context)
    start = random_table(context.n_entities, settings.d, settings.std, context.generator("table"))
    steps = settings.search_steps(context.split.train.nnz)
    rate = settings.reach / (settings.search_lr * steps)
    net = Supernet(layout, start, fields_of(layout, degrees(context), settings.fields), rate)
    model = build_model(context, net, settings.layers)
    generator = context.generator("sizes")

    def objective(model: Recommender[Supernet], batch: Triplets) -> Tensor:
        net.sizes.copy_(draw_sizes(len(net.sizes), settings.d, generator))
        loss = search_loss(model, batch, settings.l2)
        return loss + settings.alpha * (-net.thresholds()).exp().sum()

    supernet = search_phase(context, model, "supernet", share=0.4, objective=objective)
    supernet["rows"] = int((net.margins() > 0).sum())
    mask, evolution = evolve(context, model)
    return retrain(context, mask, start, [supernet, evolution])


SYSTEMS = (
    System(
        "optembed",
        "OptEmbed",
        "Lyu et al. 2022 (CIKM)",
        OptEmbedSettings(),
        train,
        {**SEARCH_SPACE, "fields": (1, 4, 16), "alpha": (3e-2, 1e-1, 3e-1)},
    ),
)
