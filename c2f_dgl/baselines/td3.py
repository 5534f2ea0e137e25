"""TD3: twin delayed deep deterministic policy gradient, for actions in [0, 1].

Fujimoto, van Hoof, Meger. *Addressing Function Approximation Error in Actor-Critic Methods.* ICML 2018.

    y = r + gamma min_i Q'_i(s', clip(mu'(s') + clip(eps)))            target policy smoothing, clipped double Q
    critics: min (Q_i(s, a) - y)^2     actor, every other step: max Q_1(s, mu(s))     targets: Polyak averages
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TD3:
    """An actor and two critics, of one hidden layer each, with their targets and the last transitions seen."""

    tau = 0.01  # share of the networks in their targets at each update
    batch_size = 256

    def __init__(
        self,
        width: int,  # of states
        *,
        hidden: int,
        lr: float,
        discount: float,
        capacity: int,  # transitions that are remembered
        generator: torch.Generator,  # draws everything, the networks' start included
    ) -> None:
        self.discount, self.generator = discount, generator
        self.actor = _network(width, hidden, generator, nn.Sigmoid())
        self.critics = nn.ModuleList([_network(width + 1, hidden, generator, nn.Identity()) for _ in range(2)])
        self._actor_target, self._critics_target = copy.deepcopy(self.actor), copy.deepcopy(self.critics)
        self._actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=lr)
        self._critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=lr)
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
