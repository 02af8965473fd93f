"""Messages between two parties that nobody else can read or change: AES-256 in Galois counter mode.

The nonce of a message names its round, attempt and kind. A pair of parties and a direction have a key of
their own, so no nonce is used twice with one key.
"""

import hmac
import struct
from enum import IntEnum
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import AEADEncryptionContext, Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

from fdrl_mpi.privacy.keys import PairKeys, TamperError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

TAG_BYTES = 16


class Kind(IntEnum):
    """What a message is."""

    UPLOAD = 2
    CLOSE = 3
    REVEAL = 5
    MODEL = 7
    ECHO = 8


def nonce(kind: Kind, round: int, attempt: int) -> bytes:
    """Name a message: 12 bytes that a key sees once."""
    return struct.pack("<QHH", round, attempt, kind)


class Channel:
    """Short messages to and from one other party; each grows by 16 bytes.

    Parameters
    ----------
    keys : PairKeys
        What the two parties share.
    """

    def __init__(self, keys: PairKeys) -> None:
        self._sending, self._receiving = AESGCM(keys.sending), AESGCM(keys.receiving)

    def seal(self, name: bytes, message: bytes) -> bytes:
        """Encrypt and authenticate a message."""
        return self._sending.encrypt(name, message, None)

    def unseal(self, name: bytes, sealed: bytes) -> bytes:
        """Return a message.

        Raises
        ------
        TamperError
            If it is not the one that the other party sealed under this name.
        """
        try:
            return self._receiving.decrypt(name, sealed, None)
        except InvalidTag:
            raise TamperError("a message is not what its sender sent") from None


class Authenticator:
    """Authenticates a long message as it passes, without a copy: the tag of AES-GCM over open data."""

    def __init__(self, key: bytes, name: bytes) -> None:
        self._context: AEADEncryptionContext = Cipher(AES(key), GCM(name)).encryptor()

    def update(self, part: "Buffer") -> None:
        """Take the next part of the message."""
        self._context.authenticate_additional_data(memoryview(part).cast("B"))

    def tag(self) -> bytes:
        """Return the tag of all parts."""
        self._context.finalize()
        return self._context.tag

    def matches(self, tag: bytes) -> bool:
        """Say whether a tag is that of all parts."""
        return hmac.compare_digest(self.tag(), tag)
