"""Which device and which engine a rank computes with, decided without loading torch."""

import ctypes
import re
from functools import cache
from pathlib import Path

CONTEXT_BYTES = 500_000_000
"""Of a CUDA context with torch's kernels, as is commonly reported; not measured here."""


@cache
def cuda_devices() -> list[str]:
    """Ask the driver for the names of the visible CUDA devices, without loading torch."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return []
    count, name = ctypes.c_int(), ctypes.create_string_buffer(100)
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    names, device = [], ctypes.c_int()
    for ordinal in range(count.value):
        cuda.cuDeviceGet(ctypes.byref(device), ordinal)
        cuda.cuDeviceGetName(name, len(name), device)
        names.append(name.value.decode())
    return names


def cuda_memory_bytes(ordinal: int) -> int:
    """Ask the driver how much memory a visible CUDA device has, without loading torch."""
    cuda, device, size = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_size_t()
    cuda.cuDeviceGet(ctypes.byref(device), ordinal)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    return size.value


def torch_cuda_version() -> str:
    """Read for which CUDA the installed torch was built, from its files; empty for a CPU build or none."""
    import importlib.metadata  # brings half of the mail library with it

    try:
        torch = importlib.metadata.distribution("torch")
    except importlib.metadata.PackageNotFoundError:
        return ""
    version_file = Path(str(torch.locate_file("torch/version.py")))
    found = (
        re.search(r"^cuda\b.*= '([\d.]+)'", version_file.read_text(), re.MULTILINE)
        if version_file.exists()
        else None
    )
    return found.group(1) if found else ""


def choose_device(wanted: str, local_rank: int) -> str:
    """Name the device of a rank: ``"cpu"`` or ``"cuda:N"``, ranks of a host taking turns on its devices.

    Parameters
    ----------
    wanted : "auto", "cpu" or "cuda"
    local_rank : int
        Rank among those of this host; a launcher's variables do not always tell it.

    Raises
    ------
    ValueError
        If "cuda" is wanted and there is none, or torch cannot use it.
    """
    if wanted == "cpu":
        return "cpu"
    devices = cuda_devices()
    if devices and torch_cuda_version():
        return f"cuda:{local_rank % len(devices)}"
    if wanted == "cuda":
        reason = "the installed torch is a CPU build" if devices else "the driver shows no CUDA device"
        raise ValueError(f"learner.device = cuda, but {reason}")
    return "cpu"


def check_memory(device: str, num_ranks: int, rank_bytes: int) -> None:
    """Refuse ranks that do not fit on a device together.

    Parameters
    ----------
    device : str
    num_ranks : int
        Ranks that compute on it.
    rank_bytes : int
        What each of them keeps there; the CUDA context comes on top.

    Raises
    ------
    ValueError
        With the estimate.
    """
    if device == "cpu":
        return
    each, has = rank_bytes + CONTEXT_BYTES, cuda_memory_bytes(int(device.partition(":")[2]))
    if num_ranks * each > has:
        raise ValueError(
            f"{num_ranks} ranks on {device} need about {num_ranks * each / 1e9:.1f} GB "
            f"({each / 1e9:.1f} GB each), and it has {has / 1e9:.1f} GB; start fewer ranks, each with more "
            "agents (agents_per_rank), shorten learner.num_steps, or set learner.device = cpu"
        )


def choose_engine(wanted: str, device: str, is_plain: bool) -> str:
    """Name the engine: numpy for plain layers on the CPU, torch for everything else."""
    if wanted != "auto":
        return wanted
    return "numpy" if device == "cpu" and is_plain else "torch"
