"""Arithmetic without denormal numbers."""

import ctypes
import platform

_FLUSH_TO_ZERO_AND_DENORMALS_ARE_ZERO = 0x8040
_MXCSR_OFFSET = 28
_FENV_SIZE = 32


def flush_denormals() -> bool:
    """Let this thread treat float32 values below 1.2e-38 as 0; return whether the machine can.

    Adam's moments of units that have died decay into denormals, and every pass over those costs 35 times
    as much. It is part of what makes a run reproducible to the bit: x86-64 with glibc flushes, others do
    not. The word is the SSE control register in glibc's `fenv_t`.
    """
    if platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL("libm.so.6")
    environment = ctypes.create_string_buffer(_FENV_SIZE)
    if library.fegetenv(environment) != 0:
        return False
    word = ctypes.c_uint32.from_buffer(environment, _MXCSR_OFFSET)
    word.value |= _FLUSH_TO_ZERO_AND_DENORMALS_ARE_ZERO
    return bool(library.fesetenv(environment) == 0)
