"""The ring of transitions: what it keeps, what it draws, and that it goes on where it was."""

import numpy as np
import pytest

from fdrl_mpi.rl.replay import Replay, Transitions
from fdrl_mpi.streams import stream

SIZE = 3


def _transitions(numbers: np.ndarray) -> tuple[np.ndarray, ...]:
    """Transitions that tell their number in every column."""
    observations = np.repeat(numbers[:, None], SIZE, axis=1).astype(np.float32)
    return observations, numbers, numbers.astype(np.float32), observations + 0.5, numbers % 2 == 0


def _filled(count: int, capacity: int = 10, at_once: int = 1) -> Replay:
    replay = Replay(capacity, SIZE, (), np.int64)
    for numbers in np.arange(count).reshape(-1, at_once):
        replay.add(*_transitions(numbers))
    return replay


@pytest.mark.parametrize(("count", "at_once"), [(7, 1), (10, 5), (13, 1), (24, 4), (30, 10)])
def test_the_newest_transitions_are_kept(count: int, at_once: int):
    replay = _filled(count, at_once=at_once)
    assert len(replay) == min(count, 10)
    assert sorted(replay.get_state()["actions"]) == list(range(max(count - 10, 0), count))


def test_rows_of_a_sample_belong_together():
    batch = _filled(24, at_once=4).sample(stream(0, "sample"), 64)
    for column, expected in zip(batch.columns(), _transitions(batch.actions), strict=True):
        np.testing.assert_array_equal(column, expected)
    assert {column.dtype for column in batch.columns()} == {np.dtype(np.float32), np.dtype(np.int64)}


def test_every_transition_is_drawn_equally_often():
    """Counts of 40,000 draws from 10 are binomial with deviation 60; 5 deviations."""
    batch = _filled(13).sample(stream(1, "sample"), 40_000)
    counts = np.bincount(batch.actions, minlength=13)
    assert counts[:3].sum() == 0
    assert np.abs(counts[3:] - 4000).max() < 300


def test_only_what_was_added_is_drawn():
    assert set(_filled(4).sample(stream(0, "sample"), 1000).actions) == {0, 1, 2, 3}


def test_a_sample_is_written_where_it_was_written_before():
    replay = _filled(9)
    first = replay.sample(stream(0, "sample"), 8)
    assert replay.sample(stream(1, "sample"), 8) is first
    mine = Transitions(*(np.empty_like(column) for column in first.columns()))
    assert replay.sample(stream(1, "sample"), 8, out=mine) is mine
    for column, other in zip(mine.columns(), first.columns(), strict=True):
        np.testing.assert_array_equal(column, other)


@pytest.mark.parametrize("count", [0, 6, 17])
def test_a_ring_goes_on_from_its_state(count: int):
    replay, resumed = _filled(count), Replay(10, SIZE, (), np.int64)
    state = replay.get_state()
    resumed.set_state(state)
    assert len(state["rewards"]) == min(count, 10)
    for ring in (replay, resumed):
        ring.add(*_transitions(np.arange(100, 104)))
    batches = [ring.sample(stream(2, "sample"), 50) for ring in (replay, resumed)]
    for column, other in zip(batches[0].columns(), batches[1].columns(), strict=True):
        np.testing.assert_array_equal(column, other)


def test_a_state_does_not_change_with_the_ring():
    replay = _filled(4)
    state = replay.get_state()
    replay.add(*_transitions(np.arange(90, 100)))
    assert state["actions"].tolist() == [0, 1, 2, 3]


def test_a_cleared_ring_is_an_empty_one():
    replay = _filled(17)
    replay.clear()
    replay.add(*_transitions(np.array([5])))
    assert len(replay) == 1
    assert set(replay.sample(stream(0, "sample"), 20).actions) == {5}


def test_actions_of_real_numbers_are_kept_as_they_are():
    replay = Replay(4, SIZE, (2,), np.float32)
    actions = stream(0, "actions").standard_normal((4, 2), dtype=np.float32)
    observations, _, rewards, next_observations, terminated = _transitions(np.arange(4))
    replay.add(observations, actions, rewards, next_observations, terminated)
    batch = replay.sample(stream(0, "sample"), 9)
    np.testing.assert_array_equal(batch.actions, actions[batch.rewards.astype(int)])
