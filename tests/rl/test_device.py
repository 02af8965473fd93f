"""Choice of device and engine, with a driver and a torch that the test makes up."""

import ctypes
import importlib.metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from fdrl_mpi.rl import device
from fdrl_mpi.rl.device import choose_device, choose_engine, cuda_devices, torch_cuda_version


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Facts that the code believes; change its attributes."""
    facts = SimpleNamespace(devices=["A100", "A100"], cuda="12.8")
    monkeypatch.setattr(device, "cuda_devices", lambda: facts.devices)
    monkeypatch.setattr(device, "torch_cuda_version", lambda: facts.cuda)
    return facts


@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_ranks_of_a_host_take_turns_on_its_devices(wanted: str, machine: SimpleNamespace) -> None:
    assert [choose_device(wanted, rank) for rank in range(5)] == [
        "cuda:0",
        "cuda:1",
        "cuda:0",
        "cuda:1",
        "cuda:0",
    ]


def test_the_cpu_is_taken_where_it_is_wanted(machine: SimpleNamespace) -> None:
    assert choose_device("cpu", 0) == "cpu"


@pytest.mark.parametrize(
    ("devices", "cuda", "reason"),
    [([], "12.8", "the driver shows no CUDA device"), (["A100"], "", "the installed torch is a CPU build")],
)
def test_without_a_usable_device_auto_takes_the_cpu_and_cuda_is_refused(
    devices: list[str], cuda: str, reason: str, machine: SimpleNamespace
) -> None:
    machine.devices, machine.cuda = devices, cuda
    assert choose_device("auto", 0) == "cpu"
    with pytest.raises(ValueError, match=reason):
        choose_device("cuda", 0)


@pytest.mark.parametrize(
    ("wanted", "on", "is_plain", "engine"),
    [
        ("auto", "cpu", True, "numpy"),
        ("auto", "cpu", False, "torch"),
        ("auto", "cuda:0", True, "torch"),
        ("torch", "cpu", True, "torch"),
        ("numpy", "cpu", True, "numpy"),
    ],
)
def test_numpy_computes_plain_layers_on_the_cpu_and_torch_the_rest(
    wanted: str, on: str, is_plain: bool, engine: str
) -> None:
    assert choose_engine(wanted, on, is_plain) == engine


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("cuda: Optional[str] = '12.8'", "12.8"),
        ("cuda = '11.8'", "11.8"),
        ("cuda: Optional[str] = None", ""),
        ("hip: Optional[str] = '6.1'", ""),
    ],
)
def test_cuda_version_is_read_from_torchs_files(
    line: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/version.py").write_text(f"__version__ = '2.9.0+cu999'\n{line}\ngit_version = '12'\n")
    monkeypatch.setattr(
        importlib.metadata, "distribution", lambda name: SimpleNamespace(locate_file=tmp_path.joinpath)
    )
    assert torch_cuda_version() == version


def test_without_torch_there_is_no_cuda_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    assert torch_cuda_version() == ""


class Driver:
    """Two devices, behind the three functions of libcuda that are called."""

    def __init__(self, status: int = 0) -> None:
        self.status = status

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self.status

    def cuDeviceGetCount(self, count: object) -> int:  # noqa: N802
        count._obj.value = 2
        return 0

    def cuDeviceGet(self, handle: object, ordinal: int) -> int:  # noqa: N802
        handle._obj.value = ordinal
        return 0

    def cuDeviceGetName(self, name: ctypes.Array, size: int, handle: ctypes.c_int) -> int:  # noqa: N802
        name.value = f"device {handle.value}"[: size - 1].encode()
        return 0

    def cuDeviceTotalMem_v2(self, size: object, handle: ctypes.c_int) -> int:  # noqa: N802
        size._obj.value = (1 + handle.value) << 34
        return 0


def test_the_driver_says_how_much_memory_a_device_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    assert device.cuda_memory_bytes(1) == 2 << 34


def test_the_driver_names_its_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    assert cuda_devices.__wrapped__() == ["device 0", "device 1"]


def test_a_driver_that_does_not_start_has_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(status=100))
    assert cuda_devices.__wrapped__() == []


def test_without_a_driver_there_are_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert cuda_devices.__wrapped__() == []


@pytest.mark.parametrize(("num_ranks", "fits"), [(1, True), (8, True), (9, False)])
def test_ranks_that_do_not_fit_on_a_device_are_refused_with_the_estimate(
    monkeypatch: pytest.MonkeyPatch, num_ranks: int, fits: bool
) -> None:
    monkeypatch.setattr(device, "cuda_memory_bytes", {1: 16_000_000_000}.__getitem__)
    each = 2_000_000_000 - device.CONTEXT_BYTES
    device.check_memory("cpu", 1000, each)
    if fits:
        device.check_memory("cuda:1", num_ranks, each)
        return
    with pytest.raises(
        ValueError, match=r"9 ranks on cuda:1 need about 18.0 GB \(2.0 GB each\), and it has 16.0"
    ):
        device.check_memory("cuda:1", num_ranks, each)
