"""Who is who, and the secrets that two parties share.

A party is the root (id 0) or a rank that hosts agents (id of its first agent).
"""

import hashlib
import hmac
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

VERSION = b"fdrl/v1"
NONCE_BYTES = 32
JOB_ID_BYTES = 16


class TamperError(Exception):
    """A message is not what its sender sent, or its sender not who it says."""


@dataclass(frozen=True)
class Introduction:
    """What a party tells the others of itself before anything is secret.

    Attributes
    ----------
    party : int
    public_key : bytes
        X25519, 32 bytes, for this job only.
    commitment : bytes
        SHA-256 of a nonce that is opened when all commitments are known.
    signature : bytes
        Ed25519 by the party's identity; empty where there are no identities.
    """

    party: int
    public_key: bytes
    commitment: bytes
    signature: bytes = b""

    def signed_bytes(self, job_id: bytes) -> bytes:
        """Return what the signature is of."""
        return VERSION + b"/kex|" + job_id + struct.pack("<I", self.party) + self.public_key + self.commitment


class OwnKeys:
    """One party's secrets of one job; fresh ones from the operating system in every job."""

    def __init__(self, party: int) -> None:
        self._private = X25519PrivateKey.generate()
        self.party = party
        self.nonce = os.urandom(NONCE_BYTES)

    def introduce(self, job_id: bytes, identity: Ed25519PrivateKey | None) -> Introduction:
        """Make this party's introduction, signed if it has an identity."""
        public_key = self._private.public_key().public_bytes_raw()
        plain = Introduction(self.party, public_key, commitment(self.party, self.nonce))
        if identity is None:
            return plain
        signature = identity.sign(plain.signed_bytes(job_id))
        return Introduction(plain.party, plain.public_key, plain.commitment, signature)

    def pair(self, other: Introduction, transcript: bytes) -> "PairKeys":
        """Derive what this party shares with another one.

        Parameters
        ----------
        transcript : bytes
            Digest of all introductions and nonces: parties that were told different ones share nothing.

        Raises
        ------
        TamperError
            If the other's public key is one that makes the shared secret known to all.
        """
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(other.public_key))
        except ValueError as error:
            raise TamperError(f"the public key of party {other.party} is not usable") from error
        low, high = sorted((self.party, other.party))
        info = VERSION + f"/pair|{low}|{high}".encode()
        keys = hkdf(shared, transcript, info, 96)
        is_low = self.party == low
        return PairKeys(keys[:32], keys[32:64] if is_low else keys[64:], keys[64:] if is_low else keys[32:64])


@dataclass(frozen=True)
class PairKeys:
    """Keys of two parties: for masks, and for messages in each direction."""

    mask: bytes
    sending: bytes
    receiving: bytes

    def mask_seed(self, round: int, attempt: int) -> bytes:
        """Derive the seed of the mask that both parties use in one attempt of one round."""
        info = b"mask" + struct.pack("<QH", round, attempt)
        return HKDFExpand(SHA256(), 32, info).derive(self.mask)

    def confirmation(self) -> bytes:
        """Return what the other party has to show before the first round."""
        return hmac.digest(self.receiving, VERSION + b"/confirm", "sha256")

    def own_confirmation(self) -> bytes:
        """Return what this party shows."""
        return hmac.digest(self.sending, VERSION + b"/confirm", "sha256")


def hkdf(secret: bytes, salt: bytes | None, info: bytes, length: int) -> bytes:
    """Derive keys from a secret: HKDF with SHA-256 (RFC 5869)."""
    return HKDF(SHA256(), length, salt, info).derive(secret)


def commitment(party: int, nonce: bytes) -> bytes:
    """Commit to a nonce without showing it."""
    return hashlib.sha256(VERSION + b"/commit|" + struct.pack("<I", party) + nonce).digest()


def transcript(
    job_id: bytes, introductions: Mapping[int, Introduction], nonces: Mapping[int, bytes]
) -> bytes:
    """Digest all that the parties have told each other.

    Raises
    ------
    TamperError
        If a nonce is not the one its party has committed to.
    """
    digest = hashlib.sha256(VERSION + b"/transcript|" + job_id)
    for party, introduction in sorted(introductions.items()):
        if commitment(party, nonces[party]) != introduction.commitment:
            raise TamperError(f"party {party} opened another nonce than it committed to")
        digest.update(introduction.signed_bytes(job_id) + nonces[party])
    return digest.digest()


class Roster:
    """The public identity of every party, listed by whoever runs the job.

    A text file with a line ``PARTY HEX`` for each: its id and its Ed25519 public key, 64 hexadecimal digits.
    Lines that begin with # are comments.

    Raises
    ------
    ValueError
        If a line makes no sense, or a party or a key is there twice.
    OSError
        If the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys: dict[int, bytes] = {}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                party, key = int(line.split()[0]), bytes.fromhex(line.split()[1])
                if len(key) != 32 or len(line.split()) != 2:
                    raise ValueError
            except (ValueError, IndexError):
                raise ValueError(f"{path}, line {number}: not a party id and 64 hexadecimal digits") from None
            if party in self._keys:
                raise ValueError(f"{path}, line {number}: party {party} is there twice")
            if key in self._keys.values():
                owner = next(other for other, known in self._keys.items() if known == key)
                raise ValueError(f"{path}, line {number}: party {party} has the key of party {owner}")
            self._keys[party] = key

    def check_complete(self, parties: list[int]) -> None:
        """Refuse a roster that lacks a party.

        Raises
        ------
        ValueError
        """
        if missing := [party for party in parties if party not in self._keys]:
            raise ValueError(f"{self.path}: lacks party {', '.join(map(str, missing))}")

    def check_own(self, party: int, identity: Ed25519PrivateKey) -> None:
        """Refuse a private key that is not the one of a party in the roster.

        Raises
        ------
        ValueError
        """
        if identity.public_key().public_bytes_raw() != self._keys[party]:
            raise ValueError(f"the private key of party {party} does not belong to its key in {self.path}")

    def check_signature(self, introduction: Introduction, job_id: bytes) -> None:
        """Refuse an introduction that its party has not signed for this job.

        Raises
        ------
        TamperError
        """
        key = Ed25519PublicKey.from_public_bytes(self._keys[introduction.party])
        try:
            key.verify(introduction.signature, introduction.signed_bytes(job_id))
        except InvalidSignature:
            raise TamperError(f"the introduction of party {introduction.party} is not signed by it") from None

    def digest(self) -> str:
        """Return the SHA-256 of the listed keys, in hexadecimal digits."""
        lines = "".join(f"{party} {key.hex()}\n" for party, key in sorted(self._keys.items()))
        return hashlib.sha256(lines.encode()).hexdigest()


def load_identity(path: Path) -> Ed25519PrivateKey:
    """Read a party's private key, a PEM file without a password.

    Raises
    ------
    ValueError
        If it is something else.
    OSError
        If it cannot be read.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: not a private key in PEM format without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path}: not an Ed25519 key")
    return key


def write_identity(path: Path) -> str:
    """Make a private key, readable by its owner only; return its line's public key in hexadecimal digits.

    Raises
    ------
    FileExistsError
        If there is a file: keys are never overwritten.
    """
    key = Ed25519PrivateKey.generate()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key.public_key().public_bytes_raw().hex()
