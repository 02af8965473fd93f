"""Setup of a secure sum: parties introduce themselves, order the ring together, and derive shared secrets.

Steps S1 to S4 of the protocol, and a confirmation that both ends of every pair hold the same keys.
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fdrl_mpi.comm.world import World
from fdrl_mpi.privacy.keys import (
    JOB_ID_BYTES,
    Introduction,
    OwnKeys,
    PairKeys,
    Roster,
    TamperError,
    load_identity,
    transcript,
)
from fdrl_mpi.topology.ring import ring_neighbours, ring_order

LOG = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Handshake:
    """What a rank knows of the others when the setup is done; ranks stand for parties.

    Attributes
    ----------
    neighbours : list of int
        Ranks with which this one shares masks; none on the root.
    pairs : dict
        Shared keys by rank: of neighbours, of the root (on the root: of all), and of those in `partners`.
    """

    neighbours: list[int]
    pairs: dict[int, PairKeys]


def party_of(world: World, rank: int) -> int:
    """Name the party on a rank: 0 for the root, else the id of its first agent."""
    return world.agents_of(rank)[0] if rank else 0


def shake_hands(
    world: World, ring_degree: int, partners: Sequence[int], roster: Path | None, private_key: str
) -> Handshake:
    """Set up the secrets of a job; every rank calls it.

    Parameters
    ----------
    ring_degree : int
        h: neighbours on each side.
    partners : sequence of int
        Ranks with which this one exchanges messages besides its neighbours and the root. Mutual.
    roster : path or None
        Identities of all parties; None: nobody proves who it is.
    private_key : str
        File of this party's identity, ``{party}`` standing for its id.

    Raises
    ------
    ValueError
        On all ranks, if roster or keys are not as they must be, or a message was tampered with.
    """
    parties = {party_of(world, rank): rank for rank in range(world.size)}
    own_party = party_of(world, world.rank)
    book, identity = _together(world, lambda: _identities(roster, private_key, own_party, sorted(parties)))
    job_id = world.from_root(os.urandom(JOB_ID_BYTES) if world.is_root else None)
    own = OwnKeys(own_party)
    introductions = _by_party(world, own.introduce(job_id, identity))
    nonces = dict(zip(parties, world.gather_objects(own.nonce), strict=True))
    agents = [party for party in parties if party]

    def derive() -> Handshake:
        for party, introduction in introductions.items():
            if introduction.party != party:
                raise TamperError(f"party {party} introduced itself as party {introduction.party}")
            if book is not None:
                book.check_signature(introduction, job_id)
        digest = transcript(job_id, introductions, nonces)
        if len({introduction.public_key for introduction in introductions.values()}) < len(parties):
            raise TamperError("two parties have the same public key")
        order = ring_order(digest, agents)
        around = ring_neighbours(order, own_party, ring_degree) if own_party else agents
        neighbours = [parties[party] for party in around]
        others = ({*neighbours, 0, *partners}) - {world.rank}
        pairs = {rank: own.pair(introductions[party_of(world, rank)], digest) for rank in sorted(others)}
        return Handshake(neighbours if own_party else [], pairs)

    handshake = _together(world, derive)
    _confirm(world, handshake)
    if world.is_root:
        who = f"roster {book.digest()}" if book is not None else "no roster"
        LOG.info("audit: %d parties share secrets; %s", len(agents), who)
    return handshake


def _identities(
    roster: Path | None, private_key: str, own_party: int, parties: list[int]
) -> tuple[Roster | None, Ed25519PrivateKey | None]:
    if roster is None:
        return None, None
    book, identity = Roster(roster), load_identity(Path(private_key.replace("{party}", str(own_party))))
    book.check_complete(parties)
    book.check_own(own_party, identity)
    return book, identity


def _by_party(world: World, introduction: Introduction) -> dict[int, Introduction]:
    """Tell all ranks who this party is; hear who they are.

    What came from a rank is filed under the party on that rank; that it says so too is checked later.
    """
    heard: list[Introduction] = world.gather_objects(introduction)
    return {party_of(world, rank): one for rank, one in enumerate(heard)}


def _confirm(world: World, handshake: Handshake) -> None:
    """Compare keys with every partner without showing them."""
    shown = {rank: pair.own_confirmation() for rank, pair in handshake.pairs.items()}
    heard: list[dict[int, bytes]] = world.gather_objects(shown)

    def compare() -> None:
        for rank, pair in handshake.pairs.items():
            if heard[rank].get(world.rank) != pair.confirmation():
                ends = f"{party_of(world, world.rank)} and {party_of(world, rank)}"
                raise TamperError(f"parties {ends} were told different things")

    _together(world, compare)


def _together(world: World, work: Callable[[], Result]) -> Result:
    """Do `work`; what goes wrong on one rank is raised on all of them as a ValueError."""
    trouble = ""
    try:
        result = work()
    except (TamperError, ValueError, OSError) as error:
        trouble = f"secure sum: {error}"
    if troubles := [text for text in world.gather_objects(trouble) if text]:
        raise ValueError(troubles[0])
    return result
