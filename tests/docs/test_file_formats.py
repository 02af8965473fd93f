"""The page about files names what runs write, all of it and nothing else."""

import contextlib
import io
import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

import h5py
import numpy as np
import pytest

from fdrl_mpi.record.verdict import Verdict
from fdrl_mpi.survival import Failure

pytestmark = pytest.mark.launch
TEXT = (Path(__file__).parents[2] / "docs/file_formats.md").read_text(encoding="utf-8")
RUNS = ("cartpole", "alone", "lost")


def table(heading: str) -> dict[str, list[str]]:
    """Read the first table behind some words: the other cells of a row by each name in its first one."""
    rows = []
    for line in TEXT.split(heading, 1)[1].splitlines():
        if line.startswith("|"):
            rows.append(line)
        elif rows:
            break
    found = {}
    for row in rows[2:]:
        first, *others = (cell.strip() for cell in row.strip("|").split(" | "))
        for name in re.findall(r"`([^`]+)`", first):
            found[name] = others
    return found


def uncovered(names, patterns) -> list[str]:
    return [name for name in names if not any(fnmatchcase(name, pattern) for pattern in patterns)]


def leaves(file: h5py.File) -> dict[str, h5py.Dataset]:
    """List the datasets of a file by their paths."""
    found = {}
    file.visititems(lambda name, item: found.update({name: item} if isinstance(item, h5py.Dataset) else {}))
    return found


@pytest.fixture(params=RUNS)
def record(request, runs):
    with h5py.File(runs / f"runs/{request.param}/metrics.h5", locking=False) as file:
        yield file


AXES = table("All datasets lie in the root")
OF_AGENTS, OF_ROUNDS = table("Numbers of an agent in a round"), table("Numbers of a round: float64")
FACTS, ATTRIBUTES = table("Facts about the agents"), table("Attributes of the file")


def test_datasets_of_the_record_are_those_of_the_page(record):
    named = {*AXES, *OF_AGENTS, *OF_ROUNDS, *FACTS}
    assert uncovered(record, named) == []
    assert [name for name in named if "*" not in name and name not in record] == []
    assert any(fnmatchcase(name, "context_*") for name in record)


def test_shapes_types_units_and_meanings_are_those_of_the_page(record):
    num_rounds, num_agents = len(record["round"]), len(record["agent"])
    assert {record["round"].dtype, record["agent"].dtype} == {np.dtype(np.int64)}
    assert all(
        cells[:2] == ["int64", f"({letter},)"] for cells, letter in zip(AXES.values(), "RK", strict=True)
    )
    for names, shape, axes in (
        (OF_AGENTS, (num_rounds, num_agents), ["round", "agent"]),
        (OF_ROUNDS, (num_rounds,), ["round"]),
    ):
        for name, (units, meaning) in names.items():
            dataset = record[name]
            assert (dataset.dtype, dataset.shape) == (np.float64, shape), name
            assert [axis.keys() for axis in dataset.dims] == [[axis] for axis in axes], name
            assert (dataset.attrs["units"], dataset.attrs["long_name"]) == (units, meaning), name
            assert (dataset.chunks, dataset.compression) == (None, None)
    for name in record:
        if any(fnmatchcase(name, fact) for fact in FACTS):
            assert record[name].shape == (num_agents,)
            assert record[name].dims[0].keys() == ["agent"]
            assert {"units", "long_name"} <= record[name].attrs.keys()


def test_attributes_of_the_record_are_those_of_the_page(record):
    assert uncovered(record.attrs, ATTRIBUTES) == []
    assert [name for name in ATTRIBUTES if "*" not in name and name not in record.attrs] == []
    for name, (kind, *_) in ATTRIBUTES.items():
        is_text = isinstance(record.attrs.get(name, ""), str)
        assert (kind == "text") == is_text, name
    assert record.attrs["Conventions"] in ATTRIBUTES["Conventions"][1]


def test_files_of_runs_are_those_of_the_page(runs):
    inside, exported = table("Reading disturbs nothing"), table("which are PNG files")
    entries = {name: {entry.name for entry in (runs / "runs" / name).iterdir()} for name in RUNS}
    names = {name.split("/")[0] for name in inside}
    assert set().union(*entries.values()) == names
    assert {name for name in RUNS if "run.owner" in entries[name]} == {"lost"}
    logs = [file.name for name in RUNS for file in (runs / f"runs/{name}/logs").iterdir()]
    assert uncovered(logs, ["rank_[0-9][0-9][0-9].log"]) == []
    folder = runs / "runs/cartpole/exported"
    written = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert written == {name for name in exported if not name.startswith(("tensorboard", "wandb", "mlflow"))}


def test_states_of_checkpoints_are_those_of_the_page(runs):
    of_root, of_agents = table("`global.h5`:"), table("`agent_0001.h5` is private")
    kinds = set(re.findall(r"`([a-z ]+)`", TEXT.split("what it was in Python:")[1].partition("In names")[0]))
    found: dict[str, set[str]] = {"global": set(), "agent": set()}
    for file in runs.glob("runs/*/checkpoints/*/*.h5"):
        with h5py.File(file) as state:
            assert dict(state.attrs) == {"format": "fdrl_mpi-state-1"}
            assert list(state) == ["state"]
            datasets = leaves(state["state"])
            assert {dataset.attrs["kind"] for dataset in datasets.values()} <= kinds
            found[file.stem.partition("_")[0]] |= datasets.keys()
            for name in ("params", "learner/params", "model"):
                assert name not in datasets or (datasets[name].dtype, datasets[name].ndim) == (np.float32, 1)
    for names, page in ((found["global"], of_root), (found["agent"], of_agents)):
        specific = [name for name in page if name != "learner/*"]
        assert uncovered(names, specific) == []
        optional = ["learner/scaler/*", "learner/*"]
        assert [
            name for name in page if name not in optional and not any(fnmatchcase(n, name) for n in names)
        ] == []


def test_manifests_are_those_of_the_page(runs):
    named = table("`manifest.json`:")
    for file in runs.glob("runs/*/checkpoints/*/manifest.json"):
        manifest = json.loads(file.read_text())
        assert list(manifest) == list(named)
        assert manifest["format"] == 1
        assert manifest["facts"].keys() == {"agents", "fresh"}
        files = {other.name for other in file.parent.iterdir()}
        assert files == {"manifest.json", *manifest["digests"]} == {"manifest.json", *manifest["sizes_bytes"]}


def test_verdicts_are_those_of_the_page(runs):
    keys = table("Written once, at the end").keys()
    assert keys == set(Verdict.__dataclass_fields__)
    assert keys == json.loads((runs / "runs/cartpole/verdict.json").read_text()).keys()
    entry = re.search(r"An entry of `failures` has (.*?)\n\n", TEXT, re.DOTALL)
    (failure, *_) = json.loads((runs / "runs/lost/verdict.json").read_text())["failures"]
    assert failure.keys() == set(Failure.__dataclass_fields__) == set(re.findall(r"`(\w+)`", entry[1]))


def test_owner_and_lock_are_those_of_the_page(runs):
    text = TEXT.split("## `run.lock` and `run.owner`")[1].partition("##")[0]
    owner = json.loads((runs / "runs/lost/run.owner").read_text())
    assert all(f"`{key}`" in text for key in owner)
    assert (runs / "runs/cartpole/run.lock").read_text() == ""


def test_a_configuration_repeats_its_run(runs, run):
    said = run(
        ["mpirun", "-n", "3", "python", "-m", "fdrl_mpi.train", "--config", "runs/cartpole/config.toml"], runs
    )
    assert "already has all 4 rounds" in said


@pytest.mark.parametrize("snippet", re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE))
def test_snippets_read_a_run(snippet, runs, monkeypatch):
    monkeypatch.chdir(runs)
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(snippet, "file_formats.md", "exec"), {})
    assert shown.getvalue()
    assert "nan" not in shown.getvalue()
