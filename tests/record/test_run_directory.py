"""A run directory: names, setting aside, going on from another run."""

import json
from pathlib import Path

import numpy as np
import pytest

from fdrl_mpi.record.checkpoint import CheckpointStore, write_state
from fdrl_mpi.record.metrics import MetricsRecord
from fdrl_mpi.record.metrics_file import read_metrics
from fdrl_mpi.record.run_directory import RunDirectory, RunInUse
from fdrl_mpi.record.verdict import Verdict


def make_run(path: Path) -> RunDirectory:
    """Make a run with a configuration, one round, one checkpoint, a log and an unfinished checkpoint."""
    run = RunDirectory(path)
    run.logs.mkdir(parents=True)
    run.log(0).write_text("hello")
    run.config.write_text("rounds = 1\n")
    record = MetricsRecord(run.metrics, [1], {}, {})
    record.append(1, {})
    record.write()
    store = CheckpointStore(run.path, keep=1)
    digest = write_state(store.prepare(1) / "global.h5", {"params": np.ones(3)})
    store.commit(1, {"global.h5": digest}, {})
    store.prepare(2)
    return run


def test_nothing_is_created_by_naming_a_run(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    assert not run.exists()
    assert run.is_empty()
    assert run.log(3) == tmp_path / "run" / "logs" / "rank_003.log"
    assert list(tmp_path.iterdir()) == []


def test_a_locked_directory_is_still_empty(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "deep" / "run")
    run.lock()
    assert run.exists()
    assert run.is_empty()
    run.config.write_text("")
    assert not run.is_empty()
    run.unlock()


def test_a_locked_directory_is_refused_to_others(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.lock()
    with pytest.raises(RunInUse):
        RunDirectory(tmp_path / "run").lock()
    with pytest.raises(RunInUse):
        RunDirectory(tmp_path / "run").set_aside()
    run.unlock()


def test_a_run_is_set_aside_under_the_first_free_name(tmp_path: Path) -> None:
    (tmp_path / "run.1").mkdir()
    for name in ("run.2", "run.3"):
        run = make_run(tmp_path / "run")
        run.lock()
        assert run.set_aside() == tmp_path / name
        assert not run.exists()
        aside = RunDirectory(tmp_path / name)
        assert aside.config.read_text() == "rounds = 1\n"
        aside.lock()
        aside.unlock()


def test_a_copied_run_has_configuration_metrics_and_checkpoints_only(tmp_path: Path) -> None:
    old, new = make_run(tmp_path / "old"), RunDirectory(tmp_path / "new")
    new.lock()
    new.copy_from(old)
    assert {path.name for path in new.path.iterdir()} == {
        "config.toml",
        "metrics.h5",
        "checkpoints",
        "run.lock",
    }
    assert new.config.read_text() == "rounds = 1\n"
    assert read_metrics(new.metrics).rounds.tolist() == [1]
    store = CheckpointStore(new.path, keep=1)
    assert store.rounds() == [1]
    np.testing.assert_array_equal(store.load(1, "global.h5")["params"], np.ones(3))
    assert [path.name for path in new.checkpoints.iterdir()] == ["round_000001"]
    new.unlock()


def test_copying_needs_a_run_and_an_empty_place(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(ValueError, match="no run"):
        RunDirectory(tmp_path / "new").copy_from(RunDirectory(tmp_path / "typo"))
    with pytest.raises(ValueError, match="not empty"):
        run.copy_from(run)


@pytest.mark.parametrize("final", [12.5, None])
def test_a_verdict_is_read_as_it_was_written(tmp_path: Path, final: float | None) -> None:
    run = RunDirectory(tmp_path)
    verdict = Verdict("stopped", 7, 100, "time limit", final, 3.25, {"table_error": 0.125})
    run.write_verdict(verdict)
    assert Verdict.read(run.verdict) == verdict
    assert json.loads(run.verdict.read_text())["outcome"] == "stopped"


def test_a_verdict_without_exact_measures_is_read(tmp_path: Path) -> None:
    path = tmp_path / "verdict.json"
    entries = {"outcome": "finished", "round": 1, "rounds": 1, "reason": "", "wall_s": 2.0}
    path.write_text(json.dumps(entries | {"final_evaluation_return": None}))
    assert Verdict.read(path).exact == {}


def test_a_return_that_is_not_finite_is_no_return(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_verdict(Verdict("failed", 7, 100, "diverged", float("nan"), 3.25))
    assert Verdict.read(run.verdict).final_evaluation_return is None


@pytest.mark.parametrize("text", [None, "{", '{"outcome": "finished"}'])
def test_an_unusable_verdict_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "verdict.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match="no usable verdict"):
        Verdict.read(path)
