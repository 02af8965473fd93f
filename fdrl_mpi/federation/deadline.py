"""How long the root waits for the agents of a round."""

import logging
from collections import deque
from math import inf

import numpy as np

from fdrl_mpi.arrays import DoubleArray

LOG = logging.getLogger(__name__)
NUM_RECENT = 10
"""Rounds from which a deadline is learnt."""
PERCENTILE = 90.0


class Deadline:
    """A fixed time, or one that follows the agents; never less than half of them took lately.

    Parameters
    ----------
    least_s : float
        Seconds; 0 with a factor of 0: the root waits for everyone.
    factor : float
        0: the deadline is `least_s`; else it is this many times the 90th percentile of what agents took in
        the last ten rounds, and at least `least_s`.
    """

    def __init__(self, least_s: float, factor: float) -> None:
        self._least_s, self._factor = least_s, factor
        self._recent: deque[float] = deque(maxlen=NUM_RECENT)
        self._medians: deque[float] = deque(maxlen=NUM_RECENT)
        self._is_told = False

    @property
    def next_s(self) -> float:
        """The deadline of the next round, in seconds; infinite where there is none, or none is learnt yet."""
        if self._factor and self._recent:
            return max(self._least_s, self._factor * float(np.mean(self._recent)))
        if self._factor or not self._least_s:
            return inf
        return max(self._least_s, float(np.mean(self._medians)) if self._medians else 0.0)

    def note(self, train_s: DoubleArray) -> None:
        """Learn from what the agents of a round took, shape (K,); NaN or 0 for those that were absent."""
        present = train_s[train_s > 0.0]
        if not present.size:
            return
        self._recent.append(float(np.percentile(present, PERCENTILE)))
        self._medians.append(float(np.median(present)))
        if self._least_s < self._medians[-1] and self._least_s and not self._factor and not self._is_told:
            self._is_told = True
            LOG.warning(
                "participation.deadline_s = %g is less than half of the agents took to train (%.3g s), so "
                "that most would be left out: their median counts instead; choose %.3g or more",
                self._least_s,
                self._medians[-1],
                1.5 * self._recent[-1],
            )
