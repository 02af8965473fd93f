"""Greedy episodes: returns worked out by hand, and independence from how the work is cut."""

from collections.abc import Callable

import numpy as np
import pytest

from fdrl_mpi.envs.cartpole import CartPole
from fdrl_mpi.federation import evaluation as module
from fdrl_mpi.federation.evaluation import Evaluated, Evaluation
from fdrl_mpi.rl.distributions import Categorical
from fdrl_mpi.rl.mlp import MLP
from fdrl_mpi.rl.model import PolicyModel
from fdrl_mpi.rl.network import actor_critic_shape
from fdrl_mpi.steps import StepBuffers
from fdrl_mpi.streams import stream


class Countdown:
    """Episodes of given lengths that begin again at once; the reward is the action."""

    observation_size = 1

    def __init__(self, lengths: list[float], ending: str = "terminated") -> None:
        self.lengths, self.num_envs, self.ending = np.array(lengths), len(lengths), ending

    def reset(self, generator: np.random.Generator) -> np.ndarray:
        self.age = np.zeros(self.num_envs)
        return np.zeros((self.num_envs, 1), np.float32)

    def step(self, actions: np.ndarray, out: StepBuffers) -> None:
        self.age += 1.0
        done = self.age == self.lengths
        getattr(out, self.ending)[:] = done
        out.rewards[:] = actions
        out.any_done = bool(done.any())
        self.age[done] = 0.0


class Constant:
    """A policy that always chooses the largest parameter."""

    def __init__(self, size: int) -> None:
        self.params = np.zeros(size, np.float32)

    def load(self) -> None: ...

    def greedy(self, num_rows: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda observations: np.full(num_rows, self.params.argmax())


def _countdown(lengths: list[float], episodes: int, ending: str = "terminated") -> Evaluation:
    return Evaluation(Countdown(lengths, ending), Constant(3), episodes, seed=0)


PREFERS_2 = np.array([0.0, 0.1, 0.2], np.float32)


@pytest.mark.parametrize("ending", ["terminated", "truncated"])
def test_returns_are_means_over_the_first_episodes_of_each_world(ending: str) -> None:
    """Two worlds of two episodes; the greedy action 2 earns 2 a step."""
    evaluated = _countdown([3, 5, 1, 11], 2, ending).run(PREFERS_2)
    np.testing.assert_array_equal(evaluated.lengths, [4.0, 6.0])
    np.testing.assert_array_equal(evaluated.returns, [8.0, 12.0])


def test_the_slightly_better_action_is_always_taken() -> None:
    for best in range(3):
        params = np.where(np.arange(3) == best, np.float32(0.01), np.float32(0.0))
        assert _countdown([200], 1).run(params).returns == 200.0 * best


def test_an_episode_that_never_ends_counts_as_it_stands_at_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STEP_LIMIT", 7)
    evaluated = _countdown([np.inf, 3], 1).run(PREFERS_2)
    np.testing.assert_array_equal(evaluated.lengths, [7.0, 3.0])
    np.testing.assert_array_equal(evaluated.returns, [14.0, 6.0])


def test_slices_end_when_their_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that moves a second at every look, three seconds are two steps."""
    ticks = iter(range(1000))
    monkeypatch.setattr(module, "perf_counter", lambda: next(ticks))
    evaluation = _countdown([5, 3], 1)
    evaluation.start(PREFERS_2)
    assert [evaluation.advance(seconds=3.0) for _ in range(3)] == [False, False, True]
    np.testing.assert_array_equal(evaluation.result().lengths, [5.0, 3.0])


SHAPE = actor_critic_shape(4, 2, 0, (8,), "tanh", False)


def _cartpole(seed: int = 0, purpose: str = "evaluation") -> Evaluation:
    worlds = [{"length": 0.3 + 0.1 * (i // 4)} for i in range(12)]
    model = PolicyModel(MLP(SHAPE, stream(9, "network")), Categorical(2))
    return Evaluation(CartPole(worlds), model, 4, seed, purpose)


def _model(seed: int) -> np.ndarray:
    return 3.0 * MLP(SHAPE, stream(seed, "network")).params


def _assert_equal(one: Evaluated, other: Evaluated) -> None:
    np.testing.assert_array_equal(one.returns, other.returns)
    np.testing.assert_array_equal(one.lengths, other.lengths)


def test_slices_give_the_same_result_as_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, evaluation = _cartpole().run(_model(1)), _cartpole()
    ticks = iter(range(10**6))
    monkeypatch.setattr(module, "perf_counter", lambda: next(ticks))
    evaluation.start(_model(1))
    slices = 1
    while not evaluation.advance(seconds=4.0):
        slices += 1
    assert slices > 5
    _assert_equal(evaluation.result(), expected)


def test_every_evaluation_of_a_model_is_alike_whatever_was_evaluated_before() -> None:
    evaluation = _cartpole()
    first = evaluation.run(_model(1))
    other = evaluation.run(_model(2))
    assert (first.returns != other.returns).any()
    _assert_equal(evaluation.run(_model(1)), first)
    _assert_equal(_cartpole().run(_model(1)), first)


def test_other_seeds_and_purposes_start_other_episodes() -> None:
    lengths = [_cartpole(*start).run(_model(1)).lengths.tolist() for start in ((0,), (1,), (0, "unseen"))]
    assert lengths[0] != lengths[1]
    assert lengths[0] != lengths[2]


def test_the_model_is_copied_when_its_evaluation_starts() -> None:
    expected, evaluation, params = _cartpole().run(_model(1)), _cartpole(), _model(1)
    evaluation.start(params)
    params.fill(0.0)
    evaluation.advance(np.inf)
    _assert_equal(evaluation.result(), expected)
