"""PPO: its gradient against autograd of the written loss, and what a learner promises the federation."""

from dataclasses import dataclass
from math import inf, isfinite

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from fdrl_mpi.arrays import State
from fdrl_mpi.envs.cartpole import CartPole
from fdrl_mpi.envs.gymnasium_vector import GymnasiumVector
from fdrl_mpi.rl import ppo
from fdrl_mpi.rl.distributions import distribution_of
from fdrl_mpi.rl.hyperparameters import PPOConfig
from fdrl_mpi.rl.learner import Budget
from fdrl_mpi.rl.mlp import MLP
from fdrl_mpi.rl.model import PolicyModel
from fdrl_mpi.rl.network import Network, NetworkShape, actor_critic_shape, mlp_layout
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.rl.ppo import PPO, surrogate, value_error
from fdrl_mpi.rl.returns import RewardScaler
from fdrl_mpi.rl.rollout import Environment
from fdrl_mpi.rl.torch_network import torch_mlp
from fdrl_mpi.steps import ActionSpec, StepBuffers
from fdrl_mpi.streams import stream

ENGINES = ["numpy", "torch"]
TWO_CHOICES = ActionSpec("discrete", 2, (0,), (1,))
SPECS = [
    ActionSpec("discrete", 3, (0,), (2,)),
    ActionSpec("box", 2, (-1,) * 2, (1,) * 2),
    ActionSpec("multi_discrete", 5, (0, 0), (1, 2), (2, 3)),
]
PLAIN = {"clip_value": False, "normalise_advantages": False, "normalise_rewards": True}
"""The other choice of everything that can be chosen."""
NUM_STEPS, NUM_ENVS = 24, 6


class Chance:
    """Observations, rewards and both kinds of endings by chance; remembers every step."""

    num_envs, observation_size = NUM_ENVS, 4

    def __init__(self) -> None:
        self.steps: list[tuple[np.ndarray, StepBuffers]] = []

    def reset(self, generator: np.random.Generator) -> np.ndarray:
        self.generator = generator
        self.first = self._observations()
        return self.first

    def reseed(self, generator: np.random.Generator) -> None:
        self.generator = generator

    def step(self, actions: np.ndarray, out: StepBuffers) -> None:
        out.final_observations[:] = self._observations()
        out.rewards[:] = self.generator.normal(1.0, 1.0, NUM_ENVS)
        out.terminated[:], out.truncated[:] = self.generator.random((2, NUM_ENVS)) < 0.1
        out.observations[:] = out.final_observations
        done = out.terminated | out.truncated
        out.observations[done] = self._observations()[done]
        self.steps.append((actions.copy(), _copy(out)))

    def seen(self) -> np.ndarray:
        """What the policy saw, shape (T * N, observation_size)."""
        return np.concatenate([self.first, *(out.observations for _, out in self.steps[:-1])])

    def _observations(self) -> np.ndarray:
        return self.generator.standard_normal((NUM_ENVS, self.observation_size), dtype=np.float32)

    def get_state(self) -> State:
        return {}


def _copy(out: StepBuffers) -> StepBuffers:
    arrays = (out.observations, out.rewards, out.terminated, out.truncated, out.final_observations)
    return StepBuffers(*(array.copy() for array in arrays))


def _shape(spec: ActionSpec, observation_size: int, shared: bool = False) -> NetworkShape:
    num_free = spec.size if spec.kind == "box" else 0
    return actor_critic_shape(observation_size, spec.size, num_free, (16, 16), "tanh", shared)


def _network(engine: str, shape: NetworkShape) -> Network:
    generator = stream(0, "network")
    return MLP(shape, generator) if engine == "numpy" else torch_mlp(shape, generator, "cpu")


def _learner(
    engine: str, spec: ActionSpec, environment: Environment, shared: bool = False, **settings: object
) -> tuple[PPO, Network]:
    network = _network(engine, _shape(spec, environment.observation_size, shared))
    config = PPOConfig(**{"num_steps": NUM_STEPS, **settings})
    return PPO(config, PolicyModel(network, distribution_of(spec)), environment, LocalObjective()), network


def _budget(learner_steps: int, round: int = 1, lr: float = 1e-3, seed: int = 0) -> Budget:
    return Budget(learner_steps, lr, stream(seed, "train", 1, round))


def _remember_forward(network: Network, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """List the observations of every pass from now on."""
    forward, forwarded = network.forward, []

    def remember(observations: np.ndarray) -> np.ndarray:
        forwarded.append(observations.copy())
        return forward(observations)

    monkeypatch.setattr(network, "forward", remember)
    return forwarded


def _flat_gradient(network: Network) -> np.ndarray:
    return network.gradient.copy() if isinstance(network, MLP) else network.flat_gradient()


@dataclass(frozen=True)
class WrittenLoss:
    """The PPO loss of one minibatch of one rollout, in float64 and with nothing clever.

    Huang et al. 2022: core details 5 to 10, 13 and the mean over samples.
    """

    settings: PPOConfig
    shape: NetworkShape
    sizes: tuple[int, ...]
    old_params: np.ndarray
    environment: Chance

    def gradient(
        self, params: np.ndarray, rows: slice | np.ndarray = slice(None)
    ) -> tuple[np.ndarray, dict[str, float]]:
        """The flat gradient at `params`, and the loss's parts; of some `rows` of the rollout."""
        flat = torch.tensor(params, dtype=torch.float64, requires_grad=True)
        old_log_probability, old_value, advantage, target = (column[rows] for column in self._old())
        log_probability, entropy, value = (column[rows] for column in self._policy(flat))
        settings, eps = self.settings, self.settings.clip_range
        if settings.normalise_advantages:
            advantage = (advantage - advantage.mean()) / advantage.std()
        ratio = torch.exp(log_probability - old_log_probability)
        gain = torch.minimum(ratio * advantage, ratio.clamp(1.0 - eps, 1.0 + eps) * advantage)
        square = (value - target) ** 2
        value_loss = 0.5 * square
        if settings.clip_value:
            clipped = old_value + (value - old_value).clamp(-eps, eps)
            value_loss = 0.5 * torch.maximum(square, (clipped - target) ** 2)
        loss = (
            -gain.mean()
            + settings.value_coefficient * value_loss.mean()
            - settings.entropy_coefficient * entropy.mean()
        )
        (gradient,) = torch.autograd.grad(loss, flat)
        parts = {
            "policy_loss": -gain.mean(),
            "value_loss": 0.5 * square.mean(),
            "entropy": entropy.mean(),
            "approx_kl": (ratio - 1.0 - torch.log(ratio)).mean(),
            "clip_fraction": ((ratio - 1.0).abs() > eps).double().mean(),
            "gradient_norm": gradient.norm(),
            "clipped_policy": (gain < ratio * advantage).double().mean(),
            "clipped_value": (value_loss > 0.5 * square).double().mean(),
        }
        return gradient.numpy(), {name: part.item() for name, part in parts.items()}

    def _old(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the rollout fixed: log-probabilities, values, advantages and targets, each (T * N,)."""
        old = torch.tensor(self.old_params, dtype=torch.float64)
        log_probability, _, value = self._policy(old)
        rewards, terminated, truncated, final = (
            torch.tensor(np.array([getattr(out, name) for _, out in self.environment.steps]))
            for name in ("rewards", "terminated", "truncated", "final_observations")
        )
        if self.settings.normalise_rewards:
            scaler = RewardScaler(NUM_ENVS, self.settings.gamma)
            rewards = torch.tensor(scaler.scale(rewards.numpy(), (terminated | truncated).numpy()))
        values = value.reshape(NUM_STEPS, NUM_ENVS)
        next_values = self._outputs(old, final.double())[-1].reshape(NUM_STEPS, NUM_ENVS)
        advantages, later = torch.empty_like(values), torch.zeros(NUM_ENVS)
        for t in reversed(range(NUM_STEPS)):
            gamma, done = self.settings.gamma, terminated[t] | truncated[t]
            error = rewards[t] + gamma * torch.where(terminated[t], 0.0, next_values[t]) - values[t]
            later = error + gamma * self.settings.gae_lambda * torch.where(done, 0.0, later)
            advantages[t] = later
        return log_probability, value, advantages.ravel(), (advantages + values).ravel()

    def _policy(self, flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probability and entropy of the rollout's steps, and their values."""
        actions = torch.tensor(np.concatenate([actions for actions, _ in self.environment.steps]))
        outputs = self._outputs(flat, torch.tensor(self.environment.seen()).double())
        if self.shape.num_free:
            deviation = flat[-self.shape.num_free :].exp()
            policy = torch.distributions.Normal(outputs[:-1].T, deviation)
            return policy.log_prob(actions).sum(1), policy.entropy().sum(1), outputs[-1]
        parts = outputs[:-1].T.split(self.sizes or self.shape.num_outputs, dim=1)
        choices = [torch.distributions.Categorical(logits=part) for part in parts]
        columns = actions.reshape(len(actions), -1).T
        log_probability = sum(
            choice.log_prob(column) for choice, column in zip(choices, columns, strict=True)
        )
        return log_probability, sum(choice.entropy() for choice in choices), outputs[-1]

    def _outputs(self, flat: Tensor, observations: Tensor) -> Tensor:
        """The network written out: (..., observation_size) -> (num_outputs + 1, rows)."""
        shapes = mlp_layout(self.shape).shapes
        sizes = [int(np.prod(shape)) for shape in shapes.values()]
        views = {
            name: part.reshape(shape)
            for (name, shape), part in zip(shapes.items(), flat.split(sizes), strict=True)
        }
        units = observations.reshape(1, -1, self.shape.observation_size)
        for number in range(len(self.shape.hidden)):
            units = torch.tanh(units @ views[f"weight_{number}"] + views[f"bias_{number}"])
        weight, bias = views["head_weight"], views["head_bias"]
        return torch.cat([weight[:-1] @ units[0].T, weight[-1:] @ units[-1].T]) + bias


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("choices", [{}, PLAIN])
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("engine", ENGINES)
def test_gradient_is_that_of_the_written_loss(
    engine: str, spec: ActionSpec, choices: dict[str, bool], shared: bool
) -> None:
    """From the environment's steps to the flat gradient, before any clip is reached and after.

    One minibatch is the whole rollout. One epoch leaves the gradient at the old model; the second one that
    at the model after one large step, where ratios and values are clipped. The code computes in float32:
    each rounding is 6e-8 of its operand, and the sums of 144 terms and over the layers' units let some of
    them grow, so 1e-5 of the whole leaves a margin.
    """
    options = {
        **choices,
        "num_minibatches": 1,
        "entropy_coefficient": 0.05,
        "max_gradient_norm": 1e9,
    }
    models, gradients, means = [], [], []
    for num_epochs in (1, 2):
        environment = Chance()
        learner, network = _learner(engine, spec, environment, shared, num_epochs=num_epochs, **options)
        network.params[:] += stream(1, "model").normal(0.0, 0.1, len(network.params))
        models.append(network.params.copy())
        stats = learner.train(_budget(NUM_STEPS * NUM_ENVS, lr=0.05))
        models.append(network.params.copy())
        gradients.append(_flat_gradient(network))
        means.append(stats.means)
    old, moved = models[0], models[1]
    loss = WrittenLoss(PPOConfig(**options), _shape(spec, 4, shared), spec.sizes, old, environment)
    for params, gradient, own_means in zip((old, moved), gradients, means, strict=True):
        expected, parts = loss.gradient(params)
        assert np.linalg.norm(gradient - expected) <= 1e-5 * np.linalg.norm(expected)
        assert own_means == pytest.approx({name: parts[name] for name in own_means}, rel=1e-4, abs=2e-6)
    assert 0.05 < parts["clipped_policy"] < 0.95
    assert choices == PLAIN or 0.05 < parts["clipped_value"] < 0.95


@pytest.mark.parametrize("engine", ENGINES)
def test_each_minibatch_has_its_own_mean_and_normalisation(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of three minibatches leaves its gradient; a step size of 0 leaves the model where it was."""
    environment, options = Chance(), {"num_minibatches": 3, "max_gradient_norm": 1e9}
    learner, network = _learner(engine, SPECS[0], environment, num_epochs=1, **options)
    forwarded = _remember_forward(network, monkeypatch)
    learner.train(_budget(NUM_STEPS * NUM_ENVS, lr=0.0))
    rows = (forwarded[-1][:, None] == environment.seen()).all(axis=-1).argmax(axis=-1)
    loss = WrittenLoss(PPOConfig(**options), _shape(SPECS[0], 4), (), network.params, environment)
    expected, _ = loss.gradient(network.params, rows)
    assert np.linalg.norm(_flat_gradient(network) - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_blocks_of_a_minibatch_give_the_gradient_of_the_whole(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of 25 of 72 rows, the last one shorter: only the order of float32 additions differs."""
    gradients = []
    for block_rows in (1024, 25):
        monkeypatch.setattr(ppo, "BLOCK_ROWS", block_rows)
        environment = Chance()
        learner, network = _learner(engine, SPECS[1], environment, num_minibatches=2, num_epochs=1)
        learner.train(_budget(NUM_STEPS * NUM_ENVS))
        gradients.append(_flat_gradient(network))
    whole, in_blocks = gradients
    assert np.linalg.norm(in_blocks - whole) <= 1e-5 * np.linalg.norm(whole)
    assert (in_blocks != whole).any()  # else nothing was cut


@pytest.mark.parametrize("engine", ENGINES)
def test_every_epoch_uses_every_sample_once_in_a_new_order(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = Chance()
    learner, network = _learner(engine, SPECS[0], environment, num_minibatches=4, num_epochs=3)
    forwarded = _remember_forward(network, monkeypatch)
    learner.train(_budget(NUM_STEPS * NUM_ENVS))
    rollout = environment.seen()[:, 0]
    epochs = np.array(forwarded[-12:])[..., 0].reshape(3, -1)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.sort(rollout))
        assert (epoch != rollout).any()
    assert (epochs[0] != epochs[1]).any()


def _double(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_surrogate_is_the_clipped_one_on_every_branch() -> None:
    """Ratios below, inside and above the range, for advantages of both signs and none."""
    ratios = np.array([0.3, 0.79, 0.81, 1.0, 1.19, 1.21, 4.0] * 3)
    advantage = np.repeat([2.0, -0.5, 0.0], 7)
    log_ratio = _double(np.log(ratios).tolist())
    ratio, gains = torch.exp(log_ratio), torch.from_numpy(advantage)
    expected = torch.minimum(ratio * gains, ratio.clamp(0.8, 1.2) * gains)
    (slope,) = torch.autograd.grad(-expected.sum(), log_ratio)
    gain, d_loss = surrogate(np.log(ratios), advantage, 0.2)
    np.testing.assert_allclose(gain, expected.detach(), rtol=1e-14)
    np.testing.assert_allclose(d_loss, slope, rtol=1e-14)
    np.testing.assert_array_equal(d_loss[:14] == 0.0, [0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0])


def test_value_error_is_the_slope_of_the_clipped_loss_on_every_branch() -> None:
    """Old value 1, range 0.2: values that stayed, left upwards and left downwards, targets all around."""
    values = np.repeat([0.9, 1.0, 1.1, 1.7, 0.1], 6)
    targets = np.tile([-3.0, 0.3, 1.0, 1.25, 1.6, 5.0], 5)
    old = np.ones_like(values)
    value, target = _double(values.tolist()), torch.from_numpy(targets)
    clipped = 1.0 + (value - 1.0).clamp(-0.2, 0.2)
    loss = 0.5 * torch.maximum((value - target) ** 2, (clipped - target) ** 2)
    (slope,) = torch.autograd.grad(loss.sum(), value)
    error = value_error(values, old, targets, 0.2)
    np.testing.assert_allclose(error, slope, rtol=1e-14)
    assert 0 < np.count_nonzero((error == 0.0) & (values != targets)) < 12  # of the 12 that left


def test_value_error_without_a_range_is_the_plain_error() -> None:
    values, targets = np.array([0.0, 5.0, -7.0]), np.array([1.0, 1.0, 1.0])
    np.testing.assert_array_equal(value_error(values, np.zeros(3), targets, inf), [-1.0, 4.0, -8.0])


@pytest.mark.parametrize("engine", ENGINES)
def test_the_budget_is_spent_exactly(engine: str) -> None:
    environment = Chance()
    learner, _ = _learner(engine, SPECS[0], environment, num_minibatches=3, num_epochs=2)
    stats = learner.train(_budget(4 * NUM_STEPS * NUM_ENVS))
    assert stats.env_steps == NUM_ENVS * len(environment.steps) == 4 * NUM_STEPS * NUM_ENVS
    assert stats.gradient_steps == 4 * 2 * 3
    endings = [out.terminated | out.truncated for _, out in environment.steps]
    assert len(stats.episodes) == np.count_nonzero(endings)


def _cartpole(engine: str, contexts: int = 5, **settings: object) -> PPO:
    environment = CartPole([{"length": 0.4 + 0.05 * i} for i in range(contexts)])
    return _learner(engine, TWO_CHOICES, environment, **settings)[0]


@pytest.mark.parametrize("engine", ENGINES)
def test_training_goes_on_from_its_state_bit_for_bit(engine: str) -> None:
    settings = {"num_minibatches": 2, "normalise_rewards": True, "num_steps": 16}
    unbroken, resumed = (_cartpole(engine, **settings) for _ in range(2))
    unbroken.train(_budget(160, round=1))
    state = unbroken.get_state()
    expected = unbroken.train(_budget(160, round=2))
    assert (state["params"] != unbroken.params).any()
    resumed.set_state(state)
    stats = resumed.train(_budget(160, round=2))
    np.testing.assert_array_equal(resumed.params, unbroken.params)
    assert (stats.means, stats.episodes) == (expected.means, expected.episodes)
    assert stats.episodes
    _assert_equal(resumed.get_state(), unbroken.get_state())


def _assert_equal(first: State, second: State) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        if isinstance(value, dict):
            _assert_equal(value, second[name])
        else:
            np.testing.assert_array_equal(value, second[name], err_msg=name)


@pytest.mark.parametrize("engine", ENGINES)
def test_equal_seeds_give_equal_bits_and_other_seeds_do_not(engine: str) -> None:
    models = []
    for seed in (0, 0, 1):
        learner = _cartpole(engine)
        learner.train(_budget(NUM_STEPS * 5, seed=seed))
        models.append(learner.params.copy())
    np.testing.assert_array_equal(models[0], models[1])
    assert (models[0] != models[2]).any()


@pytest.mark.parametrize(("target_kl", "epochs"), [(0.0, 5), (1e9, 5), (1e-12, 1)])
def test_epochs_stop_once_the_divergence_exceeds_its_target(target_kl: float, epochs: int) -> None:
    learner = _cartpole("numpy", num_epochs=5, num_minibatches=4, target_kl=target_kl)
    stats = learner.train(_budget(2 * NUM_STEPS * 5))
    assert stats.gradient_steps == 2 * 4 * epochs
    assert stats.means["approx_kl"] > 1e-12


@pytest.mark.parametrize("engine", ENGINES)
def test_restart_forgets_what_is_not_finite_and_keeps_the_model(engine: str) -> None:
    learner = _cartpole(engine, normalise_rewards=True)
    learner.train(_budget(NUM_STEPS * 5))
    good, state = learner.params.copy(), learner.get_state()
    arrays = [value for value in state["optimiser"].values() if isinstance(value, np.ndarray)]
    for array in (*arrays, state["scaler"]["return"]):
        array[:] = np.nan
    state["scaler"]["mean"] = state["scaler"]["square"] = np.nan
    learner.set_state(state)
    learner.restart()
    np.testing.assert_array_equal(learner.params, good)
    stats = learner.train(_budget(NUM_STEPS * 5, round=2))
    assert np.isfinite(learner.params).all()
    assert all(map(isfinite, stats.means.values()))


def test_engines_train_alike() -> None:
    """Eight minibatches: float32 rounding, which Adam may magnify where a gradient almost vanishes."""
    models = {}
    for engine in ENGINES:
        learner = _cartpole(engine, num_minibatches=4, num_epochs=2)
        start = learner.params.copy()
        learner.train(_budget(NUM_STEPS * 5))
        models[engine] = learner.params.copy()
    moved = np.linalg.norm(models["numpy"] - start)
    assert np.linalg.norm(models["numpy"] - models["torch"]) <= 1e-4 * moved


def test_the_numpy_engine_learns_cartpole() -> None:
    """Episodes of a random policy last 22 steps. Of 20 seeds the worst came to 191, the median to 270."""
    environment = CartPole([{}] * 8)
    learner, _ = _learner("numpy", TWO_CHOICES, environment, num_steps=128, num_minibatches=4, num_epochs=4)
    episodes: list[tuple[float, float]] = []
    for round in range(1, 16):
        episodes += learner.train(_budget(4096, round=round, lr=1e-3)).episodes
    assert np.mean([length for _, length in episodes[:20]]) < 50.0
    assert np.mean([total for total, _ in episodes[-20:]]) >= 150.0


class Dials(gymnasium.Env):
    """Pays a third for each dial that is set to the part of its range that the observation names."""

    observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = spaces.MultiDiscrete([2, 4, 3], start=[0, -1, 5])

    def reset(self, *, seed: int | None = None, options: object = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        sizes = self.action_space.nvec
        wanted = np.minimum((self.shown + 1.0) / 2.0 * sizes, sizes - 1).astype(int) + self.action_space.start
        self.steps += 1
        return self._observe(), float(np.mean(action == wanted)), False, self.steps == 20, {}

    def _observe(self) -> np.ndarray:
        self.shown = self.np_random.uniform(-1.0, 1.0, 3).astype(np.float32)
        return self.shown


def test_the_numpy_engine_learns_several_choices_at_once() -> None:
    """Chance pays 7.2, two perfect dials at most 16.7. Of 8 seeds the worst came to 17.9."""
    environment = GymnasiumVector(Dials, [{}] * 8)
    learner, _ = _learner("numpy", environment.action_spec, environment, num_steps=128, gamma=0.0)
    episodes: list[tuple[float, float]] = []
    for round in range(1, 13):
        episodes += learner.train(_budget(4096, round=round, lr=3e-3)).episodes
    assert np.mean([total for total, _ in episodes[:20]]) < 10.0
    assert np.mean([total for total, _ in episodes[-20:]]) >= 17.0
