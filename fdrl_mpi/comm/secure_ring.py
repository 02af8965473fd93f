"""The secure sum: nobody learns more than the weighted sum of all updates, the root included."""

import hashlib
import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from time import perf_counter

import numpy as np
from mpi4py import MPI

from fdrl_mpi.aggregation.views import Sum, View
from fdrl_mpi.arrays import DoubleArray, FloatMatrix, FloatVector
from fdrl_mpi.comm.collective import Collective, Models, Traffic
from fdrl_mpi.comm.handshake import shake_hands
from fdrl_mpi.comm.requests import wait_all, wait_some
from fdrl_mpi.comm.tree import TreeLinks, Vector, tree_shape
from fdrl_mpi.comm.world import World
from fdrl_mpi.privacy.channel import TAG_BYTES, Authenticator, Channel, Kind, nonce
from fdrl_mpi.privacy.expansion import SEED_BYTES, Expander, fresh_seed
from fdrl_mpi.privacy.fixed_point import FixedPoint, WordVector, fraction_bits
from fdrl_mpi.privacy.keys import PairKeys, TamperError
from fdrl_mpi.topology.ring import check_ring_degree
from fdrl_mpi.topology.tree import Tree as Shape

LOG = logging.getLogger(__name__)
MOST_ATTEMPTS = 3
REVEAL, ECHO = 103, 104
"""Tags of messages."""
DIGEST_BYTES = 32


class State(Enum):
    """Where a party is in a round; each state follows the one before it.

    R4, in which parties would compare who is left, has nothing to compare: everybody accepts only the whole
    cohort.
    """

    START = "R0: round and attempt are known to all"
    SHARE = "R1: masks are ready; nothing in them depends on the update"
    UPLOAD = "R2: masked updates are added along the tree"
    CLOSE = "R3: the root has said whether everyone is in the sum"
    REVEAL = "R5: own masks are shown to the root; no other attempt of this round from here on"
    UNMASK = "R6: the root takes the masks off the sum"
    COMMIT = "R7: the model is published and compared"


@dataclass(frozen=True)
class SecureSettings:
    """What the parties agree on beforehand.

    Attributes
    ----------
    ring_degree : int
        h: neighbours on each side with which a party shares masks.
    colluders, dropouts : int
        T and D that the ring must withstand.
    largest_change : float
        c: weighted changes of a parameter are cut to -c .. c.
    largest_weight : float
        Public bound of an agent's weight.
    roster : path or None
        Identities; None: nobody proves who it is.
    private_key : str
        File of a party's identity, ``{party}`` standing for its id.
    fan_out : int
        Of the tree; 0: chosen.
    """

    ring_degree: int
    colluders: int
    dropouts: int
    largest_change: float
    largest_weight: float
    roster: Path | None = None
    private_key: str = ""
    fan_out: int = 0

    def fixed_point(self, num_parties: int, num_agents: int) -> FixedPoint:
        """Choose the encoding.

        Raises
        ------
        ValueError
            If the sum could wrap, or the ring protects nobody.
        """
        check_ring_degree(num_parties, self.ring_degree, self.colluders, self.dropouts)
        return FixedPoint(fraction_bits(num_agents, self.largest_change), self.largest_change)


@dataclass
class Mask:
    """What hides one upload: ``PRG(b_i) + sum over neighbours j of +-PRG(s_ij)``.

    Attributes
    ----------
    own_seed : bytearray
        b_i, shown to the root when everyone is in the sum.
    words : uint32 array, shape (d + 1,)
    seconds : float
        Time of the expansion.
    """

    own_seed: bytearray
    words: WordVector
    seconds: float


class SecureRing(Collective):
    """Seed-compressed additive shares over Z_2^32 with the neighbours on a ring of parties.

    A party is a rank: agents that share one have no secrets from each other. The vector that travels is the
    sum of its agents' weighted changes and of their weights, in fixed point, plus a mask that is uniform over
    all vectors. Masks of neighbours cancel in the sum of all; each party's own mask is shown to the root
    after the root has said that everyone is in the sum, so an upload that arrives late stays hidden.

    Parameters
    ----------
    world : World
    num_params : int
        Length of a model, d.
    settings : SecureSettings
    num_changes : int
        So many numbers at the start of a row are changes already, and travel as they are; of the others the
        model is taken off, and added again to their mean.

    Raises
    ------
    ValueError
        On all ranks, if the parameters protect nobody, a sum could wrap, or the setup was tampered with.

    References
    ----------
    Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017 (double
    masking); Bell et al., CCS 2020 (the ring).
    """

    name = "secure ring"
    gives = View.SUM
    has_global_model = True
    hides_updates = True
    is_root_alone = True

    def __init__(self, world: World, num_params: int, settings: SecureSettings, num_changes: int = 0) -> None:
        self.traffic = Traffic()
        self.rows: FloatMatrix = np.zeros((len(world.agents), num_params), np.float32)
        self.state = State.START
        self._world = world
        self._largest_weight = settings.largest_weight
        self._fewest = settings.colluders + settings.dropouts + 2
        self._is_secret = True
        self._code = settings.fixed_point(world.size - 1, world.num_agents)
        shape = tree_shape(world.nodes, num_params + 1, settings.fan_out)
        partners = [rank for rank in (shape.parents[world.rank], *shape.children[world.rank]) if rank >= 0]
        shaken = shake_hands(world, settings.ring_degree, partners, settings.roster, settings.private_key)
        self._neighbours, self._pairs = shaken.neighbours, shaken.pairs
        self._channels = {rank: Channel(keys) for rank, keys in shaken.pairs.items()}
        self._up = AuthenticatedLinks(world, shape, num_params + 1, self.traffic, shaken.pairs)
        self._down = TreeLinks(world.comm, shape, num_params, np.float32, world.nodes, self.traffic)
        self._expander = Expander(num_params + 1)
        self._wire: WordVector = np.zeros(self._up.total_length, np.uint32)
        self._upload: WordVector = self._wire[: num_params + 1]
        self._mask_words: WordVector = np.zeros(0 if world.is_root else num_params + 1, np.uint32)
        self._published: FloatVector = np.zeros(num_params, np.float32)
        self._last: FloatVector = np.zeros(num_params, np.float32)
        self._models: Models = []
        self._num_changes = num_changes
        self._origin: FloatVector = np.zeros(num_params, np.float32)
        self._own_weights: DoubleArray = np.zeros(0)
        self._mask_seconds = (0.0, 0.0)
        self._thread = ThreadPoolExecutor(1, "masks")
        self._round, self._attempt = 0, 0
        self._preparation: Future[Mask] | None = None
        self._mask = Mask(bytearray(), self._mask_words, 0.0)
        self._prepare()

    def encode(self, models: Models, own_weights: DoubleArray, weights: DoubleArray) -> None:
        """Encode and mask what this party contributes."""
        self._models, self._own_weights = models, own_weights
        self.has_revealed = False
        self._origin[self._num_changes :] = models[0][self._num_changes :]
        seats = map(self._world.placement.seats_of, range(1, self._world.size))
        contributing = sum(bool(weights[own.start - 1 : own.stop - 1].any()) for own in seats)
        self._is_secret = contributing >= self._fewest
        self.state = State.START
        started = perf_counter()
        if self._preparation is not None:
            self._mask = self._preparation.result()
        self._mask_seconds = (self._mask.seconds, perf_counter() - started)
        self.state = State.SHARE
        self._write_upload()

    def exchange(self) -> Sum | None:
        """Return the next model's sum on the root; None elsewhere, and where the round is given up."""
        if not self._is_secret:
            self._audit(
                "fewer than %d parties contribute, and their sum would tell on them; the model stays",
                self._fewest,
            )
            return None
        while not self._upload_together():
            if self._attempt + 1 == MOST_ATTEMPTS:
                self._audit("given up after %d attempts; the model stays", MOST_ATTEMPTS)
                return None
            self._attempt += 1
            self._mask = self._expand()
            self._up.begin(self._round, self._attempt)
            self._write_upload()
        return self._unmask() if self._reveal() else None

    def publish(self, params: FloatVector) -> Models:
        """Hand the root's `params` down, and have all parties compare what they got."""
        if self._world.is_root and params is not self._published:
            self._published[:] = params
        self._down.hand_down(self._published)
        is_good = self._is_the_same_everywhere()
        if is_good and not np.array_equal(self._published, self._models[0]):  # equal: the root gave up
            self._last, self._published = self._published, self._last
            self._models = [self._last] * max(len(self.rows), 1)
        elif not is_good:
            self._audit("parties got different models; the model stays")
        self.state, self.has_revealed = State.COMMIT, False
        self._prepare()
        return self._models

    def measure(self) -> Mapping[str, DoubleArray]:
        """Tell how long the masks took, and how long the upload waited for them."""
        agents = max(len(self.rows), 1)
        return {
            name: np.full(len(self.rows), seconds / agents)
            for name, seconds in zip(("mask_s", "mask_wait_s"), self._mask_seconds, strict=True)
        }

    def _prepare(self) -> None:
        """Begin with the masks of the next round, beside whatever this rank does."""
        self._round, self._attempt = self._round + 1, 0
        self._up.begin(self._round, self._attempt)
        if not self._world.is_root:
            self._preparation = self._thread.submit(self._expand)

    def _expand(self) -> Mask:
        """Expand the mask of this round and attempt."""
        started = perf_counter()
        own_seed, words, rank = bytearray(fresh_seed()), self._mask_words, self._world.rank
        words.fill(0)
        if not self._world.is_root:
            shared = {
                other: self._pairs[other].mask_seed(self._round, self._attempt) for other in self._neighbours
            }
            plus = [seed for other, seed in shared.items() if rank < other]
            minus = [seed for other, seed in shared.items() if rank > other]
            self._expander.add(words, [bytes(own_seed), *plus], minus)
        return Mask(own_seed, words, perf_counter() - started)

    def _write_upload(self) -> None:
        """Write the masked vector; the root contributes zeros, and nobody hides them."""
        upload = self._upload
        if self._world.is_root:
            upload.fill(0)
            return
        before = self._mask.words
        upload[-1] = before[-1]
        for row, weight in zip(self.rows, self._own_weights, strict=True):
            share = float(weight) / self._largest_weight
            if share > 0.0:
                num_clipped = self._code.encode(row, self._origin, share, before[:-1], upload[:-1])
                before = upload
                upload[-1:] += np.uint32(self._code.encode_number(share))
                if num_clipped:
                    LOG.warning(
                        "%d changes of parameters were cut to %g in size: raise comm.secure.range",
                        num_clipped,
                        self._code.largest,
                    )
        if before is not upload:
            upload[:] = before

    def _upload_together(self) -> bool:
        """Add up all uploads; return whether everyone is in the sum and nothing was changed on the way."""
        self.state = State.UPLOAD
        self._up.add_up(self._wire)
        is_complete = self._from_root(Kind.CLOSE, bytes([self._up.has_everyone]))
        self.state = State.CLOSE
        if not is_complete[0]:
            self._audit("attempt %d: an upload is missing or was tampered with", self._attempt)
        return bool(is_complete[0])

    def _reveal(self) -> bool:
        """Show this party's own mask to the root, and to nobody else.

        The root takes each mask off the sum as it arrives; it returns whether it had all of them.
        """
        self.state, self.has_revealed = State.REVEAL, True
        comm, name = self._world.comm, nonce(Kind.REVEAL, self._round, self._attempt)
        if not self._world.is_root:
            sealed = self._channels[0].seal(name, bytes(self._mask.own_seed))
            self._mask.own_seed[:] = bytes(SEED_BYTES)
            comm.Send(sealed, 0, REVEAL)
            self.traffic.sent(len(sealed))
            return False
        inbox = [bytearray(SEED_BYTES + TAG_BYTES) for _ in range(1, self._world.size)]
        requests = [comm.Irecv(sealed, rank, REVEAL) for rank, sealed in enumerate(inbox, 1)]
        is_complete = True
        while arrived := wait_some(requests):
            try:
                seeds = [self._channels[n + 1].unseal(name, bytes(inbox[n])) for n in arrived]
                self._expander.add(self._upload, [], seeds)
            except TamperError as error:
                is_complete = False
                self._audit("%s; the model stays", error)
        for rank, message in enumerate(inbox, 1):
            self.traffic.received(len(message), is_remote=self._world.is_remote(rank))
        return is_complete

    def _unmask(self) -> Sum | None:
        """Turn the sum without masks into the mean of the rows."""
        self.state = State.UNMASK
        (total_weight,) = self._code.decode(self._upload[-1:])
        if total_weight <= 0.0:
            self._audit("the weights add up to nothing; the model stays")
            return None
        self._code.decode_mean(self._upload[:-1], total_weight, self._origin, out=self._published)
        return Sum(self._published, 1.0)

    def _is_the_same_everywhere(self) -> bool:
        """Compare the digest of the model with the root and with the neighbours."""
        self._world.barrier()  # where ranks share cores, digests must not hold up models on their way
        own = hashlib.sha256(self._published.data).digest()
        try:
            is_good = self._from_root(Kind.MODEL, own) == own
        except TamperError:
            is_good = False
        is_good = self._echo(own) and is_good
        if not is_good:
            LOG.warning("audit: exchange %d: this rank got another model than others", self._round)
        return self._world.agree(is_good)

    def _from_root(self, kind: Kind, message: bytes) -> bytes:
        """Give the root's short message to every party, each under its own key.

        Raises
        ------
        TamperError
        """
        world, name = self._world, nonce(kind, self._round, self._attempt)
        size = len(message) + TAG_BYTES
        if world.is_root:
            table = np.zeros((world.size, size), np.uint8)
            for rank in range(1, world.size):
                table[rank] = np.frombuffer(self._channels[rank].seal(name, message), np.uint8)
            world.comm.Scatter(table, MPI.IN_PLACE)
            self.traffic.sent(table[1:].nbytes)
            return message
        sealed = np.empty(size, np.uint8)
        world.comm.Scatter(None, sealed)
        self.traffic.received(size, is_remote=world.is_remote(0))
        return self._channels[0].unseal(name, sealed.tobytes())

    def _echo(self, own: bytes) -> bool:
        """Compare digests with the neighbours: a root that tells them different things is found out."""
        comm, name = self._world.comm, nonce(Kind.ECHO, self._round, 0)
        inbox = {rank: bytearray(DIGEST_BYTES + TAG_BYTES) for rank in self._neighbours}
        requests = [comm.Irecv(buffer, rank, ECHO) for rank, buffer in inbox.items()]
        for rank in self._neighbours:
            requests.append(comm.Isend(self._channels[rank].seal(name, own), rank, ECHO))
        wait_all(requests)
        for rank, buffer in inbox.items():
            self.traffic.sent(len(buffer))
            self.traffic.received(len(buffer), is_remote=self._world.is_remote(rank))
        try:
            heard = [self._channels[rank].unseal(name, bytes(sealed)) for rank, sealed in inbox.items()]
        except TamperError:
            return False
        return all(digest == own for digest in heard)

    def _audit(self, text: str, *values: object) -> None:
        if self._world.is_root:
            LOG.warning(f"audit: secure sum, exchange %d: {text}", self._round, *values)


class AuthenticatedLinks(TreeLinks):
    """Links of a tree over which nothing is changed unnoticed.

    Every edge has a key. The last chunk ends with a trailer: which ranks are in the sum, and the tag of all
    that came before. The list of a child whose tag is wrong is dropped.

    Parameters
    ----------
    world : World
    shape : topology.tree.Tree
    length : int
        Words of a vector, without the trailer.
    traffic : Traffic
    pairs : mapping of PairKeys
        By rank.
    """

    def __init__(
        self, world: World, shape: Shape, length: int, traffic: Traffic, pairs: Mapping[int, PairKeys]
    ) -> None:
        self._length, self._list_words = length, -(-world.size // 32)
        self.total_length = length + self._list_words + TAG_BYTES // 4
        super().__init__(world.comm, shape, self.total_length, np.uint32, world.nodes, traffic)
        self._rank, self._pairs = world.rank, pairs
        self._last, self._last_start = len(self._chunks) - 1, self._chunks[-1].start
        if length < self._last_start:  # a trailer is never cut in two
            self._chunks[-2:] = [slice(self._chunks[-2].start, self.total_length)]
            self._last, self._last_start = len(self._chunks) - 1, self._chunks[-1].start
            widest = max(chunk.stop - chunk.start for chunk in self._chunks)
            self._inbox = np.empty((2, len(self._children), widest), np.uint32)
        self._outgoing: Authenticator | None = None
        self._incoming: list[Authenticator] = []
        self._everyone = (1 << world.size) - 1
        self._present = 0

    def begin(self, round: int, attempt: int) -> None:
        """Name the next sum."""
        name = nonce(Kind.UPLOAD, round, attempt)
        self._present = 1 << self._rank
        self._incoming = [Authenticator(self._pairs[child].receiving, name) for child in self._children]
        if self._parent >= 0:
            self._outgoing = Authenticator(self._pairs[self._parent].sending, name)

    @property
    def has_everyone(self) -> bool:
        """Whether all ranks are in the last sum, on the root."""
        return self._present == self._everyone

    def take(self, child: int, number: int, received: Vector, part: Vector) -> None:
        """Authenticate a chunk and add it; note which ranks are in the child's sum."""
        incoming = self._incoming[child]
        if number < self._last:
            incoming.update(received.data)
            part += received
            return
        length = self._length - self._last_start
        list_end = length + self._list_words
        incoming.update(received[:list_end].data)
        part[:length] += received[:length]
        if incoming.matches(received[list_end:].tobytes()):
            self._present |= int.from_bytes(received[length:list_end].tobytes(), "little")

    def complete(self, number: int, part: Vector) -> None:
        """Authenticate a chunk; add the trailer to the last one."""
        assert self._outgoing is not None
        if number == self._last:
            length = self._length - self._last_start
            list_end = length + self._list_words
            listed = self._present.to_bytes(4 * self._list_words, "little")
            part[length:list_end] = np.frombuffer(listed, np.uint32)
            self._outgoing.update(part[:list_end].data)
            part[list_end:] = np.frombuffer(self._outgoing.tag(), np.uint32)
        else:
            self._outgoing.update(part.data)
