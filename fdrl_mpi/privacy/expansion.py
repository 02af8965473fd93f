"""Masks: one-time seeds expanded to vectors over Z_2^32."""

import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from fdrl_mpi.privacy.fixed_point import WordVector

SEED_BYTES = 32
CHUNK = 2**16
"""Words that are expanded at once: they stay in a core's second-level cache."""


def fresh_seed() -> bytes:
    """Draw a seed from the operating system."""
    return os.urandom(SEED_BYTES)


class Expander:
    """Adds masks to vectors of one length, with buffers that are allocated once.

    A mask is the key stream of AES-256 in counter mode, beginning at 0, read as little-endian words; a seed
    is the key, and is used for one mask only.

    Parameters
    ----------
    length : int
        Words of a vector.
    """

    def __init__(self, length: int) -> None:
        chunk = min(CHUNK, length)
        self._length = length
        self._zeros = bytes(4 * chunk)
        self._stream = bytearray(4 * chunk)
        self._words: WordVector = np.frombuffer(self._stream, "<u4")

    def add(self, vector: WordVector, plus: list[bytes], minus: list[bytes]) -> None:
        """Add the masks of some seeds to a vector and subtract those of others, in place."""
        streams = [(_stream(seed), np.add) for seed in plus] + [
            (_stream(seed), np.subtract) for seed in minus
        ]
        for start in range(0, self._length, CHUNK):
            part = vector[start : start + CHUNK]
            words, zeros = self._words[: len(part)], memoryview(self._zeros)[: part.nbytes]
            for stream, operation in streams:
                stream.update_into(zeros, self._stream)
                operation(part, words, out=part)


def _stream(seed: bytes) -> CipherContext:
    return Cipher(AES(seed), CTR(bytes(16))).encryptor()
