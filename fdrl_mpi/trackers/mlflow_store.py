"""A run in a store of MLflow on this disk: a database in one file, for MLflow has given up plain folders."""

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, RunTag

from fdrl_mpi.reporting.runs import Run
from fdrl_mpi.trackers.curves import agent_name, curves

EXPERIMENT = "fdrl_mpi"
DATABASE = "mlflow.db"
_METRICS_AT_ONCE, _PARAMS_AT_ONCE = 1000, 100  # MLflow's own limits of a call
_LONGEST = 5000  # characters of a parameter or tag that every version takes
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED", "minority": "KILLED"}


def write_store(run: Run, folder: Path) -> list[Path]:
    """Add a run to the store in `folder`; return the database and the folder of the run's files."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    folder.mkdir(parents=True, exist_ok=True)
    database, files = folder.resolve() / DATABASE, folder.resolve() / "files"
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{database}")
    known = client.get_experiment_by_name(EXPERIMENT)
    experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT, files.as_uri())
    metrics = list(_metrics(run))
    began_ms = min((metric.timestamp for metric in metrics), default=None)
    entry = client.create_run(experiment, began_ms, run_name=run.path.resolve().name).info
    client.log_batch(entry.run_id, tags=[RunTag(name, text[:_LONGEST]) for name, text in _tags(run).items()])
    params = [Param(name, str(value)[:_LONGEST]) for name, value in flat(tomllib.loads(run.config)).items()]
    for first in range(0, len(params), _PARAMS_AT_ONCE):
        client.log_batch(entry.run_id, params=params[first : first + _PARAMS_AT_ONCE])
    for first in range(0, len(metrics), _METRICS_AT_ONCE):
        client.log_batch(entry.run_id, metrics=metrics[first : first + _METRICS_AT_ONCE])
    client.log_text(entry.run_id, run.config, "config.toml")
    if run.verdict is not None:
        ended_ms = max((metric.timestamp for metric in metrics), default=None)
        client.set_terminated(entry.run_id, _STATUS[run.verdict.outcome], ended_ms)
    return [database, files / entry.run_id]


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name the keys of nested tables as the command line does, with dots."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _metrics(run: Run) -> Iterator[Metric]:
    for curve in curves(run.metrics):
        prefix = f"{agent_name(run.metrics, curve.agent)}/" if curve.agent is not None else ""
        points = zip(curve.rounds.tolist(), curve.values.tolist(), curve.unix_s.tolist(), strict=True)
        for round, value, unix_s in points:
            when_ms = int(1000.0 * unix_s) if unix_s == unix_s else 0
            yield Metric(prefix + curve.name, value, when_ms, round)


def _tags(run: Run) -> dict[str, str]:
    """Name where the run comes from, and how it ended."""
    facts = {name: str(value) for name, value in run.metrics.attributes.items() if name != "config"}
    if run.verdict is not None:
        facts |= {"outcome": run.verdict.outcome, "reason": run.verdict.reason}
    return facts
