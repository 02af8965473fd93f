"""Deep Q-learning: its gradient against autograd of the written loss, its targets, its exploration."""

import numpy as np
import pytest
import torch
from learners import budget, make_learner

from fdrl_mpi.rl.dqn import DQN, EpsilonGreedy
from fdrl_mpi.rl.learner import Budget
from fdrl_mpi.rl.n_step import Transitions
from fdrl_mpi.streams import stream

SMALL = {
    "learner.name": "dqn",
    "environment.id": "Acrobot-v1",
    "environment.num_envs": "1",
    "learner.batch_size": "32",
    "learner.network.hidden": "[16, 8]",
}


def _dqn(engine: str = "numpy", **options: str) -> DQN:
    _, learner = make_learner(SMALL | {f"learner.{name}": value for name, value in options.items()}, engine)
    learner._target.params[:] = stream(7, "target").normal(0.0, 0.3, len(learner._target.params))
    learner._target.load()
    return learner


def _batch(size: int = 32) -> Transitions:
    draws = stream(1, "batch")
    return Transitions(
        draws.standard_normal((size, 6), dtype=np.float32),
        draws.integers(3, size=size),
        draws.standard_normal(size, dtype=np.float32),
        draws.standard_normal((size, 6), dtype=np.float32),
        np.where(draws.random(size) < 0.3, 0.0, 0.9).astype(np.float32),
    )


def _written_values(params: np.ndarray, dueling: bool, observations: np.ndarray) -> torch.Tensor:
    """Compute the action values of a 6-16-8-3 network in double precision, from its flat parameters."""
    outputs = 4 if dueling else 3
    sizes, tensors, start = [(6, 16), (16,), (16, 8), (8,), (outputs, 8), (outputs,)], [], 0
    flat = params
    for shape in sizes:
        count = int(np.prod(shape))
        tensors.append(flat[start : start + count].reshape(shape))
        start += count
    w0, b0, w1, b1, w, b = tensors
    units = torch.relu(torch.relu(torch.from_numpy(observations).double() @ w0 + b0) @ w1 + b1)
    values = units @ w.T + b
    if not dueling:
        return values
    advantages = values[:, :3]
    return values[:, 3:] + advantages - advantages.mean(1, keepdim=True)


@pytest.mark.parametrize("loss", ["squared", "huber"])
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_gradient_is_that_of_the_written_loss(engine: str, double: bool, dueling: bool, loss: str) -> None:
    """Float32 against autograd in double precision: to 1e-5 of the largest entry."""
    learner = _dqn(engine, double=str(double).lower(), dueling=str(dueling).lower(), loss=loss)
    batch, weights = _batch(), stream(2, "weights").random(32).astype(np.float32)
    learner._differentiate(batch, learner._targets_of(batch), weights)
    params = torch.from_numpy(learner._network.params.astype(np.float64)).requires_grad_()
    target = torch.from_numpy(learner._target.params.astype(np.float64))
    with torch.no_grad():
        following = _written_values(target, dueling, batch.next_observations)
        chooser = _written_values(params, dueling, batch.next_observations) if double else following
        best = following.gather(1, chooser.argmax(1, keepdim=True))[:, 0]
        goal = torch.from_numpy(batch.rewards) + torch.from_numpy(batch.discounts) * best
    chosen = _written_values(params, dueling, batch.observations)
    chosen = chosen.gather(1, torch.from_numpy(batch.actions)[:, None])[:, 0]
    kind = torch.nn.functional.mse_loss if loss == "squared" else torch.nn.functional.smooth_l1_loss
    (kind(chosen, goal, reduction="none") * torch.from_numpy(weights)).mean().backward()
    expected = params.grad.numpy()
    np.testing.assert_allclose(
        learner._network.flat_gradient(), expected, atol=1e-5 * np.abs(expected).max(), rtol=1e-4
    )


def test_only_termination_takes_the_value_of_the_next_state_away() -> None:
    learner, batch = _dqn(), _batch()
    targets = learner._targets_of(batch)
    ended = batch.discounts == 0.0
    np.testing.assert_array_equal(targets[ended], batch.rewards[ended])
    assert (targets[~ended] != batch.rewards[~ended]).all()


def test_the_target_becomes_the_network_when_it_is_due_and_not_before() -> None:
    options = {"learning_starts": "32", "train_every": "4", "target_every": "48", "budget": "44"}
    overrides = SMALL | {f"learner.{name}": value for name, value in options.items()}
    config, learner = make_learner(overrides)
    first = learner._target.params.copy()
    learner.train(budget(config, 1))
    np.testing.assert_array_equal(learner._target.params, first)
    assert (learner.params != first).any()
    learner.train(budget(config, 2, work=4))
    np.testing.assert_array_equal(learner._target.params, learner.params)


@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_a_fresh_start_forgets_a_target_that_is_not_finite(engine: str) -> None:
    learner = _dqn(engine)
    good = learner.params.copy()
    learner._target.params.fill(np.nan)
    learner._target.load()
    learner.restart()
    learner.train(Budget(4, 1e-3, stream(0, "train")))
    learner._target.store()
    np.testing.assert_array_equal(learner._target.params, good)


def test_exploration_draws_the_share_it_is_told() -> None:
    """Of 30,000 choices among three with epsilon 0.3, two ninths of ten differ from the best: 20 %."""
    policy = EpsilonGreedy(3, 3)
    policy.epsilon[:] = 0.3
    outputs = np.zeros((3, 10_000), np.float32)
    outputs[1] = 1.0
    noise = policy.noise(stream(0, "noise"), 3, 10_000)
    chosen = np.zeros((3, 10_000), np.int64)
    for step in range(3):
        policy.sample(outputs, np.empty(0, np.float32), noise[step], chosen[step])
    assert (chosen != 1).mean() == pytest.approx(0.2, abs=0.01)


def test_it_balances_a_pole() -> None:
    """With the parts of Rainbow, 40,000 steps of CartPole: episodes of the last rounds exceed 300."""
    overrides = {
        "learner.name": "dqn",
        "environment.num_envs": "1",
        "learner.budget": "10000",
        "learner.double": "true",
        "learner.dueling": "true",
        "learner.n_step": "3",
        "learner.epsilon_steps": "10000",
        "learner.lr": "0.001",
    }
    config, learner = make_learner(overrides)
    returns = [total for round in range(1, 5) for total, _ in learner.train(budget(config, round)).episodes]
    assert np.mean(returns[-20:]) > 300.0
