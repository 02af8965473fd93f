"""Numbers for people: fitting units, few digits, a dash for what is not known."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np

from fdrl_mpi.arrays import DoubleArray

UNKNOWN = "–"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Unit:
    """A unit to show values in; `size` is what one of it is in the unit of the record."""

    name: str
    size: float


SECONDS = (Unit("µs", 1e-6), Unit("ms", 1e-3), Unit("s", 1.0), Unit("min", 60.0), Unit("h", 3600.0))
BYTES = (Unit("B", 1.0), Unit("kB", 1e3), Unit("MB", 1e6), Unit("GB", 1e9), Unit("TB", 1e12))
COUNTS = (Unit("", 1.0), Unit("thousand", 1e3), Unit("million", 1e6), Unit("billion", 1e9))


def fitting(units: Sequence[Unit], *values: DoubleArray) -> Unit:
    """Choose the largest unit of which the greatest value holds at least two; the smallest for nothing."""
    greatest = max((float(np.nanmax(array)) for array in values if not np.isnan(array).all()), default=0.0)
    return next((unit for unit in reversed(units) if greatest >= 2.0 * unit.size), units[0])


def number(value: float) -> str:
    """Write four significant digits, all digits of larger numbers, and a dash for NaN."""
    if isnan(value):
        return UNKNOWN
    return f"{value:,.0f}" if abs(value) >= 1000.0 else f"{value:.4g}"


def quantity(value: float, units: Sequence[Unit]) -> str:
    """Write a number with the unit that fits it."""
    if isnan(value):
        return UNKNOWN
    unit = fitting(units, np.array([value]))
    return f"{number(value / unit.size)} {unit.name}".rstrip()


def share(value: float) -> str:
    """Write a share of 1 in per cent."""
    return UNKNOWN if isnan(value) else f"{value:.1%}"


def bracketed(name: str, units: str) -> str:
    """Put the units behind a name, if there are any."""
    return name if units in ("", "1", "-") else f"{name} ({typeset(units)})"


def typeset(units: str) -> str:
    """Raise the exponents: m/s^2 becomes m/s²."""
    return re.sub(r"\^(-?\d+)", lambda found: found[1].translate(_RAISED), units)
