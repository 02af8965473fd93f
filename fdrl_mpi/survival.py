"""A run that outlives its ranks: whoever is left agrees on who does what, and the round is done again."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np

from fdrl_mpi.arrays import FloatVector, State
from fdrl_mpi.build import Builder, Rank
from fdrl_mpi.build_agent import learner_class
from fdrl_mpi.comm.crew import Crew, Lost, Minority
from fdrl_mpi.comm.post import JOIN, MIRROR
from fdrl_mpi.comm.world import World
from fdrl_mpi.config import AverageConfig, Config
from fdrl_mpi.federation.injection import Injector
from fdrl_mpi.federation.interrupt import Interrupt
from fdrl_mpi.federation.mirror import Mirrored, MirroredRecord, Reflection, answer, make_mirror, make_recheck
from fdrl_mpi.federation.persistence import Saved
from fdrl_mpi.federation.standing import NOTHING, Decision, Standing, decide
from fdrl_mpi.federation.synchronous import End, SynchronousRun
from fdrl_mpi.federation.validation import Evidence, digest
from fdrl_mpi.logs import log_to_terminal
from fdrl_mpi.progress import Teller
from fdrl_mpi.record.checkpoint import CheckpointStore, DamagedCheckpoint
from fdrl_mpi.record.metrics import NullRecord, Record
from fdrl_mpi.record.run_directory import RunDirectory, RunInUse
from fdrl_mpi.recording import open_record

LOG = logging.getLogger(__name__)
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

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Self:
        """Take one back from a verdict, where numbers that are keys have become text."""
        agents = {int(agent): round for agent, round in told["replaced_agents"].items()}
        return cls(**{**told, "replaced_agents": agents})


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
        self._view = crew.view.number
        self._replaced: dict[int, int] = {}
        self.failures: list[Failure] = []
        crew.post.on_message = injector.on_message

    @property
    def world(self) -> World | None:
        """The world this rank works in now; None while it stands by."""
        return None if self._run is None else self._run.parts.world

    @property
    def round(self) -> int:
        """The last round this rank has done; 0 while it stands by."""
        return 0 if self._run is None else self._run.round

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
                end = self._run.go(start)
                self._run.parts.world.barrier()  # until the root has evaluated the last model
                return end
            except Lost as lost:
                start = self._recover(lost)

    def _keep(self, sent: Mirrored | Evidence | None) -> None:
        """Take what the root sends, while this rank stands by."""
        if isinstance(sent, Evidence):
            answer(self._crew, sent)
            return
        if sent is None:
            return
        self._reflection.keep(sent, self._crew.view.number)
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
        lost_ranks = sorted(set(old.members) - set(view.members))
        self.failures.append(
            Failure(
                round=(self._newest_round if start is None else start.round) + 1,
                phase=phase,
                noticed_utc=noticed.isoformat(timespec="milliseconds"),
                reason="; ".join([reason, *self._crew.last_words_of(lost_ranks)]),
                lost_ranks=lost_ranks,
                lost_agents=sorted(set(old.agents) - set(view.agents)),
                returned_agents=sorted(set(view.agents) - set(old.agents) - self._replaced.keys()),
                replaced_agents={a: round for a, round in self._replaced.items() if a in view.agents},
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
        """Take this rank's part in the view: tell each other, decide, take the state, open the files.

        A view is entered whole or not at all: `_take` waits for nobody, so that a rank that is lost meanwhile
        leaves each of the others with one model, its round, and the contributions that belong to it.
        """
        crew = self._crew
        if crew.rank != crew.view.root:
            self._directory.unlock()
        if crew.is_spare:
            self._run = None
            return None
        world = crew.world()
        rank, replaced = self._build(world)
        own = self._standing(replaced)
        standings: list[Standing] = world.gather_objects(own)
        decision = decide(standings)
        params = self._model(world, decision)
        server = self._server(world, own, decision)
        self._note_history(standings)
        run = self._take(rank, decision, params, server)
        return self._open(run, rank)

    def _note_history(self, standings: Sequence[Standing]) -> None:
        """Learn from the others what this rank was not there to see."""
        self._replaced |= {agent: round for one in standings for agent, round in one.replaced.items()}
        lists: list[list[Failure]] = [one.failures for one in standings]
        self.failures = max(lists, key=len) or self.failures

    def _build(self, world: World) -> tuple[Rank, dict[int, int]]:
        """Make what this rank needs in a new world; agents that are here already stay what they are.

        The others go on with what they had saved; return the round of that, by id.
        """
        known = self._run.parts.participants if self._run is not None else {}
        try:
            builder = Builder(self._config, world, known)
            rank = builder.build(builder.connect())
        except ValueError as error:  # on all ranks: too few are left for a secure sum
            raise Minority(f"those that are left cannot go on: {error}") from error
        rank.parts.injector = self._injector
        fresh = rank.parts.participants.keys() - known.keys()
        return rank, {
            agent: self._put_back(agent, rank.parts.participants[agent].set_state) for agent in fresh
        }

    def _put_back(self, agent: int, set_state: Callable[[State], None]) -> int:
        """Give a vacant agent its newest saved state; without one it begins afresh. Return its round."""
        round, state = self._newest_saved(agent)
        if state:
            set_state(state)
        had = f"its state of round {round}" if state else "no saved state"
        LOG.info("agent %d goes on here with %s", agent, had)
        return round

    @property
    def _is_reflection_newer(self) -> bool:
        return self._run is None or self._reflection.round > self._run.round

    def _standing(self, replaced: dict[int, int]) -> Standing:
        reflection, run = self._reflection, self._run
        if run is None or self._is_reflection_newer:
            known = digest(reflection.params) if reflection.round else ""
            return Standing(
                reflection.round or NOTHING, reflection.view, known, False, reflection.counted, replaced,
                [] if run is None else self.failures,
            )  # fmt: skip
        counted, is_revealed = run.parts.counted.get(run.round, {}), run.parts.collective.has_revealed
        return Standing(
            run.round, self._view, digest(run.models[0]), is_revealed, counted, replaced, self.failures
        )

    def _model(self, world: World, decision: Decision) -> FloatVector:
        """Give the newest model to all, if some lack it."""
        run, reflection = self._run, self._reflection
        own = reflection.params if run is None or self._is_reflection_newer else run.models[0]
        if decision.is_wanting:
            is_holder = world.rank == decision.holder
            own = world.gather_objects(np.array(own) if is_holder else None)[decision.holder]
        return own

    def _server(self, world: World, own: Standing, decision: Decision) -> State:
        """Give the state of the server's step after the newest round to all."""
        mine, run = State(), self._run
        if (own.round, own.digest) == (decision.made_round, decision.digest):
            if self._reflection.round == own.round:
                mine = self._reflection.server
            elif run is not None and _knows_server(run):
                before = run.parts.server_before
                mine = run.parts.server.get_state() if before is None else before
        states = [state for state in world.gather_objects(mine) if state]
        has_state = not isinstance(self._config.aggregation.server, AverageConfig)
        if has_state and not states and decision.made_round > 0:
            states = [world.from_root(self._saved_server() if world.is_root else None)]
        return states[0] if states else State()

    def _saved_server(self) -> State:
        """Read the server's newest saved state, where root and mirror are lost together."""
        round, saved = self._newest_saved(0)
        LOG.warning("root and mirror are lost: the server goes on with its state of round %d", round)
        state: State = saved.get("server", {})
        return state

    def _newest_saved(self, agent: int) -> tuple[int, State]:
        """Read the newest whole state of an agent, or of the root, 0; round 0 if there is none."""
        for round in reversed(self._store.rounds()):
            with suppress(DamagedCheckpoint, OSError):
                return round, self._store.load(round, self._store.file_for(agent))
        return 0, State()

    def _take(self, rank: Rank, decision: Decision, params: FloatVector, server: State) -> SynchronousRun:
        """Take the state that the members have decided on."""
        old, round = self._run, decision.round
        rank.parts.server.set_state(server)
        if old is not None:
            rank.parts.counted = old.parts.counted
            is_same = old.round == round and digest(old.models[0]) == decision.digest
            rank.parts.kept = old.parts.kept if is_same else {}
        if decision.is_given_up and rank.parts.world.is_root:
            LOG.warning("round %d is given up: masks had been shown, so it cannot be done again", round)
        elif not decision.is_given_up:
            self._conclude_round(old, rank, round, decision.counted)
        if old is None:
            run = SynchronousRun(
                rank.parts,
                rank.plan,
                rank.evaluations,
                NullRecord(),
                self._store,
                self._interrupt,
                Teller(self._config.log.progress, learner_class(self._config.algorithm).unit),
            )
        else:
            run = old
            run.regroup(rank.parts, rank.evaluations)
        run.round, run.models = round, [params] * max(len(rank.parts.world.agents), 1)
        nobody_needs = np.zeros(0, np.float32)  # the model itself: it is the run's
        self._reflection.keep((round, nobody_needs, server, decision.counted), self._crew.view.number)
        self._run, self._view = run, self._crew.view.number
        return run

    def _open(self, run: SynchronousRun, rank: Rank) -> Saved:
        """Go on with the record, complete it, and give the mirror what the root has."""
        world = run.parts.world
        self._directory.owner.stand_for(self._crew.job, self._crew.view.number, world.is_root)
        if not world.is_root:
            run.record = NullRecord()
        elif not isinstance(run.record, MirroredRecord):
            run.record, wall_s = self._take_over(run, rank)
            run.note_time(wall_s)
        self._equip(run)
        last = world.from_root(run.record.last_round if world.is_root else None)
        for missing in range(max(last, 0) + 1, run.round + 1):
            run.complete(missing)
        if world.is_root:
            self._write(run.record)
        if run.parts.mirror is not None:
            run.parts.mirror(run.round, run.models[0])
        return Saved(run.round, run.models, is_recovered=True)

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

    def _take_over(self, run: SynchronousRun, rank: Rank) -> tuple[Record, float]:
        """Go on with the files of the root that is lost."""
        log_to_terminal(0, run.parts.world.host, self._config.log.level)
        self._lock()
        self._claim()
        known = run.round if self._directory.metrics.exists() else 0  # 0: no row was written
        record, wall_s = open_record(self._config, self._directory, rank, self._crew.hosts(), known)
        self._collect_mirrored()
        self._reflection.apply(record)
        record.rewind(run.round)
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

    def dismiss(self, status: int) -> None:
        """Let those that stand by go."""
        self._crew.dismiss(status)

    def reason(self, end: Exception) -> str:
        """Say why this rank cannot go on, with what those said that it has lost."""
        with suppress(Exception):  # MPI may be past talking
            self._crew.post.collect()
        return "; ".join([str(end), *self._crew.last_words_of(self._crew.view.members)])

    def told(self) -> list[dict[str, Any]]:
        """Return the failures for the verdict."""
        return [asdict(failure) for failure in self.failures]
