"""The format of `metrics.h5`: what it holds, to bytes and back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from fdrl_mpi.arrays import DoubleArray, IntVector
from fdrl_mpi.record.hdf5_image import hdf5_image
from fdrl_mpi.record.variables import VARIABLES

CONVENTIONS = "fdrl_mpi-metrics-1"
"""Root attribute `Conventions`: the version of this format."""

Attribute: TypeAlias = str | int | float

_TEXT = h5py.string_dtype()
_TEXT_ID = h5py.h5t.py_create(_TEXT, logical=True)
_SCALAR = h5py.h5s.create(h5py.h5s.SCALAR)


@dataclass(frozen=True)
class AgentFact:
    """One value per agent that holds for the whole run, such as `context_gravity` or `host`."""

    values: NDArray[Any] | list[str]
    units: str
    long_name: str


@dataclass(frozen=True)
class Metrics:
    """The contents of `metrics.h5`.

    Attributes
    ----------
    attributes : dict
        Facts about the run: resolved configuration, versions, machine.
    rounds, agents : int64 arrays, shapes (R,) and (K,)
    values : dict of float64 arrays, shape (R, K) or (R,)
        By the names of `variables.VARIABLES`; NaN where nothing was recorded.
    agent_facts : dict of AgentFact
    """

    attributes: dict[str, Attribute]
    rounds: IntVector
    agents: IntVector
    values: dict[str, DoubleArray]
    agent_facts: dict[str, AgentFact]


def metrics_image(metrics: Metrics) -> bytes:
    """Give the bytes of the HDF5 file; every variable must have a value."""
    return hdf5_image(lambda file: _write(file, metrics))


def read_metrics(path: str | Path) -> Metrics:
    """Read `metrics.h5`, at any time, also while the run goes on.

    Raises
    ------
    ValueError
        If the file is missing, cut short, or not a record of this program.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            if file.attrs.get("Conventions") != CONVENTIONS:
                raise ValueError(
                    f"its Conventions are {file.attrs.get('Conventions')!r}, not {CONVENTIONS!r}"
                )
            return _read(file)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: there is no such file") from error
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: not a readable record of fdrl_mpi: {error}") from error


def _write(file: h5py.File, metrics: Metrics) -> None:
    for name, value in (metrics.attributes | {"Conventions": CONVENTIONS}).items():
        _write_attribute(file, name, value)
    scales = {"round": file.create_dataset("round", data=metrics.rounds)}
    scales["agent"] = file.create_dataset("agent", data=metrics.agents)
    for name, scale in scales.items():
        scale.make_scale(name)

    for variable in VARIABLES:
        dataset = file.create_dataset(variable.name, data=metrics.values[variable.name])
        _describe(dataset, variable.units, variable.long_name)
        for axis, name in enumerate(variable.dimensions):
            h5py.h5ds.attach_scale(dataset.id, scales[name].id, axis)
    for name, fact in metrics.agent_facts.items():
        dataset = file.create_dataset(name, data=fact.values)
        _describe(dataset, fact.units, fact.long_name)
        h5py.h5ds.attach_scale(dataset.id, scales["agent"].id, 0)


def _read(file: h5py.File) -> Metrics:
    attributes = {name: _plain(value) for name, value in file.attrs.items() if name != "Conventions"}
    values: dict[str, DoubleArray] = {}
    agent_facts: dict[str, AgentFact] = {}
    for name, dataset in file.items():
        if dataset.is_scale:
            continue
        if dataset.dims[0].keys() == ["round"]:
            values[name] = dataset[()]
        else:
            agent_facts[name] = _read_fact(dataset)
    return Metrics(attributes, file["round"][()], file["agent"][()], values, agent_facts)


def _read_fact(dataset: h5py.Dataset) -> AgentFact:
    is_text = h5py.check_string_dtype(dataset.dtype) is not None
    values = list(dataset.asstr()[()]) if is_text else dataset[()]
    return AgentFact(values, dataset.attrs["units"], dataset.attrs["long_name"])


def _plain(value: Any) -> Attribute:
    result: Attribute = value.item() if isinstance(value, np.generic) else value
    return result


def _describe(dataset: h5py.Dataset, units: str, long_name: str) -> None:
    _write_attribute(dataset, "units", units)
    _write_attribute(dataset, "long_name", long_name)


def _write_attribute(owner: h5py.Group | h5py.Dataset, name: str, value: Attribute) -> None:
    """Do what ``owner.attrs[name] = value`` does; spelled out for text, a write takes a quarter less time."""
    if isinstance(value, str):
        attribute = h5py.h5a.create(owner.id, name.encode(), _TEXT_ID, _SCALAR)
        attribute.write(np.array(value, dtype=_TEXT))
    else:
        owner.attrs[name] = value


def took_part(metrics: Metrics) -> list[dict[str, Any]]:
    """List whose updates are in the models of which rounds, equal neighbours in one entry."""
    ranges: list[dict[str, Any]] = []
    values = metrics.values
    is_in = (values["present"] == 1.0) & (values["rejected"] != 1.0) & (values["refused"] != 1.0)[:, None]
    for round, here in zip(metrics.rounds.tolist(), is_in, strict=True):
        agents = metrics.agents[here].tolist()
        if ranges and ranges[-1]["agents"] == agents and ranges[-1]["last"] == round - 1:
            ranges[-1]["last"] = round
        else:
            ranges.append({"first": round, "last": round, "agents": agents})
    return ranges
