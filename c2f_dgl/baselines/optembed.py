"""OptEmbed: rows pruned by learned thresholds in a supernet of sizes, sizes then found by evolution.

Lyu, Tang, Zhu et al. *OptEmbed: Learning Optimal Embedding Table for Click-through Rate Prediction.* CIKM 2022.

    E = E_full * m_e * m_d,  m_e,n = 1[||e_n||_1 - t_f(n) > 0],  m_d,f: the first d_f entries, drawn per field and batch
    L = L_BPR + alpha sum_f exp(-t_f)          what pushes the thresholds t of the fields up

Then an evolutionary search over d_f on the trained supernet, and retraining under both masks from where E_full started.

Deviations: `fields` cuts users and items into so many fields of equal size by training interactions; 1 is the paper's.
Thresholds are in units of the mean norm of a field and rise to no more than `reach` in the search: with the table's
learning rate they would pass every row's norm in ten steps. Sizes are drawn uniformly on a logarithmic scale: a budget
of a few values an entity is at the very end of a linear one. The paper has no budget; here an individual meets it by
raising the thresholds of its fields together.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from c2f_dgl.baselines.fitting import Phase, bpr_loss, build_model, degrees, layout_of, retrain, search_phase
from c2f_dgl.baselines.system import SEARCH_SPACE, SELECT, Context, Fitted, SearchSettings, System
from c2f_dgl.baselines.tables import PrefixTable, prefix_mask, random_table
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.evaluation.sampling import sampled_rows
from c2f_dgl.graph.layout import NodeLayout
from c2f_dgl.model import Recommender
from c2f_dgl.training.sampler import Triplets

Sizes = tuple[int, ...]  # of each field: an individual


class OptEmbedSettings(SearchSettings):
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


class Supernet(PrefixTable):
    """A prefix table with a threshold t for each field of entities (N,), int64: `rate` times a parameter."""

    field: Tensor

    def __init__(self, layout: NodeLayout, start: Tensor, field: Tensor, rate: float) -> None:
        super().__init__(layout, start)
        self.raw_threshold, self.rate = nn.Parameter(torch.zeros(int(field.max()) + 1)), rate
        self.register_buffer("field", field)

    def thresholds(self) -> Tensor:
        """t of each field, in units of the mean norm of its rows."""
        return self.rate * self.raw_threshold

    def margins(self) -> Tensor:
        """||e_n|| - t ||e|| (N,), ||e|| the mean over the field: what is positive is not pruned."""
        norms, zeros = self.weight.abs().mean(dim=1), torch.zeros_like(self.raw_threshold)
        total = zeros.index_add(0, self.field, norms.detach())
        mean = total / zeros.index_add(0, self.field, torch.ones_like(norms))
        return norms - (self.thresholds() * mean)[self.field]

    def table(self) -> Tensor:
        row_mask: Tensor = _LongTailStep.apply(self.margins())
        return super().table() * row_mask[:, None]


def fields_of(layout: NodeLayout, degree: Tensor, n_fields: int) -> Tensor:
    """Fields (N,), int64: each node type's entities by degree, in `n_fields` parts of equal size; users first."""
    parts = []
    for number, degrees_of_type in enumerate(layout.split(degree).values()):
        rank = degrees_of_type.argsort(stable=True).argsort()
        parts.append(rank * n_fields // len(rank) + number * n_fields)
    return torch.cat(parts)


def draw_sizes(n: int, d: int, generator: torch.Generator) -> Tensor:
    """Sizes (n,), int64, from 1 to d, their logarithms uniform."""
    return ((d + 1) ** torch.rand(n, generator=generator)).long().clamp(1, d)


def rows_within(margins: Tensor, cost: Tensor, budget: int) -> Tensor:
    """Rows (n,), bool, of the largest margins, up to the first that a budget does not pay: a threshold for all."""
    order = margins.argsort(descending=True, stable=True)
    rows = torch.zeros(len(margins), dtype=torch.bool)
    rows[order[cost[order].cumsum(0) <= budget]] = True
    return rows


def bred(parents: list[Sizes], settings: OptEmbedSettings, generator: torch.Generator) -> list[Sizes]:
    """The next generation: half of it crossovers of two parents, half of it mutations of one."""
    several, n_fields = torch.tensor(parents), len(parents[0])
    one = lambda: several[torch.randint(len(several), (), generator=generator)]
    chances = lambda share: torch.rand(n_fields, generator=generator) < share
    generation: list[Sizes] = []
    for number in range(settings.population):
        sizes = one()
        if number < settings.population // 2:
            other = one()
            sizes = torch.where(chances(0.5), sizes, other)
        else:
            is_new = chances(settings.mutation)
            sizes = torch.where(is_new, draw_sizes(n_fields, settings.d, generator), sizes)
        generation.append(tuple(sizes.tolist()))
    return generation


@torch.no_grad()
def evolve(context: Context[OptEmbedSettings], model: Recommender[Supernet]) -> tuple[Tensor, Phase]:
    """The mask (N x d, bool) of the best individual, and the record of the evolution."""
    settings, net, generator = context.settings, model.embedding, context.generator("evolution")
    valid = sampled_rows(context.split.valid, settings.judges, context.rng("judges"))
    margins, field, n_fields = net.margins().cpu(), net.field.cpu(), len(net.raw_threshold)

    def mask_of(sizes: Sizes) -> Tensor:
        cost = torch.tensor(sizes)[field]
        rows = rows_within(margins, cost, context.values) & (margins > 0)
        return prefix_mask(cost * rows, settings.d)

    def figure_of(sizes: Sizes) -> float:
        features = model.propagation(model.graph, net, [net.weight * mask_of(sizes).to(net.weight.device)])
        scorer = model.readout.scorer(features["user"], features["item"])
        return evaluate(scorer, context.split.train, valid)[SELECT]

    figures: dict[Sizes, float] = {}
    history = []
    drawn = (draw_sizes(n_fields, settings.d, generator) for _ in range(settings.population))
    generation: list[Sizes] = [tuple(sizes.tolist()) for sizes in drawn]
    with context.reporter.bar("evolution") as progress:
        for number in range(settings.generations):
            for sizes in generation:
                if sizes not in figures:
                    figures[sizes] = figure_of(sizes)
            parents = sorted(figures, key=lambda sizes: -figures[sizes])[: settings.parents]
            history.append(figures[parents[0]])
            generation = bred(parents, settings, generator)
            progress(number + 1, settings.generations)
    mask = mask_of(parents[0])
    return mask, {"phase": "evolution", "sizes": list(parents[0]), "rows": int(mask[:, 0].sum()), "best": history}


def train(context: Context[OptEmbedSettings]) -> Fitted:
    """Train the supernet, search the sizes of its fields, retrain."""
    settings, layout = context.settings, layout_of(context)
    start = random_table(context.n_entities, settings.d, settings.std, context.generator("table"))
    rate = settings.rate(settings.reach, context.split.train.nnz)
    net = Supernet(layout, start, fields_of(layout, degrees(context), settings.fields), rate)
    model = build_model(context, net, settings.layers)
    generator = context.generator("sizes")

    def objective(model: Recommender[Supernet], batch: Triplets) -> Tensor:
        sizes = draw_sizes(len(net.raw_threshold), settings.d, generator).to(net.field.device)
        net.sizes.copy_(sizes[net.field])
        return bpr_loss(model, batch, settings.l2) + settings.alpha * (-net.thresholds()).exp().sum()

    supernet = search_phase(context.within(0.4), model, "supernet", objective=objective)
    supernet["rows"] = int((net.margins() > 0).sum())
    mask, evolution = evolve(context, model)
    return retrain(context, mask, start, [supernet, evolution])


_GRID = {**SEARCH_SPACE, "fields": (1, 4, 16), "alpha": (3e-2, 1e-1, 3e-1)}
SYSTEMS = (System("optembed", "OptEmbed", "Lyu et al. 2022 (CIKM)", OptEmbedSettings(), train, _GRID),)
