"""The record as tidy tables: a row for each round, for each round and agent, and for each agent."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from math import isnan
from pathlib import Path
from typing import Any

from fdrl_mpi.record.atomic_file import replacing
from fdrl_mpi.record.metrics_file import Metrics
from fdrl_mpi.record.variables import AGENT_VARIABLES, VARIABLES
from fdrl_mpi.reporting.runs import Run


def write_tables(run: Run, folder: Path) -> list[Path]:
    """Write the tables, each atomically; return their paths.

    ``rounds.csv`` and ``agents.csv`` have a column for each variable, ``worlds.csv`` one for each fact about
    an agent, and ``variables.csv`` says what the columns are. What is not known is empty; numbers read back
    as they were.

    Raises
    ------
    OSError
        If the file system refuses.
    """
    metrics = run.metrics
    own = [variable.name for variable in VARIABLES if variable.name not in AGENT_VARIABLES]
    facts = metrics.agent_facts
    tables: dict[str, tuple[Sequence[str], Iterable[Sequence[Any]]]] = {
        "rounds": (["round", *own], _rounds(metrics, own)),
        "agents": (["round", "agent", *AGENT_VARIABLES], _agents(metrics)),
        "worlds": (
            ["agent", *facts],
            zip(metrics.agents, *(fact.values for fact in facts.values()), strict=True),
        ),
        "variables": (["table", "name", "units", "long_name"], _variables(metrics)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(folder / f"{name}.csv", heading, rows) for name, (heading, rows) in tables.items()]


def _rounds(metrics: Metrics, names: Sequence[str]) -> Iterator[Sequence[Any]]:
    columns = [metrics.values[name].tolist() for name in names]
    yield from zip(metrics.rounds.tolist(), *columns, strict=True)


def _agents(metrics: Metrics) -> Iterator[Sequence[Any]]:
    agents = metrics.agents.tolist()
    for row, round in enumerate(metrics.rounds.tolist()):
        columns = [metrics.values[name][row].tolist() for name in AGENT_VARIABLES]
        for agent, *values in zip(agents, *columns, strict=True):
            yield [round, agent, *values]


def _variables(metrics: Metrics) -> Iterator[Sequence[str]]:
    for variable in VARIABLES:
        table = "agents" if variable.name in AGENT_VARIABLES else "rounds"
        yield table, variable.name, variable.units, variable.long_name
    for name, fact in metrics.agent_facts.items():
        yield "worlds", name, fact.units, fact.long_name


def _write(path: Path, heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(heading)
        writer.writerows([_cell(value) for value in row] for row in rows)
    return path


def _cell(value: Any) -> Any:
    return "" if isinstance(value, float) and isnan(value) else value
