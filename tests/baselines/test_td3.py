"""TD3 on problems whose best action is known."""

from __future__ import annotations

import torch

from c2f_dgl.baselines.ciess import TD3, CiessSettings


def agent(seed: int = 0, discount: float = 0.0) -> TD3:
    generator = torch.Generator().manual_seed(seed)
    learner = TD3(2, CiessSettings(hidden=32, agent_lr=3e-3, discount=discount), 2_000, generator)
    learner.tau, learner.batch_size = 0.05, 128
    return learner


def test_the_actor_moves_to_each_states_best_action() -> None:
    """A bandit: the best action is 0.2 where the state's first entry is 0, and 0.8 where it is 1."""
    generator = torch.Generator().manual_seed(5)
    learner, probe = agent(), torch.tensor([[0.0, 0.5], [1.0, 0.5]])
    best = torch.tensor([0.2, 0.8])
    before = (learner.act(probe) - best).abs()
    states = torch.rand(2_000, 2, generator=generator)
    states[:, 0] = states[:, 0].round()
    actions = torch.rand(2_000, generator=generator)
    outcomes = -((actions - best[states[:, 0].long()]) ** 2)
    learner.remember(states, actions, outcomes, states)
    learner.learn(600, lambda actions, outcomes: outcomes)
    after = (learner.act(probe) - best).abs()
    assert float(after.max()) < 0.1 < float(before.max())


def test_a_price_on_actions_lowers_them() -> None:
    generator = torch.Generator().manual_seed(5)
    states, actions = torch.rand(1_000, 2, generator=generator), torch.rand(1_000, generator=generator)
    chosen = []
    for price in (0.0, 2.0):
        learner = agent(seed=1)
        learner.remember(states, actions, actions.sqrt(), states)
        learner.learn(400, lambda actions, outcomes, price=price: outcomes - price * actions)
        chosen.append(float(learner.act(states).mean()))
    assert chosen[0] > 0.8 and chosen[1] < 0.4  # sqrt(a) - 2 a is largest at 1 / 16


def test_values_look_ahead_through_the_targets() -> None:
    """A reward of 1 for ever is worth 1 / (1 - discount)."""
    learner = agent(discount=0.5)
    states = torch.rand(500, 2, generator=torch.Generator().manual_seed(2))
    actions = torch.rand(500, generator=torch.Generator().manual_seed(3))
    learner.remember(states, actions, torch.ones(500), states)
    learner.learn(800, lambda actions, outcomes: outcomes)
    with torch.no_grad():
        value = learner.critics[0](torch.cat([states, actions[:, None]], dim=1))
    assert abs(float(value.mean()) - 2.0) < 0.2


def test_the_last_transitions_are_remembered() -> None:
    learner = TD3(1, CiessSettings(hidden=4), 4, torch.Generator().manual_seed(0))
    for start in (0, 3):
        values = torch.arange(start, start + 3).float()
        learner.remember(values[:, None], values, values + 0.5, values[:, None] + 1)
    seen: set[tuple[float, float]] = set()

    def reward(actions: torch.Tensor, outcomes: torch.Tensor) -> torch.Tensor:
        seen.update(zip(actions.tolist(), outcomes.tolist(), strict=True))
        return outcomes

    learner.learn(3, reward)
    assert seen == {(2.0, 2.5), (3.0, 3.5), (4.0, 4.5), (5.0, 5.5)}


def test_the_same_generator_gives_the_same_agent() -> None:
    states = torch.rand(50, 2, generator=torch.Generator().manual_seed(2))
    actors = []
    for _ in range(2):
        learner = agent(seed=7)
        learner.remember(states, states[:, 0], states[:, 1], states)
        learner.learn(5, lambda actions, outcomes: outcomes)
        actors.append(learner.act(states))
    assert torch.equal(*actors)
