"""A curve, or a bar, in one line of text."""

import numpy as np

from fdrl_mpi.arrays import DoubleArray

BLOCKS = "▁▂▃▄▅▆▇█"
FULL, EMPTY = "█", "░"
PLAIN = str.maketrans(f"{BLOCKS}{EMPTY}–²³µ", "_.-=+*%#.-23u")
"""For terminals that know ASCII alone."""


def block_curve(values: DoubleArray, width: int) -> str:
    """Draw values as blocks from the lowest to the highest.

    Parameters
    ----------
    values : float64 array, shape (n,)
        Those that are not finite are left out; where more are left than fit, neighbours are averaged.
    width : int
        Characters at most, at least 1.

    Returns
    -------
    str
        One character a value; values that do not differ are drawn at half height.
    """
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return ""
    heights = np.array([part.mean() for part in np.array_split(known, min(width, len(known)))])
    low, high = heights.min(), heights.max()
    shares = (heights - low) / (high - low) if high > low else np.full(len(heights), 0.5)
    return "".join(BLOCKS[int(share * (len(BLOCKS) - 1) + 0.5)] for share in shares)


def bar(share: float, width: int) -> str:
    """Draw a share of 1 as a bar of `width` characters; it is only full at 1."""
    full = int(np.clip(share, 0.0, 1.0) * width)
    return FULL * full + EMPTY * (width - full)
