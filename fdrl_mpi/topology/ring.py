"""The ring on which parties of a secure sum share masks with their neighbours."""

import hashlib
import hmac
from collections.abc import Sequence


def ring_order(seed: bytes, parties: Sequence[int]) -> list[int]:
    """Order the parties by ``HMAC-SHA256(seed, id)``: who does not know the seed beforehand chooses nothing.

    Parameters
    ----------
    seed : bytes
        Made of nonces that all parties committed to before any was opened.
    """
    return sorted(parties, key=lambda party: hmac.digest(seed, party.to_bytes(4, "little"), hashlib.sha256))


def ring_neighbours(order: Sequence[int], party: int, degree: int) -> list[int]:
    """List the parties up to `degree` places before and after one; all others where the ring is short."""
    place, size = order.index(party), len(order)
    reach = range(1, min(degree, size // 2) + 1)
    around = {order[(place + step) % size] for step in reach} | {
        order[(place - step) % size] for step in reach
    }
    return sorted(around - {party})


def check_ring_degree(num_parties: int, degree: int, colluders: int, dropouts: int) -> None:
    """Refuse a ring that colluders and dropouts could cut into parts whose sums are then exposed.

    The ring with h neighbours on each side is 2h-connected (a Harary graph), so ``2 h >= T + D + 1`` keeps
    the honest survivors connected; where every party is everyone's neighbour, T + D + 2 of them do.

    Parameters
    ----------
    num_parties : int
        K.
    degree : int
        h: neighbours on each side.
    colluders, dropouts : int
        T and D.

    Raises
    ------
    ValueError

    References
    ----------
    Bell et al., "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead", CCS 2020.
    """
    fewest = colluders + dropouts + 2
    if num_parties < fewest:
        raise ValueError(
            f"{num_parties} parties of which {colluders} collude and {dropouts} drop out leave fewer than "
            f"two honest ones, and a sum of one is no secret: at least {fewest} are needed"
        )
    if 2 * degree < num_parties - 1 and 2 * degree < colluders + dropouts + 1:
        raise ValueError(
            f"a ring with {degree} neighbours on each side can be cut by {colluders} colluders and "
            f"{dropouts} dropouts: {-(-(colluders + dropouts + 1) // 2)} are needed"
        )
