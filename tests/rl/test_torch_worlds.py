"""Systems step by torch's arithmetic as they do by numpy's; teams that draw on the device."""

from importlib import import_module

import numpy as np
import pytest
import torch
from learners import flat
from test_team import Company

from fdrl_mpi.build_agent import ENVIRONMENTS, make_environment, make_model
from fdrl_mpi.envs.classic_control import ClassicControl, Numpy
from fdrl_mpi.envs.finite_mdp import optimal_action_values
from fdrl_mpi.rl.team import Team, Worlds
from fdrl_mpi.rl.torch_draws import CounterDraws
from fdrl_mpi.rl.torch_table_draws import CounterTableDraws

SYSTEMS = ("CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0")
N = 200


def _system(name: str) -> ClassicControl:
    """Make environments, every second one in a world of its own."""
    module, _, class_name = ENVIRONMENTS[name].partition(":")
    cls = getattr(import_module(module), class_name)
    first = next(iter(cls.context_table))
    own = {first: 0.8 * cls.context_table[first].default}
    return cls([own if i % 2 else {} for i in range(N)])


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_step_is_the_same_in_both_libraries(name: str) -> None:
    system, generator = _system(name), np.random.default_rng(1)
    drawn = generator.uniform(*system.start_limits, (system.num_drawn, N))
    ours, theirs = system.starts(torch, torch.from_numpy(drawn)), system.starts(Numpy, drawn)
    np.testing.assert_array_equal(ours.numpy(), theirs)
    for _ in range(50):
        if system.action_spec.kind == "discrete":
            actions = generator.integers(system.action_spec.size, size=N)
        else:
            actions = generator.uniform(-3.0, 3.0, (N, 1)).astype(np.float32)
        ours, *ends = system.advance(torch, _tensors(system.columns), ours, torch.from_numpy(actions), 0.0)
        theirs, *expected = system.advance(Numpy, system.columns, theirs, actions, 0.0)
        assert ours.dtype == torch.float64
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9, atol=1e-9)
        for end, value in zip(ends, expected, strict=True):
            np.testing.assert_allclose(np.asarray(end), value, rtol=1e-9, atol=1e-9)
        seen, expected_seen = system.observe(torch, ours), system.observe(Numpy, theirs)
        np.testing.assert_allclose(seen.numpy(), expected_seen, rtol=1e-9, atol=1e-9)
        ours = torch.from_numpy(theirs.copy())


class OnTheDevice(Company):
    """A company whose team draws on its device."""

    def _team(self, size: int) -> Team:
        one = make_environment(self.config.environment, [{}] * self.config.environment.num_envs)
        model = make_model(self.config.learner, self.config.seed, one, "numpy", "cpu")
        worlds = Worlds(one, size, one.num_envs)
        draws = CounterTableDraws if self.config.algorithm == "q_learning" else CounterDraws
        return self.team_class(self.config.learner, model, worlds, "cpu", draws)


DRAWN_THERE = (
    "ppo that is cut short, torch",
    "a2c, torch",
    "ppo on Pendulum, torch",
    "dqn, torch",
    "reinforce, torch",
    "reinforce against each episode, torch",
    "q_learning, torch",
    "q_learning by sarsa, torch",
)


@pytest.mark.parametrize("name", DRAWN_THERE)
def test_with_draws_of_the_device_too_a_team_equals_teams_of_one(name: str) -> None:
    ours, theirs = OnTheDevice(name, 3), OnTheDevice(name, 3)
    for round in (1, 2):
        ours.together(round, range(3))
        for agent in range(3):
            theirs.together(round, [agent])
    for one, other in zip(ours.learners, theirs.learners, strict=True):
        mine, its = flat(one.get_state()), flat(other.get_state())
        for path, leaf in mine.items():
            np.testing.assert_allclose(leaf, its[path], rtol=1e-4, atol=1e-5, err_msg=path)
    assert not np.array_equal(ours.learners[0].params, ours.learners[1].params)


def test_draws_of_the_device_bring_tables_as_near_to_the_optimal_one() -> None:
    ours, theirs = OnTheDevice("q_learning, torch", 4), OnTheDevice("q_learning, torch", 4)
    for round in range(1, 31):
        ours.together(round, range(4))
        theirs.in_turn(round, range(4))
    process, gamma = make_environment(ours.config.environment, [{}]), ours.config.learner.gamma
    optimal = optimal_action_values(process.kernels[0], process.rewards_table, gamma).ravel()
    errors = [
        np.mean([np.abs(optimal - learner.params) for learner in one.learners]) for one in (ours, theirs)
    ]
    assert max(errors) < 0.9 * np.abs(optimal).mean()
    assert errors[0] == pytest.approx(errors[1], rel=0.05)


def test_draws_of_the_device_teach_as_well() -> None:
    """More than the 22 steps that a random policy keeps the pole up."""
    name = "ppo, torch"
    ours = OnTheDevice(name, 8)
    for round in range(1, 41):
        stats = ours.together(round, range(8))
    lengths = [length for one in stats for _, length in one.episodes]
    assert np.mean(lengths) > 30.0
