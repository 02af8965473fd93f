"""Random streams: every draw of a run comes from (seed, purpose, agent id, round)."""

from zlib import crc32

import numpy as np


def stream(seed: int, purpose: str, agent: int = 0, round: int = 0) -> np.random.Generator:
    """Open the generator of one purpose of one agent in one round.

    Equal arguments give equal draws on every rank and after every restart; any difference gives an
    independent stream. Draws that all ranks must agree on leave the agent at 0.

    Parameters
    ----------
    seed : int
        Seed of the run, non-negative.
    purpose : str
        What the draws are for, for example ``"world"`` or ``"actions"``.
    agent : int
        Agent id (1..K; ids above K are worlds that no agent trains on), 0 for draws of the whole run.
    round : int
        Round (1..rounds), 0 for draws made once.

    Notes
    -----
    PCG64 seeded by a `numpy.random.SeedSequence` whose spawn key is (CRC-32 of the purpose, agent, round).
    Not for secrets: those come from the operating system.
    """
    key = (crc32(purpose.encode()), agent, round)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
