"""The scaling study: formulas by hand, the file to the disk and back, what is refused, the whole command."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from cost_model import SHARING, Fit
from figures_of_scaling import draw
from round_model import PARTS, largest_of, model_of, phases_of, two_costs
from scaling_file import read, write
from scaling_runs import KEPT, ROLLOUT, Case, Run, Study, cases, strong_steps
from scaling_tables import CORE_EACH, HERE, add_efficiency, tables_of

SCRIPT = Path(__file__).parents[2] / "benchmarks/scaling.py"
CORES, LENGTH = 2, 9155
CRYPTO = {"encode_s": 1e-9, "expand_s": 1e-9, "decode_s": 1e-9}
MESSAGE_S, BYTE_S = 1e-5, 1e-10
STEP_S, FIXED_S, REST_S, REST_SHARED_S, ENCODE_S = 2e-5, 1e-3, 4e-4, 2e-4, 1e-5
BLANK = Fit(HERE, "node", SHARING["node"], MESSAGE_S, BYTE_S, CRYPTO, CORES, [])


def run_of(case: Case, **overrides: float) -> Run:
    """Make a run that takes exactly what the model says; each round in it is the same."""
    crowd = case.ranks / min(case.ranks, CORES)
    train_s = FIXED_S + STEP_S * case.steps
    parts = {
        "train_s": train_s,
        "wait_s": train_s * (crowd - 1.0),
        "encode_s": ENCODE_S * crowd,
        "exchange_s": replace(BLANK, collective=case.collective).predict(case.ranks, LENGTH),
    }
    rest_s = REST_S + REST_SHARED_S * crowd
    own = {"train_cpu_s": train_s, "env_steps": case.steps, "sent_messages": 0.0, "sent_bytes": 4.0 * LENGTH}
    root = {"round_s": sum(parts.values()) + rest_s, "record_s": 1e-4 + 1e-6 * case.agents}
    root |= {"root_sent_bytes": 4.0 * LENGTH, "root_received_bytes": 0.0}
    values = {name: np.full((5, case.agents), value) for name, value in (parts | own).items()}
    values |= {name: np.full(5, value) for name, value in root.items()}
    assert values.keys() == set(KEPT)
    return Run(case, LENGTH, 100.0, values | {name: np.full(5, value) for name, value in overrides.items()})


@pytest.fixture
def study() -> Study:
    listed = cases(["node"], [1, 2, 4], [3])
    points = [
        {"collective": "node", "agents": agents, "d": d, "median_s": BLANK.predict(agents, d)}
        for agents in (1, 2, 4)
        for d in (1000, 100_000)
    ]
    facts = {"git_commit": "0" * 40, "cpu_model": "abacus", "num_cores": CORES, "mpi": "none"}
    return Study(facts, CORES, CRYPTO, points, [run_of(case) for case in listed])


def test_efficiency_is_speed_up_over_the_ratio_of_cores_in_use() -> None:
    rows = [
        {"env_steps_per_s": 100.0, "cores_in_use": 1},
        {"env_steps_per_s": 150.0, "cores_in_use": 2},
        {"env_steps_per_s": 120.0, "cores_in_use": 2},
    ]
    add_efficiency(rows)
    assert [row["speed_up"] for row in rows] == [1.0, 1.5, 1.2]
    assert [row["ideal_speed_up"] for row in rows] == [1.0, 2.0, 2.0]
    assert [row["efficiency"] for row in rows] == [1.0, 0.75, 0.6]


def test_ideal_speed_up_ends_at_the_cores(study: Study) -> None:
    weak = [row for row in tables_of(study).measured if row["series"] == "weak"]
    assert [row["ranks"] for row in weak] == [1, 2, 4]
    assert [row["ideal_speed_up"] for row in weak] == [1.0, 2.0, 2.0]


def test_work_of_a_strong_series_is_shared_in_whole_rollouts() -> None:
    assert [strong_steps(16 * ROLLOUT, ranks) // ROLLOUT for ranks in (1, 3, 4, 16, 40)] == [16, 5, 4, 1, 1]
    strong = [case for case in cases(["tree"], [4, 2, 1], []) if case.series == "strong"]
    assert {case.ranks * case.steps for case in strong} == {4 * 4 * ROLLOUT}


def test_collective_that_needs_more_agents_begins_with_more() -> None:
    ring = [
        case.ranks for case in cases(["node", "secure_ring"], [1, 2, 4, 8], []) if "ring" in case.collective
    ]
    assert ring == [4, 8, 4, 8]


def test_largest_of_one_draw_is_the_mean_and_of_many_the_largest() -> None:
    draws = np.array([1.0, 2.0, 6.0])
    assert largest_of(draws, 1) == pytest.approx(3.0)
    assert largest_of(draws, 2) == pytest.approx((1 * 1 + 3 * 2 + 5 * 6) / 9)
    assert largest_of(draws, 1000) == pytest.approx(6.0)


def test_two_costs_are_found_and_neither_is_below_zero() -> None:
    sizes, weights = np.array([1.0, 2.0, 4.0]), np.ones(3)
    assert two_costs(sizes, 3.0 + 0.5 * sizes, weights) == pytest.approx((3.0, 0.5))
    assert two_costs(sizes, 0.5 * sizes - 0.4, weights)[0] == 0.0
    assert two_costs(sizes, 9.0 - 0.5 * sizes, weights)[1] == 0.0
    assert two_costs(np.full(3, 2.0), np.full(3, 5.0), weights) == (0.0, 2.5)


def test_parts_of_a_round_add_up_to_it_also_where_a_rank_has_several_agents(study: Study) -> None:
    for run in study.runs:
        assert sum(phases_of(run).values()) == pytest.approx(run.values["round_s"][0])
    waited = run_of(Case("hosted", "node", 2, 3, 256))
    waited.values["wait_s"][:] = 0.01 + 2 * waited.values["train_s"]
    parts = phases_of(waited)
    assert parts["train_s"] == pytest.approx(3 * waited.values["train_s"][0, 0])
    assert parts["wait_s"] == pytest.approx(0.01)


def test_model_gives_back_the_rounds_it_was_fitted_to(study: Study) -> None:
    tables = tables_of(study)
    here = [row for row in tables.predicted if row["place"] == HERE]
    measured = {(row["series"], row["ranks"]): row for row in tables.measured}
    assert len(here) == 6
    for row in here:
        one = measured[row["series"], row["ranks"]]
        assert row["residual"] == pytest.approx(0.0, abs=1e-3)  # the grid of the exchange's fit is finite
        assert [row[part] for part in PARTS] == pytest.approx([one[part] for part in PARTS], rel=2e-2)
        assert row["efficiency"] == pytest.approx(one["efficiency"], rel=1e-3)
    assert max(abs(row["residual"]) for row in tables.exchanges) < 1e-2


def test_with_a_core_each_training_does_not_grow_and_nothing_that_was_not_measured_has_a_residual(
    study: Study,
) -> None:
    beyond = [row for row in tables_of(study).predicted if row["place"] == CORE_EACH]
    weak = [row for row in beyond if row["series"] == "weak"]
    assert [row["ranks"] for row in weak] == [2**power for power in range(13)]
    assert np.ptp([row["train_s"] for row in weak]) == 0.0
    assert np.allclose([row["wait_s"] for row in weak], 0.0)
    assert all(np.diff([row["exchange_s"] for row in weak]) > 0.0)
    assert [row["ranks"] for row in beyond if row["residual"] == row["residual"]] == [1, 1]
    strong = [row for row in beyond if row["series"] == "strong"]
    assert strong[-1]["ranks"] == 16
    assert strong[-1]["steps_per_agent"] == ROLLOUT


def test_record_that_takes_longer_than_the_round_holds_it_up(study: Study) -> None:
    slow = [run_of(run.case, record_s=1e-3 * run.case.agents) for run in study.runs]
    model = model_of(slow, BLANK, CORES)
    assert model.predict(10_000, 256, 10_001)["round_s"] == pytest.approx(10.0)


def test_study_comes_back_from_its_file(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "study.h5"
    write(path, study)
    again = read(path)
    assert (again.facts, again.cores, again.crypto) == (study.facts, CORES, CRYPTO)
    assert again.exchanges == study.exchanges
    assert [run.case for run in again.runs] == [run.case for run in study.runs]
    for one, other in zip(again.runs, study.runs, strict=True):
        assert one.values.keys() == other.values.keys()
        assert all(np.array_equal(one.values[name], other.values[name]) for name in KEPT)
    assert list(tmp_path.iterdir()) == [path]


def test_file_holds_tables_beside_where_they_come_from(study: Study, tmp_path: Path) -> None:
    write(tmp_path / "study.h5", study)
    tables = tables_of(study)
    with h5py.File(tmp_path / "study.h5") as file:
        assert file.attrs["git_commit"] == "0" * 40
        assert "cores in use" in file.attrs["efficiency"]
        for name in ("measured", "fitted", "exchanges", "predicted"):
            rows, group = getattr(tables, name), file[name]
            assert list(group) == list(rows[0])
            for column in group:
                values = group[column].asstr()[()] if group[column].dtype == object else group[column][()]
                np.testing.assert_array_equal(values, [row[column] for row in rows])
        assert file["runs/0000/train_s"].shape == (5, 1)


def test_pictures_are_drawn_beside_each_other_also_of_a_study_that_was_cut_off(
    study: Study, tmp_path: Path
) -> None:
    study.runs[2:] = []
    paths = draw(tables_of(study), CORES, tmp_path)
    assert [path.name for path in paths] == ["efficiency.png", "phases.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def refused(*words: str) -> str:
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    return done.stderr


def test_study_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "study.h5").write_text("mine")
    assert "is there already: choose another folder, or --from" in refused("--out", str(tmp_path))
    assert (tmp_path / "study.h5").read_text() == "mine"


def test_all_that_is_wrong_is_said_before_anything_is_made(tmp_path: Path) -> None:
    said = refused("--out", str(tmp_path / "new"), "--ranks", "0", "2", "--rounds", "3")
    assert "needs a rank and an agent" in said
    assert "--rounds 3" in said
    assert "secure_ring needs 3 ranks" in said
    assert not (tmp_path / "new").exists()


def test_more_ranks_than_can_be_started_are_refused(tmp_path: Path) -> None:
    assert "MB of memory are free" in refused("--out", str(tmp_path / "new"), "--ranks", "10000000")


def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "nothing can be written there" in refused("--out", str(tmp_path / "file/below"))


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "there is no such file"), ("text", "not a readable scaling study")]
)
def test_only_a_study_is_drawn_again(tmp_path: Path, content: str | None, reason: str) -> None:
    file = tmp_path / "study.h5"
    if content is not None:
        file.write_text(content)
    assert reason in refused("--from", str(file))
    assert "measures nothing" in refused("--from", str(file), "--ranks", "3")


@pytest.mark.launch
def test_one_command_measures_and_another_draws_the_same_again(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    sizes = ("--ranks", "1", "2", "--agents-per-rank", "2", "--collectives", "node", "--rounds", "4")
    words = [sys.executable, str(SCRIPT)]
    first = subprocess.run(
        [*words, "--out", str(folder), *sizes], capture_output=True, text=True, timeout=200
    )
    assert first.returncode == 0, first.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["efficiency.png", "phases.png", "study.h5"]
    study = read(folder / "study.h5")
    assert [(run.case.series, run.case.agents) for run in study.runs] == [
        ("weak", 1),
        ("weak", 2),
        ("strong", 1),
        ("strong", 2),
        ("hosted", 4),
    ]
    assert all((run.values["env_steps"] == run.case.steps).all() for run in study.runs)
    assert study.facts["command"].endswith("--rounds 4")
    (folder / "phases.png").unlink()
    again = subprocess.run(
        [*words, "--from", str(folder / "study.h5")], capture_output=True, text=True, timeout=60
    )
    assert again.stdout == first.stdout
    assert (folder / "phases.png").exists()
