"""Policy gradients of whole episodes: credits by hand, gradients against autograd and against a pool."""

import numpy as np
import pytest
import torch
from learners import budget, make_learner

from fdrl_mpi.rl.episodes import EpisodeBatch, joined
from fdrl_mpi.rl.learner import TrainStats
from fdrl_mpi.rl.model import PolicyModel
from fdrl_mpi.rl.reinforce import Reinforce
from fdrl_mpi.rl.svrpg import SVRPG
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


FAR = SMALL | {
    "learner.name": "svrpg",
    "learner.horizon": "30",
    "learner.inner_steps": "1",
    "learner.optimiser": "sgd",
    "learner.lr": "1.0",
    "learner.ratio_range": "1e9",
    "environment.num_envs": "2000",
    "learner.batch_episodes": "2000",
    "learner.budget": "2000",
}


def _apart(learner: SVRPG, distance: float) -> list[np.ndarray]:
    """Draw a policy, and another `distance` away in each parameter."""
    generator = stream(3, "weights")
    size = len(learner.params)
    start = generator.normal(0.0, 0.3, size)
    return [one.astype(np.float32) for one in (start, start + generator.normal(0.0, distance, size))]


def _weighted_gradient(learner: SVRPG, start: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, float]:
    """Differentiate at `start` on episodes of policy `x`; say how far the weights are from 1."""
    learner.move_to(x)
    batch = _sampled(learner)
    own = learner.log_probability(batch)
    learner.move_to(start)
    weights, distance = learner.importance(batch, learner.log_probability(batch) - own)
    learner.differentiate(batch, np.zeros(4), weights)
    return learner._network.flat_gradient().copy(), distance


@pytest.mark.parametrize("mean_over", ["steps", "episodes"])
@pytest.mark.parametrize("baseline", ["none", "episode"])
def test_weighted_gradient_of_another_policys_episodes_is_the_own_one(baseline: str, mean_over: str) -> None:
    """2000 episodes of at most 30 steps: within 15 % of the gradient; without weights 40 % off at least."""
    _, learner = make_learner(FAR | {"learner.baseline": baseline, "learner.mean_over": mean_over})
    start, x = _apart(learner, 0.2)
    weighted, _ = _weighted_gradient(learner, start, x)
    learner.move_to(x)
    others = _sampled(learner)
    learner.move_to(start)
    plain = _gradient(learner, others).copy()
    own = np.mean([_gradient(learner, _sampled(learner, seed=seed)) for seed in range(1, 5)], axis=0)
    size = np.linalg.norm(own)
    assert np.linalg.norm(weighted - own) < 0.15 * size
    assert np.linalg.norm(plain - own) > 0.4 * size


def test_weights_of_trajectories_are_products_worked_by_hand() -> None:
    """Ratios 2, 3 and 1/2, 1/4: weights 6 and 1/8, whose distance is ``sqrt((5^2 + (7/8)^2) / 2)``."""
    _, learner = make_learner(FAR | {"learner.mean_over": "episodes"})
    ratios = np.array([2.0, 3.0, 0.5, 0.25], np.float32)
    weights, distance = learner.importance(_batch([[1.0, 1.0], [1.0, 1.0]]), np.log(ratios))
    np.testing.assert_allclose(weights, [6.0, 6.0, 0.125, 0.125], rtol=1e-6)
    assert distance == pytest.approx(((25.0 + 0.875**2) / 2.0) ** 0.5, rel=1e-6)
    _, learner = make_learner(FAR | {"learner.importance": "step"})
    weights, distance = learner.importance(_batch([[1.0, 1.0], [1.0, 1.0]]), np.log(ratios))
    np.testing.assert_allclose(weights, ratios, rtol=1e-6)
    assert distance == pytest.approx(ratios.mean() - 1.0, rel=1e-6)


def test_weights_of_means_over_steps_leave_the_number_of_steps() -> None:
    _, learner = make_learner(FAR | {"learner.mean_over": "steps"})
    weights, _ = learner.importance(_batch([[1.0], [1.0, 1.0]]), np.array([1.0, -0.5, 0.2], np.float32))
    assert weights.sum() == pytest.approx(3.0, rel=1e-6)


def test_trajectory_weights_say_how_far_a_policy_has_gone() -> None:
    """Their distance from 1 grows with that of the policies; the mean of the steps' ratios stays at 1."""
    _, learner = make_learner(FAR)
    distances = [_weighted_gradient(learner, *_apart(learner, apart))[1] for apart in (0.02, 0.1, 0.5)]
    assert distances[0] < 0.2 < distances[1] < distances[2]
    _, learner = make_learner(FAR | {"learner.importance": "step"})
    assert _weighted_gradient(learner, *_apart(learner, 0.5))[1] < 0.05


@pytest.mark.parametrize("importance", ["trajectory", "step"])
def test_second_inner_step_follows_the_written_correction(importance: str) -> None:
    """``x_2 = x_1 - lr (g(x_1; tau) - w g(x_0; tau) + mu)``, each part computed apart."""
    overrides = FAR | {
        "environment.num_envs": "4",
        "learner.batch_episodes": "4",
        "learner.budget": "4",
        "learner.importance": importance,
        "learner.lr": "0.1",
    }
    config, learner = make_learner(overrides | {"learner.inner_steps": "2"})
    _, other = make_learner(overrides)
    start = learner.params.copy()
    mu = stream(0, "mu").normal(0.0, 1.0, len(start)).astype(np.float32)
    learner.descend(mu, budget(config, 1), TrainStats())
    generator = budget(config, 1).generator
    other.sample(1, generator, TrainStats())
    first = start - np.float32(0.1) * mu
    other.move_to(first)
    batch = other.sample(1, generator, TrainStats())
    own, correction = other.log_probability(batch), mu + _gradient(other, batch)
    other.move_to(start)
    weights, _ = other.importance(batch, other.log_probability(batch) - own)
    other.differentiate(batch, np.zeros(4), weights)
    correction -= other._network.flat_gradient()
    np.testing.assert_allclose(learner.params, first - 0.1 * correction, atol=1e-6)


@pytest.mark.parametrize(("importance", "steps"), [("trajectory", 1), ("step", 2)])
def test_the_inner_loop_ends_where_weights_leave_their_range(importance: str, steps: int) -> None:
    """Trajectories: before such a step; single steps, as published: behind it."""
    overrides = FAR | {
        "learner.importance": importance,
        "learner.inner_steps": "5",
        "environment.num_envs": "4",
    }
    config, learner = make_learner(overrides | {"learner.ratio_range": "1e-6"})
    stats = TrainStats()
    mu = stream(0, "mu").normal(0.0, 1.0, len(learner.params)).astype(np.float32)
    learner.descend(mu, budget(config, 1), stats)
    assert stats.gradient_steps == steps


@pytest.mark.parametrize("environment", ["CartPole-v1", "Pendulum-v1"])
def test_importance_weighs_the_whole_loss(environment: str) -> None:
    """Weights of 2 give twice the gradient, entropy and divergence included; weights of 0 give nothing."""
    options = {"learner.entropy_coefficient": "0.1", "environment.id": environment, "learner.horizon": "30"}
    (_, learner), (_, other) = make_learner(SMALL | options), make_learner(SMALL | options)
    anchor = PolicyModel(other._network, other._distribution)
    anchor.params[:] = stream(4, "anchor").normal(0.0, 0.3, len(anchor.params))
    anchor.load()
    learner._objective.kl_coefficient, learner._objective.anchor_model = 0.7, anchor
    batch = _sampled(learner)
    plain = _gradient(learner, batch).copy()
    for weight in (2.0, 0.0):
        learner.differentiate(batch, np.zeros(4), np.full(len(batch.rewards), weight))
        np.testing.assert_allclose(learner._network.flat_gradient(), weight * plain, rtol=1e-4, atol=1e-6)


def test_whitened_batches_have_unit_deviation_as_whitened_episodes_have() -> None:
    _, learner = make_learner(SMALL | {"learner.baseline": "batch"})
    credits = learner.credits(_batch([[1.0, 2.0, 4.0], [8.0, 16.0]]))
    assert credits.std(ddof=1) == pytest.approx(1.0, rel=1e-4)
    assert learner.credits(_batch([[3.0]])).tolist() == [0.0]


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
