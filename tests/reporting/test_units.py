"""Numbers for people."""

import numpy as np
import pytest

from fdrl_mpi.reporting.units import BYTES, SECONDS, UNKNOWN, bracketed, fitting, number, quantity, share


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.05093, "0.05093"), (406.66, "406.7"), (-1400.0, "-1,400"), (1234567.8, "1,234,568")],
)
def test_numbers_have_four_digits_or_are_whole(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 µs"),
        (0.0071, "7.1 ms"),
        (1.5, "1,500 ms"),
        (90.0, "90 s"),
        (150.0, "2.5 min"),
        (9e3, "2.5 h"),
    ],
)
def test_times_have_the_unit_that_fits(value: float, text: str) -> None:
    assert quantity(value, SECONDS) == text


def test_unknown_values_are_dashes() -> None:
    assert {number(np.nan), quantity(np.nan, BYTES), share(np.nan)} == {UNKNOWN}


def test_the_greatest_value_chooses_the_unit() -> None:
    assert fitting(BYTES, np.array([1.0, np.nan]), np.array([3e6]), np.array([np.nan])).name == "MB"


@pytest.mark.parametrize(
    ("units", "text"), [("1", "g"), ("-", "g"), ("m/s^2", "g (m/s²)"), ("m s^-2", "g (m s⁻²)")]
)
def test_units_stand_in_brackets(units: str, text: str) -> None:
    assert bracketed("g", units) == text
