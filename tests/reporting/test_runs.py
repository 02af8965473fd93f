"""What a report takes from run directories."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fdrl_mpi.record.metrics import MetricsRecord
from fdrl_mpi.reporting.runs import load_run, load_runs, same_worlds

MakeRun = Callable[..., Path]


def test_run_is_what_its_directory_holds(make_run: MakeRun) -> None:
    run = load_run(make_run("wide", mode="independent"))
    assert (run.label, run.mode, run.planned_rounds) == ("wide", "independent", 5)
    assert run.verdict is not None
    assert run.verdict.outcome == "finished"
    assert [(context.name, context.units) for context in run.contexts] == [("gravity", "m/s^2")]
    np.testing.assert_allclose(run.contexts[0].values, [10.81, 11.81, 12.81])


def test_run_that_goes_on_has_no_verdict(make_run: MakeRun) -> None:
    assert load_run(make_run(has_verdict=False)).verdict is None


def test_mode_is_part_of_the_label_where_modes_differ(make_run: MakeRun) -> None:
    paths = [make_run("a"), make_run("b"), make_run("c", mode="centralised")]
    assert [run.label for run in load_runs(paths)] == ["a (federated)", "b (federated)", "c (centralised)"]
    assert [run.label for run in load_runs(paths[:2])] == ["a", "b"]


def test_runs_of_the_same_name_are_told_apart_by_their_paths(make_run: MakeRun) -> None:
    paths = [make_run("first/one"), make_run("second/one"), make_run("two")]
    assert [run.label for run in load_runs(paths)] == [str(paths[0]), str(paths[1]), "two"]


def test_runs_with_equal_contexts_share_their_worlds(make_run: MakeRun) -> None:
    runs = load_runs([make_run("a"), make_run("b", gravity=1.62), make_run("c"), make_run("d", num_agents=2)])
    assert [[run.label for run in group] for group in same_worlds(runs)] == [["a", "c"], ["b"], ["d"]]


def test_record_without_configuration_is_read(tmp_path: Path) -> None:
    MetricsRecord(tmp_path / "metrics.h5", [1], {}, {}).write()
    run = load_run(tmp_path)
    assert (run.mode, run.planned_rounds, run.config, run.contexts) == ("", None, "", [])


def test_same_run_twice_is_refused(make_run: MakeRun) -> None:
    path = make_run()
    with pytest.raises(ValueError, match="named twice"):
        load_runs([path, path.parent / "." / path.name])


def test_what_is_no_run_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such run directory"):
        load_run(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"has no metrics\.h5"):
        load_run(tmp_path)


def test_damaged_record_is_refused(make_run: MakeRun) -> None:
    path = make_run()
    record = path / "metrics.h5"
    record.write_bytes(record.read_bytes()[:3000])
    with pytest.raises(ValueError, match="not a readable record"):
        load_run(path)


def test_damaged_verdict_is_refused(make_run: MakeRun) -> None:
    path = make_run()
    (path / "verdict.json").write_text("{")
    with pytest.raises(ValueError, match="no usable verdict"):
        load_run(path)
