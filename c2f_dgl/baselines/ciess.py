"""CIESS: an actor-critic picks any whole size for every user and item.

Qu, Chen, Zhao, Cui, Zheng, Yin. *Continuous Input Embedding Size Search for Recommender Systems.* SIGIR 2023.

    e_n = (first d_n entries of a row of one full table, then zeros);  action: actor's output -> size d_n, by TD3
    (Fujimoto, van Hoof, Meger. *Addressing Function Approximation Error in Actor-Critic Methods.* ICML 2018)
    state s_n = (popularity, size, quality);  reward r_n = q_n - lambda (d_n / d)^2

q of a user is the mean of its Recall@k and NDCG@k over the cutoffs on validation; of an item, the mean q of the users
that have it in training. Episodes start from the actor's sizes and walk at random around them; the best sizes that meet
the budget are retrained (selective retraining).

Deviations: lambda, tuned by hand in the paper, rises while the actor wants more than there is and falls while it wants
less. Equal steps of the action multiply the size, d_n = d^a: a mean size of 3 out of 64 is at the very end of a linear
scale. The actor's sizes are scaled to sum to the budget where they are judged and retrained. The table is warmed up
with sizes drawn at random. An iteration is one epoch; qualities are of `judges` users at most.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from c2f_dgl.baselines.fitting import build_model, degrees, layout_of, retrain, search_phase
from c2f_dgl.baselines.system import SEARCH_SPACE, SELECT, Context, Fitted, SearchSettings, System
from c2f_dgl.baselines.tables import PrefixTable, cut_to_budget, prefix_mask, random_table
from c2f_dgl.evaluation.ranking import evaluate, evaluate_per_user
from c2f_dgl.evaluation.sampling import sampled_rows
from c2f_dgl.model import Recommender


class CiessSettings(SearchSettings):
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


class TD3:
    """An actor and two critics, of one hidden layer each, with their targets and the last transitions seen.

    y = r + gamma min_i Q'_i(s', clip(mu'(s') + clip(eps)))            target policy smoothing, clipped double Q
    critics: min (Q_i(s, a) - y)^2     actor, every other step: max Q_1(s, mu(s))     targets: Polyak averages

    States have `width` entries, `capacity` transitions are remembered, and the generator draws everything.
    """

    tau = 0.01  # share of the networks in their targets at each update
    batch_size = 256

    def __init__(self, width: int, settings: CiessSettings, capacity: int, generator: torch.Generator) -> None:
        self.discount, self.generator = settings.discount, generator
        self.actor = _network(width, settings.hidden, generator, nn.Sigmoid())
        critics = [_network(width + 1, settings.hidden, generator, nn.Identity()) for _ in range(2)]
        self.critics = nn.ModuleList(critics)
        self._actor_target, self._critics_target = copy.deepcopy(self.actor), copy.deepcopy(self.critics)
        self._actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=settings.agent_lr)
        self._critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=settings.agent_lr)
        self._steps = self._n_remembered = 0
        self._remembered, self._widths = torch.empty(capacity, 2 * width + 2), [width, 1, 1, width]

    @torch.no_grad()
    def act(self, states: Tensor) -> Tensor:
        """mu(s) (n,), in [0, 1], without exploration."""
        actions: Tensor = self.actor(states)
        return actions

    def remember(self, states: Tensor, actions: Tensor, outcomes: Tensor, next_states: Tensor) -> None:
        """Write transitions over the oldest ones: (n x width), (n,) in [0, 1], (n,) for rewards, (n x width)."""
        rows = torch.column_stack([states, actions, outcomes, next_states])[-len(self._remembered) :]
        self._remembered[(self._n_remembered + torch.arange(len(rows))) % len(self._remembered)] = rows
        self._n_remembered += len(rows)

    def learn(self, n_steps: int, reward: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Take gradient steps on what is remembered; `reward` takes actions and outcomes to rewards, all (n,).

        It is called at every step, so that a price on actions may change and what was seen at the old one still counts.
        """
        for _ in range(n_steps):
            self._steps += 1
            n = min(self._n_remembered, len(self._remembered))
            rows = self._remembered[torch.randint(n, (self.batch_size,), generator=self.generator)]
            states, actions, outcomes, next_states = rows.split(self._widths, dim=1)
            with torch.no_grad():
                noise = 0.1 * torch.randn(self.batch_size, generator=self.generator)
                next_actions = (self._actor_target(next_states) + noise.clamp(-0.25, 0.25)).clamp(0, 1)
                pairs = torch.column_stack([next_states, next_actions])
                ahead = torch.minimum(*(critic(pairs) for critic in self._critics_target))
                target = reward(actions[:, 0], outcomes[:, 0]) + self.discount * ahead
            pairs = torch.column_stack([states, actions])
            losses = [F.mse_loss(critic(pairs), target) for critic in self.critics]
            _descend(self._critic_optimizer, losses[0] + losses[1])
            if self._steps % 2 == 0:
                value = self.critics[0](torch.column_stack([states, self.actor(states)]))
                _descend(self._actor_optimizer, -value.mean())
                self._follow()

    @torch.no_grad()
    def _follow(self) -> None:
        for network, target in ((self.actor, self._actor_target), (self.critics, self._critics_target)):
            for parameter, followed in zip(network.parameters(), target.parameters(), strict=True):
                followed.lerp_(parameter, self.tau)


def _network(width: int, hidden: int, generator: torch.Generator, output: nn.Module) -> nn.Sequential:
    first, last = nn.Linear(width, hidden), nn.Linear(hidden, 1)
    for layer in (first, last):
        nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.ReLU(), last, output, nn.Flatten(0))


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def to_size(actions: Tensor, d: int) -> Tensor:
    """Whole sizes (int64, 1 to d) of actions in [0, 1]."""
    return (d**actions).round().long().clamp(1, d)


class SizeSearch:
    """Agents, exploration and the best sizes found; sets the sizes of the model's table after every epoch."""

    def __init__(self, context: Context[CiessSettings], model: Recommender[PrefixTable]) -> None:
        self.context, self.model, self.settings = context, model, context.settings
        self.generator = context.generator("sizes")
        layout, settings = model.embedding.layout, context.settings
        self.agents = [
            (layout.rows(node_type), TD3(3, settings, max(2**15, 8 * n), self.generator))
            for node_type, n in zip(layout.types, layout.sizes, strict=True)
        ]
        self.price = 0.1  # lambda
        self.history = context.split.train.T.astype(bool).astype(np.float64)
        self.valid = sampled_rows(context.split.valid, settings.judges, context.rng("judges"))
        popularity = degrees(context).log1p()
        self.popularity = popularity / popularity.max()
        self.best: list[tuple[float, Tensor]] = []
        self.actions = self._drawn()
        self.measure()
        self._set_sizes(to_size(self.actions, settings.d))

    def after_epoch(self, epoch: int) -> None:
        """Set sizes at random in the warm-up, those of `step` from then on; `epoch` epochs are done."""
        if epoch > self.settings.warmup_epochs:
            self.step(epoch)
            return
        if epoch == self.settings.warmup_epochs:
            self.measure()  # the first that are judged
        self.actions = self._drawn()
        self._set_sizes(to_size(self.actions, self.settings.d))

    def step(self, epoch: int) -> None:
        """Take rewards for the sizes of the last epoch, learn, and choose those of the next one."""
        states, actions, d = self.states, self.actions, self.settings.d
        self.measure()
        for rows, agent in self.agents:
            known = self.known[rows]
            next_states = self.states[rows][known]
            agent.remember(states[rows][known], actions[rows][known], next_states[:, 2], next_states)
            agent.learn(self.settings.agent_steps, self._reward)
        wanted = torch.cat([agent.act(self.states[rows]) for rows, agent in self.agents])
        self.price *= float(np.clip(float(to_size(wanted, d).sum()) / self.context.values, 0.5, 2.0))
        self.judge(wanted)
        if epoch % self.settings.episode == 0:
            self.actions = wanted
        else:
            walk = torch.randn(len(wanted), generator=self.generator)
            self.actions = (actions + self.settings.walk * walk).clamp(0, 1)
        self._set_sizes(to_size(self.actions, d))

    def judge(self, wanted: Tensor) -> None:
        """Cut the sizes of some actions (N,) to the budget, and keep them if they are among the best so far."""
        d = self.settings.d
        sizes = cut_to_budget(d**wanted, self.context.values, d)
        self._set_sizes(sizes)
        figure = evaluate(self.model.scorer(), self.context.split.train, self.valid)[SELECT]
        ranked = sorted([*self.best, (figure, sizes)], key=lambda judged: -judged[0])
        self.best = ranked[: self.settings.candidates]

    def measure(self) -> None:
        """States (N x 3), and for which entities a quality is known (N, bool), with the present sizes."""
        split = self.context.split
        users, metrics = evaluate_per_user(self.model.scorer(), split.train, self.valid)
        of_user, is_judge = np.zeros(split.n_users), np.zeros(split.n_users)
        of_user[users], is_judge[users] = np.mean(list(metrics.values()), axis=0), 1.0
        n_judges = self.history @ is_judge
        of_item = (self.history @ of_user) / np.maximum(n_judges, 1)
        quality = torch.as_tensor(np.concatenate([of_user, of_item]), dtype=torch.float32)
        self.known = torch.as_tensor(np.concatenate([is_judge, n_judges]) > 0)
        self.states = torch.stack([self.popularity, self.actions, quality], dim=1)

    def _drawn(self) -> Tensor:
        return torch.rand(self.model.embedding.layout.total, generator=self.generator)

    def _set_sizes(self, sizes: Tensor) -> None:
        self.model.embedding.sizes.copy_(sizes)

    def _reward(self, actions: Tensor, quality: Tensor) -> Tensor:
        return quality - self.price * (self.settings.d ** (actions - 1)) ** 2


def train(context: Context[CiessSettings]) -> Fitted:
    """Search sizes, then retrain the best."""
    settings = context.settings
    context.left_for_entities()
    start = random_table(context.n_entities, settings.d, settings.std, context.generator("table"))
    model = build_model(context, PrefixTable(layout_of(context), start), settings.layers)
    search = SizeSearch(context, model)
    epochs = settings.warmup_epochs + settings.search_epochs
    record = search_phase(context.within(0.5), model, "search", epochs=epochs, after_epoch=search.after_epoch)
    if not search.best:  # no time was left for it
        search.judge(search.actions)
    record["searched_valid"] = [figure for figure, _ in search.best]
    candidates = [
        retrain(context.within(1 / (len(search.best) - done)), prefix_mask(sizes, settings.d), start, [record])
        for done, (_, sizes) in enumerate(search.best)
    ]
    return max(candidates, key=lambda fitted: fitted.phases[-1]["valid"][SELECT])


_GRID = {**SEARCH_SPACE, "walk": (0.05, 0.1, 0.2), "d": (32, 64, 128)}
SYSTEMS = (System("ciess", "CIESS", "Qu et al. 2023 (SIGIR)", CiessSettings(), train, _GRID),)
