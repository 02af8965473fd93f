"""A run that outlives its ranks: whoever is left agrees on who does what, and the round is done again."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from fdrl_mpi.arrays import FloatVector, State
from fdrl_mpi.build import Builder, Rank
from fdrl_mpi.build_agent import learner_class
from fdrl_mpi.comm.crew import Crew, Lost
from fdrl_mpi.comm.post import JOIN, MIRROR
from fdrl_mpi.comm.world import World
from fdrl_mpi.config import Config
from fdrl_mpi.federation.injection import Injector
from fdrl_mpi.federation.interrupt import Interrupt
from fdrl_mpi.federation.mirror import Mirrored, MirroredRecord, Reflection, answer, make_mirror, make_recheck
from fdrl_mpi.federation.persistence import Saved
from fdrl_mpi.federation.synchronous import End, SynchronousRun
from fdrl_mpi.federation.validation import Evidence
from fdrl_mpi.logs import log_to_terminal
from fdrl_mpi.progress import Teller
from fdrl_mpi.record.checkpoint import CheckpointStore, DamagedCheckpoint
from fdrl_mpi.record.metrics import NullRecord, Record
from fdrl_mpi.record.run_directory import RunDirectory, RunInUse
from fdrl_mpi.recording import open_record

LOG = logging.getLogger(__name__)
NOTHING = -1
"""Round of a rank without any model."""
LOCK_PATIENCE = 0.3
"""How long a new root waits until the old one has let go of the run directory, of `faults.silence_s`."""


@dataclass(frozen=True)
class Failure:
    """What happened when ranks were lost or came back.

    Attributes
    ----------
    round : int
        That was being done.
    phase : str
        Where this rank was in it.
    noticed_utc, reason : str
    lost_ranks, lost_agents, returned_agents : list of int
        Ranks of the job; ids.
    replaced_agents : dict
        Agents that go on elsewhere, by id: the round of their saved state, 0 where there was none.
    root : int
        Rank of the job that aggregates from then on.
    recovery_s : float
        From this rank's notice to the next round.
    """

    round: int
    phase: str
    noticed_utc: str
    reason: str
    lost_ranks: list[int]
    lost_agents: list[int]
    returned_agents: list[int]
    replaced_agents: dict[int, int]
    root: int
    recovery_s: float


@dataclass(frozen=True)
class Standing:
    """What a rank brings into a new view.

    Attributes
    ----------
    round : int
        Its newest model; `NOTHING` if it has none.
    is_revealed : bool
        Whether it has shown masks for the round after it: the round must not be done again.
    counted : dict
        Weights of the agents in that round, by id.
    replaced : dict
        Agents that are new here, by id: the round of their saved state.
    failures : list of Failure
        That it has lived through in the run; none while it stood by.
    """

    round: int
    is_revealed: bool
    counted: dict[int, float]
    replaced: dict[int, int]
    failures: list[Failure]


def _knows_server(run: SynchronousRun) -> bool:
    """Whether a rank makes the server's steps: the root, and every rank where all see the aggregate."""
    return run.parts.world.is_root or not run.parts.collective.is_root_alone


class Survivor:
    """One rank's way through the views of a run.

    Parameters
    ----------
    config : Config
    crew : Crew
    directory : RunDirectory
    injector : Injector
    interrupt : Interrupt

    Attributes
    ----------
    failures : list of Failure
        That this rank has lived through.
    """

    def __init__(
        self, config: Config, crew: Crew, directory: RunDirectory, injector: Injector, interrupt: Interrupt
    ) -> None:
        self._config, self._crew, self._directory = config, crew, directory
        self._injector, self._interrupt = injector, interrupt
        self._store = CheckpointStore(directory.path, config.checkpoint.keep, directory.owner.check)
        self._directory.owner.stand_for(crew.job, crew.view.number, crew.rank == crew.view.root)
        self._reflection = Reflection()
        self._run: SynchronousRun | None = None
        self._replaced: dict[int, int] = {}
        self.failures: list[Failure] = []
        crew.post.on_message = injector.on_message

    @property
    def world(self) -> World | None:
        """The world this rank works in now; None while it stands by."""
        return None if self._run is None else self._run.parts.world

    def go(self, run: SynchronousRun, start: Saved) -> End | int:
        """Make all rounds after `start`, with whoever is left; return the end, or a spare's exit status.

        Raises
        ------
        Minority
            If this rank cannot go on.
        """
        self._run = run
        self._equip(run)
        return self._persist(start)

    def stand_by(self) -> End | int:
        """Wait for a part in the run, or for its end.

        Raises
        ------
        Minority
            If this rank cannot go on.
        """
        self._injector.at(0, "start")
        return self._persist(None)

    def _persist(self, start: Saved | None) -> End | int:
        while True:
            try:
                if self._run is None or start is None:
                    return self._crew.stand_by(self._keep, self._reflection.keep_letter)
                return self._run.go(start)
            except Lost as lost:
                start = self._recover(lost)

    def _keep(self, sent: Mirrored | Evidence) -> None:
        """Take what the root sends, while this rank stands by."""
        if isinstance(sent, Evidence):
            answer(self._crew, sent)
            return
        self._reflection.keep(sent)
        self._injector.at(self._reflection.round, "mirror")

    def _recover(self, lost: Lost) -> Saved | None:
        """Agree on the next view and join it; again, if somebody is lost meanwhile."""
        began_s, noticed, old, phase = (
            time.monotonic(),
            datetime.now(UTC),
            self._crew.view,
            self._injector.phase,
        )
        reason, self._replaced = str(lost), {}
        LOG.debug("recovering: %s", reason)
        while True:
            try:
                view = self._crew.change(lost, self._newest_round, self._hosted)
                self._injector.at(self._newest_round + 1, "recovery")
                start = self._join()
                break
            except Lost as again:
                lost = again
        self.failures.append(
            Failure(
                round=(self._newest_round if start is None else start.round) + 1,
                phase=phase,
                noticed_utc=noticed.isoformat(timespec="milliseconds"),
                reason=reason,
                lost_ranks=sorted(set(old.members) - set(view.members)),
                lost_agents=sorted(set(old.agents) - set(view.agents)),
                returned_agents=sorted(set(view.agents) - set(old.agents) - self._replaced.keys()),
                replaced_agents=self._replaced,
                root=view.root,
                recovery_s=time.monotonic() - began_s,
            )
        )
        if self._crew.rank == view.root:
            self._tell(self.failures[-1])
        return start

    @property
    def _newest_round(self) -> int:
        return max(self._reflection.round, self._run.round if self._run is not None else 0)

    @property
    def _hosted(self) -> list[int]:
        return list(self._run.parts.participants) if self._run is not None else []

    def _join(self) -> Saved | None:
        """Take this rank's part in the view: bring everything to the same round."""
        crew, old = self._crew, self._run
        if crew.is_spare:
            self._run = None
            return None
        world = crew.world()
        rank, replaced = self._build(world)
        mine = self._standing(old, replaced)
        standings: list[Standing] = world.gather_objects(mine)
        self._replaced |= {agent: round for one in standings for agent, round in one.replaced.items()}
        if old is None:  # has stood by
            self.failures = max([one.failures for one in standings], key=len) or self.failures
        newest = max(one.round for one in standings)
        params = self._model(world, standings, newest, old)
        server = self._server(world, standings, newest, old)
        if server:
            rank.parts.server.set_state(server)
        if old is not None:
            rank.parts.counted = old.parts.counted
            rank.parts.kept = old.parts.kept if old.round == newest else {}
        is_given_up = any(one.is_revealed and one.round == newest for one in standings)
        if is_given_up:
            newest, rank.parts.kept = newest + 1, {}
            if world.is_root:
                LOG.warning("round %d is given up: masks had been shown, so it cannot be done again", newest)
        else:
            counted = next((one.counted for one in standings if one.round == newest and one.counted), {})
            self._conclude_round(old, rank, newest, counted)
        return self._take_up(world, rank, old, newest, params)

    def _build(self, world: World) -> tuple[Rank, dict[int, int]]:
        """Make what this rank needs in a new world; agents that are here already stay what they are.

        The others go on with what they had saved; return the round of that, by id.
        """
        known = self._run.parts.participants if self._run is not None else {}
        rank = Builder(self._config, world, known).build()
        rank.parts.injector = self._injector
        fresh = rank.parts.participants.keys() - known.keys()
        return rank, {
            agent: self._put_back(agent, rank.parts.participants[agent].set_state) for agent in fresh
        }

    def _put_back(self, agent: int, set_state: Callable[[State], None]) -> int:
        """Give a vacant agent its newest saved state; without one it begins afresh. Return its round."""
        for round in reversed(self._store.rounds()):
            try:
                set_state(self._store.load(round, self._store.file_for(agent)))
            except (DamagedCheckpoint, OSError, KeyError):
                continue
            LOG.info("agent %d goes on here with its state of round %d", agent, round)
            return round
        LOG.info("agent %d goes on here; it had saved no state", agent)
        return 0

    def _standing(self, old: SynchronousRun | None, replaced: dict[int, int]) -> Standing:
        reflection, failures = self._reflection, [] if old is None else self.failures
        if old is None or reflection.round > old.round:
            return Standing(reflection.round or NOTHING, False, reflection.counted, replaced, failures)
        counted = old.parts.counted.get(old.round, {})
        return Standing(old.round, old.parts.collective.has_revealed, counted, replaced, failures)

    def _model(
        self, world: World, standings: Sequence[Standing], newest: int, old: SynchronousRun | None
    ) -> FloatVector:
        """Give the newest model to all that lack it."""
        rounds = [one.round for one in standings]
        own = self._reflection.params if old is None or self._reflection.round > old.round else old.models[0]
        if min(rounds) == newest and len(own):
            holder, is_needed = -1, False
        else:
            holder, is_needed = rounds.index(newest), True
        if any(world.gather_objects(is_needed)):
            holder = rounds.index(newest) if holder < 0 else holder
            own = world.gather_objects(np.array(own) if world.rank == holder else None)[holder]
        return own

    def _server(
        self, world: World, standings: Sequence[Standing], newest: int, old: SynchronousRun | None
    ) -> State:
        """Give the state of the server's step after the newest round to all."""
        mine: State | None = None
        if self._reflection.round == newest:
            mine = self._reflection.server
        elif old is not None and old.round == newest and _knows_server(old):
            before = old.parts.server_before
            mine = old.parts.server.get_state() if before is None else before
        states = world.gather_objects(mine if mine else None)
        return next((state for state in states if state), {})

    def _take_up(
        self,
        world: World,
        rank: Rank,
        old: SynchronousRun | None,
        round: int,
        params: FloatVector,
    ) -> Saved:
        record: Record = NullRecord()
        wall_s = 0.0
        self._directory.owner.stand_for(self._crew.job, self._crew.view.number, world.is_root)
        if world.is_root:
            if old is not None and isinstance(old.record, MirroredRecord):
                record = old.record
            else:
                record, wall_s = self._take_over(rank, round)
        if old is None:
            self._run = SynchronousRun(
                rank.parts,
                rank.plan,
                rank.evaluations,
                record,
                self._store,
                self._interrupt,
                Teller(self._config.log.progress, learner_class(self._config.algorithm).unit),
                wall_s,
            )
        else:
            old.regroup(rank.parts, rank.evaluations, record, wall_s)
        assert self._run is not None
        self._equip(self._run)
        last = world.from_root(record.last_round if world.is_root else None)
        for missing in range(max(last, 0) + 1, round + 1):
            self._run.complete(missing)
        if world.is_root:
            self._write(record)
        models = [params] * max(len(world.agents), 1)
        self._run.round, self._run.models = round, models
        return Saved(round, models, is_recovered=True)

    def _conclude_round(
        self, old: SynchronousRun | None, rank: Rank, round: int, counted: dict[int, float]
    ) -> None:
        """Note for this rank, which has lost the others before it, that a round has ended."""
        if old is None or old.round + 1 != round or not counted.keys() & rank.parts.participants.keys():
            return
        for agent in counted.keys() & old.parts.kept.keys():
            rank.parts.participants[agent].accept()
        old.keep_row(round, old.parts.kept, counted)

    def _write(self, record: Record) -> None:
        """Write the record: from here on its mirror is another one."""
        try:
            record.write(durable=True)
        except OSError as error:
            LOG.warning("record not written, will be tried again: %s", error)

    def _take_over(self, rank: Rank, round: int) -> tuple[Record, float]:
        """Go on with the files of the root that is lost."""
        log_to_terminal(0, rank.parts.world.host, self._config.log.level)
        self._lock()
        self._claim()
        known = round if self._directory.metrics.exists() else 0  # 0: lost before its first row was written
        record, wall_s = open_record(self._config, self._directory, rank, self._crew.hosts(), known)
        self._collect_mirrored()
        self._reflection.apply(record)
        record.rewind(round)
        return MirroredRecord(record, self._crew), wall_s

    def _lock(self) -> None:
        deadline = time.monotonic() + LOCK_PATIENCE * self._config.faults.silence_s
        while True:
            try:
                self._directory.lock()
                return
            except (RunInUse, OSError) as error:
                if time.monotonic() > deadline:
                    LOG.warning("writing without the lock of the run directory: %s", error)
                    return
                time.sleep(0.05)

    def _claim(self) -> None:
        """Keep a root that was given up from writing; where that fails, each write tries it again."""
        try:
            self._directory.owner.check()
            self._directory.sweep()
        except OSError as error:
            LOG.warning("the run directory is not taken over yet: %s", error)

    def _equip(self, run: SynchronousRun) -> None:
        """Give a run what makes it survivable in this view."""
        parts, crew = run.parts, self._crew
        parts.injector = self._injector
        if crew.rank == crew.view.root and not isinstance(run.record, MirroredRecord):
            run.record = MirroredRecord(run.record, crew)
        parts.mirror = make_mirror(crew, parts.collective.is_root_alone, self._reflection, parts)
        recheck = make_recheck(crew, parts) if self._config.aggregation.validation.recompute else None
        parts.checks = [*parts.checks, *([recheck] if recheck is not None else [])]
        run.before_round = self._before_round

    def _before_round(self) -> None:
        crew = self._crew
        if crew.rank == crew.view.root:
            crew.check_guests()
            return
        while crew.post.take(JOIN):  # for the root alone
            pass
        if crew.is_mirror:
            self._collect_mirrored()

    def _collect_mirrored(self) -> None:
        while letter := self._crew.post.take(MIRROR):
            self._reflection.keep_letter(letter)

    def _tell(self, failure: Failure) -> None:
        agents = {
            "without": failure.lost_agents,
            "back": failure.returned_agents,
            "elsewhere": sorted(failure.replaced_agents),
        }
        LOG.warning(
            "round %d, %s: %s; lost: rank %s%s; root is rank %d; goes on after %.2f s",
            failure.round,
            failure.phase,
            failure.reason,
            ", ".join(map(str, failure.lost_ranks)) or "none",
            "".join(f"; {how}: agents {', '.join(map(str, ids))}" for how, ids in agents.items() if ids),
            failure.root,
            failure.recovery_s,
        )

    def conclude(self, status: int) -> list[dict[str, Any]]:
        """Let those that stand by go; return the failures for the verdict."""
        self._crew.dismiss(status)
        return [asdict(failure) for failure in self.failures]
