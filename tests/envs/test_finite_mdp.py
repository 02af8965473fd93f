"""What every finite Markov decision process must do."""

import numpy as np
import pytest

from fdrl_mpi.build_agent import context_units, make_environment
from fdrl_mpi.config import EnvironmentConfig
from fdrl_mpi.envs.finite_mdp import FiniteMDP, cumulative_rows, normalised_rows, optimal_action_values
from fdrl_mpi.envs.random_mdp import RandomMDP
from fdrl_mpi.envs.reward_process import RewardProcess
from fdrl_mpi.envs.two_state import TwoState
from fdrl_mpi.envs.windy_cliff import WindyCliff
from fdrl_mpi.steps import StepBuffers

FAMILIES = [RandomMDP, WindyCliff, RewardProcess, TwoState]
WORLDS = {RandomMDP: "kernel", WindyCliff: "wind", RewardProcess: "agent"}
RESULTS = ("observations", "rewards", "terminated", "truncated", "final_observations")


class Chain(FiniteMDP):
    """0 to 1 to 2 and back to 0, for sure; a second action stays. Entering 2 may be terminal."""

    environment_id = "Chain"

    def __init__(self, num_envs: int = 2, terminal: np.ndarray | None = None, **changes: object) -> None:
        move, stay = np.eye(3)[[1, 2, 0]], np.eye(3)
        tables = {
            "kernels": np.array([[move, stay]]).transpose(0, 2, 1, 3),
            "kernel_index": np.zeros(num_envs, np.int64),
            "rewards_table": np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]),
            "start_distribution": np.array([1.0, 0.0, 0.0]),
            "max_episode_steps": 4,
        }
        super().__init__(**{**tables, **changes}, terminal=terminal)


def worlds(cls: type[FiniteMDP], num_envs: int) -> list[dict[str, float]]:
    return [{WORLDS[cls]: i % 2} if cls in WORLDS else {} for i in range(num_envs)]


def snapshot(out: StepBuffers) -> list[np.ndarray]:
    return [getattr(out, name).copy() for name in RESULTS]


def play(env: FiniteMDP, actions: list[int]) -> list[tuple[int, float, bool, bool, int]]:
    """What one environment of many did: (led to, reward, terminated, truncated, goes on from)."""
    out = StepBuffers.allocate(env.num_envs, env.observation_size)
    happened = []
    for action in actions:
        env.step(np.full(env.num_envs, action), out)
        led_to, goes_on = out.final_observations[0].argmax(), out.observations[0].argmax()
        happened.append((led_to, out.rewards[0], out.terminated[0], out.truncated[0], goes_on))
    return happened


@pytest.mark.parametrize("num_states", [1, 2, 5, 8, 9])
def test_empirical_frequencies_equal_the_kernels(num_states):
    generator = np.random.default_rng(0)
    kernels = normalised_rows(generator.exponential(size=(3, num_states, 2, num_states)) ** 3)
    kernel_index = np.arange(3000) % 3
    starts = normalised_rows(generator.random(num_states))
    env = Chain(
        kernels=kernels,
        kernel_index=kernel_index,
        rewards_table=np.zeros((num_states, 2)),
        start_distribution=starts,
        max_episode_steps=5,
    )
    env.reset(generator)
    counts, first = np.zeros_like(kernels), np.bincount(env.states, minlength=num_states)
    out = StepBuffers.allocate(3000, num_states)
    for _ in range(60):
        states, actions = env.states.copy(), generator.integers(2, size=3000)
        env.step(actions, out)
        np.add.at(counts, (kernel_index, states, actions, env.final_states), 1)
        if out.any_done:
            first += np.bincount(env.states, minlength=num_states)

    for rows, chances in ((counts, kernels), (first, starts)):
        visits = rows.sum(axis=-1, keepdims=True)
        error = rows / visits - chances
        # five standard errors of a binomial share, and one visit for chances near 0
        assert (abs(error) <= 5.0 * np.sqrt(chances * (1.0 - chances) / visits) + 1.0 / visits).all()


def test_states_of_probability_zero_are_never_drawn():
    class Extremes:
        """Draws the smallest and the largest number a generator can."""

        def random(self, count):
            return np.resize([0.0, 1.0 - 2.0**-53], count)

    env = Chain()
    env.reset(Extremes())
    assert env.states.tolist() == [0, 0]
    assert [step[0] for step in play(env, [0, 1, 0])] == [1, 1, 2]
    tenths = np.array([[0.0, *[0.1] * 10, 0.0]])  # ten of them add up to less than 1
    row = cumulative_rows(tenths)[0]
    assert row.searchsorted([0.0, 1.0 - 2.0**-53], side="right").tolist() == [1, 10]


def test_time_limit_starts_the_next_episode_and_a_terminal_state_ends_one():
    env = Chain()
    env.reset(np.random.default_rng(0))
    assert play(env, [0, 1, 0, 0, 1]) == [
        (1, 0.0, False, False, 1),
        (1, 3.0, False, False, 1),
        (2, 2.0, False, False, 2),
        (0, 4.0, False, True, 0),
        (0, 1.0, False, False, 0),
    ]
    env = Chain(terminal=np.array([False, False, True]))
    env.reset(np.random.default_rng(0))
    assert play(env, [0, 0, 1, 1, 0, 0]) == [
        (1, 0.0, False, False, 1),
        (2, 2.0, True, False, 0),
        (0, 1.0, False, False, 0),
        (0, 1.0, False, False, 0),
        (1, 0.0, False, False, 1),
        (2, 2.0, True, True, 0),
    ]


@pytest.mark.parametrize("cls", FAMILIES)
def test_observations_are_one_hot_rows_of_the_states(cls):
    env, generator = cls(worlds(cls, 7), max_episode_steps=3), np.random.default_rng(0)
    identity = np.eye(env.num_states, dtype=np.float32)
    np.testing.assert_array_equal(env.reset(generator), identity[env.states])
    out = StepBuffers.allocate(7, env.observation_size)
    for _ in range(20):
        states, actions = env.states.copy(), generator.integers(env.num_actions, size=7)
        env.step(actions, out)
        np.testing.assert_array_equal(out.observations, identity[env.states])
        np.testing.assert_array_equal(out.final_observations, identity[env.final_states])
        np.testing.assert_array_equal(out.rewards, env.rewards_table[states, actions].astype(np.float32))
        np.testing.assert_array_equal(env.states[~out.truncated], env.final_states[~out.truncated])


@pytest.mark.parametrize("cls", FAMILIES)
def test_moving_without_observations_is_the_same_step(cls):
    seen, unseen = (cls(worlds(cls, 9), max_episode_steps=4) for _ in range(2))
    seen.reset(np.random.default_rng(1))
    unseen.reset(np.random.default_rng(1))
    out, other = (StepBuffers.allocate(9, seen.observation_size) for _ in range(2))
    generator = np.random.default_rng(0)
    for _ in range(15):
        actions = generator.integers(seen.num_actions, size=9)
        seen.step(actions, out)
        assert unseen.move(actions, other.rewards, other.terminated, other.truncated) == out.any_done
        for name in ("states", "final_states"):
            np.testing.assert_array_equal(getattr(unseen, name), getattr(seen, name))
        for name in ("rewards", "terminated", "truncated"):
            np.testing.assert_array_equal(getattr(other, name), getattr(out, name))


@pytest.mark.parametrize("cls", FAMILIES)
def test_restored_environment_continues_bit_for_bit(cls):
    first, second = (cls(worlds(cls, 6), max_episode_steps=13) for _ in range(2))
    generator = np.random.default_rng(0)
    out = StepBuffers.allocate(6, first.observation_size)
    first.reset(np.random.default_rng(1))
    for _ in range(30):
        first.step(generator.integers(first.num_actions, size=6), out)
    state = first.get_state()
    first.step(np.zeros(6, np.int64), out)

    np.testing.assert_array_equal(second.set_state(state), first.set_state(state))
    first.reseed(np.random.default_rng(2))
    second.reseed(np.random.default_rng(2))
    for _ in range(30):
        actions = generator.integers(first.num_actions, size=6)
        first.step(actions, out)
        expected = snapshot(out)
        second.step(actions, out)
        for name, value, want in zip(RESULTS, snapshot(out), expected, strict=True):
            np.testing.assert_array_equal(value, want, err_msg=name)


def test_environments_of_one_world_share_its_kernel():
    contexts = [{"kernel": float(kernel)} for kernel in (7, 0, 7, 24)]
    env, all_worlds = RandomMDP(contexts, kappa=0.5), RandomMDP([{"kernel": k} for k in range(25)], kappa=0.5)
    assert env.kernels.shape == (3, 5, 5, 5)
    np.testing.assert_array_equal(env.kernels[env.kernel_index], all_worlds.kernels[[7, 0, 7, 24]])


def test_worlds_spread_evenly_are_whole_numbers_but_for_rounding():
    almost = 49 * (1 / 49)
    assert almost != 1.0
    env = RewardProcess([{"agent": almost}, {"agent": 1.0}])
    assert len(env.kernels) == 1
    with pytest.raises(ValueError, match=r"kernel = 1.5 of RandomMDP must be a whole number"):
        RandomMDP([{}, {"kernel": 1.5}])


def test_optimal_values_solve_the_equation_of_bellman():
    generator = np.random.default_rng(0)
    kernel, rewards = normalised_rows(generator.random((12, 3, 12))), generator.normal(size=(12, 3))
    values = optimal_action_values(kernel, rewards, 0.99)
    # the rounding of a solution of size 100
    np.testing.assert_allclose(values, rewards + 0.99 * kernel @ values.max(axis=1), rtol=0, atol=1e-11)
    with pytest.raises(ValueError, match=r"gamma = 1.0 must be in \[0, 1\)"):
        optimal_action_values(kernel, rewards, 1.0)


@pytest.mark.parametrize("cls", FAMILIES)
def test_every_family_is_made_by_its_name(cls):
    config = EnvironmentConfig(id=cls.environment_id, kwargs={"max_episode_steps": 7})
    env = make_environment(config, worlds(cls, 2))
    assert isinstance(env, cls)
    assert env.max_episode_steps == 7
    assert env.action_spec.size == env.num_actions
    assert context_units(cls.environment_id).keys() == cls.context_table.keys()


@pytest.mark.parametrize("cls", FAMILIES)
def test_unknown_context_is_refused(cls):
    with pytest.raises(ValueError, match=f"{cls.environment_id} has no context 'gravity'"):
        cls([{}, {"gravity": 1.0}])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"max_episode_steps": 0}, "max_episode_steps = 0"),
        ({"kernels": np.ones((1, 3, 2, 3))}, "kernels: probabilities from 1 on, with sums 3 to 3"),
        ({"kernels": np.full((1, 3, 2, 3), np.nan)}, "with sums nan to nan"),
        ({"kernels": np.ones((1, 3, 3, 3)) / 3}, r"kernels \(1, 3, 3, 3\) .* 3 states and 2 actions"),
        ({"start_distribution": np.array([2.0, -1.0, 0.0])}, "start distribution: .* from -1 on"),
        ({"start_distribution": np.ones(1)}, r"start distribution \(1,\) do not fit"),
        ({"kernel_index": np.array([0, 1])}, "2 environments must each have one of 1 kernels"),
        ({"kernel_index": np.zeros(0, np.int64)}, "0 environments"),
    ],
)
def test_tables_that_are_no_process_are_refused_with_numbers(changes, reason):
    with pytest.raises(ValueError, match=reason):
        Chain(**changes)


def test_state_of_another_process_is_refused():
    env = Chain(3)
    state = {"states": np.array([0, 1, 2]), "episode_steps": np.zeros(3, np.int64)}
    env.set_state(state)
    with pytest.raises(
        ValueError, match="holds 3 environments in states 0 to 3, Chain has 3 in states 0 to 2"
    ):
        env.set_state({**state, "states": np.array([0, 3, 1])})
    with pytest.raises(ValueError, match=r"holds 2 environments .* has 3"):
        env.set_state({**state, "states": np.array([0, 1])})
