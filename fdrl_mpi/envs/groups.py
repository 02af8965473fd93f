"""Environments of several agents in one vector: each agent's draw from a generator of its own."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Protocol

import numpy as np

from fdrl_mpi.arrays import FloatMatrix, IntVector


class Grouped(Protocol):
    """A `VectorEnv` of G groups of equally many environments, one group after another.

    What a group does is what it would do as a vector of its own, with its own generator. In its state every
    array has the environments on its last axis.
    """

    def reset_groups(self, generators: Sequence[np.random.Generator]) -> FloatMatrix:
        """Start a new episode everywhere; group g draws from ``generators[g]`` from now on."""

    def reseed_groups(self, generators: Sequence[np.random.Generator]) -> None:
        """Let group g draw from ``generators[g]`` from now on; the episodes under way go on."""


def counts_by_group(environments: IntVector, size: int) -> Iterator[tuple[int, int]]:
    """Count how many of these environments, in ascending order, belong to each group of `size`."""
    for group, members in groupby((environments // size).tolist()):
        yield group, len(list(members))
