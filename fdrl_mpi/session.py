"""One run from its configuration to its verdict, on one rank."""

import gc
import logging
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from fdrl_mpi.build import Builder, Rank
from fdrl_mpi.build_agent import draw_worlds, learner_class
from fdrl_mpi.comm.crew import Crew, Minority
from fdrl_mpi.comm.world import World
from fdrl_mpi.config import Config
from fdrl_mpi.config_file import to_toml
from fdrl_mpi.constraints import check
from fdrl_mpi.federation.injection import VARIABLE, Fault, Injector, parse_faults
from fdrl_mpi.federation.interrupt import Interrupt
from fdrl_mpi.federation.persistence import Saved, restore
from fdrl_mpi.federation.synchronous import End, SynchronousRun
from fdrl_mpi.logs import log_to_file
from fdrl_mpi.own_class import place_of
from fdrl_mpi.problem import Problem
from fdrl_mpi.process import EXIT_STATUS, FAILED, LikewiseError, tell_launcher
from fdrl_mpi.progress import Teller, result_text
from fdrl_mpi.record.atomic_file import replacing
from fdrl_mpi.record.checkpoint import CheckpointStore
from fdrl_mpi.record.metrics import NullRecord, Record
from fdrl_mpi.record.metrics_file import read_metrics, took_part
from fdrl_mpi.record.run_directory import RunDirectory, TakenOver
from fdrl_mpi.record.verdict import Verdict
from fdrl_mpi.recording import open_record
from fdrl_mpi.resumption import Beginning, beginning, run_directory
from fdrl_mpi.rl.denormals import flush_denormals
from fdrl_mpi.survival import Failure, Survivor

LOG = logging.getLogger(__name__)

Result = TypeVar("Result")


class Refusal(Exception):  # noqa: N818 (it is no error of the program)
    """Why a run does not begin; raised on every rank with the same problems."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = list(problems)


class BrokenStartError(Exception):
    """What some rank raised before the run began that is no refusal; raised on every rank with one text."""


class Session:
    """A run that may begin: configuration, ranks, directory and environments fit together.

    Nothing is written before `run`.

    Parameters
    ----------
    config : Config
    world : World
        Root and agents.
    crew : Crew, optional
        If the run is to outlive its ranks.

    Raises
    ------
    Refusal, BrokenStartError
        On all ranks.
    """

    def __init__(self, config: Config, world: World, crew: Crew | None = None) -> None:
        self._config, self._world = config, world
        size = world.size if crew is None else crew.post.size
        _refuse(_found(world, _on_all_ranks(world, lambda: check(config, size, os.environ))))
        injector = Injector(_faults(), world.rank if crew is None else crew.rank)
        look = partial(beginning, config, world.num_agents) if world.is_root else _nothing
        self._beginning: Beginning = world.from_root(_on_all_ranks(world, look))
        _refuse(self._beginning.problems)
        flush_denormals()
        builder = _on_all_ranks(world, lambda: Builder(config, world))
        _refuse(_different_models(world, builder.pieces))
        collective = _on_all_ranks(world, builder.connect, has_collectives=True)
        self.rank: Rank = _on_all_ranks(world, lambda: builder.build(collective))
        self._directory = self._beginning.directory
        self._store = CheckpointStore(
            self._directory.path, config.checkpoint.keep, self._directory.owner.check
        )
        self.rank.parts.injector = injector
        self._crew, self._injector = crew, injector
        self._survivor: Survivor | None = None

    def describe(self) -> None:
        """Say on the root what would run."""
        if self._world.is_root:
            for line in self._description():
                LOG.info("%s", line)

    def run(self, interrupt: Interrupt) -> int:
        """Begin or go on, to the end or until `interrupt` asks to stop; return the exit status."""
        if self._crew is not None:
            self._survivor = Survivor(self._config, self._crew, self._directory, self._injector, interrupt)
        self._take_directory()
        saved = self._restore()
        self._earlier = self._failures_before(saved.round)
        if self._survivor is not None:
            self._survivor.failures = [Failure.read(failure) for failure in self._earlier]
        self._write_configuration()
        run = None
        try:
            record, wall_s = self._open_record(saved.round)
            self._announce(saved.round)
            gc.freeze()
            gc.enable()
            run = SynchronousRun(
                self.rank.parts,
                self.rank.plan,
                self.rank.evaluations,
                record,
                self._store,
                interrupt,
                Teller(self._config.log.progress, learner_class(self._config.algorithm).unit),
                wall_s,
            )
            end = run.go(saved) if self._survivor is None else self._survivor.go(run, saved)
            return end if isinstance(end, int) else self._conclude(end)  # a number: it has become a spare
        except (Minority, TakenOver) as reason:
            return self._leave(reason, run.round if run is not None else saved.round)
        except BaseException as error:
            if self._survivor is None:  # else the others go on, and these are their files
                self._leave_word(error, run.round if run is not None else saved.round)
            raise

    def _description(self) -> Iterator[str]:
        """Say what runs, where, and in which worlds."""
        config, num_agents, params = self._config, self._world.num_agents, self.rank.params
        unit, where = learner_class(config.algorithm).unit, self._world.placement.describe()
        yield (
            f"{config.mode} {config.algorithm} on {config.environment.id}: {_counted(num_agents, 'agents')}"
            f"{f' ({where})' if where else ''}, "
            f"{_counted(config.rounds, 'rounds')} of {_counted(config.learner.budget, unit)} each"
        )
        yield (
            f"model of {len(params)} parameters ({params.nbytes} bytes), {self.rank.engine} engine "
            f"on {self.rank.device}, collective: {self.rank.parts.collective.name}{self.rank.travels}"
            f"{self.rank.trains}"
        )
        yield f"run directory {self._directory.path}"
        for agent, context in enumerate(draw_worlds(config, num_agents), 1):
            yield f"agent {agent}: {context or 'default world'}"

    def _leave_word(self, error: BaseException, round: int) -> None:
        """Write why the run failed, on whichever rank is the first: the job is about to be ended.

        Raises
        ------
        LikewiseError
            If another rank has failed so before.
        """
        what = f"{type(error).__name__}: {error}"
        verdict = Verdict("failed", round, self._config.rounds, f"{self._world.title}: {what}", None, 0.0)
        with suppress(OSError, ValueError):  # the disk may have failed: the traceback is what counts
            if not verdict.write_first(self._directory.verdict):
                first = Verdict.read(self._directory.verdict).reason
                if first.partition(": ")[2] == what:
                    raise LikewiseError(first) from error

    def _take_directory(self) -> None:
        """Lock the run directory; the root does it, all ranks learn of it. What is in it stays."""
        start, world = self._beginning, self._world

        def prepare() -> None:
            if start.set_aside:
                LOG.info("the old run is kept in %s", self._directory.set_aside())
            if start.copy_from is not None:
                self._directory.copy_from(start.copy_from)
            self._directory.lock()
            if self._crew is not None:
                self._directory.owner.claim()
            else:  # nobody who was given up may take this run for his own
                self._directory.owner.path.unlink(missing_ok=True)

        if self._crew is not None:
            self._directory.owner.stand_for(self._crew.job, self._crew.view.number, world.is_root)
        _on_all_ranks(world, prepare if world.is_root else _nothing)

    def _failures_before(self, round: int) -> list[dict[str, Any]]:
        """Read, for every rank, what an earlier start has survived up to where this one goes on."""
        failures: list[dict[str, Any]] = []
        with suppress(ValueError):
            if self._world.is_root:
                failures = Verdict.read(self._directory.verdict).failures
        kept = [failure for failure in failures if failure["round"] <= round]
        earlier: list[dict[str, Any]] = self._world.from_root(kept)
        return earlier

    def _write_configuration(self) -> None:
        """Make the directory that of this run, whose state is known to be whole."""

        def write() -> None:
            with replacing(self._directory.config) as temporary:  # first: without it, the rest is no run
                temporary.write_text(to_toml(self._config))
            self._directory.logs.mkdir(exist_ok=True)
            self._directory.verdict.unlink(missing_ok=True)
            tell_launcher(run=self._directory.path)

        world = self._world
        _on_all_ranks(world, write if world.is_root else _nothing)
        log_to_file(self._directory.log(world.rank), world.rank, world.host)

    def _restore(self) -> Saved:
        rank = self.rank
        return _on_all_ranks(
            self._world,
            lambda: restore(self._store, rank.parts, rank.parts.wire.first(rank.params)),
            has_collectives=True,
        )

    def _open_record(self, round: int) -> tuple[Record, float]:
        """Open the record on the root, rewound to `round`; return it and the training time so far."""
        hosts = self._world.gather_objects(self._world.host)[1:]
        if not self._world.is_root:
            return NullRecord(), 0.0
        self._store.discard_after(round)
        seats = self._world.placement.seats_of
        each = [host for rank, host in enumerate(hosts, 1) for _ in seats(rank)]
        return open_record(self._config, self._directory, self.rank, each, round)

    def _announce(self, round: int) -> None:
        if self._world.is_root:
            rounds = self._config.rounds
            if round >= rounds:
                LOG.info(
                    "%s already has all %d rounds; ask for more with --rounds, choose another --run.name, or "
                    "start over with --run.resume never",
                    self._directory.path,
                    rounds,
                )
            else:
                task, model = islice(self._description(), 2)
                LOG.info("%s", task)
                LOG.info("%s%s", model, f"; goes on after round {round}" if round else "")

    def _conclude(self, end: End) -> int:
        """Write the verdict and say how the run ended; return the exit status."""
        return conclude(self._config, self._world, self._directory, self._survivor, end, self._earlier)

    def _leave(self, reason: Minority | TakenOver, round: int) -> int:
        """End on a rank that cannot go on; the others may, and these are their files."""
        return leave(self._config, self._world, self._directory, self._survivor, reason, round)


def leave(
    config: Config,
    world: World,
    directory: RunDirectory,
    survivor: "Survivor | None",
    reason: Minority | TakenOver,
    round: int,
) -> int:
    """End on a rank that cannot go on, and say so on the root where no verdict is; return the exit status."""
    world = survivor.world or world if survivor is not None else world
    why = str(reason) if survivor is None else survivor.reason(reason)
    with suppress(OSError, TakenOver):
        if world.is_root and not directory.verdict.exists():
            verdict = Verdict("minority", round, config.rounds, why, None, 0.0)
            if survivor is not None:
                verdict = _with_history(verdict, directory, survivor.told())
            directory.write_verdict(verdict)
    directory.unlock()
    LOG.error("rank %d ends: %s", world.rank, why)
    return EXIT_STATUS["minority"]


def conclude(
    config: Config,
    world: World,
    directory: RunDirectory,
    survivor: "Survivor | None",
    end: End,
    failures: Sequence[dict[str, Any]] = (),
) -> int:
    """Write the verdict and say how the run ended, on the root; return the exit status.

    Raises
    ------
    TakenOver
        If others have taken over the run.
    """
    status = EXIT_STATUS[end.outcome]
    world = survivor.world or world if survivor is not None else world
    if not world.is_root:
        return status
    mean = None if end.returns is None else float(end.returns.mean())
    exact = dict(end.exact)
    verdict = Verdict(
        end.outcome, end.round, config.rounds, end.reason, mean, end.wall_s, exact, list(failures)
    )
    if survivor is not None:
        survivor.dismiss(status)
        verdict = _with_history(verdict, directory, survivor.told())
    try:
        directory.write_verdict(verdict)
    except OSError as error:
        LOG.error("there is no verdict of this run, it could not be written: %s", error)
        status = FAILED
    LOG.log(
        logging.WARNING if end.outcome == "failed" else logging.INFO,
        "%s after round %d of %d (%s)%s; run: %s",
        end.outcome,
        end.round,
        config.rounds,
        end.reason,
        result_text(end),
        directory.path,
    )
    directory.unlock()
    return status


def _with_history(verdict: Verdict, directory: RunDirectory, failures: list[dict[str, Any]]) -> Verdict:
    """Add what was survived, and who took part."""
    verdict = replace(verdict, failures=failures)
    with suppress(ValueError):  # there is no record of a run whose disk was full from its first round on
        verdict = replace(verdict, took_part=took_part(read_metrics(directory.metrics)))
    return verdict


def stand_by(config: Config, crew: Crew, interrupt: Interrupt) -> int:
    """Be a spare of a run until it ends; return its exit status."""
    flush_denormals()
    directory = run_directory(config)
    log_to_file(directory.log(crew.rank), crew.rank, crew.post.hosts[crew.rank])
    survivor = Survivor(config, crew, directory, Injector(_faults(), crew.rank), interrupt)
    gc.enable()
    try:
        end = survivor.stand_by()
        if isinstance(end, int):
            return end
        assert survivor.world is not None
        return conclude(config, survivor.world, directory, survivor, end)
    except (Minority, TakenOver) as reason:
        if survivor.world is not None:
            return leave(config, survivor.world, directory, survivor, reason, survivor.round)
        LOG.error("rank %d ends: %s", crew.rank, reason)
        return EXIT_STATUS["minority"]


def _faults() -> list[Fault]:
    return parse_faults(os.environ.get(VARIABLE, ""))


def _counted(count: int, things: str) -> str:
    return f"{count} {things.removesuffix('s') if count == 1 else things}"


def _refuse(problems: Sequence[Problem]) -> None:
    if problems:
        raise Refusal(problems)


def _found(world: World, problems: Sequence[Problem]) -> Sequence[Problem]:
    """Return what the first rank has found that found something: hosts may have different classes."""
    return next(filter(None, world.gather_objects(problems)), [])


def _nothing() -> None:
    """Do nothing, where only the root has work."""


def _on_all_ranks(world: World, work: Callable[[], Result], has_collectives: bool = False) -> Result:
    """Do `work` on every rank; a ValueError or OSError on any of them refuses the run on all.

    Any other error is one of the program, and told once for all ranks that have it. Where `work` itself
    `has_collectives`, others may wait in one of them, and it is raised on this rank alone.
    """
    trouble, flaw, result = "", "", None
    try:
        result = work()
    except (ValueError, OSError, MemoryError) as error:
        trouble = (str(error) or type(error).__name__) + place_of(error)
    except Exception:
        if has_collectives:
            raise
        flaw = traceback.format_exc()
    heard = world.gather_objects((trouble, flaw))
    troubles = {rank: text for rank, (text, _) in enumerate(heard) if text}
    flaws = {rank: text for rank, (_, text) in enumerate(heard) if text}
    if flaws:
        raise BrokenStartError(f"rank {_listed(flaws)} failed, the first of them so:\n{_first(flaws)}")
    if troubles:
        remedy = f"mend that (found on rank {_listed(troubles)})"
        raise Refusal([Problem("this run cannot begin", _first(troubles), remedy)])
    return result  # type: ignore[return-value]


def _listed(by_rank: Mapping[int, str]) -> str:
    return ", ".join(map(str, by_rank))


def _first(by_rank: Mapping[int, str]) -> str:
    return next(iter(by_rank.values()))


def _different_models(world: World, pieces: Mapping[str, slice]) -> list[Problem]:
    """Compare the model layouts of all ranks: what does not match cannot be averaged."""
    layouts = world.gather_objects(dict(pieces))
    if all(other == layouts[0] for other in layouts):
        return []
    sizes = sorted({max(piece.stop for piece in other.values()) for other in layouts})
    return [
        Problem(
            f"models of {', '.join(map(str, sizes))} parameters in different layouts",
            "agents whose observations or actions differ in size have no model in common",
            "give all agents worlds with the same spaces",
        )
    ]
