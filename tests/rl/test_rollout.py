"""Where a rollout keeps what happened, and episodes that go on from one rollout to the next."""

import numpy as np

from fdrl_mpi.arrays import State
from fdrl_mpi.envs.cartpole import CartPole
from fdrl_mpi.rl.distributions import Categorical
from fdrl_mpi.rl.mlp import MLP
from fdrl_mpi.rl.network import actor_critic_shape
from fdrl_mpi.rl.rollout import EpisodeLog, Rollout
from fdrl_mpi.steps import StepBuffers
from fdrl_mpi.streams import stream


class Counters:
    """Environment i counts 0, 1, ... up to its length, then ends; the reward is the new count."""

    def __init__(self, lengths: list[int], kind: str = "terminated") -> None:
        self.lengths, self.kind = np.array(lengths), kind
        self.num_envs, self.observation_size = len(lengths), 1
        self.count = np.zeros(self.num_envs)

    def reset(self, generator: np.random.Generator) -> np.ndarray:
        self.count[:] = 0.0
        return self.count[:, None].astype(np.float32)

    def reseed(self, generator: np.random.Generator) -> None: ...

    def step(self, actions: np.ndarray, out: StepBuffers) -> None:
        self.count += 1.0
        out.rewards[:] = self.count
        out.final_observations[:, 0] = self.count
        done = getattr(out, self.kind)
        done[:] = self.count == self.lengths
        self.count[done] = 0.0
        out.observations[:, 0] = self.count

    def get_state(self) -> State:
        return {"count": self.count.copy()}

    def set_state(self, state: State) -> np.ndarray:
        self.count[:] = state["count"]
        return self.count[:, None].astype(np.float32)


def _network(observation_size: int) -> MLP:
    network = MLP(actor_critic_shape(observation_size, 2, 0, (8,), "tanh", False), stream(0, "network"))
    network.params *= 3.0
    return network


def _episode(length: int) -> tuple[float, float]:
    """Return and length of an episode of `Counters`."""
    return length * (length + 1) / 2, float(length)


def test_rows_hold_what_was_seen_and_what_each_step_led_to() -> None:
    rollout = Rollout(Counters([3, 4]), 5, Categorical(2))
    rollout.begin_round(stream(0, "round"))
    rollout.collect(_network(1), stream(0, "actions"))
    np.testing.assert_array_equal(rollout.observations[..., 0].T, [[0, 1, 2, 0, 1, 2], [0, 1, 2, 3, 0, 1]])
    np.testing.assert_array_equal(rollout.final_observations[..., 0].T, [[1, 2, 3, 1, 2], [1, 2, 3, 4, 1]])
    np.testing.assert_array_equal(rollout.rewards.T, [[1, 2, 3, 1, 2], [1, 2, 3, 4, 1]])
    np.testing.assert_array_equal(rollout.terminated.T, [[0, 0, 1, 0, 0], [0, 0, 0, 1, 0]])
    assert not rollout.truncated.any()


def test_the_next_rollout_begins_with_what_the_last_one_ended_in() -> None:
    rollout = Rollout(Counters([7]), 3, Categorical(2))
    rollout.begin_round(stream(0, "round"))
    for first in (0, 3, 6, 2):
        rollout.collect(_network(1), stream(0, "actions"))
        assert rollout.observations[0, 0, 0] == first


def test_a_new_round_goes_on_with_the_open_episodes() -> None:
    rollout = Rollout(Counters([7]), 3, Categorical(2))
    for round, first in enumerate((0, 3, 6)):
        rollout.begin_round(stream(0, "round", round=round))
        rollout.collect(_network(1), stream(0, "actions"))
        assert rollout.observations[0, 0, 0] == first


def test_actions_are_those_that_the_policy_draws_for_the_rows_observations() -> None:
    network, policy = _network(4), Categorical(2)
    rollout = Rollout(CartPole([{}] * 3), 20, policy)
    rollout.begin_round(stream(0, "round"))
    rollout.collect(network, stream(0, "actions"))
    noise = policy.noise(stream(0, "actions"), 20, 3)
    expected = np.empty(3, np.int64)
    for t, step_noise in enumerate(noise):
        policy.sample(network.forward(rollout.observations[t])[:-1], network.free, step_noise, expected)
        np.testing.assert_array_equal(rollout.actions[t], expected)
    assert 0 < rollout.actions.sum() < rollout.actions.size


def test_episodes_that_span_rollouts_have_their_whole_return_and_length() -> None:
    for kind in ("terminated", "truncated"):
        rollout = Rollout(Counters([2, 7, 11], kind), 4, Categorical(2))
        rollout.begin_round(stream(0, "round"))
        found = []
        for _ in range(6):
            rollout.collect(_network(1), stream(0, "actions"))
            found.append(rollout.finished_episodes())
        assert found[0] == [_episode(2)] * 2
        assert found[1] == [_episode(2), _episode(7), _episode(2)]
        assert found[2] == [_episode(2), _episode(11), _episode(2)]
        everything = [episode for episodes in found for episode in episodes]
        assert sorted(everything) == sorted([_episode(2)] * 12 + [_episode(7)] * 3 + [_episode(11)] * 2)


def test_several_episodes_of_one_environment_in_one_rollout_are_kept_apart() -> None:
    log = EpisodeLog(1)
    rewards = np.array([[1.0], [2.0], [4.0], [8.0], [16.0]], np.float32)
    done = np.array([[False], [True], [True], [False], [True]])
    assert log.add(rewards, done) == [(3.0, 2.0), (4.0, 1.0), (24.0, 2.0)]
    assert log.add(rewards, np.zeros_like(done)) == []
    assert log.add(rewards, done)[0] == (34.0, 7.0)


def test_episode_log_goes_on_from_its_state() -> None:
    rewards, done = np.ones((3, 2), np.float32), np.zeros((3, 2), np.bool_)
    log, resumed = EpisodeLog(2), EpisodeLog(2)
    log.add(rewards, done)
    state = log.get_state()
    log.add(rewards, done)
    resumed.set_state(state)
    done[1, 0] = True
    assert resumed.add(rewards, done) == [(5.0, 5.0)]


def test_rollout_goes_on_from_its_state_bit_for_bit() -> None:
    """Real worlds that differ, episodes under way, and the same streams afterwards."""
    contexts, network = [{"length": 0.3 + 0.1 * i} for i in range(5)], _network(4)
    unbroken, resumed = (Rollout(CartPole(contexts), 17, Categorical(2)) for _ in range(2))
    unbroken.begin_round(stream(0, "round", round=1))
    unbroken.collect(network, stream(0, "actions", round=1))
    unbroken.finished_episodes()
    state = unbroken.get_state()
    unbroken.begin_round(stream(0, "round", round=2))
    unbroken.collect(network, stream(0, "actions", round=2))
    resumed.set_state(state)
    resumed.begin_round(stream(0, "round", round=2))
    resumed.collect(network, stream(0, "actions", round=2))
    for name in ("observations", "final_observations", "actions", "rewards", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(unbroken, name), err_msg=name)
    finished = resumed.finished_episodes()
    assert finished == unbroken.finished_episodes()
    assert max(length for _, length in finished) > 17  # one of them began before the state was taken


def test_a_rollout_that_has_not_begun_has_an_empty_state_that_begins_afresh() -> None:
    fresh, resumed = (Rollout(Counters([3]), 4, Categorical(2)) for _ in range(2))
    resumed.set_state(fresh.get_state())
    assert resumed.get_state() == {}
    resumed.begin_round(stream(0, "round"))
    resumed.collect(_network(1), stream(0, "actions"))
    assert resumed.finished_episodes() == [_episode(3)]
