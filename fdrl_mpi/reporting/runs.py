"""The runs of a report: what their directories hold, and what to call them."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fdrl_mpi.arrays import DoubleArray
from fdrl_mpi.record.metrics_file import Metrics, read_metrics
from fdrl_mpi.record.run_directory import RunDirectory
from fdrl_mpi.record.variables import VARIABLES
from fdrl_mpi.record.verdict import Verdict

CONTEXT_PREFIX = "context_"


@dataclass(frozen=True)
class Context:
    """One physical parameter in which the agents' worlds differ; `values` has shape (K,)."""

    name: str
    units: str
    values: DoubleArray


@dataclass(frozen=True)
class Run:
    """One run, as far as it has come.

    Attributes
    ----------
    path : Path
        The run directory.
    label : str
        What tells it from the other runs of the report.
    mode : str
        "federated", "independent" or "centralised"; empty if the configuration does not say.
    planned_rounds : int or None
        What the configuration asks for.
    config : str
        The resolved configuration, as TOML; empty if none was kept.
    metrics : Metrics
        With every variable of `variables.VARIABLES`.
    verdict : Verdict or None
        None as long as the run goes on, or if it was killed.
    """

    path: Path
    label: str
    mode: str
    planned_rounds: int | None
    config: str
    metrics: Metrics
    verdict: Verdict | None

    @property
    def contexts(self) -> list[Context]:
        """The contexts that were recorded as numbers, in order of their names."""
        facts = sorted(self.metrics.agent_facts.items())
        return [
            Context(name.removeprefix(CONTEXT_PREFIX), fact.units, np.asarray(fact.values, np.float64))
            for name, fact in facts
            if name.startswith(CONTEXT_PREFIX) and np.asarray(fact.values).dtype.kind in "fiu"
        ]


def load_runs(paths: Sequence[str | Path]) -> list[Run]:
    """Read the runs and label each by its name, and its mode where that tells more.

    Runs of the same name are told apart by their paths.

    Raises
    ------
    ValueError
        If a directory is missing, given twice, or holds no readable record.
    """
    runs = [load_run(path) for path in paths]
    places = [run.path.resolve() for run in runs]
    for place in places:
        if places.count(place) > 1:
            raise ValueError(f"{place}: named twice")
    names = [place.name for place in places]
    modes_differ = len({run.mode for run in runs}) > 1
    labels = [
        name if names.count(name) == 1 else str(run.path) for name, run in zip(names, runs, strict=True)
    ]
    return [
        replace(run, label=f"{label} ({run.mode})" if modes_differ and run.mode not in label else label)
        for label, run in zip(labels, runs, strict=True)
    ]


def load_run(path: str | Path) -> Run:
    """Read one run directory, at any time, also while the run goes on.

    Variables that this version knows and the file does not are NaN.

    Raises
    ------
    ValueError
        If there is no directory, or no readable record in it.
    """
    directory = RunDirectory(path)
    if not directory.exists():
        raise ValueError(f"{path}: there is no such run directory")
    if not directory.metrics.is_file():
        raise ValueError(f"{path}: has no {directory.metrics.name}; give the directory of a run")
    metrics = read_metrics(directory.metrics)
    config = str(metrics.attributes.get("config", ""))
    settings = _parse(config, directory.metrics)
    return Run(
        path=directory.path,
        label=directory.path.resolve().name,
        mode=str(settings.get("mode", "")),
        planned_rounds=settings.get("rounds"),
        config=config,
        metrics=_completed(metrics),
        verdict=Verdict.read(directory.verdict) if directory.verdict.exists() else None,
    )


def same_worlds(runs: Sequence[Run]) -> list[list[Run]]:
    """Group the runs whose agents and contexts are equal, in order of first appearance."""
    groups: list[list[Run]] = []
    for run in runs:
        for group in groups:
            if _worlds_equal(group[0], run):
                group.append(run)
                break
        else:
            groups.append([run])
    return groups


def _worlds_equal(a: Run, b: Run) -> bool:
    ours, theirs = a.contexts, b.contexts
    return (
        np.array_equal(a.metrics.agents, b.metrics.agents)
        and [(one.name, one.units) for one in ours] == [(other.name, other.units) for other in theirs]
        and all(
            np.array_equal(one.values, other.values, equal_nan=True)
            for one, other in zip(ours, theirs, strict=True)
        )
    )


def _parse(config: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config)
    except ValueError as error:
        raise ValueError(f"{path}: its attribute `config` is not TOML: {error}") from error


def _completed(metrics: Metrics) -> Metrics:
    num_rounds, num_agents = len(metrics.rounds), len(metrics.agents)
    shapes = {
        v.name: (num_rounds, num_agents) if "agent" in v.dimensions else (num_rounds,) for v in VARIABLES
    }
    unknown = {name: np.full(shape, np.nan) for name, shape in shapes.items()}
    return replace(metrics, values=unknown | metrics.values)
