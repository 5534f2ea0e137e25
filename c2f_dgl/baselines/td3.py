"""TD3: twin delayed deep deterministic policy gradient, for actions in [0, 1].

Fujimoto, van Hoof, Meger. *Addressing Function Approximation Error in Actor-Critic Methods.* ICML 2018.

    y = r + gamma min_i Q'_i(s', clip(mu'(s') + clip(eps)))            target policy smoothing, clipped double Q
    critics: min (Q_i(s, a) - y)^2     actor, every other step: max Q_1(s, mu(s))     targets: Polyak averages
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Transitions(NamedTuple):
    """States (n x width), actions (n,) in [0, 1], outcomes (n,), which rewards are made of, and the next states."""

    states: Tensor
    actions: Tensor
    outcomes: Tensor
    next_states: Tensor


class ReplayBuffer:
    """The last `capacity` transitions."""

    def __init__(self, width: int, capacity: int) -> None:
        self._rows = torch.empty(capacity, 2 * width + 2)
        self._widths, self._written = [width, 1, 1, width], 0

    def __len__(self) -> int:
        return min(self._written, len(self._rows))

    def add(self, seen: Transitions) -> None:
        """Write over the oldest ones."""
        rows = torch.column_stack(seen)[-len(self._rows) :]
        self._rows[(self._written + torch.arange(len(rows))) % len(self._rows)] = rows.to(self._rows)
        self._written += len(rows)

    def sample(self, n: int, generator: torch.Generator) -> Transitions:
        """`n` transitions, with replacement."""
        rows = self._rows[torch.randint(len(self), (n,), generator=generator)]
        states, actions, outcomes, next_states = rows.split(self._widths, dim=1)
        return Transitions(states, actions[:, 0], outcomes[:, 0], next_states)


class TD3:
    """An actor and two critics, of one hidden layer each, with their targets and a replay buffer."""

    def __init__(
        self,
        width: int,  # of states
        *,
        hidden: int,
        lr: float,
        discount: float,
        capacity: int,
        generator: torch.Generator,  # draws everything, the networks' start included
        tau: float = 0.01,  # share of the networks in their targets at each update
        batch_size: int = 256,
    ) -> None:
        self.discount, self.tau, self.batch_size, self.generator = discount, tau, batch_size, generator
        self.actor = _network(width, hidden, generator, nn.Sigmoid())
        self.critics = nn.ModuleList([_network(width + 1, hidden, generator, nn.Identity()) for _ in range(2)])
        self._actor_target, self._critics_target = copy.deepcopy(self.actor), copy.deepcopy(self.critics)
        self._actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=lr)
        self._critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=lr)
        self.buffer = ReplayBuffer(width, capacity)
        self._steps = 0

    @torch.no_grad()
    def act(self, states: Tensor) -> Tensor:
        """mu(s) (n,), in [0, 1], without exploration."""
        actions: Tensor = self.actor(states)
        return actions

    def learn(self, n_steps: int, reward: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Take gradient steps on the replay buffer; `reward` takes actions and outcomes, both (n,), to rewards (n,).

        It is called at every step, so that a price on actions may change and what was seen at the old one still counts.
        """
        for _ in range(n_steps):
            self._steps += 1
            seen = self.buffer.sample(self.batch_size, self.generator)
            with torch.no_grad():
                noise = 0.1 * torch.randn(self.batch_size, generator=self.generator)
                action = (self._actor_target(seen.next_states) + noise.clamp(-0.25, 0.25)).clamp(0, 1)
                pairs = torch.column_stack([seen.next_states, action])
                ahead = torch.minimum(*(critic(pairs) for critic in self._critics_target))
                target = reward(seen.actions, seen.outcomes) + self.discount * ahead
            pairs = torch.column_stack([seen.states, seen.actions])
            losses = [F.mse_loss(critic(pairs), target) for critic in self.critics]
            _descend(self._critic_optimizer, losses[0] + losses[1])
            if self._steps % 2 == 0:
                value = self.critics[0](torch.column_stack([seen.states, self.actor(seen.states)]))
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
