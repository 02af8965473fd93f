"""Environments by id and by class name: what is found, and how a mistake is answered."""

import re
import sys

import gymnasium
import numpy as np
import pytest

from fdrl_mpi.envs.cartpole import CartPole
from fdrl_mpi.envs.gymnasium_lookup import from_class, from_id
from fdrl_mpi.steps import StepBuffers

SOURCE = """
import gymnasium
import numpy as np

class Line(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-9.0, 9.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, pace, start=0.0):
        self.pace, self.start = pace, start

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.start
        return np.array([self.x], np.float32), {}

    def step(self, action):
        self.x += self.pace if action else -self.pace
        return np.array([self.x], np.float32), self.x, abs(self.x) > 2, False, {}

class Plain:
    is_vectorised = True
    observation_size = 3

    def __init__(self, contexts):
        pass

class NoEnvironment:
    pass

class Registered(Line):
    def __init__(self):
        super().__init__(1.0)

gymnasium.register("UserLine-v0", entry_point=Line)
"""


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """A module of the user's in the current directory; its name."""
    (tmp_path / "user_line.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "user_line"
    sys.modules.pop("user_line", None)
    gymnasium.registry.pop("UserLine-v0", None)


def test_context_reaches_the_constructor():
    gravity = np.array([1.0, 5.0])
    env, out = from_id("Pendulum-v1", [{"g": g} for g in gravity.tolist()]), StepBuffers.allocate(2, 3)
    _, sine, speed = env.reset(np.random.default_rng(0)).T
    env.step(np.zeros((2, 1), np.float32), out)
    np.testing.assert_allclose(out.final_observations[:, 2] - speed, 1.5 * gravity * sine * 0.05, rtol=1e-5)


def test_keyword_arguments_of_make_are_accepted():
    env = from_id("CartPole-v1", [{}], {"max_episode_steps": 2})
    env.reset(np.random.default_rng(0))
    out = StepBuffers.allocate(1, 4)
    for expected in (False, True):
        env.step(np.array([0]), out)
        assert out.truncated[0] == expected


def test_unknown_id_is_refused_with_the_nearest_one():
    with pytest.raises(ValueError, match="did you mean CartPole-v1"):
        from_id("CartPoel-v1", [{}])


@pytest.mark.parametrize(("contexts", "kwargs"), [([{}, {"map_nam": 1.0}], {}), ([{}], {"map_nam": 1.0})])
def test_argument_the_constructor_lacks_is_refused_with_those_it_has(contexts, kwargs):
    with pytest.raises(ValueError, match=r"no argument 'map_nam': did you mean map_name.*is_slippery"):
        from_id("FrozenLake-v1", contexts, kwargs)


def test_missing_package_is_answered_with_the_extra_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "Box2D", None)
    with pytest.raises(ValueError, match=re.escape('pip install "fdrl-mpi[envs]"')):
        from_id("LunarLander-v3", [{}])


def test_class_in_the_current_directory_is_found(user_module):
    env = from_class(f"{user_module}:Line", [{"pace": 1.0}, {"pace": 0.5}], {"start": 1.0})
    assert env.reset(np.random.default_rng(0)).tolist() == [[1.0], [1.0]]
    out = StepBuffers.allocate(2, 1)
    env.step(np.array([1, 0]), out)
    assert out.final_observations.tolist() == [[2.0], [0.5]]


def test_id_registered_by_a_module_is_found(user_module):
    env = from_id(f"{user_module}:UserLine-v0", [{"pace": 1.0}])
    assert env.reset(np.random.default_rng(0)).tolist() == [[0.0]]


def test_context_wins_over_the_common_argument(user_module):
    env = from_class(f"{user_module}:Line", [{"start": 2.0}], {"pace": 1.0, "start": 1.0})
    assert env.reset(np.random.default_rng(0)).tolist() == [[2.0]]


def test_vectorised_class_is_used_as_it_is():
    env = from_class("fdrl_mpi.envs.cartpole:CartPole", [{"length": 1.0}] * 2, {"max_episode_steps": 7})
    assert isinstance(env, CartPole)
    assert (env.num_envs, env.max_episode_steps) == (2, 7)


def test_vectorised_class_that_does_not_say_more_has_vectors(user_module):
    env = from_class(f"{user_module}:Plain", [{}], {})
    assert (env.observation_shape, env.observation_divisor) == ((3,), 1.0)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("user_line", "must be written package.module:Class"),
        ("user_lime:Line", "cannot import user_lime: No module named 'user_lime'"),
        ("user_line:Lime", "no class 'Lime': did you mean Line"),
        ("user_line:NoEnvironment", "derive it from gymnasium.Env"),
        ("user_line:Registered", "no argument 'pace'.* It has: none"),
    ],
)
def test_class_that_cannot_be_used_is_refused(user_module, path, message):
    with pytest.raises(ValueError, match=message):
        from_class(path, [{"pace": 1.0}])
