"""SAC: its gradients against autograd of the written losses, and what a learner promises the federation."""

from functools import partial
from math import inf
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fdrl_mpi.arrays import State
from fdrl_mpi.build_agent import make_model
from fdrl_mpi.envs.pendulum import Pendulum
from fdrl_mpi.rl.hyperparameters import SACConfig, SoftNetworkConfig
from fdrl_mpi.rl.learner import Budget
from fdrl_mpi.rl.model import shared_columns
from fdrl_mpi.rl.n_step import Transitions
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.rl.replay import COLUMNS
from fdrl_mpi.rl.sac import SAC
from fdrl_mpi.rl.sac_model import SACModel
from fdrl_mpi.steps import ActionSpec, StepBuffers
from fdrl_mpi.streams import stream

ENGINES = ["numpy", "torch"]
NUM_ENVS, BATCH = 2, 24
NETWORK = SoftNetworkConfig(hidden=(12, 10), activation="relu", initialisation="uniform")
TANH = SoftNetworkConfig(hidden=(9,), activation="tanh")


class Chance:
    """Observations, rewards and both kinds of endings by chance."""

    num_envs, observation_size = NUM_ENVS, 3
    action_spec = ActionSpec("box", 2, (-1.0, 0.0), (1.0, 4.0))

    def reset(self, generator: np.random.Generator) -> np.ndarray:
        self.generator = generator
        return self._observations()

    def reseed(self, generator: np.random.Generator) -> None:
        self.generator = generator

    def step(self, actions: np.ndarray, out: StepBuffers) -> None:
        assert (actions >= (-1.0, 0.0)).all()
        assert (actions <= (1.0, 4.0)).all()
        out.final_observations[:] = self._observations()
        out.rewards[:] = self.generator.normal(1.0, 1.0, NUM_ENVS)
        out.terminated[:], out.truncated[:] = self.generator.random((2, NUM_ENVS)) < 0.2
        out.observations[:] = out.final_observations
        done = out.terminated | out.truncated
        out.observations[done] = self._observations()[done]

    def _observations(self) -> np.ndarray:
        return self.generator.standard_normal((NUM_ENVS, self.observation_size), dtype=np.float32)

    def get_state(self) -> State:
        return {}

    def set_state(self, state: State) -> np.ndarray:
        return np.zeros((NUM_ENVS, self.observation_size), np.float32)


def _settings(**changes: Any) -> SACConfig:
    defaults = {"batch_size": BATCH, "buffer_size": 500, "learning_starts": 40, "network": NETWORK}
    return SACConfig(**(defaults | changes))


def _learner(
    engine: str = "numpy", environment: Any = None, objective: LocalObjective | None = None, **changes: Any
) -> tuple[SAC, SACModel]:
    settings, environment = _settings(**changes), environment or Chance()
    model = make_model(settings, 0, environment, engine, "cpu")
    assert isinstance(model, SACModel)
    return SAC(settings, model, environment, objective or LocalObjective()), model


def _budget(work: int, round: int = 1, lr: float = 1e-3) -> Budget:
    return Budget(work, lr, stream(0, "train", 1, round))


def _filled(engine: str, **changes: Any) -> tuple[SAC, SACModel, Transitions]:
    """A learner with parameters by chance and a batch with terminated and truncated steps."""
    learner, model = _learner(engine, **({"learning_starts": 1000} | changes))
    learner.train(_budget(100))
    model.params[:] = stream(1, "weights").normal(0.0, 0.4, len(model.params))
    model.target.params[:] = stream(2, "weights").normal(0.0, 0.4, len(model.target.params))
    model.load()
    model.target.load()
    return learner, model, learner._replay.draw(stream(3, "batch"))


class WrittenLosses:
    """The three losses of one batch, in float64 and with nothing clever."""

    def __init__(self, model: SACModel, batch: Transitions, gamma: float, noise: np.ndarray) -> None:
        self.model, self.gamma = model, gamma
        self.params = torch.tensor(model.params, dtype=torch.float64, requires_grad=True)
        self.observations, self.actions, self.rewards, self.next_observations, discounts = (
            torch.tensor(getattr(batch, name), dtype=torch.float64) for name in COLUMNS
        )
        self.terminated = (discounts == 0.0).double()
        self.noise = torch.tensor(noise, dtype=torch.float64)

    def critics(self) -> tuple[Tensor, Tensor]:
        """The sum of both mean squared errors, and the targets."""
        with torch.no_grad():
            actions, log_probability = self._policy(self.next_observations)
            theirs = torch.tensor(self.model.target.params, dtype=torch.float64)
            values = self._values(self.model.target, theirs, self.next_observations, actions).amin(0)
            alpha = self._section("log_alpha").exp()
            decay = self.gamma * (1.0 - self.terminated)
            targets = self.rewards + decay * (values - alpha * log_probability)
        values = self._values(self.model.critics, self._section("critics"), self.observations, self.actions)
        return ((values - targets) ** 2).mean(1).sum(), targets

    def actor(self) -> Tensor:
        actions, log_probability = self._policy(self.observations)
        critics = self._section("critics").detach()
        values = self._values(self.model.critics, critics, self.observations, actions).amin(0)
        return (self._section("log_alpha").detach().exp() * log_probability - values).mean()

    def temperature(self) -> Tensor:
        with torch.no_grad():
            _, log_probability = self._policy(self.observations)
        return (-self._section("log_alpha").exp() * (log_probability - self.model.action_size)).mean()

    def gradient(self, loss: Tensor, section: str) -> np.ndarray:
        (gradient,) = torch.autograd.grad(loss, self.params)
        return gradient[self.model.sections[section]].numpy()

    def _section(self, name: str) -> Tensor:
        return self.params[self.model.sections[name]]

    def _policy(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        outputs = _perceptron(self.model.actor, self._section("actor"), observations).T
        mean, raw = outputs.chunk(2, dim=1)
        normal = torch.distributions.Normal(mean, torch.exp(-5.0 + 3.5 * (torch.tanh(raw) + 1.0)))
        sample = mean + normal.stddev * self.noise.T
        actions = torch.tanh(sample)
        return actions, (normal.log_prob(sample) - torch.log(1.0 - actions**2)).sum(1)

    def _values(self, network: Any, params: Tensor, observations: Tensor, actions: Tensor) -> Tensor:
        return _perceptron(network, params, torch.cat([observations, actions], 1))


def _perceptron(network: Any, flat: Tensor, inputs: Tensor) -> Tensor:
    views, start = {}, 0
    for name, shape in network.layout.shapes.items():
        size = int(np.prod(shape))
        views[name] = flat[start : start + size].reshape(shape)
        start += size
    units = inputs
    for number in range(len(network.shape.hidden)):
        units = units @ views[f"weight_{number}"] + views[f"bias_{number}"]
        units = torch.tanh(units) if network.shape.activation == "tanh" else torch.relu(units)
    heads = [views["head_weight"][rows] @ units[t].T for t, rows in enumerate(network.shape.tower_rows())]
    return torch.cat(heads) + views["head_bias"]


def _drawn_noise(model: SACModel) -> np.ndarray:
    return stream(4, "noise").standard_normal((model.action_size, BATCH), dtype=np.float32)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("network", [NETWORK, TANH])
def test_gradient_of_the_critics_is_that_of_the_written_loss(engine: str, network: SoftNetworkConfig) -> None:
    learner, model, batch = _filled(engine, network=network)
    assert 0 < (batch.discounts == 0.0).sum() < BATCH
    written = WrittenLosses(model, batch, 0.99, _drawn_noise(model))
    loss, expected = written.critics()
    targets = learner._targets(batch, stream(4, "noise"))
    np.testing.assert_allclose(targets, expected, rtol=1e-4, atol=1e-4)
    half = learner._critic_gradient(batch, targets)
    assert 2.0 * half == pytest.approx(loss.item(), rel=1e-4)
    gradient = model.critics.flat_gradient()
    np.testing.assert_allclose(gradient, written.gradient(loss, "critics"), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("network", [NETWORK, TANH])
def test_gradients_of_actor_and_temperature_are_those_of_the_written_losses(
    engine: str, network: SoftNetworkConfig
) -> None:
    learner, model, batch = _filled(engine, network=network)
    written = WrittenLosses(model, batch, 0.99, _drawn_noise(model))
    learner._critic_gradient(batch, batch.rewards)
    critics_gradient = model.critics.flat_gradient()
    loss = learner._actor_gradient(batch, stream(4, "noise"))
    entropy = learner._temperature_gradient()
    assert loss == pytest.approx(written.actor().item(), rel=1e-4)
    expected = written.gradient(written.actor(), "actor")
    np.testing.assert_allclose(model.actor.flat_gradient(), expected, rtol=1e-3, atol=1e-5)
    expected = written.gradient(written.temperature(), "log_alpha")
    np.testing.assert_allclose(learner._alpha_gradient, expected, rtol=1e-4)
    alpha = np.exp(model.log_alpha[0])
    assert entropy == pytest.approx(expected[0] / alpha - model.action_size, rel=1e-3)
    np.testing.assert_array_equal(model.critics.flat_gradient(), critics_gradient)


def test_engines_learn_the_same() -> None:
    """Twelve updates; differences of float32 rounding grow with each."""
    params = []
    for engine in ENGINES:
        learner, model = _learner(engine)
        learner.train(_budget(52))
        params.append(model.params.copy())
    np.testing.assert_allclose(params[0], params[1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("federate_target", [False, True])
def test_resumed_learner_equals_an_unbroken_one(engine: str, federate_target: bool) -> None:
    make = partial(
        _learner, engine, Pendulum([{}] * 2, max_episode_steps=15), federate_target=federate_target
    )
    unbroken, model = make()
    for round in (1, 2, 3):
        unbroken.train(_budget(60, round))
    first, _ = make()
    first.train(_budget(60, 1))
    first.train(_budget(60, 2))
    resumed, resumed_model = _learner(
        engine, Pendulum([{}] * 2, max_episode_steps=15), federate_target=federate_target
    )
    resumed.set_state(first.get_state())
    stats = resumed.train(_budget(60, 3))
    assert stats.gradient_steps == 60
    np.testing.assert_array_equal(resumed_model.params, model.params)
    np.testing.assert_array_equal(resumed_model.target.params, model.target.params)
    for ours, theirs in zip(
        resumed._replay.get_state().values(), unbroken._replay.get_state().values(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_a_terminal_state_has_no_value_and_a_cut_episode_has() -> None:
    learner, _, batch = _filled("numpy")
    targets = learner._targets(batch, stream(4, "noise"))
    ended = batch.discounts == 0.0
    np.testing.assert_array_equal(targets[ended], batch.rewards[ended])
    assert (targets[~ended] != batch.rewards[~ended]).all()


def test_what_is_remembered_of_an_episodes_end_is_where_it_led() -> None:
    """Pendulums are only ever cut; next observations are those of the physics, not of the new episode."""
    learner, _ = _learner(environment=Pendulum([{}], max_episode_steps=5), learning_starts=1000)
    learner.train(_budget(20))
    memory = learner._replay.get_state()
    assert memory["discounts"].all()
    follows = (memory["next_observations"][:-1] == memory["observations"][1:]).all(axis=1)
    assert follows.tolist() == [t % 5 != 4 for t in range(19)]
    speeds = memory["next_observations"][:, 2] - memory["observations"][:, 2]
    assert np.abs(speeds).max() <= (15.0 + 3.0 * 2.0) * 0.05 + 1e-5
    assert np.abs(memory["actions"]).max() <= 1.0


def test_targets_move_by_tau() -> None:
    learner, model, _ = _filled("numpy", tau=0.25, batch_size=BATCH)
    before = model.target.params.copy()
    learner._update(_budget(1), _no_sums())
    expected = before + (model.critics.params - before) * np.float32(0.25)
    np.testing.assert_array_equal(model.target.params, expected)


def _no_sums() -> Any:
    from fdrl_mpi.rl.sac import _Sums

    return _Sums()


@pytest.mark.parametrize(("train_every", "expected"), [(1, 60), (2, 30), (3, 20), (8, 7)])
def test_updates_are_counted_in_environment_steps(train_every: int, expected: int) -> None:
    """Steps 41 to 100, in pairs: the multiples of `train_every` among them."""
    learner, _ = _learner(train_every=train_every)
    rounds = [learner.train(_budget(50, round)) for round in (1, 2)]
    assert sum(stats.gradient_steps for stats in rounds) == expected
    assert [stats.env_steps for stats in rounds] == [50, 50]


@pytest.mark.parametrize("frequency", [1, 2, 5])
def test_the_actor_makes_up_for_the_updates_it_waits(frequency: int) -> None:
    learner, _ = _learner(policy_frequency=frequency)
    steps = []
    step = learner._actor_optimiser.step
    learner._actor_optimiser.step = lambda *args: steps.append(0) or step(*args)  # type: ignore[method-assign]
    learner.train(_budget(60))
    assert len(steps) == 20


def test_first_rounds_without_an_update_tell_no_losses() -> None:
    learner, model = _learner()
    before = model.params.copy()
    stats = learner.train(_budget(20))
    assert set(stats.means) == {"temperature"}
    np.testing.assert_array_equal(model.params, before)
    stats = learner.train(_budget(60, 2))
    assert set(stats.means) == {"q_loss", "gradient_norm", "policy_loss", "entropy", "temperature"}
    assert stats.means["temperature"] == pytest.approx(np.exp(model.log_alpha[0]))


def test_targets_begin_at_the_first_critics_that_are_published() -> None:
    learner, model = _learner()
    model.params[:] = stream(1, "weights").normal(0.0, 0.4, len(model.params))
    learner.train(_budget(10))
    np.testing.assert_array_equal(model.target.params, model.critics.params)


def test_a_restarted_learner_has_forgotten_everything_but_the_model() -> None:
    learner, model = _learner()
    learner.train(_budget(80))
    learner.restart()
    params = model.params.copy()
    learner.train(_budget(10, 2))
    np.testing.assert_array_equal(model.params, params)
    np.testing.assert_array_equal(model.target.params, model.critics.params)
    assert len(learner._replay) == 10


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("federate_target", [False, True])
def test_every_parameter_has_one_name(engine: str, federate_target: bool) -> None:
    _, model = _learner(engine, federate_target=federate_target)
    counts = np.zeros(len(model.params), int)
    for piece in model.pieces.values():
        counts[piece] += 1
    assert (counts == 1).all()
    kinds = {name.partition(".")[0] for name in model.pieces}
    targets = {"target_1", "target_2"} if federate_target else set()
    assert kinds == {"actor", "critic_1", "critic_2", "log_alpha"} | targets
    tensors = model.state_dict()
    assert tensors.keys() == model.pieces.keys()
    assert sum(tensor.size for tensor in tensors.values()) == len(model.params)


def test_the_actor_alone_can_be_shared() -> None:
    _, model = _learner()
    assert shared_columns(model, "actor") == [model.sections["actor"]]
    assert shared_columns(model, ["actor", "critic_1", "critic_2"]) == [
        slice(0, model.sections["critics"].stop)
    ]
    hidden = sum(columns.stop - columns.start for columns in shared_columns(model, "trunk"))
    assert hidden == (3 * 12 + 12 + 12 * 10 + 10) + 2 * (5 * 12 + 12 + 12 * 10 + 10)


@pytest.mark.parametrize("engine", ENGINES)
def test_parameters_lie_where_they_are_wanted(engine: str) -> None:
    _, model = _learner(engine)
    row = np.full(len(model.params) + 2, 7.0, np.float32)
    placed = make_model(_settings(), 0, Chance(), engine, "cpu", row[1:-1])
    np.testing.assert_array_equal(row[1:-1], model.params)
    assert placed.params.base is row
    assert row[0] == row[-1] == 7.0


@pytest.mark.parametrize("engine", ENGINES)
def test_greedy_is_the_tanh_of_the_mean_between_the_bounds(engine: str) -> None:
    _, model, batch = _filled(engine)
    outputs = model.actor.forward(batch.observations)[:2].copy()
    expected = np.tanh(outputs).T * (1.0, 2.0) + (0.0, 2.0)
    actions = model.greedy(BATCH)(batch.observations)
    assert actions.dtype == np.float32
    np.testing.assert_allclose(actions, expected, rtol=1e-5, atol=1e-6)


def test_actions_without_bounds_are_refused() -> None:
    environment = Chance()
    environment.action_spec = ActionSpec("box", 1, (-inf,), (inf,))
    with pytest.raises(ValueError, match=r"tanh.*bounds"):
        make_model(_settings(), 0, environment, "numpy", "cpu")


def test_held_steps_leave_the_model_and_give_the_gradient_of_each_part() -> None:
    objective = LocalObjective(holds_steps=True)
    learner, model = _learner(objective=objective)
    before = model.params.copy()
    objective.begin(before)
    learner.train(_budget(60))
    np.testing.assert_array_equal(model.params, before)
    gradient = objective.mean_gradient(len(before))
    for section in model.sections.values():
        assert np.abs(gradient[section]).max() > 0.0


def test_a_proximal_term_keeps_every_part_near_the_anchor() -> None:
    distances = []
    for proximal in (0.0, 100.0):
        objective = LocalObjective(proximal=proximal)
        learner, model = _learner(objective=objective, optimiser="sgd")
        before = model.params.copy()
        objective.begin(before)
        learner.train(_budget(80))
        distances.append([np.linalg.norm((model.params - before)[part]) for part in model.sections.values()])
    assert (np.array(distances[1]) < np.array(distances[0])).all()


def test_a_pendulum_is_held_up() -> None:
    """A random policy gets about -1200, one that swings it up about -150."""
    settings = {"learning_starts": 1000, "buffer_size": 20_000, "batch_size": 128, "critic_lr": 1e-3}
    network = SoftNetworkConfig(hidden=(64, 64), activation="relu", initialisation="uniform")
    learner, _ = _learner(environment=Pendulum([{}] * 4), network=network, **settings)
    for round in range(6):
        stats = learner.train(_budget(1000, round))
    returns = [total for total, _ in stats.episodes] or [-inf]
    assert np.mean(returns) > -400.0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_temperature_that_diverges_shows_in_the_losses_and_a_fresh_start_trains_on(engine: str) -> None:
    """Its logarithm passes 709, where float64 ends; nothing is raised."""
    learner, model = _learner(engine)
    good = model.params.copy()
    learner.train(_budget(60))
    model.log_alpha[0] = 800.0
    with np.errstate(over="ignore", invalid="ignore"):
        stats = learner.train(_budget(NUM_ENVS, round=2))
    assert stats.means["temperature"] == inf or np.isnan(stats.means["temperature"])
    assert not np.isfinite(stats.means["q_loss"])
    learner.restart()
    model.params[:] = good
    stats = learner.train(_budget(60, round=3))
    assert all(map(np.isfinite, stats.means.values()))
    assert np.isfinite(model.params).all()
