"""Transitions over several steps: worked out by hand, and the same however rollouts are cut."""

from types import SimpleNamespace

import numpy as np
import pytest

from fdrl_mpi.rl.n_step import COLUMNS_OF_A_ROLLOUT as COLUMNS
from fdrl_mpi.rl.n_step import StepWindow, Transitions

GAMMA = 0.5


def _steps(rewards: list[float], terminated: list[int] = (), truncated: list[int] = ()) -> SimpleNamespace:
    """One environment whose observation before step t is t, and after it t + 1."""
    length = len(rewards)
    flags = {name: np.zeros((length, 1), np.bool_) for name in ("terminated", "truncated")}
    flags["terminated"][list(terminated)] = True
    flags["truncated"][list(truncated)] = True
    times = np.arange(length, dtype=np.float32)[:, None, None]
    return SimpleNamespace(
        observations=times,
        actions=times[..., 0].astype(np.int64),
        rewards=np.array(rewards, np.float32)[:, None],
        final_observations=times + 1.0,
        **flags,
    )


def _cut(steps: SimpleNamespace, start: int, stop: int) -> SimpleNamespace:
    return SimpleNamespace(**{name: getattr(steps, name)[start:stop] for name in COLUMNS})


def _rows(transitions: Transitions) -> list[tuple[float, ...]]:
    columns = (
        transitions.observations[:, 0],
        transitions.actions,
        transitions.rewards,
        transitions.next_observations[:, 0],
        transitions.discounts,
    )
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_one_step_is_the_step_itself() -> None:
    rows = _rows(StepWindow(1, GAMMA).push(_steps([1.0, 2.0, 3.0], terminated=[1])))
    assert rows == [(0, 0, 1.0, 1, 0.5), (1, 1, 2.0, 2, 0.0), (2, 2, 3.0, 3, 0.5)]


def test_three_steps_sum_discounted_rewards() -> None:
    """1 + 2/2 + 4/4 = 3 and 2 + 4/2 + 8/4 = 6, then the value counts gamma^3."""
    rows = _rows(StepWindow(3, GAMMA).push(_steps([1.0, 2.0, 4.0, 8.0])))
    assert rows == [(0, 0, 3.0, 3, 0.125), (1, 1, 6.0, 4, 0.125)]


def test_a_window_ends_with_its_episode() -> None:
    """The episode terminates with step 1: step 0 gets 1 + 2/2, and neither value counts."""
    rows = _rows(StepWindow(3, GAMMA).push(_steps([1.0, 2.0, 4.0, 8.0], terminated=[1])))
    assert rows == [(0, 0, 2.0, 2, 0.0), (1, 1, 2.0, 2, 0.0)]


def test_a_window_cut_by_the_time_limit_is_bootstrapped_where_it_was_cut() -> None:
    rows = _rows(StepWindow(3, GAMMA).push(_steps([1.0, 2.0, 4.0, 8.0], truncated=[1])))
    assert rows == [(0, 0, 2.0, 2, 0.25), (1, 1, 2.0, 2, 0.5)]


@pytest.mark.parametrize("cuts", [[1] * 12, [5, 7], [2, 3, 7]])
@pytest.mark.parametrize("num_steps", [2, 3, 5])
def test_rollouts_may_be_cut_anywhere(num_steps: int, cuts: list[int]) -> None:
    steps = _steps([float(3**k % 7) for k in range(12)], terminated=[4], truncated=[8])
    whole, window, found, start = _rows(StepWindow(num_steps, GAMMA).push(steps)), None, [], 0
    for count in cuts:
        resumed = StepWindow(num_steps, GAMMA)
        if window is not None:
            resumed.set_state(window.get_state())
        window = resumed
        found += _rows(window.push(_cut(steps, start, start + count)))
        start += count
    assert found == whole
