"""What TensorBoard is given; the library itself is tried where it is installed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fdrl_mpi.record.run_directory import RunDirectory
from fdrl_mpi.record.verdict import Verdict
from fdrl_mpi.reporting.runs import load_run

MakeRun = Callable[..., Path]
WithLibrary = Callable[..., Any]
Points = dict[tuple[str, str], list[tuple[int, float]]]


@pytest.fixture
def points() -> Points:
    """What was written, by folder and name of the curve."""
    return {}


@pytest.fixture
def tracker(with_library: WithLibrary, points: Points) -> Any:
    class Writer:
        def __init__(self, output: str) -> None:
            self.folder = Path(output).name

        def add_scalar(self, tag: str, data: float, step: int, **also: object) -> None:
            points.setdefault((self.folder, tag), []).append((step, data))

        def flush(self) -> None: ...
        def close(self) -> None: ...

    return with_library("tensorboard_events", {"tensorboard": {}, "tensorboard.summary": {"Writer": Writer}})


def test_a_run_has_a_folder_and_each_agent_one_in_it(
    make_run: MakeRun, tmp_path: Path, tracker: Any, points: Points
) -> None:
    assert tracker.write_events(load_run(make_run()), tmp_path / "tb") == [tmp_path / "tb" / "one"]
    assert {folder for folder, _ in points} == {"one", "agent_1", "agent_2", "agent_3"}
    assert points["one", "performance/evaluation_return"] == [(1, 18.0), (3, 58.0), (5, 98.0)]
    assert points["agent_3", "performance/evaluation_return"] == [(1, 17.0), (3, 57.0), (5, 97.0)]


def test_events_grow_with_a_run_and_end_with_it(
    make_run: MakeRun, tmp_path: Path, tracker: Any, points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [make_run(f"part{rounds}", num_rounds=rounds, has_verdict=False) for rounds in (2, 4, 5)]
    run = tmp_path / "one"
    verdict = Verdict("stopped", 5, 5, "signal 10", None, 0.3)
    steps = iter(
        [
            run.mkdir,
            *[lambda part=part: os.replace(part / "metrics.h5", run / "metrics.h5") for part in parts],
            lambda: RunDirectory(run).write_verdict(verdict),
        ]
    )
    monkeypatch.setattr(tracker.time, "sleep", lambda _: next(steps)())
    assert tracker.follow_events(run, tmp_path / "tb", 1.0) == 85
    assert [step for step, _ in points["one", "root/round_s"]] == [1, 2, 3, 4, 5]
    assert [step for step, _ in points["agent_1", "performance/train_return"]] == [1, 2, 3, 4, 5]


def test_an_earlier_export_of_the_run_is_replaced_and_nothing_else(tmp_path: Path, tracker: Any) -> None:
    (tmp_path / "agent_1").mkdir()
    kept = [tmp_path / "notes.txt", tmp_path / "agent_1" / "notes.txt"]
    old = [tmp_path / "events.out.tfevents.1", tmp_path / "agent_1" / "events.out.tfevents.1"]
    for path in (*kept, *old):
        path.touch()
    tracker.Events(tmp_path).close()
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_tensorboard_reads_what_is_written(make_run: MakeRun, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.util.tensor_util import make_ndarray

    from fdrl_mpi.trackers.tensorboard_events import write_events

    (folder,) = write_events(load_run(make_run()), tmp_path / "tb")
    for name, last in ((".", 98.0), ("agent_3", 97.0)):
        events = accumulator.EventAccumulator(str(folder / name)).Reload()
        found = events.Tensors("performance/evaluation_return")
        assert [event.step for event in found] == [1, 3, 5]
        assert float(make_ndarray(found[-1].tensor_proto)) == last
