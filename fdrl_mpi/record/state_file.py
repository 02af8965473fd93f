"""A component's state as an HDF5 file, bit for bit."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5s, h5t
from numpy.typing import NDArray

from fdrl_mpi.arrays import State
from fdrl_mpi.record.atomic_file import anybody, replacing
from fdrl_mpi.record.hdf5_image import hdf5_image

_FORMAT = "fdrl_mpi-state-1"
_SCALAR, _TEXT = h5s.create(h5s.SCALAR), h5py.string_dtype()
_TEXT_ID = h5t.py_create(_TEXT, logical=1)


class DamagedCheckpoint(ValueError):  # noqa: N818 (the name says what is wrong)
    """A checkpoint is missing, incomplete or not what was written."""


def write_state(
    path: str | Path, state: State, check: Callable[[], None] = anybody, durable: bool = True
) -> str:
    """Write a state atomically.

    Parameters
    ----------
    path : path
        The file to create or replace.
    state : nested dict with text keys
        Arrays and numpy scalars (bool, integer, floating, complex), and Python's bool, int of any size,
        float, str, bytes and None.
    check, durable : callable, bool
        See `replacing`.

    Returns
    -------
    str
        SHA-256 of the file, in hexadecimal. Equal states give equal files.

    Raises
    ------
    TypeError
        If a value or a key is of another type. The old file stays.
    OSError
        If the file system refuses. The old file stays.

    Notes
    -----
    Takes twice the size of the state in memory (`hdf5_image`).
    """
    image = hdf5_image(lambda file: _write(file, state))
    with replacing(path, durable, check) as temporary:
        temporary.write_bytes(image)
    return hashlib.sha256(image).hexdigest()


def read_state(path: str | Path, sha256: str | None = None) -> State:
    """Read what `write_state` wrote.

    Parameters
    ----------
    path : path
        The file.
    sha256 : str, optional
        The digest that `write_state` returned. Only with it is every change to the file noticed.

    Raises
    ------
    DamagedCheckpoint
        If the file is missing, has another digest, or cannot be read.
    """
    try:
        found = file_digest(path)
        if sha256 is not None and found != sha256:
            raise DamagedCheckpoint(f"{path}: SHA-256 is {found[:12]}..., should be {sha256[:12]}...")
        with h5py.File(path, "r", locking=False) as file:
            if file.attrs["format"] != _FORMAT:
                raise DamagedCheckpoint(f"{path}: its format is {file.attrs['format']!r}, not {_FORMAT!r}")
            return _read_group(file["state"])
    except DamagedCheckpoint:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise DamagedCheckpoint(f"{path}: cannot be read: {error}") from error


def file_digest(path: str | Path) -> str:
    """Give the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(file: h5py.File, state: State) -> None:
    file.attrs["format"] = _FORMAT
    _write_group(file.create_group("state").id, "/state", state)


def _write_group(group: h5py.h5g.GroupID, name: str, state: State) -> None:
    """Write with the calls of HDF5 itself, which take half the time of h5py's for so small arrays."""
    for key, value in sorted(state.items()):
        link = _link_name(key).encode()
        if isinstance(value, dict):
            _write_group(h5g.create(group, link), f"{name}/{key}", value)
            continue
        try:
            kind, data = _encode(value)
        except TypeError as error:
            raise TypeError(f"{name}/{key}: {error}") from None
        space = h5s.create_simple(data.shape) if data.ndim else _SCALAR
        dataset = h5d.create(group, link, h5t.py_create(data.dtype, logical=True), space)
        if data.size:
            dataset.write(h5s.ALL, h5s.ALL, np.ascontiguousarray(data))
        h5a.create(dataset, b"kind", _TEXT_ID, _SCALAR).write(np.array(kind, _TEXT))


def _read_group(group: h5py.Group) -> State:
    return {
        _key(name): _read_group(item) if isinstance(item, h5py.Group) else _decode(item)
        for name, item in group.items()
    }


def _encode(value: object) -> tuple[str, NDArray[Any]]:
    """Give the kind of a value and the array that holds it. Text is bytes: HDF5 strings end at a zero."""
    match value:
        case np.ndarray() | np.generic():
            if value.dtype.kind not in "biufc":
                raise TypeError(f"an array of {value.dtype} cannot be kept")
            return "array" if isinstance(value, np.ndarray) else "scalar", np.asarray(value)
        case None:
            return "none", _bytes_array(b"")
        case bool():
            return "bool", np.array(value)
        case int() if -(2**63) <= value < 2**63:
            return "int", np.array(value, dtype=np.int64)
        case int():
            return "large int", _bytes_array(hex(value).encode())
        case float():
            return "float", np.array(value)
        case str():
            return "str", _bytes_array(value.encode("utf-8", "surrogatepass"))
        case bytes():
            return "bytes", _bytes_array(value)
    raise TypeError(f"a {type(value).__name__} cannot be kept")


_DECODERS: dict[str, Callable[[NDArray[Any]], Any]] = {
    "array": lambda data: data,
    "scalar": lambda data: data[()],
    "none": lambda data: None,
    "bool": bool,
    "int": int,
    "large int": lambda data: int(data.tobytes(), 16),
    "float": float,
    "str": lambda data: data.tobytes().decode("utf-8", "surrogatepass"),
    "bytes": lambda data: data.tobytes(),
}


def _decode(dataset: h5py.Dataset) -> Any:
    return _DECODERS[dataset.attrs["kind"]](np.asarray(dataset[()], dtype=dataset.dtype))


def _bytes_array(value: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(value, dtype=np.uint8)


def _link_name(key: str) -> str:
    """Escape what HDF5 reads as a path, and the empty name: ``a/b`` becomes ``a%2Fb``."""
    if not isinstance(key, str):
        raise TypeError(f"the key {key!r} is a {type(key).__name__}, not text")
    name = key.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
    return {"": "%", ".": "%2E"}.get(name, name)


def _key(name: str) -> str:
    if name == "%":
        return ""
    return name.replace("%2E", ".").replace("%00", "\0").replace("%2F", "/").replace("%25", "%")
