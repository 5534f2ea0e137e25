"""ESAPN: policies decide which users and items get a larger embedding, from small ones on.

Source: Liu, Zhao, Wang, Liu, Tang. *Automated Embedding Size Search in Deep Recommender Systems.* SIGIR 2020.

    sizes d_1 < ... < d_K; every entity starts with d_1
    state (frequency so far, current size);  action: enlarge to the next size, or not     a policy network for users,
                                                                                          one for items
    reward: mean of the entity's last T losses on validation, less the present one
    policy: minimise - (reward - baseline) log pi(action | state)                         REINFORCE
    e~ = g tanh(BN(M_(K-1) ... M_k e_k))                                                  hard selection, one width

A new embedding starts as M_k e_k, so that the step to it changes no score. The embeddings, the maps M and the policies
are learned together; when the policies stop, the embeddings are trained on at the sizes they have.

Deviations
----------
- The loss is BPR on propagated embeddings, and there is no stream: an entity's frequency grows evenly, over the epochs
  of the search, to its number of training interactions.
- Policies act once an epoch on all entities, and are rewarded after it with losses on triplets of the validation part.
  The baseline is the mean reward of the entities of the same kind.
- Rewards are divided by the spread of those of the same epoch: losses fall at another pace as training goes on.
- The budget is paid out evenly over the search. Where more entities are to be enlarged than it pays for, it is drawn
  which of them are; a policy does not learn from the others, which did not get what they asked for.
- Unified embeddings are multiplied by one learned number a kind, g: no network on top of them could scale scores.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from typing import cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from c2f_dgl.baselines.fitting import build_model, fitted, layout_of, train_phase
from c2f_dgl.baselines.masked import random_table
from c2f_dgl.baselines.searching import (
    SEARCH_SPACE,
    SearchSettings,
    degrees,
    heldout_sampler,
    search_loss,
    search_phase,
)
from c2f_dgl.baselines.system import Context, Fitted, System
from c2f_dgl.baselines.unified import (
    SizedTable,
    how_many,
    indifferent_network,
    left_for_embeddings,
    start_gains,
    unify,
    xavier,
)
from c2f_dgl.graph.layout import NodeLayout
from c2f_dgl.model import Recommender
from c2f_dgl.training.sampler import Triplets


class EsapnSettings(SearchSettings):
    """Hyper-parameters of ESAPN."""

    lr: float = Field(1e-2, gt=0, description="Adam's learning rate where embeddings are trained on")
    sizes: tuple[int, ...] = Field((1, 2, 4, 8, 16, 32), min_length=2, description="sizes, ascending")
    hidden: int = Field(32, ge=1, description="width of the policies' hidden layer")
    policy_lr: float = Field(1e-2, gt=0, description="Adam's learning rate of the policies")
    memory: int = Field(3, ge=1, description="T: losses that the present one is compared with")


class EnlargePolicy(nn.Module):
    """pi(enlarge | frequency, size), learned by REINFORCE.

    Parameters
    ----------
    n_sizes, hidden : int
    lr : float
    generator : torch.Generator
        Everything that is drawn.
    """

    def __init__(self, n_sizes: int, hidden: int, lr: float, generator: torch.Generator) -> None:
        super().__init__()
        self.n_sizes, self.generator = n_sizes, generator
        self.network = indifferent_network(1 + n_sizes, hidden, 1, generator)
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
        negative_log = F.binary_cross_entropy_with_logits(logits, actions.to(logits), reduction="none")
        (advantages * negative_log).mean().backward()
        self.optimizer.step()


class GrownSizes(SizedTable):
    """The table when every entity has one size, which can be enlarged.

    Parameters
    ----------
    layout : NodeLayout
    sizes : sequence of int
        d_k, ascending.
    std : float
        Of the embeddings of size d_1 and of the unified ones at the start.
    generator : torch.Generator
    """

    level: Tensor

    def __init__(self, layout: NodeLayout, sizes: Sequence[int], std: float, generator: torch.Generator) -> None:
        super().__init__(layout)
        self.sizes = tuple(sizes)
        n = layout.total
        self.embeddings = nn.ParameterList(
            [random_table(n, k, std if k == sizes[0] else 0.0, generator) for k in sizes]
        )
        self.maps, self.shifts = nn.ModuleDict(), nn.ModuleDict()
        for node_type in layout.types:
            pairs = list(itertools.pairwise(sizes))
            self.maps[node_type] = nn.ParameterList([xavier(small, large, generator) for small, large in pairs])
            self.shifts[node_type] = nn.ParameterList([torch.zeros(large) for _, large in pairs])
        self.gains = start_gains(layout, std)
        self.register_buffer("level", torch.zeros(n, dtype=torch.int64))

    def table(self) -> Tensor:
        """e~ (N x d_K)."""
        parts = []
        for node_type in self.layout.types:
            rows = self.layout.rows(node_type)
            x = self.embeddings[0][rows]
            for k in range(len(self.sizes) - 1):
                own = self.level[rows, None] > k
                x = torch.where(own, self.embeddings[k + 1][rows], self._mapped(node_type, k, x))
            parts.append(self.gains[node_type] * unify(x))
        return torch.cat(parts)

    @torch.no_grad()
    def enlarge(self, which: Tensor) -> None:
        """Give some entities (N,), bool, the next size; those at the largest keep theirs."""
        for node_type in self.layout.types:
            rows = self.layout.rows(node_type)
            for k in range(len(self.sizes) - 1):
                grown = rows.start + (which[rows] & (self.level[rows] == k)).nonzero()[:, 0]
                self.embeddings[k + 1][grown] = self._mapped(node_type, k, self.embeddings[k][grown])
        self.level += which & (self.level < len(self.sizes) - 1)

    def cost(self) -> Tensor:
        """Values that the next size takes beyond the present one (N,); 0 where there is no next."""
        sizes = torch.tensor([*self.sizes, self.sizes[-1]], device=self.level.device)
        return sizes[self.level + 1] - sizes[self.level]

    def count_values(self) -> dict[str, int]:
        """Embeddings at their sizes, and the maps from the smallest of them on."""
        used = 0
        for node_type in self.layout.types:
            smallest = int(self.level[self.layout.rows(node_type)].min())
            for parts in self._maps(node_type):
                used += sum(part.numel() for part in list(parts)[smallest:])
        embeddings = int(torch.tensor(self.sizes)[self.level.cpu()].sum())
        return {"embeddings": embeddings, "maps": used, "gains": len(self.gains)}

    def _maps(self, node_type: str) -> tuple[nn.ParameterList, nn.ParameterList]:
        return cast("nn.ParameterList", self.maps[node_type]), cast("nn.ParameterList", self.shifts[node_type])

    def _mapped(self, node_type: str, k: int, x: Tensor) -> Tensor:
        maps, shifts = self._maps(node_type)
        return x @ maps[k] + shifts[k]


def affordable(asked: Tensor, cost: Tensor, budget: int, generator: torch.Generator) -> Tensor:
    """Those who asked (n,), bool, that a budget pays for, in an order that is drawn; costs (n,), int64."""
    order = torch.randperm(len(asked), generator=generator)
    within = torch.zeros_like(asked)
    within[order] = (cost * asked)[order].cumsum(0) <= budget
    return asked & within


class Growth:
    """Policies, what they saw and did, and the losses they are rewarded by.

    Parameters
    ----------
    context : Context
    model : Recommender
        On `GrownSizes`.
    values : int
        What embeddings may cost at the end.
    """

    def __init__(self, context: Context[EsapnSettings], model: Recommender[GrownSizes], values: int) -> None:
        self.model, self.settings, self.layer = model, context.settings, model.embedding
        self.generator = context.generator("policies")
        self.policies = {
            node_type: EnlargePolicy(
                len(self.layer.sizes), self.settings.hidden, self.settings.policy_lr, self.generator
            )
            for node_type in self.layer.layout.types
        }
        self.values, self.first_values = values, self.layer.layout.total * self.layer.sizes[0]
        self.sampler = heldout_sampler(context, 1)
        self.n_losses, self.rng = max(4 * context.split.valid.nnz, 1024), context.rng("losses")
        self.degrees = degrees(context)
        self.losses: deque[Tensor] = deque(maxlen=self.settings.memory)
        self.acted: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    def step(self, epoch: int) -> None:
        """Reward the last actions, learn, and act; `epoch` epochs are done."""
        losses = self._losses()
        if self.acted is not None:
            reward = torch.stack(tuple(self.losses)).nanmean(dim=0) - losses
            self._learn(reward)
        self.losses.append(losses)
        done = min(1.0, epoch / self.settings.search_epochs)
        frequency = (done * self.degrees).log1p() / self.degrees.max().log1p()
        level, cost = self.layer.level.cpu().clone(), self.layer.cost().cpu()
        asked = torch.cat([policy.sample(frequency[rows], level[rows]) for rows, policy in self._each()])
        paid = self.first_values + (self.values - self.first_values) * done
        left = int(paid) - self.layer.count_values()["embeddings"]
        enlarged = affordable(asked & (cost > 0), cost, left, self.generator)
        self.layer.enlarge(enlarged.to(self.layer.level.device))
        self.acted = (frequency, level, enlarged, enlarged | ~asked)

    def _each(self) -> list[tuple[slice, EnlargePolicy]]:
        return [(self.layer.layout.rows(node_type), policy) for node_type, policy in self.policies.items()]

    def _learn(self, reward: Tensor) -> None:
        assert self.acted is not None
        frequency, level, actions, as_drawn = self.acted
        for rows, policy in self._each():
            known = rows.start + (reward[rows].isfinite() & as_drawn[rows]).nonzero()[:, 0]
            if len(known) > 1:
                own = reward[known]
                advantage = (own - own.mean()) / (own.std() + 1e-8)
                policy.learn(frequency[known], level[known], actions[known], advantage)

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
    settings, layout = context.settings, layout_of(context)
    layer = GrownSizes(layout, settings.sizes, settings.std, context.generator("table"))
    rest = layer.count_values()
    values = left_for_embeddings(context, rest["maps"] + rest["gains"], settings.sizes[0], "esapn")
    model = build_model(context, layer, settings.layers)
    growth = Growth(context, model, values)

    def objective(model: Recommender[GrownSizes], batch: Triplets) -> Tensor:
        return search_loss(model, batch, settings.l2)

    record = search_phase(context, model, "grow", objective=objective, after_epoch=growth.step)
    record["sizes"] = how_many(layout, layer.level.cpu(), len(settings.sizes))
    return fitted(model, [record, train_phase(context, model, settings.training(), "train on")])


SYSTEMS = (
    System(
        "esapn",
        "ESAPN",
        "Liu et al. 2020 (SIGIR)",
        EsapnSettings(),
        train,
        {**SEARCH_SPACE, "policy_lr": (3e-3, 1e-2, 3e-2), "search_epochs": (20, 30, 50)},
    ),
)
