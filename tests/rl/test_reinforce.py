"""Policy gradients of whole episodes: credits by hand, gradients against autograd and against a pool."""

import numpy as np
import pytest
import torch
from learners import budget, make_learner

from fdrl_mpi.rl.episodes import EpisodeBatch, joined
from fdrl_mpi.rl.learner import TrainStats
from fdrl_mpi.rl.reinforce import Reinforce
from fdrl_mpi.streams import stream

SMALL = {
    "learner.name": "reinforce",
    "environment.num_envs": "4",
    "learner.batch_episodes": "4",
    "learner.budget": "4",
    "learner.network.hidden": "[8]",
}


def _batch(rewards: list[list[float]]) -> EpisodeBatch:
    flat = np.array([reward for episode in rewards for reward in episode], np.float32)
    return EpisodeBatch(
        np.zeros((len(flat), 1), np.float32),
        np.zeros(len(flat), np.int64),
        flat,
        np.array([len(episode) for episode in rewards]),
    )


def _sampled(learner: Reinforce, waves: int = 1, seed: int = 0) -> EpisodeBatch:
    return learner.sample(waves, stream(seed, "episodes"), TrainStats())


def _gradient(learner: Reinforce, batch: EpisodeBatch) -> np.ndarray:
    learner.differentiate(batch, np.zeros(4))
    return learner._network.flat_gradient()


def test_rewards_to_go_worked_by_hand() -> None:
    """Episodes 1, 2, 4 and 8, 16 with gamma 1/2: 1 + 2/2 + 4/4 = 3, 2 + 2 = 4, 4 and 8 + 8 = 16, 16."""
    batch = _batch([[1.0, 2.0, 4.0], [8.0, 16.0]])
    assert batch.rewards_to_go(0.5).tolist() == [3.0, 4.0, 4.0, 16.0, 16.0]
    assert batch.finished() == [(7.0, 3.0), (24.0, 2.0)]


def test_whitened_episodes_have_no_mean_and_unit_deviation() -> None:
    batch = _batch([[1.0, 2.0, 4.0], [8.0, 16.0], [5.0]])
    white = batch.whitened(batch.rewards, 0.0 + 1e-12)
    assert white[:3].mean() == pytest.approx(0.0, abs=1e-6)
    assert white[:3].std(ddof=1) == pytest.approx(1.0, rel=1e-5)
    assert white[5] == 0.0


def test_sampled_episodes_are_whole() -> None:
    """CartPole pays 1 a step, so an episode's return is its length; no two episodes share a start."""
    _, learner = make_learner(SMALL)
    batch = _sampled(learner, waves=3)
    assert len(batch.lengths) == 12
    assert [total for total, _ in batch.finished()] == batch.lengths.tolist()
    starts = np.cumsum(batch.lengths) - batch.lengths
    assert len(np.unique(batch.observations[starts], axis=0)) == 12
    assert (np.abs(batch.observations[starts]) <= 0.05).all()


def test_the_horizon_cuts_episodes() -> None:
    _, learner = make_learner(SMALL | {"learner.horizon": "5"})
    assert _sampled(learner).lengths.tolist() == [5] * 4


@pytest.mark.parametrize("environment", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("baseline", ["none", "episode", "batch", "value"])
@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_gradient_is_that_of_the_written_loss(engine: str, baseline: str, environment: str) -> None:
    """Through torch's distributions in double precision: to 1e-4 of the largest entry."""
    options = {
        "learner.baseline": baseline,
        "environment.id": environment,
        "learner.horizon": "40",
        "learner.entropy_coefficient": "0.1",
    }
    _, learner = make_learner(SMALL | options, engine)
    learner._network.params[:] = stream(3, "weights").normal(0.0, 0.3, len(learner.params))
    learner._network.load()
    batch = _sampled(learner)
    ours = _gradient(learner, batch)
    params = torch.from_numpy(learner.params.astype(np.float64)).requires_grad_()
    layout = learner._network.layout
    views, start = {}, 0
    for name, shape in layout.shapes.items():
        views[name] = params[start : start + int(np.prod(shape))].reshape(shape)
        start += int(np.prod(shape))
    observations = torch.from_numpy(batch.observations).double()
    units = torch.tanh(observations @ views["weight_0"][0] + views["bias_0"][0])
    acting = learner._network.shape.num_outputs
    outputs = units @ views["head_weight"][:acting].T + views["head_bias"][:acting, 0]
    if environment == "CartPole-v1":
        policy = torch.distributions.Categorical(logits=outputs)
        log_probability, entropy = policy.log_prob(torch.from_numpy(batch.actions)), policy.entropy()
    else:
        policy = torch.distributions.Normal(outputs, views["free"].exp())
        log_probability = policy.log_prob(torch.from_numpy(batch.actions).double()).sum(1)
        entropy = policy.entropy().sum(1)
    credits = torch.from_numpy(learner.credits(batch).astype(np.float64))
    loss = torch.zeros((), dtype=torch.float64)
    if baseline == "value":
        critic = torch.tanh(observations @ views["weight_0"][1] + views["bias_0"][1])
        value = critic @ views["head_weight"][-1] + views["head_bias"][-1, 0]
        loss = 0.5 * 0.5 * ((value - credits) ** 2).mean()
        credits = credits - value.detach()
    (loss - (credits * log_probability).mean() - 0.1 * entropy.mean()).backward()
    expected = params.grad.numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max())


def test_mean_of_agents_gradients_is_the_gradient_of_the_pooled_episodes() -> None:
    """One gradient each and equal weights, per episode: averaging gradients loses nothing (to 1e-6)."""
    _, learner = make_learner(SMALL | {"learner.mean_over": "episodes", "learner.baseline": "none"})
    batches = [_sampled(learner, seed=seed) for seed in range(5)]
    mean = np.mean([_gradient(learner, batch).astype(np.float64) for batch in batches], axis=0)
    pooled = _gradient(learner, joined(batches))
    np.testing.assert_allclose(mean, pooled, atol=1e-6 * np.abs(pooled).max())


def test_without_movement_the_corrected_gradient_is_the_large_batchs() -> None:
    """At x = x_0 both gradients of a small batch cancel, so the first inner step follows mu alone."""
    overrides = SMALL | {"learner.name": "svrpg", "learner.inner_steps": "1", "learner.optimiser": "sgd"}
    config, learner = make_learner(overrides)
    before = learner.params.copy()
    mu = stream(0, "mu").normal(0.0, 1.0, len(before)).astype(np.float32)
    learner.descend(mu, budget(config, 1), TrainStats())
    np.testing.assert_allclose(learner.params, before - config.learner.lr * mu, atol=1e-7)


@pytest.mark.parametrize("name", ["reinforce", "svrpg"])
def test_it_balances_a_pole(name: str) -> None:
    """Whitened credits, batches of 16 episodes: within 30 batches the mean return passes 200."""
    overrides = {
        "learner.name": name,
        "learner.baseline": "episode",
        "environment.num_envs": "16" if name == "reinforce" else "4",
        "learner.budget": "160",
        "learner.lr": "0.005",
    }
    config, learner = make_learner(overrides)
    stats = [learner.train(budget(config, round)) for round in (1, 2, 3)]
    assert np.mean([total for total, _ in stats[-1].episodes[-32:]]) > 200.0
