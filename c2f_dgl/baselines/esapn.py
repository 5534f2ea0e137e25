"""ESAPN: policies decide which users and items get a larger embedding, from small ones on.

Liu, Zhao, Wang, Liu, Tang. *Automated Embedding Size Search in Deep Recommender Systems.* SIGIR 2020.

    sizes d_1 < ... < d_K, from d_1 on; state (frequency so far, size); action: enlarge to the next size, or not
    reward: mean of the entity's last T losses on validation, less the present one
    policy: minimise - (reward - baseline) log pi(action | state), REINFORCE, a network for users, one for items
    e~ = g tanh(BN(M_(K-1) ... M_k e_k)), hard selection; a new embedding starts as M_k e_k, which changes no score

Deviations: the loss is BPR on propagated embeddings, and there is no stream: frequencies grow evenly over the search to
the numbers of training interactions. Policies act once an epoch on all entities. Their baseline is the mean reward of
the entities of the same kind, and rewards are divided by their spread, as losses fall at another pace as training goes
on. The budget is paid out evenly over the search; where it does not pay for all, it is drawn who is enlarged, and
policies do not learn from the others. g is one learned number a kind, as in `c2f_dgl.baselines.autoemb`.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from c2f_dgl.baselines import fitting, tables
from c2f_dgl.baselines.system import SEARCH_SPACE, Context, Fitted, SearchSettings, System
from c2f_dgl.graph.layout import NodeLayout
from c2f_dgl.model import Recommender
from c2f_dgl.tiers.codebook import random_codebook


class EsapnSettings(SearchSettings):
    lr: float = Field(1e-2, gt=0, description="Adam's learning rate where embeddings are trained on")
    sizes: tuple[int, ...] = Field((1, 2, 4, 8, 16, 32), min_length=2, description="sizes, ascending")
    hidden: int = Field(32, ge=1, description="width of the policies' hidden layer")
    policy_lr: float = Field(1e-2, gt=0, description="Adam's learning rate of the policies")
    memory: int = Field(3, ge=1, description="T: losses that the present one is compared with")


class EnlargePolicy:
    """pi(enlarge | frequency, size), learned by REINFORCE."""

    def __init__(self, n_sizes: int, hidden: int, lr: float, generator: torch.Generator) -> None:
        self.n_sizes, self.generator = n_sizes, generator
        self.network = tables.indifferent_network(1 + n_sizes, hidden, 1, generator)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=lr)

    def logits(self, frequency: Tensor, level: Tensor) -> Tensor:
        """Log-odds of enlarging (n,) from frequencies (n,), scaled to about 1, and sizes' indices (n,)."""
        state = torch.cat([frequency[:, None], F.one_hot(level, self.n_sizes).to(frequency)], dim=1)
        odds: Tensor = self.network(state)[:, 0]
        return odds

    @torch.no_grad()
    def sample(self, frequency: Tensor, level: Tensor) -> Tensor:
        """Actions (n,), bool."""
        probability = self.logits(frequency, level).sigmoid()
        return torch.rand(len(probability), generator=self.generator) < probability

    def learn(self, frequency: Tensor, level: Tensor, actions: Tensor, advantages: Tensor) -> None:
        """One step of gradient ascent on the mean of ``advantage log pi(action | state)``, all (n,)."""
        logits = self.logits(frequency, level)
        self.optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits, actions.to(logits), weight=advantages).backward()
        self.optimizer.step()


class GrownSizes(tables.SizedTable):
    """The table when every entity has one size d_k, which can be enlarged; std is of what embeddings start with."""

    level: Tensor

    def __init__(self, layout: NodeLayout, sizes: Sequence[int], std: float, generator: torch.Generator) -> None:
        super().__init__(layout)
        self.sizes, n = tuple(sizes), layout.total
        stds = [std] + [0.0] * (len(sizes) - 1)
        drawn = [tables.random_table(n, *size, generator) for size in zip(sizes, stds, strict=True)]
        self.embeddings = nn.ParameterList(drawn)
        # M_k, and what it adds, of users and of items.
        pairs = list(itertools.pairwise(sizes))
        maps = [[random_codebook(*pair, "xavier", generator) for pair in pairs] for _ in layout.types]
        self.maps = nn.ParameterList([torch.stack(of_kinds) for of_kinds in zip(*maps, strict=True)])
        self.shifts = nn.ParameterList([torch.zeros(len(layout.types), size) for size in sizes[1:]])
        self.gains = tables.start_gains(layout, std)
        self.register_buffer("level", torch.zeros(n, dtype=torch.int64))

    def table(self) -> Tensor:
        parts = []
        for kind, node_type in enumerate(self.layout.types):
            rows = self.layout.rows(node_type)
            x = self.embeddings[0][rows]
            for k in range(len(self.maps)):
                is_larger = self.level[rows, None] > k
                x = torch.where(is_larger, self.embeddings[k + 1][rows], self._mapped(kind, k, x))
            parts.append(self.gains[node_type] * tables.unify(x))
        return torch.cat(parts)

    @torch.no_grad()
    def enlarge(self, which: Tensor) -> None:
        """Give some entities (N,), bool, the next size; those at the largest keep theirs."""
        for kind, node_type in enumerate(self.layout.types):
            rows = self.layout.rows(node_type)
            for k in range(len(self.maps)):
                grown = rows.start + (which[rows] & (self.level[rows] == k)).nonzero()[:, 0]
                self.embeddings[k + 1][grown] = self._mapped(kind, k, self.embeddings[k][grown])
        self.level += which & (self.level < len(self.maps))

    def _mapped(self, kind: int, k: int, x: Tensor) -> Tensor:
        return x @ self.maps[k][kind] + self.shifts[k][kind]

    def cost(self) -> Tensor:
        """Values that the next size takes beyond the present one (N,); 0 where there is no next."""
        sizes = torch.tensor([*self.sizes, self.sizes[-1]], device=self.level.device)
        return sizes[self.level + 1] - sizes[self.level]

    def count_values(self) -> dict[str, int]:
        """Embeddings at their sizes, and the maps from the smallest of them on."""
        maps = 0
        for kind, level in enumerate(self.layout.split(self.level).values()):
            used = slice(int(level.min()), None)
            maps += sum(x[kind].numel() for x in (*self.maps[used], *self.shifts[used]))
        embeddings = int(torch.tensor(self.sizes)[self.level.cpu()].sum())
        return {"embeddings": embeddings, "maps": maps, "gains": len(self.gains)}


def affordable(wanted: Tensor, cost: Tensor, budget: int, generator: torch.Generator) -> Tensor:
    """Those of `wanted` (n,), bool, that a budget pays for, in an order that is drawn; costs (n,), int64."""
    order = torch.randperm(len(wanted), generator=generator)
    within = torch.zeros_like(wanted)
    within[order] = (cost * wanted)[order].cumsum(0) <= budget
    return wanted & within


class Growth:
    """Policies, what they saw and did, and the losses that reward them; `values` may go to embeddings in the end."""

    def __init__(self, context: Context[EsapnSettings], model: Recommender[GrownSizes], values: int) -> None:
        self.model, self.settings, self.layer = model, context.settings, model.embedding
        self.generator, self.rng = context.generator("policies"), context.rng("losses")
        layout, n_sizes = self.layer.layout, len(self.layer.sizes)
        policy = lambda: EnlargePolicy(n_sizes, self.settings.hidden, self.settings.policy_lr, self.generator)
        self.policies = [(layout.rows(node_type), policy()) for node_type in layout.types]
        self.values, self.first_values = values, layout.total * self.layer.sizes[0]
        self.sampler, self.n_losses = fitting.heldout_sampler(context, 1), max(4 * context.split.valid.nnz, 1024)
        self.degrees = fitting.degrees(context)
        self.losses: deque[Tensor] = deque(maxlen=self.settings.memory)
        self.acted: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    def step(self, epoch: int) -> None:
        """Reward the last actions, learn, and act; `epoch` epochs are done."""
        losses = self._losses()
        if self.acted is not None:
            self._learn(torch.stack(tuple(self.losses)).nanmean(dim=0) - losses, *self.acted)
        self.losses.append(losses)
        done = min(1.0, epoch / self.settings.search_epochs)
        frequency = (done * self.degrees).log1p() / self.degrees.max().log1p()
        level, cost = self.layer.level.cpu().clone(), self.layer.cost().cpu()
        wanted = torch.cat([policy.sample(frequency[rows], level[rows]) for rows, policy in self.policies])
        budget = self.first_values + (self.values - self.first_values) * done
        left = int(budget) - self.layer.count_values()["embeddings"]
        enlarged = affordable(wanted & (cost > 0), cost, left, self.generator)
        self.layer.enlarge(enlarged.to(self.layer.level.device))
        self.acted = (frequency, level, enlarged, enlarged | ~wanted)

    def _learn(self, reward: Tensor, frequency: Tensor, level: Tensor, actions: Tensor, as_drawn: Tensor) -> None:
        """A step of each policy, all (N,), on the entities with a reward whose action is the one that it drew."""
        for rows, policy in self.policies:
            taught = rows.start + (reward[rows].isfinite() & as_drawn[rows]).nonzero()[:, 0]
            if len(taught) > 1:
                rewards = reward[taught]
                advantage = (rewards - rewards.mean()) / (rewards.std() + 1e-8)
                policy.learn(frequency[taught], level[taught], actions[taught], advantage)

    @torch.no_grad()
    def _losses(self) -> Tensor:
        """Mean loss of every entity's validation triplets (N,); NaN where it has none."""
        batch, layout = self.sampler.epoch(self.n_losses, self.n_losses, self.rng), self.layer.layout
        features = layout.stack(self.model.engine.all_nodes()).cpu()
        users = torch.as_tensor(batch.users)
        positives, negatives = (
            torch.as_tensor(items) + layout.offset("item") for items in (batch.positives, batch.negatives[:, 0])
        )
        margin = (features[users] * (features[positives] - features[negatives])).sum(dim=1)
        rows, values = torch.cat([users, positives]), F.softplus(-margin).repeat(2)
        n = torch.bincount(rows, minlength=layout.total)
        return torch.zeros(layout.total).index_add_(0, rows, values) / n


def train(context: Context[EsapnSettings]) -> Fitted:
    """Grow sizes while training, then train on at the sizes found."""
    settings, layout = context.settings, fitting.layout_of(context)
    layer = GrownSizes(layout, settings.sizes, settings.std, context.generator("table"))
    counts = layer.count_values()
    values = context.left_for_entities(settings.sizes[0], counts["maps"] + counts["gains"])
    model = fitting.build_model(context, layer, settings.layers)
    growth = Growth(context, model, values)
    record = fitting.search_phase(context.within(0.5), model, "grow", after_epoch=growth.step)
    record["sizes"] = tables.size_counts(layout, layer.level.cpu(), len(settings.sizes))
    return fitting.fitted(model, [record, fitting.train_phase(context, model, settings.training(), "train on")])


_GRID = {**SEARCH_SPACE, "policy_lr": (3e-3, 1e-2, 3e-2), "search_epochs": (20, 30, 50)}
SYSTEMS = (System("esapn", "ESAPN", "Liu et al. 2020 (SIGIR)", EsapnSettings(), train, _GRID),)
