"""Groups of environments in one vector do what they would do as vectors of their own."""

import numpy as np
import pytest

from fdrl_mpi.build_agent import make_environment
from fdrl_mpi.config import EnvironmentConfig
from fdrl_mpi.envs.groups import counts_by_group
from fdrl_mpi.steps import StepBuffers
from fdrl_mpi.streams import stream

ENVIRONMENTS = {
    "CartPole-v1": [{}, {"length": 0.7}, {}],
    "Acrobot-v1": [{}, {"torque_noise_max": 0.5}, {}],
    "MountainCar-v0": [{}, {}, {}],
    "Pendulum-v1": [{}, {}, {}],
    "RandomMDP": [{}, {}, {}],
    "WindyCliff": [{}, {}, {}],
    "TwoState": [{}, {"action": 1.0}, {}],
}


@pytest.mark.parametrize("size", [1, 2, 20])
@pytest.mark.parametrize("environment_id", ENVIRONMENTS)
def test_groups_equal_vectors_of_their_own(environment_id: str, size: int) -> None:
    contexts = ENVIRONMENTS[environment_id]
    config = EnvironmentConfig(id=environment_id, kwargs={"max_episode_steps": 7})
    grouped = make_environment(config, [context for context in contexts for _ in range(size)])
    alone = [make_environment(config, [context] * size) for context in contexts]
    generators, same = ([stream(0, "train", group) for group in range(3)] for _ in range(2))
    first = np.concatenate([env.reset(own) for env, own in zip(alone, same, strict=True)])
    np.testing.assert_array_equal(grouped.reset_groups(generators), first)
    out = StepBuffers.allocate(3 * size, grouped.observation_size)
    outs = [StepBuffers.allocate(size, grouped.observation_size) for _ in alone]
    choices = np.random.default_rng(0)
    for step in range(30):
        if step == 15:  # as a round begins
            generators, same = ([stream(0, "train", group, 2) for group in range(3)] for _ in range(2))
            grouped.reseed_groups(generators)
            for env, own in zip(alone, same, strict=True):
                env.reseed(own)
        actions = _actions(choices, grouped.action_spec, 3 * size)
        grouped.step(actions, out)
        for env, its, own_actions in zip(alone, outs, np.split(actions, 3), strict=True):
            env.step(own_actions, its)
        for name in ("observations", "final_observations", "rewards", "terminated", "truncated"):
            expected = np.concatenate([getattr(its, name) for its in outs])
            np.testing.assert_array_equal(getattr(out, name), expected, err_msg=name)
    for own, its in zip(generators, same, strict=True):
        assert own.random() == its.random()


def _actions(generator: np.random.Generator, spec, count: int) -> np.ndarray:
    if spec.kind == "box":
        return generator.uniform(-2.0, 2.0, (count, spec.size)).astype(np.float32)
    return generator.integers(spec.size, size=count)


def test_environments_are_counted_by_group() -> None:
    assert list(counts_by_group(np.array([0, 2, 3, 7]), 2)) == [(0, 1), (1, 2), (3, 1)]
