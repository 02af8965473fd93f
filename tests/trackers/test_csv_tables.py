"""Tables that pandas, R and a spreadsheet read."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fdrl_mpi.record.variables import VARIABLES
from fdrl_mpi.reporting.runs import Run, load_run
from fdrl_mpi.trackers.csv_tables import write_tables

MakeRun = Callable[..., Path]


@pytest.fixture
def run(make_run: MakeRun) -> Run:
    return load_run(make_run())


def columns(path: Path) -> dict[str, list[str]]:
    """Read a table by its headings."""
    with path.open(encoding="utf-8", newline="") as file:
        heading, *rows = csv.reader(file)
    return {name: [row[column] for row in rows] for column, name in enumerate(heading)}


def floats(texts: list[str]) -> list[float]:
    return [float(text or "nan") for text in texts]


def test_numbers_read_back_as_they_were(run: Run, tmp_path: Path) -> None:
    written = write_tables(run, tmp_path / "new" / "folder")
    assert [path.name for path in written] == ["rounds.csv", "agents.csv", "worlds.csv", "variables.csv"]
    rounds, agents, worlds, variables = map(columns, written)
    values = run.metrics.values
    assert rounds.pop("round") == ["1", "2", "3", "4", "5"]
    assert agents.pop("round") == [round for round in "12345" for _ in range(3)]
    assert agents.pop("agent") == ["1", "2", "3"] * 5
    assert rounds.keys() | agents.keys() == {variable.name for variable in VARIABLES}
    for name, texts in (rounds | agents).items():
        np.testing.assert_array_equal(floats(texts), values[name].ravel())
    np.testing.assert_array_equal(floats(worlds["context_gravity"]), run.contexts[0].values)
    assert worlds["host"] == ["n1"] * 3
    units = dict(zip(variables["name"], variables["units"], strict=True))
    assert (units["round_s"], units["context_gravity"]) == ("s", "m/s^2")


def test_what_is_not_known_is_empty(run: Run, tmp_path: Path) -> None:
    text = write_tables(run, tmp_path)[1].read_text()
    assert "nan" not in text
    assert ",," in text


def test_run_without_any_round_has_headings(make_run: MakeRun, tmp_path: Path) -> None:
    written = write_tables(load_run(make_run(num_rounds=0)), tmp_path)
    assert [len(path.read_text().splitlines()) for path in written[:3]] == [1, 1, 4]
