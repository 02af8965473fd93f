"""Real numbers as elements of Z_2^32, so that masks can hide them perfectly and still cancel in a sum."""

from dataclasses import dataclass
from math import floor, log2

import numpy as np
from numpy.typing import NDArray

from fdrl_mpi.arrays import DoubleArray, FloatVector

WordVector = NDArray[np.uint32]
"""1-D uint32: a vector over Z_2^32."""

FEWEST_FRACTION_BITS = 16
BLOCK = 2**16
"""Values that are encoded at once: they stay in a core's second-level cache."""


def fraction_bits(num_agents: int, largest: float) -> int:
    """Choose the most fraction bits with which a sum cannot wrap.

    ``K (c 2^F + 1/2) <= 2^31 - 1``, where c is also at least 1 because a weight of up to 1 travels along.

    Parameters
    ----------
    num_agents : int
        K.
    largest : float
        c: values are clipped to -c .. c.

    Raises
    ------
    ValueError
        If that leaves fewer than 16.
    """
    bound = max(largest, 1.0)
    bits = floor(log2((2**31 - 1 - num_agents / 2) / (num_agents * bound)))
    if bits < FEWEST_FRACTION_BITS:
        raise ValueError(
            f"sums of {num_agents} values up to {bound:g} leave {bits} bits of 32 for the fraction, fewer "
            f"than {FEWEST_FRACTION_BITS}: they would lose the small changes of a model, or wrap"
        )
    return bits


@dataclass(frozen=True)
class FixedPoint:
    """Two's complement with `fraction_bits` bits after the point.

    Attributes
    ----------
    fraction_bits : int
        F.
    largest : float
        c: values are clipped to -c .. c.
    """

    fraction_bits: int
    largest: float

    def encode(
        self, values: FloatVector, origin: FloatVector, weight: float, add: WordVector, out: WordVector
    ) -> int:
        """Write ``add + rint(clip(weight (values - origin), -c, c) 2^F) mod 2^32``.

        Half way between two steps the even one is taken. Scaled values are formed in float32, so an error of
        2^-24 of the value adds to the rounding of 2^-(F+1).

        Parameters
        ----------
        values, origin : float32 arrays, shape (n,)
        weight : float
            At most 1.
        add, out : uint32 arrays, shape (n,)
            May be the same.

        Returns
        -------
        int
            How many values were clipped.
        """
        scale, limit = np.float32(weight * 2.0**self.fraction_bits), np.float32(self._limit)
        scaled = np.empty(min(BLOCK, len(values)), np.float32)
        num_clipped = 0
        for start in range(0, len(values), BLOCK):
            stop = min(start + BLOCK, len(values))
            part = scaled[: stop - start]
            np.subtract(values[start:stop], origin[start:stop], out=part)
            with np.errstate(over="ignore"):  # infinity is clipped below
                np.multiply(part, scale, out=part)
            np.rint(part, out=part)
            if part.max() > limit or part.min() < -limit:
                num_clipped += int(np.count_nonzero(np.abs(part) > limit))
                np.clip(part, -limit, limit, out=part)
            np.add(add[start:stop], part.astype(np.int32).view(np.uint32), out=out[start:stop])
        return num_clipped

    def encode_number(self, value: float) -> int:
        """Encode one number from 0 to 1, such as a weight."""
        return round(value * (1 << self.fraction_bits))

    def decode(self, words: WordVector) -> DoubleArray:
        """Return the real numbers that sums of encoded values stand for, float64, shape (n,)."""
        return words.view(np.int32).astype(np.float64) * 2.0**-self.fraction_bits

    def decode_mean(
        self, words: WordVector, total_weight: float, origin: FloatVector, out: FloatVector
    ) -> None:
        """Write ``origin + decode(words) / total_weight``, formed in float64.

        Parameters
        ----------
        words : uint32 array, shape (n,)
        origin, out : float32 arrays, shape (n,)
        """
        factor = 2.0**-self.fraction_bits / total_weight
        scaled = np.empty(min(BLOCK, len(words)))
        for start in range(0, len(words), BLOCK):
            block = slice(start, min(start + BLOCK, len(words)))
            part = scaled[: block.stop - start]
            np.multiply(words[block].view(np.int32), factor, out=part)
            np.add(part, origin[block], out=part)
            out[block] = part

    @property
    def _limit(self) -> float:
        """The largest float32 that is no larger than c 2^F."""
        exact = self.largest * 2.0**self.fraction_bits
        nearest = np.float32(exact)
        return float(nearest if nearest <= exact else np.nextafter(nearest, np.float32(0.0)))
