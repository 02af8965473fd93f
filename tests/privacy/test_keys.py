"""Keys, rosters and channels: known answers, agreement, and everything that is refused."""

import dataclasses
import os

import pytest

from fdrl_mpi.privacy import keys
from fdrl_mpi.privacy.channel import Authenticator, Channel, Kind, nonce
from fdrl_mpi.privacy.keys import OwnKeys, Roster, TamperError, load_identity, transcript, write_identity

JOB = bytes(16)


def _introduced(parties, identities=None):
    own = {party: OwnKeys(party) for party in parties}
    return own, {p: k.introduce(JOB, identities[p] if identities else None) for p, k in own.items()}


def test_known_answer_of_the_key_derivation():
    derived = keys.hkdf(bytes(range(32)), None, b"fdrl/v1/pair|0|1|2|5", 32)
    assert derived.hex() == "74cadf931ea25ecaa53f64374ef8f89b2a83998e08d4c8b766b9a93200a5b893"


def test_two_parties_derive_the_same_keys_and_others_do_not():
    own, introductions = _introduced([1, 2, 3])
    a, b = own[1].pair(introductions[2], b"t"), own[2].pair(introductions[1], b"t")
    assert (a.mask, a.sending, a.receiving) == (b.mask, b.receiving, b.sending)
    assert len({a.mask, a.sending, a.receiving}) == 3
    assert a.mask_seed(4, 1) == b.mask_seed(4, 1)
    assert len({a.mask_seed(r, t) for r in range(5) for t in range(3)}) == 15
    assert a.confirmation() == b.own_confirmation() != a.own_confirmation()
    assert own[3].pair(introductions[1], b"t").mask != a.mask
    assert own[2].pair(introductions[1], b"other transcript").mask != a.mask


def test_public_key_that_gives_the_secret_away_is_refused():
    own, introductions = _introduced([1, 2])
    with pytest.raises(TamperError, match="party 2"):
        own[1].pair(dataclasses.replace(introductions[2], public_key=bytes(32)), b"")


def test_transcript_changes_with_everything_that_was_said_and_wants_the_committed_nonces():
    own, introductions = _introduced([1, 2])
    nonces = {party: k.nonce for party, k in own.items()}
    digest = transcript(JOB, introductions, nonces)
    assert digest == transcript(JOB, dict(reversed(introductions.items())), nonces)
    assert digest != transcript(os.urandom(16), introductions, nonces)
    with pytest.raises(TamperError, match="party 2 opened another nonce"):
        transcript(JOB, introductions, nonces | {2: bytes(32)})


@pytest.fixture
def roster(tmp_path):
    """A roster of three parties, and their private keys."""
    lines = [f"{party} {write_identity(tmp_path / f'{party}.pem')}" for party in range(3)]
    (tmp_path / "roster").write_text("# parties\n\n" + "\n".join(lines) + "\n")
    return Roster(tmp_path / "roster"), {p: load_identity(tmp_path / f"{p}.pem") for p in range(3)}


def test_signed_introductions_are_accepted_and_changed_ones_are_not(roster):
    book, identities = roster
    book.check_complete([0, 1, 2])
    _, introductions = _introduced([0, 1, 2], identities)
    for party, introduction in introductions.items():
        book.check_own(party, identities[party])
        book.check_signature(introduction, JOB)
        for name, value in {"public_key": bytes(32), "commitment": bytes(32), "signature": b""}.items():
            with pytest.raises(TamperError, match=f"party {party}"):
                book.check_signature(dataclasses.replace(introduction, **{name: value}), JOB)
        with pytest.raises(TamperError):
            book.check_signature(introduction, os.urandom(16))
    with pytest.raises(TamperError):
        book.check_signature(dataclasses.replace(introductions[1], party=2), JOB)


def test_private_keys_are_readable_by_their_owner_only_and_never_overwritten(tmp_path):
    write_identity(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        write_identity(tmp_path / "key.pem")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 " + "00" * 32 + "\n1 " + "11" * 32, "line 2: party 1 is there twice"),
        ("1 " + "00" * 32 + "\n2 " + "00" * 32, "line 2: party 2 has the key of party 1"),
        ("1 00", "line 1: not a party id"),
        ("one " + "00" * 32, "line 1"),
        ("1", "line 1"),
    ],
)
def test_roster_that_makes_no_sense_is_refused(tmp_path, text, message):
    (tmp_path / "roster").write_text(text)
    with pytest.raises(ValueError) as refused:  # noqa: PT011 (the message is compared below)
        Roster(tmp_path / "roster")
    assert message in str(refused.value)


def test_roster_that_lacks_a_party_and_a_wrong_private_key_are_refused(roster):
    book, identities = roster
    with pytest.raises(ValueError, match="lacks party 3, 4"):
        book.check_complete([0, 1, 2, 3, 4])
    with pytest.raises(ValueError, match="private key of party 1 does not belong"):
        book.check_own(1, identities[2])


def test_sealed_message_opens_for_the_other_party_under_its_name_only():
    own, introductions = _introduced([1, 2, 3])
    one, two = (Channel(own[a].pair(introductions[b], b"")) for a, b in ((1, 2), (2, 1)))
    stranger = Channel(own[3].pair(introductions[1], b""))
    name = nonce(Kind.REVEAL, 3, 1)
    sealed = one.seal(name, b"secret")
    assert two.unseal(name, sealed) == b"secret"
    flipped = bytes([sealed[0] ^ 1]) + sealed[1:]
    for channel, other_name, message in [
        (one, name, sealed),  # a message that is sent back
        (stranger, name, sealed),
        (two, nonce(Kind.REVEAL, 3, 2), sealed),
        (two, name, flipped),
    ]:
        with pytest.raises(TamperError):
            channel.unseal(other_name, message)


def test_names_of_messages_differ():
    names = {nonce(kind, round, attempt) for kind in Kind for round in (0, 1, 2**40) for attempt in (0, 1, 9)}
    assert len(names) == len(Kind) * 9
    assert {len(name) for name in names} == {12}


def test_tag_of_a_long_message_does_not_depend_on_its_parts_but_on_every_bit():
    key, name, message = os.urandom(32), nonce(Kind.UPLOAD, 1, 1), os.urandom(1000)

    def tag(parts):
        authenticator = Authenticator(key, name)
        for part in parts:
            authenticator.update(part)
        return authenticator.tag()

    whole = tag([message])
    assert tag([message[:300], message[300:]]) == whole
    flipped = bytearray(message)
    flipped[500] ^= 1
    assert tag([bytes(flipped)]) != whole
    assert tag([message[:-1]]) != whole
