"""Plain loop over gymnasium environments: what is delivered, and going on after a restart."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from fdrl_mpi.envs.gymnasium_lookup import from_id
from fdrl_mpi.envs.gymnasium_vector import GymnasiumVector
from fdrl_mpi.steps import ActionSpec, StepBuffers

RESULTS = ("observations", "rewards", "terminated", "truncated", "final_observations")


class Probe(gymnasium.Env):
    """Shows a sample of its observation space and remembers the actions it was given."""

    def __init__(self, observation_space, action_space=None, drift=0.0):
        self.observation_space = observation_space
        self.action_space = spaces.Discrete(2) if action_space is None else action_space
        self.drift = drift
        self.actions = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self._observe(), {}

    def step(self, action):
        self.actions.append(action)
        return self._observe(), 1.5, False, len(self.actions) % 4 == 0, {}

    def _observe(self):
        self.shown = self.observation_space.sample()
        return self.shown + self.drift * np.random.default_rng().random() if self.drift else self.shown


def make_probes(num_envs, *arguments, **kwargs):
    probes = [Probe(*arguments, **kwargs) for _ in range(num_envs)]
    remaining = iter(probes)
    return probes, GymnasiumVector(lambda: next(remaining), [{}] * num_envs)


def draw_actions(env, generator):
    size = env.action_spec.size
    if env.action_spec.kind == "discrete":
        return generator.integers(size, size=env.num_envs)
    if env.action_spec.kind == "multi_discrete":
        sizes = env.action_spec.sizes
        return generator.integers(sizes, size=(env.num_envs, len(sizes)))
    return generator.uniform(-1.5, 1.5, (env.num_envs, size)).astype(np.float32)


def assert_restored_environment_continues(environment_id, kwargs, steps):
    assert_restored_continues(*(from_id(environment_id, [{}] * 3, kwargs) for _ in range(2)), steps)


def assert_restored_continues(first, second, steps):
    generator = np.random.default_rng(0)
    out = StepBuffers.allocate(3, first.observation_size)
    first.reset(np.random.default_rng(1))
    for _ in range(steps):
        first.step(draw_actions(first, generator), out)

    np.testing.assert_array_equal(second.set_state(first.get_state()), out.observations)
    first.reseed(np.random.default_rng(2))
    second.reseed(np.random.default_rng(2))
    for _ in range(steps):
        actions = draw_actions(first, generator)
        first.step(actions, out)
        expected = {name: getattr(out, name).copy() for name in RESULTS}
        second.step(actions, out)
        for name in RESULTS:
            np.testing.assert_array_equal(getattr(out, name), expected[name], err_msg=name)
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("environment_id", "kwargs"),
    [
        ("CartPole-v1", {}),
        ("Pendulum-v1", {"max_episode_steps": 25}),
        ("FrozenLake-v1", {}),  # Discrete observation, random transitions
        ("Blackjack-v1", {}),  # Tuple observation
    ],
)
def test_restored_environment_continues_bit_for_bit(environment_id, kwargs):
    assert_restored_environment_continues(environment_id, kwargs, steps=60)


@pytest.mark.parametrize("kwargs", [{}, {"continuous": True, "enable_wind": True}])
def test_restored_lunar_lander_continues_bit_for_bit(box2d, kwargs):
    assert_restored_environment_continues("LunarLander-v3", kwargs, steps=150)


def test_every_step_equals_the_environment_stepped_alone():
    env = from_id("CartPole-v1", [{}] * 3)
    env.reset(np.random.default_rng(0))
    generator, out = np.random.default_rng(1), StepBuffers.allocate(3, 4)
    singles = [gymnasium.make("CartPole-v1") for _ in range(3)]
    for single, seed in zip(singles, env.get_state()["seeds"].tolist(), strict=True):
        single.reset(seed=seed)
    for _ in range(100):
        actions = draw_actions(env, generator)
        env.step(actions, out)
        for i, single in enumerate(singles):
            observation, reward, terminated, truncated, _ = single.step(actions[i])
            np.testing.assert_array_equal(out.final_observations[i], observation)
            assert (out.rewards[i], out.terminated[i], out.truncated[i]) == (reward, terminated, truncated)
            if terminated or truncated:
                observation, _ = single.reset(seed=int(env.get_state()["seeds"][i]))
            np.testing.assert_array_equal(out.observations[i], observation)


def test_state_is_made_of_arrays_only():
    env = from_id("CartPole-v1", [{}] * 2)
    env.reset(np.random.default_rng(0))
    assert {name: value.dtype.name for name, value in env.get_state().items()} == {
        "seeds": "int64",
        "lengths": "int64",
        "actions": "int64",
        "observations": "float32",
    }


def test_environment_that_is_not_deterministic_is_refused_on_restart():
    _, env = make_probes(2, spaces.Box(0.0, 1.0, (3,), np.float64), drift=0.1)
    env.reset(np.random.default_rng(0))
    env.step(np.array([0, 1]), StepBuffers.allocate(2, 3))
    with pytest.raises(ValueError, match=r"not deterministic.*the same 1 actions"):
        env.set_state(env.get_state())


def test_state_of_another_number_of_environments_is_refused():
    two, three = (from_id("CartPole-v1", [{}] * num_envs) for num_envs in (2, 3))
    two.reset(np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"\(2, 4\).*\(3, 4\)"):
        three.set_state(two.get_state())


@pytest.mark.parametrize(
    ("space", "size"),
    [
        (spaces.Box(-1.0, 1.0, (2, 3), np.float32), 6),
        (spaces.Box(0, 255, (12,), np.uint8), 12),
        (spaces.Box(0, 254, (2, 2, 3), np.uint8), 12),
        (spaces.Box(-1.0, 1.0, (2, 2, 3), np.float64), 12),
        (spaces.Discrete(5, start=3), 5),
        (spaces.MultiDiscrete([2, 3]), 5),
        (spaces.Dict({"a": spaces.Box(0.0, 1.0, (2,), np.float64), "b": spaces.Discrete(3)}), 5),
        (spaces.Tuple([spaces.MultiBinary(3), spaces.Discrete(2)]), 5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_observation_is_delivered_as_gymnasium_flattens_it(space, size):
    probes, env = make_probes(2, space)
    assert env.observation_size == size
    assert env.observation_divisor == 1.0
    out = StepBuffers.allocate(2, size)
    observations = env.reset(np.random.default_rng(0))
    for _ in range(5):
        for row, probe in zip(observations, probes, strict=True):
            flat = spaces.utils.flatten(space, probe.shown)
            np.testing.assert_array_equal(row, flat.astype(np.float32))
        env.step(np.zeros(2, np.int64), out)
        observations = out.observations


@pytest.mark.parametrize(
    ("space", "shape"),
    [
        (spaces.Box(0.0, 1.0, (4, 5, 3)), (4, 5, 3)),
        (spaces.Box(0, 255, (3, 5, 4), np.uint8), (3, 5, 4)),
        (spaces.Box(0, 255, (4, 5), np.uint8), (20,)),
        (spaces.Box(0.0, 1.0, (2, 2, 2, 2)), (16,)),
        (spaces.Discrete(5), (5,)),
        (spaces.MultiBinary((2, 3, 4)), (24,)),
        (spaces.Dict({"a": spaces.Box(0, 255, (2, 2, 3), np.uint8)}), (12,)),
    ],
    ids=str,
)
def test_rows_keep_the_shape_of_an_array_of_three_dimensions(space, shape):
    _, env = make_probes(2, space)
    assert env.observation_shape == shape


class Film(gymnasium.Env):
    """Noise of all bytes, with a corner that counts the actions; ends every seventh step."""

    observation_space = spaces.Box(0, 255, (3, 4, 2), np.uint8)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = self.sum = 0
        return self._observe(), {}

    def step(self, action):
        self.steps, self.sum = self.steps + 1, self.sum + int(action)
        return self._observe(), 1.0, self.steps == 7, False, {}

    def _observe(self):
        self.shown = self.np_random.integers(256, size=(3, 4, 2), dtype=np.uint8)
        self.shown[0, 0, 0] = self.sum
        return self.shown


def test_images_of_bytes_are_divided_by_their_largest_number():
    made = [Film() for _ in range(2)]
    remaining = iter(made)
    env = GymnasiumVector(lambda: next(remaining), [{}] * 2)
    assert (env.observation_size, env.observation_shape, env.observation_divisor) == (24, (3, 4, 2), 255.0)
    out = StepBuffers.allocate(2, 24)
    observations = env.reset(np.random.default_rng(0))
    for step in range(10):
        for row, film in zip(observations, made, strict=True):
            expected = film.shown.astype(np.float32) / np.float32(255)
            np.testing.assert_array_equal(row.reshape(env.observation_shape), expected)
        env.step(np.full(2, step % 3), out)
        observations = out.observations
    assert 0.0 <= observations.min() < 0.2
    assert 0.8 < observations.max() <= 1.0


def test_restored_images_continue_bit_for_bit():
    assert_restored_continues(*(GymnasiumVector(Film, [{}] * 3) for _ in range(2)), steps=25)


def test_bytes_and_numbers_of_one_shape_are_not_mixed():
    with pytest.raises(ValueError, match=r"images of bytes, which are divided by 255, and others: .*float32"):
        GymnasiumVector(
            lambda dtype: Probe(spaces.Box(0, 255, (2, 2, 3), dtype)),
            [{"dtype": np.uint8}, {"dtype": np.float32}],
        )


def test_discrete_actions_are_counted_from_the_start_of_the_space():
    probes, env = make_probes(2, spaces.Discrete(2), spaces.Discrete(3, start=-1))
    env.reset(np.random.default_rng(0))
    env.step(np.array([0, 2]), StepBuffers.allocate(2, 2))
    assert [probe.actions for probe in probes] == [[-1], [1]]
    assert env.action_spec == ActionSpec("discrete", 3, (-1.0,), (1.0,))


SEVERAL = [
    (
        spaces.MultiDiscrete([[3, 2]], np.int8, start=[[-1, 5]]),
        ActionSpec("multi_discrete", 5, (-1.0, 5.0), (1.0, 6.0), (3, 2)),
        [[[-1, 6]], [[1, 5]]],
    ),
    (
        spaces.MultiBinary((2, 1)),
        ActionSpec("multi_discrete", 4, (0.0, 0.0), (1.0, 1.0), (2, 2)),
        [[[0], [1]], [[1], [0]]],
    ),
]


@pytest.mark.parametrize(("space", "spec", "expected"), SEVERAL, ids=["MultiDiscrete", "MultiBinary"])
def test_several_choices_are_counted_from_their_starts_and_reshaped(space, spec, expected):
    probes, env = make_probes(2, spaces.Discrete(2), space)
    assert env.action_spec == spec
    env.reset(np.random.default_rng(0))
    env.step(np.array([[0, 1], [spec.sizes[0] - 1, 0]]), StepBuffers.allocate(2, 2))
    given = [probe.actions[0] for probe in probes]
    assert [action.tolist() for action in given] == expected
    assert all(space.contains(action) and action.dtype == space.dtype for action in given)


def test_several_choices_start_where_each_environment_says():
    made = [Probe(spaces.Discrete(2), spaces.MultiDiscrete([2, 2], start=[i, -i])) for i in range(2)]
    remaining = iter(made)
    env = GymnasiumVector(lambda: next(remaining), [{}] * 2)
    env.reset(np.random.default_rng(0))
    env.step(np.array([[0, 1], [0, 1]]), StepBuffers.allocate(2, 2))
    assert [probe.actions[0].tolist() for probe in made] == [[0, 1], [1, 0]]


class Lock(gymnasium.Env):
    """Shows the sum of all that was dialled, with weights drawn at every step; opens by chance."""

    def __init__(self, action_space):
        self.observation_space = spaces.Box(-np.inf, np.inf, action_space.shape, np.float64)
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.sum = np.zeros(self.action_space.shape)
        return self.sum.copy(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        assert action.dtype == self.action_space.dtype
        self.sum += action * self.np_random.normal(size=action.shape)
        return self.sum.copy(), float(self.sum.sum()), self.np_random.random() < 0.05, False, {}


@pytest.mark.parametrize("space", [space for space, _, _ in SEVERAL], ids=["MultiDiscrete", "MultiBinary"])
def test_restored_environment_of_several_choices_continues_bit_for_bit(space):
    make_pair = (GymnasiumVector(Lock, [{"action_space": space}] * 3) for _ in range(2))
    assert_restored_continues(*make_pair, steps=60)


def test_box_actions_are_clipped_and_reshaped():
    space = spaces.Box(np.array([[-1.0, -2.0]]), np.array([[1.0, 2.0]]), dtype=np.float64)
    probes, env = make_probes(2, spaces.Discrete(2), space)
    env.reset(np.random.default_rng(0))
    env.step(np.array([[5.0, -5.0], [0.5, 1.5]], np.float32), StepBuffers.allocate(2, 2))
    given = [probe.actions[0] for probe in probes]
    assert [action.tolist() for action in given] == [[[1.0, -2.0]], [[0.5, 1.5]]]
    assert all(space.contains(action) for action in given)
    assert env.action_spec == ActionSpec("box", 2, (-1.0, -2.0), (1.0, 2.0))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Graph(spaces.Discrete(2), None),
        spaces.Tuple([spaces.Discrete(2), spaces.Sequence(spaces.Discrete(2))]),
    ],
    ids=lambda space: type(space).__name__,
)
def test_observation_without_a_fixed_length_is_refused(space):
    with pytest.raises(ValueError, match="does not flatten"):
        make_probes(1, space)


@pytest.mark.parametrize("space", [spaces.Tuple([spaces.Discrete(2)] * 2), spaces.Box(0, 9, (2,), np.int64)])
def test_action_space_that_no_policy_has_is_refused(space):
    with pytest.raises(
        ValueError, match="only Discrete, MultiDiscrete, MultiBinary and floating-point Box can"
    ):
        make_probes(1, spaces.Discrete(2), space)


def test_environments_of_different_spaces_are_refused():
    probe = spaces.Box(0.0, 1.0, (2,))
    with pytest.raises(ValueError, match="different observation spaces"):
        GymnasiumVector(lambda n: Probe(spaces.Discrete(n)), [{"n": 2}, {"n": 3}])
    with pytest.raises(ValueError, match="different action spaces"):
        GymnasiumVector(lambda n: Probe(probe, spaces.Discrete(n)), [{"n": 2}, {"n": 3}])
    with pytest.raises(
        ValueError, match=r"MultiDiscrete\(\[2, 4\]\) of int64, MultiDiscrete\(\[3, 4\]\) of int64"
    ):
        GymnasiumVector(lambda n: Probe(probe, spaces.MultiDiscrete([n, 4])), [{"n": 2}, {"n": 3}])


def test_vector_without_contexts_is_refused():
    with pytest.raises(ValueError, match="at least one context"):
        from_id("CartPole-v1", [])


class _Words(spaces.Space):
    """A space that cannot say whether it is flat, like the missions of MiniGrid."""

    @property
    def is_np_flattenable(self):
        raise NotImplementedError


class _Speaking(gymnasium.Env):
    observation_space, action_space = _Words(), spaces.Discrete(2)


def test_a_space_that_cannot_say_whether_it_is_flat_is_refused_with_what_would_be():
    with pytest.raises(ValueError, match="Wrap the environment"):
        GymnasiumVector(_Speaking, [{}])
