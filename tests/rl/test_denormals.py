"""Denormals count as 0 after `flush_denormals`; in a process of its own, because the setting stays."""

import platform
import subprocess
import sys

import pytest

from fdrl_mpi.rl.denormals import flush_denormals

CAN_FLUSH = platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc"
PROGRAM = """
import numpy as np
from fdrl_mpi.rl.denormals import flush_denormals

smallest = np.array([1.2e-38], np.float32)  # above the smallest normal number, 1.1755e-38
denormal = np.array([1e-39], np.float32)
def survive():
    results = np.concatenate([denormal * np.float32(2e3), smallest * np.float32(0.5)])
    return (results.view(np.int32) != 0).tolist()  # bits: a comparison would flush, too


print(*survive(), flush_denormals(), *survive(), (smallest * np.float32(2.0))[0] == np.float32(2.4e-38))
"""


@pytest.mark.skipif(not CAN_FLUSH, reason="only x86-64 with glibc flushes")
def test_denormal_operands_and_results_become_zero_and_normal_numbers_stay() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True", "False", "False", "True"]


@pytest.mark.parametrize(("machine", "library"), [("aarch64", "glibc"), ("x86_64", "")])
def test_a_machine_that_cannot_flush_says_so(
    machine: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: (library, ""))
    assert not flush_denormals()
