"""The record of a run: rows in, rows out; what other programs see."""

import logging
from pathlib import Path

import h5py
import numpy as np
import pytest

from fdrl_mpi.record import metrics
from fdrl_mpi.record.metrics import MetricsRecord, NullRecord, Record, Row
from fdrl_mpi.record.metrics_file import AgentFact, read_metrics
from fdrl_mpi.record.variables import VARIABLES

AGENTS = [1, 2, 5]
ATTRIBUTES = {"config": "rounds = 3\nµ = 'ü'", "seed": 7, "start_unix_s": 1.5, "note": ""}
FACTS = {
    "context_gravity": AgentFact(np.array([9.8, 1.6, 3.7]), "m s-2", "gravity of the agent's world"),
    "host": AgentFact(["node1", "node1", "knoten2"], "1", "host of the agent"),
}


def new_record(path: Path) -> MetricsRecord:
    return MetricsRecord(path, AGENTS, ATTRIBUTES, FACTS)


def row(round: int) -> Row:
    return {"end_wall_s": float(round), "env_steps": round * np.array([1.0, 2.0, 5.0])}


def record_rounds(record: Record, first: int, last: int) -> None:
    for round in range(first, last + 1):
        record.append(round, row(round))


def test_what_was_recorded_is_read(tmp_path: Path) -> None:
    record = new_record(tmp_path / "metrics.h5")
    record_rounds(record, 1, 200)
    record.write()

    found = read_metrics(tmp_path / "metrics.h5")

    assert found.attributes == ATTRIBUTES
    assert {name: type(value) for name, value in found.attributes.items()} == {
        name: type(value) for name, value in ATTRIBUTES.items()
    }
    np.testing.assert_array_equal(found.rounds, np.arange(1, 201))
    np.testing.assert_array_equal(found.agents, AGENTS)
    np.testing.assert_array_equal(found.values["end_wall_s"], np.arange(1.0, 201.0))
    np.testing.assert_array_equal(found.values["env_steps"], np.arange(1, 201)[:, None] * np.array([1, 2, 5]))
    np.testing.assert_array_equal(
        found.agent_facts["context_gravity"].values, FACTS["context_gravity"].values
    )
    assert found.agent_facts["host"] == FACTS["host"]


def test_values_that_were_not_given_are_nan(tmp_path: Path) -> None:
    record = new_record(tmp_path / "metrics.h5")
    record_rounds(record, 1, 70)
    record.write()

    values = read_metrics(tmp_path / "metrics.h5").values

    assert values.keys() == {variable.name for variable in VARIABLES}
    for variable in VARIABLES:
        assert values[variable.name].shape == ((70, 3) if "agent" in variable.dimensions else (70,))
        assert np.isnan(values[variable.name]).all() == (variable.name not in row(1))


def test_a_record_without_rounds_can_be_read(tmp_path: Path) -> None:
    new_record(tmp_path / "metrics.h5").write()
    found = read_metrics(tmp_path / "metrics.h5")
    assert found.rounds.shape == (0,)
    assert found.values["env_steps"].shape == (0, 3)


def test_an_amended_value_replaces_only_that_value(tmp_path: Path) -> None:
    record = new_record(tmp_path / "metrics.h5")
    record_rounds(record, 4, 6)
    record.amend(5, {"evaluation_return": np.array([1.0, 2.0, 3.0]), "end_wall_s": -1.0})
    record.write()

    values = read_metrics(tmp_path / "metrics.h5").values

    np.testing.assert_array_equal(values["end_wall_s"], [4, -1, 6])
    np.testing.assert_array_equal(values["evaluation_return"][1], [1, 2, 3])
    assert np.isnan(values["evaluation_return"][[0, 2]]).all()
    np.testing.assert_array_equal(values["env_steps"][1], row(5)["env_steps"])


def test_rewound_rounds_are_gone_and_leave_nothing_in_the_new_ones(tmp_path: Path) -> None:
    record = new_record(tmp_path / "metrics.h5")
    record_rounds(record, 1, 6)
    record.rewind(4)
    record.append(5, {})
    record.write()

    found = read_metrics(tmp_path / "metrics.h5")

    np.testing.assert_array_equal(found.rounds, [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(found.values["end_wall_s"], [1, 2, 3, 4, np.nan])


@pytest.mark.parametrize(("round", "left"), [(0, 0), (2, 0), (3, 1), (5, 3), (9, 3)])
def test_rewinding_keeps_the_rounds_up_to_the_given_one(tmp_path: Path, round: int, left: int) -> None:
    record = new_record(tmp_path / "metrics.h5")
    record_rounds(record, 3, 5)
    record.rewind(round)
    record.write()
    assert read_metrics(tmp_path / "metrics.h5").rounds.tolist() == [3, 4, 5][:left]


def test_resumed_record_equals_unbroken_record(tmp_path: Path) -> None:
    unbroken, broken = tmp_path / "unbroken.h5", tmp_path / "broken.h5"
    record = new_record(unbroken)
    record_rounds(record, 1, 9)
    record.write()

    record = new_record(broken)
    record_rounds(record, 1, 7)
    record.write()
    resumed = MetricsRecord.resume(broken, AGENTS, ATTRIBUTES, FACTS)
    resumed.rewind(5)
    record_rounds(resumed, 6, 9)
    resumed.write()

    assert unbroken.read_bytes() == broken.read_bytes()


def test_resuming_with_other_agents_is_refused(tmp_path: Path) -> None:
    new_record(tmp_path / "metrics.h5").write()
    with pytest.raises(ValueError, match=r"agents \[1, 2, 5\].*\[1, 2, 3\]"):
        MetricsRecord.resume(tmp_path / "metrics.h5", [1, 2, 3], ATTRIBUTES, FACTS)


@pytest.mark.parametrize(
    ("round", "values", "message"),
    [
        (3, {"no_such_thing": 1.0}, "no_such_thing"),
        (3, {"env_steps": 1.0}, r"env_steps: shape \(\), expected \(3,\)"),
        (3, {"end_wall_s": np.ones(3)}, r"end_wall_s: shape \(3,\), expected \(\)"),
        (2, {}, "round 2 after round 2"),
        (4, {}, "round 4 after round 2"),
    ],
)
def test_a_refused_row_leaves_the_record_as_it_was(
    tmp_path: Path, round: int, values: Row, message: str
) -> None:
    record = new_record(tmp_path / "metrics.h5")
    record_rounds(record, 1, 2)
    with pytest.raises(ValueError, match=message):
        record.append(round, {"end_wall_s": 99.0} | dict(values))
    record_rounds(record, 3, 3)
    record.write()
    np.testing.assert_array_equal(read_metrics(tmp_path / "metrics.h5").values["end_wall_s"], [1, 2, 3])


@pytest.mark.parametrize("round", [0, 3])
def test_amending_a_round_that_is_not_recorded_is_refused(tmp_path: Path, round: int) -> None:
    record = new_record(tmp_path / "metrics.h5")
    record_rounds(record, 1, 2)
    with pytest.raises(ValueError, match=f"round {round}"):
        record.amend(round, {})


@pytest.mark.parametrize(
    ("name", "values"), [("env_steps", [1.0, 2.0, 3.0]), ("agent", [1.0, 2.0, 3.0]), ("mass", [1.0, 2.0])]
)
def test_an_agent_fact_that_does_not_fit_is_refused(tmp_path: Path, name: str, values: list[float]) -> None:
    fact = AgentFact(np.array(values), "kg", "something")
    with pytest.raises(ValueError, match=name):
        MetricsRecord(tmp_path / "metrics.h5", AGENTS, {}, {name: fact})


def test_nothing_is_written_before_it_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock_s = [0.0]
    monkeypatch.setattr(metrics.time, "monotonic", lambda: clock_s[0])
    path = tmp_path / "metrics.h5"
    record = new_record(path)
    record.append(1, {})
    assert not path.exists()

    seen = []
    for clock_s[0] in (1000.0, 1000.9, 1001.0, 1001.5, 1002.0):
        record.amend(1, {"end_wall_s": clock_s[0]})
        record.write_if_due()
        seen.append(float(read_metrics(path).values["end_wall_s"][0]))

    assert seen == [1000.0, 1000.0, 1001.0, 1001.0, 1002.0]


def test_a_failed_write_is_logged_once_and_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metrics, "_MIN_INTERVAL_S", 0.0)
    monkeypatch.setattr(metrics, "_MIN_INTERVAL_WRITES", 0.0)
    path = tmp_path / "not there yet" / "metrics.h5"
    record = new_record(path)
    with caplog.at_level(logging.WARNING):
        for round in (1, 2, 3):
            record.append(round, row(round))
            record.write_if_due()
    assert len(caplog.records) == 1

    with pytest.raises(FileNotFoundError):
        record.write(durable=True)
    path.parent.mkdir()
    record.write_if_due()
    assert read_metrics(path).rounds.tolist() == [1, 2, 3]


def test_a_reader_with_the_file_open_disturbs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metrics.h5"
    record = new_record(path)
    record_rounds(record, 1, 2)
    record.write()
    with h5py.File(path, "r") as reader:  # with HDF5's default locking
        record_rounds(record, 3, 4)
        record.write()
        assert reader["end_wall_s"][()].tolist() == [1, 2]
        with h5py.File(path, "r") as later_reader:
            assert later_reader["end_wall_s"][()].tolist() == [1, 2, 3, 4]


def test_xarray_shows_labelled_variables(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    record = new_record(tmp_path / "metrics.h5")
    record_rounds(record, 1, 4)
    record.write()
    with xarray.open_dataset(tmp_path / "metrics.h5", engine="h5netcdf") as dataset:
        assert set(dataset.coords) == {"round", "agent"}
        assert dict(dataset.sizes) == {"round": 4, "agent": 3}
        assert float(dataset.env_steps.sel(round=3, agent=5)) == 15.0
        assert dataset.env_steps.attrs["units"] == "steps"
        assert dataset.host.dims == ("agent",)
        assert str(dataset.host.sel(agent=5).item()) == "knoten2"
        assert dataset.attrs["seed"] == 7
        assert dataset.attrs["Conventions"] == "fdrl_mpi-metrics-1"


def test_pandas_needs_one_line_per_table(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    record = new_record(tmp_path / "metrics.h5")
    record_rounds(record, 1, 4)
    record.write()
    with h5py.File(tmp_path / "metrics.h5") as file:
        table = pandas.DataFrame(file["env_steps"][()], index=file["round"][()], columns=file["agent"][()])
    assert table.loc[3, 5] == 15.0


def test_every_dataset_has_unit_meaning_and_scales(tmp_path: Path) -> None:
    new_record(tmp_path / "metrics.h5").write()
    with h5py.File(tmp_path / "metrics.h5") as file:
        for variable in VARIABLES:
            dataset = file[variable.name]
            assert dataset.attrs["units"] == variable.units
            assert dataset.attrs["long_name"] == variable.long_name
            assert [dimension.keys() for dimension in dataset.dims] == [[n] for n in variable.dimensions]


@pytest.mark.parametrize("length", [0, 100, 4000, -1])
def test_a_file_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "metrics.h5"
    new_record(path).write()
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="not a readable record"):
        read_metrics(path)


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["round"] = [1, 2]
    with pytest.raises(ValueError, match="Conventions"):
        read_metrics(tmp_path / "other.h5")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_metrics(tmp_path / "metrics.h5")


def test_ranks_other_than_the_root_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record: Record = NullRecord()
    record_rounds(record, 1, 3)
    record.amend(2, {})
    record.rewind(1)
    record.write_if_due()
    record.write(durable=True)
    record.write()
    assert list(tmp_path.iterdir()) == []
