"""Seconds by phase, on clocks that the test moves."""

from collections.abc import Callable

import pytest

from fdrl_mpi.federation import clock as module
from fdrl_mpi.federation.clock import Clock

Work = Callable[[float, float], None]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """Let seconds pass: on the wall, and of them on the processor."""
    now = {"wall": 100.0, "cpu": 8.0}
    monkeypatch.setattr(module, "perf_counter", lambda: now["wall"])
    monkeypatch.setattr(module, "process_time", lambda: now["cpu"])

    def work(wall_s: float, cpu_s: float) -> None:
        now["wall"] += wall_s
        now["cpu"] += cpu_s

    return work


def test_seconds_add_up_by_phase_until_they_are_taken(work: Work) -> None:
    clock = Clock()
    for name, wall_s, cpu_s in (("train", 4.0, 2.0), ("wait", 1.0, 0.25), ("train", 0.5, 0.5)):
        with clock.phase(name):
            work(wall_s, cpu_s)
        work(64.0, 16.0)
    assert clock.take() == {
        "train_s": 4.5,
        "train_cpu_s": 2.5,
        "wait_s": 1.0,
        "wait_cpu_s": 0.25,
        "cpu_s": 50.75,
    }
    work(1.0, 0.5)
    assert clock.take() == {"cpu_s": 0.5}


def test_a_phase_that_fails_is_counted_too(work: Work) -> None:
    clock = Clock()

    def fail() -> None:
        with clock.phase("record"):
            work(2.0, 1.0)
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert clock.take() == {"record_s": 2.0, "record_cpu_s": 1.0, "cpu_s": 1.0}


def test_a_phase_within_another_counts_for_both(work: Work) -> None:
    clock = Clock()
    with clock.phase("wait"):
        work(1.0, 0.25)
        with clock.phase("evaluate"):
            work(2.0, 2.0)
    seconds = clock.take()
    assert (seconds["wait_s"], seconds["evaluate_s"]) == (3.0, 2.0)
    assert (seconds["wait_cpu_s"], seconds["evaluate_cpu_s"], seconds["cpu_s"]) == (2.25, 2.0, 2.25)
