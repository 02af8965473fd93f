"""Fixed point: known answers, exact sums, no wrap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdrl_mpi.privacy.fixed_point import FixedPoint, fraction_bits


def _encode(code: FixedPoint, values, weight: float = 1.0) -> np.ndarray:
    values = np.array(values, np.float32)
    zeros, out = np.zeros(len(values), np.uint32), np.empty(len(values), np.uint32)
    code.encode(values, np.zeros_like(values), weight, zeros, out)
    return out


def test_known_answer():
    words = _encode(FixedPoint(20, 8.0), [1.0, -1.0, 0.5, -2.5e-7, 3.14159265])
    assert [f"{word:08x}" for word in words] == ["00100000", "fff00000", "00080000", "00000000", "003243f7"]


@pytest.mark.parametrize(
    ("num_agents", "bits"),
    [(4, [28, 27, 26, 25, 24, 22]), (16, [26, 25, 24, 23, 22, 20]), (256, [22, 21, 20, 19, 18, 16])],
)
def test_fraction_bits_are_those_of_the_table(num_agents, bits):
    assert [fraction_bits(num_agents, c) for c in (1, 2, 4, 8, 16, 64)] == bits


def test_fewer_than_sixteen_fraction_bits_are_refused():
    with pytest.raises(ValueError, match="leave 14 bits"):
        fraction_bits(1024, 64.0)


@given(st.integers(1, 1024), st.floats(0.01, 30.0))
def test_sums_of_the_largest_values_do_not_wrap(num_agents, largest):
    code = FixedPoint(fraction_bits(num_agents, largest), largest)
    for sign in (1.0, -1.0):
        (word,) = _encode(code, [sign * np.float32(1e30)])
        total = np.array([num_agents * int(np.int32(word))])
        assert abs(total[0]) <= 2**31 - 1
        assert np.isclose(code.decode(total.astype(np.uint32))[0], sign * num_agents * largest, rtol=1e-4)


@given(
    st.integers(1, 20),
    st.lists(st.floats(-4.0, 4.0, width=32), min_size=1, max_size=50),
    st.floats(0.01, 1.0),
)
def test_decoded_sum_is_the_sum_to_the_stated_error(num_agents, values, weight):
    code = FixedPoint(fraction_bits(num_agents, 4.0), 4.0)
    words = np.zeros(len(values), np.uint32)
    for _ in range(num_agents):
        words += _encode(code, values, weight)
    exact = num_agents * weight * np.array(values)
    bound = num_agents * (2.0 ** -(code.fraction_bits + 1)) + np.abs(exact) * 2.0**-22
    assert (np.abs(code.decode(words) - exact) <= bound).all()


def test_clipped_values_are_counted_across_blocks():
    values = np.zeros(200_000, np.float32)
    values[[0, 70_000, 199_999]] = 5.0, -5.0, 4.0
    zeros, out = np.zeros(len(values), np.uint32), np.empty(len(values), np.uint32)
    code = FixedPoint(20, 4.0)
    assert code.encode(values, np.zeros_like(values), 1.0, zeros, out) == 2
    assert code.decode(out)[[0, 70_000, 199_999]].tolist() == [4.0, -4.0, 4.0]


def test_encoding_adds_to_what_is_there():
    code, values = FixedPoint(20, 4.0), np.array([1.5], np.float32)
    out = np.array([7], np.uint32)
    code.encode(values, values * 0, 1.0, out, out)
    assert out.tolist() == [7 + 3 * 2**19]


def test_mean_is_decoded_around_its_origin_across_blocks():
    code, values = FixedPoint(22, 4.0), np.linspace(-1.0, 1.0, 150_000, dtype=np.float32)
    words, out = np.zeros(len(values), np.uint32), np.empty_like(values)
    for weight in (0.5, 1.0):
        code.encode(values, np.zeros_like(values), weight, words, words)
    code.decode_mean(words, 1.5, values[::-1], out)
    assert np.allclose(out, values + values[::-1], atol=1e-6)
