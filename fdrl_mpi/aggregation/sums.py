"""Weighted sums whose bits do not depend on who adds which part."""

import numpy as np

from fdrl_mpi.arrays import DoubleArray, FloatMatrix, FloatVector

BLOCK = 4096
"""Columns that are added at once; slices of a model begin at multiples of it."""
LINE = 16
"""Columns of the last block are added up to a multiple of this; the rest is filled up with zeros."""


def shares(weights: FloatVector | DoubleArray) -> FloatVector:
    """Scale weights so that they add up to 1, as float32, shape (K,)."""
    scaled: FloatVector = (weights / weights.sum(dtype=np.float64)).astype(np.float32)
    return scaled


def weighted_sum(weights: FloatVector, rows: FloatMatrix, out: FloatVector | None = None) -> FloatVector:
    """Compute ``weights @ rows``, with the same bits however the columns are cut into slices.

    A matrix product adds in an order that depends on its shape, so columns are taken in blocks of fixed size,
    then in lines of fixed size: ranks that each reduce a slice of whole blocks get what one process gets.

    Parameters
    ----------
    weights : float32 array, shape (K,)
    rows : float32 array, shape (K, n)
    out : float32 array, shape (n,), optional

    Returns
    -------
    float32 array, shape (n,)
    """
    num_rows, length = rows.shape
    result: FloatVector = np.empty(length, np.float32) if out is None else out
    if num_rows == 1:
        np.multiply(rows[0], weights[0], out=result)
        return result
    whole = length - length % LINE
    for start in range(0, whole, BLOCK):
        stop = min(start + BLOCK, whole)
        np.matmul(weights, rows[:, start:stop], out=result[start:stop])
    if whole < length:
        last: FloatMatrix = np.zeros((num_rows, LINE), np.float32)
        last[:, : length - whole] = rows[:, whole:]
        result[whole:] = np.matmul(weights, last)[: length - whole]
    return result
