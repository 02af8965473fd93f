"""Evaluation in the root's free time, with an evaluation that only counts its slices."""

import numpy as np
import pytest

from fdrl_mpi.federation import clock as clock_module
from fdrl_mpi.federation.background import BackgroundEvaluation
from fdrl_mpi.federation.clock import Clock
from fdrl_mpi.federation.evaluation import Evaluated


class Slices:
    """Needs three slices for each model; its result is the model."""

    def __init__(self) -> None:
        self.left = 0

    def start(self, params: np.ndarray) -> None:
        assert self.left == 0, "the evaluation before has not ended"
        self.left, self.params = 3, params

    def advance(self) -> bool:
        assert self.left > 0, "there is nothing to evaluate"
        self.left -= 1
        return self.left == 0

    def result(self) -> Evaluated:
        return Evaluated(self.params, self.params)


def _background(slices: Slices | None) -> tuple[BackgroundEvaluation, list[tuple[int, float]]]:
    results: list[tuple[int, float]] = []
    background = BackgroundEvaluation(
        slices,  # type: ignore[arg-type]
        Clock(),
        lambda round, evaluated: results.append((round, evaluated.returns.item())),
    )
    return background, results


def _model(value: float) -> np.ndarray:
    return np.array([value], np.float32)


def test_a_model_is_evaluated_slice_by_slice_and_told_once() -> None:
    background, results = _background(Slices())
    assert not background.work()
    background.submit(4, _model(0.5))
    told = []
    while background.work():
        told.append(list(results))
    assert told == [[], [], [(4, 0.5)]]
    assert not background.work()


def test_the_model_before_is_finished_first() -> None:
    background, results = _background(Slices())
    background.submit(1, _model(0.25))
    background.work()
    background.submit(2, _model(0.5))
    assert results == [(1, 0.25)]
    background.finish()
    assert results == [(1, 0.25), (2, 0.5)]
    background.finish()
    assert len(results) == 2


def test_a_rank_that_evaluates_nothing_never_has_work() -> None:
    background, results = _background(None)
    background.submit(1, _model(1.0))
    assert not background.work()
    background.finish()
    assert results == []


def test_its_seconds_count_as_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that moves a second at every look: one for the start, one for each of three slices."""
    ticks = iter(range(100))
    monkeypatch.setattr(clock_module, "perf_counter", lambda: next(ticks))
    clock = Clock()
    background = BackgroundEvaluation(Slices(), clock, lambda round, evaluated: None)  # type: ignore[arg-type]
    background.submit(1, _model(1.0))
    background.finish()
    assert clock.take()["evaluate_s"] == 4.0
