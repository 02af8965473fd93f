"""Masks: the known answer, cancellation, and no other source of randomness than the operating system."""

import ast
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

import fdrl_mpi
from fdrl_mpi.privacy.expansion import CHUNK, Expander, fresh_seed

LENGTHS = [1, 3, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5]


def test_known_answer():
    words = np.zeros(4, np.uint32)
    Expander(4).add(words, [bytes(range(32))], [])
    assert [f"{word:08x}" for word in words] == ["b60090f2", "d09f492a", "6a9af3a9", "80772edd"]


@pytest.mark.parametrize("length", LENGTHS)
def test_mask_is_the_key_stream_whatever_the_chunks(length):
    seed, words = bytes(range(1, 33)), np.zeros(length, np.uint32)
    Expander(length).add(words, [seed], [])
    stream = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor().update(bytes(4 * length))
    assert words.tobytes() == stream


@pytest.mark.parametrize("length", LENGTHS)
def test_masks_cancel(length):
    vector = np.arange(length, dtype=np.uint32)
    expander, a, b = Expander(length), fresh_seed(), fresh_seed()
    expander.add(vector, [a], [b])
    assert not np.array_equal(vector, np.arange(length))
    expander.add(vector, [b], [a])
    assert np.array_equal(vector, np.arange(length))


def test_seeds_are_fresh():
    assert len({fresh_seed() for _ in range(1000)}) == 1000


@pytest.mark.parametrize("name", ["privacy", "comm"])
def test_secrets_never_come_from_a_generator_that_is_not_cryptographic(name):
    folder = Path(fdrl_mpi.__file__).parent / name
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            )
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any("random" in part or "streams" in part for part in names), file
            assert not (isinstance(node, ast.Attribute) and node.attr == "random"), file
