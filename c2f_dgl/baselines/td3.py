"""TD3: twin delayed deep deterministic policy gradient, for actions in [0, 1].

Source: Fujimoto, van Hoof, Meger. *Addressing Function Approximation Error in Actor-Critic Methods.* ICML 2018.

    y = r + gamma min_i Q'_i(s', clip(mu'(s') + clip(eps)))            target policy smoothing, clipped double Q
    critics: min (Q_i(s, a) - y)^2     actor, every other step: max Q_1(s, mu(s))     targets: Polyak averages
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Transitions:
    """What an agent has seen, many at a time.

    Parameters
    ----------
    states, next_states : Tensor, shape (n, width)
    actions : Tensor, shape (n,)
        In [0, 1].
    outcomes : Tensor, shape (n,)
        What rewards are made of when they are learned from (see `TD3.learn`).
    """

    states: Tensor
    actions: Tensor
    outcomes: Tensor
    next_states: Tensor


class ReplayBuffer:
    """The last `capacity` transitions."""

    def __init__(self, width: int, capacity: int) -> None:
        self._rows = torch.empty(capacity, 2 * width + 2)
        self._width, self._written = width, 0

    def __len__(self) -> int:
        return min(self._written, len(self._rows))

    def add(self, seen: Transitions) -> None:
        """Write over the oldest ones."""
        rows = torch.cat([seen.states, seen.next_states, seen.actions[:, None], seen.outcomes[:, None]], dim=1)
        rows = rows[-len(self._rows) :]
        place = (self._written + torch.arange(len(rows))) % len(self._rows)
        self._rows[place] = rows.to(self._rows)
        self._written += len(rows)

    def sample(self, n: int, generator: torch.Generator) -> Transitions:
        """`n` transitions, with replacement."""
        rows = self._rows[torch.randint(len(self), (n,), generator=generator)]
        states, next_states, actions, outcomes = rows.split([self._width, self._width, 1, 1], dim=1)
        return Transitions(states, actions[:, 0], outcomes[:, 0], next_states)


class TD3:
    """An actor and two critics with their targets and a replay buffer.

    Parameters
    ----------
    width : int
        Of states.
    hidden : int
        Width of the networks' one hidden layer.
    lr : float
    discount : float
        gamma.
    tau : float
        Share of the networks in their targets at each update.
    capacity, batch_size : int
        Of the replay buffer, and what a step learns from.
    generator : torch.Generator
        Everything that is drawn, the networks' start included.
    """

    def __init__(
        self,
        width: int,
        *,
        hidden: int,
        lr: float,
        discount: float,
        tau: float,
        capacity: int,
        batch_size: int,
        generator: torch.Generator,
    ) -> None:
        self.discount, self.tau, self.batch_size, self.generator = discount, tau, batch_size, generator
        self.actor = _network(width, hidden, generator)
        self.critics = nn.ModuleList([_network(width + 1, hidden, generator) for _ in range(2)])
        self._actor_target, self._critics_target = copy.deepcopy(self.actor), copy.deepcopy(self.critics)
        self._actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=lr)
        self._critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=lr)
        self.buffer = ReplayBuffer(width, capacity)
        self._steps = 0

    @torch.no_grad()
    def act(self, states: Tensor) -> Tensor:
        """mu(s) (n,), in [0, 1], without exploration."""
        return _action(self.actor, states)

    def learn(self, n_steps: int, reward: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Take gradient steps on the replay buffer.

        Parameters
        ----------
        reward : callable
            (actions, outcomes), both (n,), to rewards (n,). Called anew at every step, so that a price on actions may
            change without what was seen at the old price going to waste.
        """
        for _ in range(n_steps):
            self._steps += 1
            seen = self.buffer.sample(self.batch_size, self.generator)
            rewards = reward(seen.actions, seen.outcomes)
            with torch.no_grad():
                noise = 0.1 * torch.randn(self.batch_size, generator=self.generator)
                action = (_action(self._actor_target, seen.next_states) + noise.clamp(-0.25, 0.25)).clamp(0, 1)
                ahead = torch.minimum(*(_value(critic, seen.next_states, action) for critic in self._critics_target))
                target = rewards + self.discount * ahead
            losses = [F.mse_loss(_value(critic, seen.states, seen.actions), target) for critic in self.critics]
            self._critic_optimizer.zero_grad()
            (losses[0] + losses[1]).backward()
            self._critic_optimizer.step()
            if self._steps % 2 == 0:
                self._actor_optimizer.zero_grad()
                (-_value(self.critics[0], seen.states, _action(self.actor, seen.states)).mean()).backward()
                self._actor_optimizer.step()
                self._follow()

    @torch.no_grad()
    def _follow(self) -> None:
        for network, target in ((self.actor, self._actor_target), (self.critics, self._critics_target)):
            for parameter, followed in zip(network.parameters(), target.parameters(), strict=True):
                followed.lerp_(parameter, self.tau)


def _network(width: int, hidden: int, generator: torch.Generator) -> nn.Sequential:
    first, last = nn.Linear(width, hidden), nn.Linear(hidden, 1)
    for layer in (first, last):
        nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.ReLU(), last)


def _action(actor: nn.Module, states: Tensor) -> Tensor:
    return torch.sigmoid(actor(states)[:, 0])


def _value(critic: nn.Module, states: Tensor, actions: Tensor) -> Tensor:
    value: Tensor = critic(torch.cat([states, actions[:, None]], dim=1))
    return value[:, 0]
