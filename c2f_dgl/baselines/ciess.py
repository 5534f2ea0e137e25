"""CIESS: an actor-critic picks any whole size for every user and item.

Source: Qu, Chen, Zhao, Cui, Zheng, Yin. *Continuous Input Embedding Size Search for Recommender Systems.* SIGIR 2023.

    e_n = (first d_n entries of a row of one full table, then zeros)
    state s_n = (popularity, size, quality)         reward r_n = q_n - lambda (d_n / d)^2
    action: actor's output -> size d_n              TD3, one agent for users and one for items

q of a user is the mean of its Recall@k and NDCG@k over the cutoffs on validation; of an item, the mean q of the users
that have it in training. Each episode starts from the actor's sizes and then walks at random around them; sizes that
meet the budget are kept, and the best of them retrained (selective retraining).

Deviations
----------
- lambda, which the paper tunes by hand for every budget, follows the budget: it rises while the actor asks for more
  than there is and falls while it asks for less. Rewards are formed when they are learned from, at the current lambda.
- Equal steps of the action multiply the size: d_n = d^a, a in [0, 1]. A mean size of 3 out of 64 is at the very end of
  a linear scale.
- The actor's sizes are scaled to sum to the budget, both where they are judged and where they are retrained.
- The full table is warmed up with sizes drawn at random, so that the actor finds prefixes that make sense.
- Every iteration is one epoch of training, after which qualities are measured; of very large data sets on `judges`
  users alone.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from c2f_dgl.baselines.fitting import SELECT, build_model, layout_of
from c2f_dgl.baselines.masked import cut_to_budget, prefix_mask, random_table
from c2f_dgl.baselines.searching import SEARCH_SPACE, SearchSettings, degrees, judged, retrain, search_phase
from c2f_dgl.baselines.system import Context, Fitted, System
from c2f_dgl.baselines.td3 import TD3, Transitions
from c2f_dgl.embedding import ComputedTable
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate, evaluate_per_user
from c2f_dgl.graph.layout import NodeLayout
from c2f_dgl.model import Recommender


class CiessSettings(SearchSettings):
    """Hyper-parameters of CIESS."""

    d: int = Field(64, ge=1, description="d, the largest size")
    warmup_epochs: int = Field(10, ge=0, description="epochs with random sizes before the search")
    episode: int = Field(4, ge=1, description="sizes tried from one of the actor's on, by a random walk")
    walk: float = Field(0.1, ge=0, description="standard deviation of a step of the walk, in units of the action")
    agent_lr: float = Field(1e-3, gt=0, description="Adam's learning rate of actors and critics")
    hidden: int = Field(64, ge=1, description="width of the agents' hidden layer")
    discount: float = Field(0.5, ge=0, lt=1, description="discount of the agents")
    agent_steps: int = Field(50, ge=1, description="gradient steps of each agent after every epoch")
    candidates: int = Field(2, ge=1, description="sizes that are retrained")
    judges: int = Field(4096, ge=1, description="most validation users that a search looks at")


class PrefixTable(ComputedTable):
    """One full table whose rows are cut to their current sizes.

    Parameters
    ----------
    layout : NodeLayout
    start : Tensor, shape (N, d)
    """

    sizes: Tensor

    def __init__(self, layout: NodeLayout, start: Tensor) -> None:
        super().__init__(layout)
        self.weight = nn.Parameter(start.clone())
        self.register_buffer("sizes", torch.full((len(start),), start.shape[1]))

    def table(self) -> Tensor:
        """The cut table (N x d)."""
        return self.weight * prefix_mask(self.sizes, self.weight.shape[1])

    def count_values(self) -> dict[str, int]:
        """What the current sizes keep."""
        return {"table": int(self.sizes.sum())}


def to_size(actions: Tensor, d: int) -> Tensor:
    """Whole sizes (int64, 1 to d) of actions in [0, 1]."""
    return (d**actions).round().long().clamp(1, d)


class SizeSearch:
    """Agents, exploration and the best sizes found.

    Parameters
    ----------
    context : Context
    model : Recommender
        On a `PrefixTable`, whose sizes are set after every epoch.
    """

    def __init__(self, context: Context[CiessSettings], model: Recommender[PrefixTable]) -> None:
        self.context, self.model, self.settings = context, model, context.settings
        self.generator = context.generator("sizes")
        layout, settings = model.embedding.layout, context.settings
        self.types = {node_type: layout.rows(node_type) for node_type in layout.types}
        self.agents = {
            node_type: TD3(
                3,
                hidden=settings.hidden,
                lr=settings.agent_lr,
                discount=settings.discount,
                tau=0.01,
                capacity=max(2**15, 8 * (rows.stop - rows.start)),
                batch_size=256,
                generator=self.generator,
            )
            for node_type, rows in self.types.items()
        }
        self.price = 0.1  # lambda
        self.history = context.split.train.T.astype(bool).astype(np.float64)
        self.valid = judged(context, settings.judges)
        popularity = degrees(context).log1p()
        self.popularity = popularity / popularity.max()
        self.actions = torch.rand(layout.total, generator=self.generator)
        self.states, self.known = self._measure()
        self.best: list[tuple[float, Tensor]] = []
        self.set_sizes(to_size(self.actions, settings.d))

    def set_sizes(self, sizes: Tensor) -> None:
        """Cut the table."""
        self.model.embedding.sizes.copy_(sizes)

    def warm_up(self, *, last: bool) -> None:
        """Draw sizes for the next epoch; after the `last` epoch of the warm-up they are the first that are judged."""
        if last:
            self.states, self.known = self._measure()
        self.actions = torch.rand(len(self.actions), generator=self.generator)
        self.set_sizes(to_size(self.actions, self.settings.d))

    def step(self, epoch: int) -> None:
        """Take rewards for the sizes of the last epoch, learn, and choose those of the next one."""
        before, actions = self.states, self.actions
        self.states, self.known = self._measure()
        for node_type, rows in self.types.items():
            agent, known = self.agents[node_type], self.known[rows]
            seen = (before[rows][known], actions[rows][known], self.states[rows][known, 2], self.states[rows][known])
            agent.buffer.add(Transitions(*seen))
            agent.learn(self.settings.agent_steps, self._reward)
        wanted = torch.cat([self.agents[node_type].act(self.states[rows]) for node_type, rows in self.types.items()])
        total = float(to_size(wanted, self.settings.d).sum())
        self.price *= float(np.clip(total / self.context.values, 0.5, 2.0))
        self.judge(wanted)
        if epoch % self.settings.episode == 0:
            self.actions = wanted
        else:
            walk = torch.randn(len(wanted), generator=self.generator)
            self.actions = (actions + self.settings.walk * walk).clamp(0, 1)
        self.set_sizes(to_size(self.actions, self.settings.d))

    def judge(self, wanted: Tensor) -> None:
        """Cut the sizes of some actions (N,) to the budget, and keep them if they are among the best so far."""
        d = self.settings.d
        sizes = cut_to_budget(d**wanted, self.context.values, 1, d)
        self.set_sizes(sizes)
        figure = evaluate(self.model.scorer(), self.context.split.train, self.valid)[SELECT]
        ranked = sorted([*self.best, (figure, sizes)], key=lambda found: -found[0])
        self.best = ranked[: self.settings.candidates]

    def _reward(self, actions: Tensor, quality: Tensor) -> Tensor:
        return quality - self.price * (self.settings.d ** (actions - 1)) ** 2

    def _measure(self) -> tuple[Tensor, Tensor]:
        """States (N x 3), and for which entities a quality is known (N, bool)."""
        split = self.context.split
        users, metrics = evaluate_per_user(self.model.scorer(), split.train, self.valid)
        of_user, judge = np.zeros(split.n_users), np.zeros(split.n_users)
        of_user[users], judge[users] = np.mean(list(metrics.values()), axis=0), 1.0
        judges = self.history @ judge
        of_item = (self.history @ of_user) / np.maximum(judges, 1)
        quality = torch.as_tensor(np.concatenate([of_user, of_item]), dtype=torch.float32)
        known = torch.as_tensor(np.concatenate([judge, judges]) > 0)
        return torch.stack([self.popularity, self.actions, quality], dim=1), known


def train(context: Context[CiessSettings]) -> Fitted:
    """Search sizes, then retrain the best."""
    settings, n = context.settings, context.n_entities
    if context.values < n:
        raise InputError(f"{context.values:,} values do not pay for one per entity", expected=f"at least {n:,}")
    start = random_table(n, settings.d, settings.std, context.generator("table"))
    model = build_model(context, PrefixTable(layout_of(context), start), settings.layers)
    search = SizeSearch(context, model)

    def after_epoch(epoch: int) -> None:
        if epoch <= settings.warmup_epochs:
            search.warm_up(last=epoch == settings.warmup_epochs)
        else:
            search.step(epoch)

    epochs = settings.warmup_epochs + settings.search_epochs
    record = search_phase(context, model, "search", epochs=epochs, after_epoch=after_epoch)
    if not search.best:  # no time was left for it
        search.judge(search.actions)
    record["searched_valid"] = [figure for figure, _ in search.best]
    tried = [
        retrain(context, prefix_mask(sizes, settings.d), start, [record], share=1 / (len(search.best) - place))
        for place, (_, sizes) in enumerate(search.best)
    ]
    return max(tried, key=lambda fitted: fitted.phases[-1]["valid"][SELECT])


SYSTEMS = (
    System(
        "ciess",
        "CIESS",
        "Qu et al. 2023 (SIGIR)",
        CiessSettings(),
        train,
        {**SEARCH_SPACE, "walk": (0.05, 0.1, 0.2), "d": (32, 64, 128)},
    ),
)
