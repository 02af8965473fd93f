"""The root's state on a second rank, before it counts."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from fdrl_mpi.aggregation.views import Received
from fdrl_mpi.arrays import FloatVector, State
from fdrl_mpi.comm.crew import Crew
from fdrl_mpi.comm.post import MIRROR, Letter
from fdrl_mpi.federation.round import Check, Parts
from fdrl_mpi.federation.validation import Evidence, digest
from fdrl_mpi.record.metrics import Record, Row

Mirrored: TypeAlias = tuple[int, FloatVector, State, dict[int, float]]
"""Round, model, state of the server, and weights of the agents in the round, by id."""


class MirroredRecord:
    """A record whose rows also go to the root's mirror, which goes on with them if the root is lost.

    Parameters
    ----------
    record : Record
        The root's.
    crew : Crew
    """

    def __init__(self, record: Record, crew: Crew) -> None:
        self._record, self._crew = record, crew

    @property
    def last_round(self) -> int:
        return self._record.last_round

    def append(self, round: int, values: Row) -> None:
        self._record.append(round, values)
        self._send("append", round, values)

    def amend(self, round: int, values: Row) -> None:
        self._record.amend(round, values)
        self._send("amend", round, values)

    def rewind(self, round: int) -> None:
        self._record.rewind(round)
        self._send("rewind", round, {})

    def write_if_due(self) -> None:
        self._record.write_if_due()

    def write(self, durable: bool = True) -> None:
        self._record.write(durable)
        self._send("written", self.last_round, {})

    def _send(self, what: str, round: int, values: Row) -> None:
        view = self._crew.view
        if view.mirror is not None and view.mirror != self._crew.rank:
            plain = {name: np.asarray(value, np.float64).tolist() for name, value in values.items()}
            body = {"what": what, "round": round, "values": plain}
            self._crew.post.send(Letter(MIRROR, view.number, body), [view.mirror])


class Reflection:
    """What a mirror knows of the root's state.

    Attributes
    ----------
    round : int
        Of the model; 0 if there is none.
    params : float32 array, shape (d,)
        The model of that round, which may not have been published.
    server : State
        Of the server's step, after that round.
    counted : dict
        Weights of the agents in that round, by id.
    view : int
        Number of the view in which it was made.
    """

    def __init__(self) -> None:
        self.round, self.params, self.server, self.view = 0, np.zeros(0, np.float32), State(), -1
        self.counted: dict[int, float] = {}
        self._changes: list[tuple[str, int, Row]] = []

    def keep(self, state: Mirrored, view: int) -> None:
        """Take a model before it is published."""
        self.round, self.params, self.server, self.counted = state
        self.view = view

    def keep_letter(self, letter: Letter) -> None:
        """Take a change of the record; what the root has written needs not be kept."""
        what, round, values = letter.body["what"], letter.body["round"], letter.body["values"]
        if what == "written":
            self._changes.clear()
        else:
            arrays = {name: np.array(value)[()] for name, value in values.items()}
            self._changes.append((what, round, arrays))

    def apply(self, record: Record) -> None:
        """Bring a record that was read from the root's file up to date."""
        for what, round, values in self._changes:
            if what == "append" and round == max(record.last_round, 0) + 1:
                record.append(round, values)
            elif what == "amend" and round <= record.last_round:
                record.amend(round, values)
            elif what == "rewind":
                record.rewind(round)
        self._changes.clear()


def make_mirror(
    crew: Crew, is_root_alone: bool, reflection: Reflection, parts: Parts
) -> Callable[[int, FloatVector], None] | None:
    """Make what gives the next model to the mirror before it is published.

    Parameters
    ----------
    is_root_alone : bool
        Whether only the root knows the aggregate; else every rank makes the next model itself, and there is
        nothing to lose.
    parts : Parts
    """
    mirror = crew.view.mirror
    if not is_root_alone or mirror is None:
        return None
    everyone = crew.everyone
    number = crew.view.members.index(mirror)

    def give(round: int, params: FloatVector) -> None:
        if crew.rank == crew.view.root:
            state = (round, params.copy(), parts.server.get_state(), parts.counted.get(round, {}))
            everyone.send_object(state, number)
            reflection.keep(state, crew.view.number)  # from here on the round counts, published or not
        elif crew.rank == mirror:
            reflection.keep(everyone.receive_object(0), crew.view.number)

    return give


def make_recheck(crew: Crew, parts: Parts) -> Check | None:
    """Make what lets the root's mirror make the next model too, from the same updates, and compares."""
    mirror = crew.view.mirror
    if mirror is None:
        return None
    everyone, number = crew.everyone, crew.view.members.index(mirror)

    def check(base: FloatVector, params: FloatVector, received: Received | None) -> str:
        if crew.rank == mirror and (asked := everyone.receive_object(0)) is not None:
            answer(crew, asked)
        if crew.rank != crew.view.root:
            return ""
        if received is None or parts.server_before is None:  # an exchange that was given up
            everyone.send_object(None, number)
            return ""
        evidence = Evidence.collect(parts.aggregator, parts.server, parts.server_before, base, received)
        everyone.send_object(evidence, number)
        if everyone.receive_object(number) == digest(params):
            return ""
        return f"the root's mirror, rank {mirror}, makes another model of the same updates: broken memory?"

    return check


def answer(crew: Crew, evidence: Evidence) -> None:
    """Make the next model a second time, and tell the root what it is."""
    crew.everyone.send_object(evidence.digest(), 0)
