"""What a store of MLflow is given; the library itself is tried where it is installed."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from fdrl_mpi.reporting.runs import load_run

MakeRun = Callable[..., Path]
WithLibrary = Callable[..., Any]


class Metric(NamedTuple):
    key: str
    value: float
    timestamp: int
    step: int


class Pair(NamedTuple):
    key: str
    value: str


class Client:
    """A store in memory."""

    def __init__(self, tracking_uri: str) -> None:
        self.uri, self.ended = tracking_uri, ""
        self.batches: list[dict[str, list[Any]]] = []
        self.texts: dict[str, str] = {}
        Client.last = self

    last: "Client"

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_experiment(self, name: str, artifact_location: str) -> str:
        return "7"

    def create_run(self, experiment: str, start_time: int, run_name: str) -> SimpleNamespace:
        return SimpleNamespace(info=SimpleNamespace(run_id=f"{experiment}-{run_name}"))

    def log_batch(self, run: str, **things: list[Any]) -> None:
        self.batches.append(things)

    def log_text(self, run: str, text: str, name: str) -> None:
        self.texts[name] = text

    def set_terminated(self, run: str, status: str, end_time: int) -> None:
        self.ended = status


def test_a_run_brings_its_configuration_its_origin_and_its_curves(
    make_run: MakeRun, tmp_path: Path, with_library: WithLibrary
) -> None:
    entities = {"Metric": Metric, "Param": Pair, "RunTag": Pair}
    tracker = with_library("mlflow_store", {"mlflow": {"MlflowClient": Client}, "mlflow.entities": entities})
    run = load_run(make_run(num_agents=9, num_rounds=60))
    assert tracker.write_store(run, tmp_path) == [tmp_path / "mlflow.db", tmp_path / "files" / "7-one"]
    store = Client.last
    assert store.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert all(len(things) <= 1000 for batch in store.batches for things in batch.values())
    told = {
        kind: [each for batch in store.batches for each in batch.get(kind, [])]
        for kind in ("metrics", "params", "tags")
    }
    assert told["params"] == [("mode", "federated"), ("rounds", "60")]
    assert ("command", "fdrl-train <script>") in told["tags"]
    assert ("outcome", "finished") in told["tags"]
    assert Metric("agent_9/performance/train_return", 609.0, 0, 60) in told["metrics"]
    assert len(told["metrics"]) > 1000
    assert store.texts == {"config.toml": run.config}
    assert store.ended == "FINISHED"


def test_nested_keys_are_named_as_on_the_command_line(with_library: WithLibrary) -> None:
    tracker = with_library(
        "mlflow_store",
        {"mlflow": {}, "mlflow.entities": dict.fromkeys(("Metric", "Param", "RunTag"))},
    )
    assert tracker.flat({"seed": 1, "learner": {"network": {"hidden": [8]}}}) == {
        "seed": 1,
        "learner.network.hidden": [8],
    }


@pytest.mark.filterwarnings("default")  # of the library
def test_mlflow_reads_what_is_written(make_run: MakeRun, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    from fdrl_mpi.trackers.mlflow_store import EXPERIMENT, write_store

    run = load_run(make_run())
    for _ in range(2):  # the second into a store that is there
        database, _ = write_store(run, tmp_path)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{database}")
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    found = client.search_runs([experiment])
    assert [each.info.status for each in found] == ["FINISHED"] * 2
    assert found[0].data.params["rounds"] == "5"
    history = client.get_metric_history(found[0].info.run_id, "performance/evaluation_return")
    assert [(point.step, point.value) for point in history] == [(1, 18.0), (3, 58.0), (5, 98.0)]
