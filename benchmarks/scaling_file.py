"""``study.h5``: what was measured and what follows from it, to the disk and back.

``measured``, ``fitted``, ``exchanges`` and ``predicted`` are tables: a dataset for each column, whose name
holds its unit (``_s``, ``_mb``, ``_bytes``, ``_per_s``; without one it is a count or a ratio). ``runs/NNNN``
holds the values of all rounds of the run in that row of ``measured``: shape (rounds, agents), or (rounds,)
for those of the root. Attributes of the file say where the numbers come from.
"""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scaling_runs import Case, Run, Study, Table
from scaling_tables import Tables, add_efficiency, tables_of

from fdrl_mpi.record.atomic_file import replacing
from fdrl_mpi.record.hdf5_image import hdf5_image

CONVENTIONS = "fdrl_mpi-scaling-1"
POINT = ("collective", "agents", "d", "median_s")


def write(path: Path, study: Study) -> None:
    """Write a study that has a run at least, atomically; a file of this name is replaced."""
    image = hdf5_image(lambda file: _fill(file, study, tables_of(study)))
    with replacing(path) as temporary:
        temporary.write_bytes(image)


def read(path: Path) -> Study:
    """Read what was measured; the tables follow from it.

    Raises
    ------
    ValueError
        If there is no such file, or it is not one of these.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            if file.attrs.get("Conventions") != CONVENTIONS:
                raise ValueError(f"its Conventions are not {CONVENTIONS!r}")
            return _study(file)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: there is no such file") from error
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: not a readable scaling study: {error}") from error


def _fill(file: h5py.File, study: Study, tables: Tables) -> None:
    file.attrs.update(study.facts)
    file.attrs["Conventions"] = CONVENTIONS
    file.attrs["cores"] = study.cores
    file.attrs["efficiency"] = " ".join((add_efficiency.__doc__ or "").split())
    for table in fields(tables):
        _write_table(file.create_group(table.name, track_order=True), getattr(tables, table.name))
    file["exchanges"].attrs.update(study.crypto)
    for number, run in enumerate(study.runs):
        group = file.create_group(f"runs/{number:04d}")
        group.attrs.update(asdict(run.case))
        group.attrs.update({"num_parameters": run.num_parameters, "memory_mb": run.memory_mb})
        for name, values in run.values.items():
            group.create_dataset(name, data=values)


def _write_table(group: h5py.Group, rows: Table) -> None:
    for column in rows[0] if rows else ():
        group.create_dataset(column, data=[row[column] for row in rows])


def _study(file: h5py.File) -> Study:
    own = ("Conventions", "cores", "efficiency")
    return Study(
        {name: _plain(value) for name, value in file.attrs.items() if name not in own},
        int(file.attrs["cores"]),
        {name: float(value) for name, value in file["exchanges"].attrs.items()},
        _read_table(file["exchanges"], POINT),
        [_run(group) for group in file["runs"].values()],
    )


def _run(group: h5py.Group) -> Run:
    facts = {name: _plain(value) for name, value in group.attrs.items()}
    case = Case(**{field.name: facts[field.name] for field in fields(Case)})
    values = {name: dataset[()] for name, dataset in group.items()}
    return Run(case, facts["num_parameters"], facts["memory_mb"], values)


def _read_table(group: h5py.Group, columns: tuple[str, ...]) -> Table:
    values = [_column(group[column]) for column in columns]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _column(dataset: h5py.Dataset) -> list[Any]:
    is_text = h5py.check_string_dtype(dataset.dtype) is not None
    return list(dataset.asstr()[()]) if is_text else dataset[()].tolist()


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
