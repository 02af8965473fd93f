"""Train: ``mpirun -n 17 python -m fdrl_mpi.train``. Heavy imports wait for a valid configuration."""

import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, NoReturn

from fdrl_mpi.command_line import TrainArguments, help_text, parse_train_arguments
from fdrl_mpi.config import Config
from fdrl_mpi.config_file import ConfigError, read, to_toml
from fdrl_mpi.federation.interrupt import Interrupt
from fdrl_mpi.problem import Problem
from fdrl_mpi.process import (
    FAILED,
    REFUSED,
    LikewiseError,
    end_after,
    is_launched,
    launched_rank,
    prepare_process,
    tell_launcher,
)
from fdrl_mpi.starting import start_mpi

LEAVE_S = 5.0
"""How long a rank waits in MPI for others that may be dead."""
START_S = 180.0
"""From the start of MPI until ranks watch each other. Told to bear failures, MPI itself waits without end for
a rank that dies while all start; and a slow file system takes minutes to load libraries."""

if TYPE_CHECKING:
    from fdrl_mpi.comm.crew import Crew
    from fdrl_mpi.comm.world import World


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status where no other rank has to be waited for."""
    prepare_process()
    gc.disable()  # while modules load: a tenth of a second a rank
    interrupt = Interrupt()  # before anything heavy is loaded: a signal while ranks start counts too
    config, is_dry, problems = Config(), False, list[Problem]()
    try:
        arguments = parse_train_arguments(sys.argv[1:] if argv is None else argv)
        if answer := _answer(arguments):
            if launched_rank() == 0:
                print(answer)
            return 0
        config, is_dry = read(arguments.config_files, arguments.overrides), arguments.dry_run
    except ConfigError as error:
        problems = error.problems
    if problems and not is_launched():
        _print_problems(problems)
        return REFUSED
    return _run(config, problems, is_dry, interrupt)


def _run(config: Config, problems: list[Problem], is_dry: bool, interrupt: Interrupt) -> NoReturn:
    """Start MPI, do the session, and leave with all ranks; a failure of this rank ends all of them."""
    is_surviving = config.faults.mode == "survive"
    if is_surviving:
        end_after(START_S)
    world = start_mpi(config.agents_per_rank, config.agents)
    if problems := _agreed(world, config, problems):
        _print_problems(problems)
        _leave(world, REFUSED)
    try:
        status = _session(config, world, is_dry, interrupt)
    except BaseException as error:  # also what a user's code ends a process with: no other may wait for this
        world.fail(error, alone=is_surviving)
    _leave(world, status, LEAVE_S if is_surviving else 0.0)


def _leave(world: "World", status: int, limit_s: float = 0.0) -> NoReturn:
    """End this rank with all others; the root's status is that of the job, whatever mpirun makes of it."""
    if world.is_root:
        with suppress(OSError):
            tell_launcher(status=status)
    world.leave(status, limit_s)


def _agreed(world: "World", config: Config, problems: list[Problem]) -> list[Problem]:
    """Collect what is wrong with the configuration on any rank: hosts may have different files."""
    heard: list[tuple[list[Problem], str]] = world.gather_objects((problems, to_toml(config)))
    if found := next((theirs for theirs, _ in heard if theirs), None):
        return found
    different = [rank for rank, (_, text) in enumerate(heard) if text != heard[0][1]]
    if not different:
        return []
    return [
        Problem(
            f"rank {', '.join(map(str, different))} and rank 0 read different configurations",
            "the files that --config names differ between hosts",
            "give every host the same files",
        )
    ]


def _answer(arguments: TrainArguments) -> str:
    """Return what is only to be printed; empty if there is something to run."""
    if arguments.help:
        return help_text()
    if arguments.version:
        from fdrl_mpi import __version__

        return __version__
    if arguments.print_config:
        return to_toml(read(arguments.config_files, arguments.overrides), comments=True)
    return ""


def _session(config: Config, world: "World", is_dry: bool, interrupt: Interrupt) -> int:
    """Check, begin and run on this rank; return the exit status, the same on every rank."""
    from fdrl_mpi.constraints_faults import check_faults
    from fdrl_mpi.logs import log_to_terminal

    log_to_terminal(world.rank, world.host, config.log.level)
    is_alone = world.size == 1  # which is refused in due course
    if config.faults.mode != "survive" or is_alone or check_faults(config, world.size, os.environ):
        end_after(0.0)
        return _begun(config, world, None, is_dry, interrupt)
    crew = _crew(config, world)
    end_after(0.0)
    try:
        return _begun(config, world, crew, is_dry, interrupt)
    except BaseException as error:
        what = f"{type(error).__name__}: {error}"
        if (first := crew.say_last(what)) is not None:
            raise LikewiseError(f"rank {first}: {what}") from error
        raise
    finally:
        crew.close()


def _begun(config: Config, world: "World", crew: "Crew | None", is_dry: bool, interrupt: Interrupt) -> int:
    """Be an agent, the root or a spare until the end; return the exit status."""
    from fdrl_mpi.session import BrokenStartError, Refusal, Session, stand_by

    if crew is not None:
        if crew.is_spare:
            return stand_by(config, crew, interrupt)
        world = crew.world()
    status = REFUSED
    try:
        session = Session(config, world, crew)
        if is_dry:
            session.describe()
            status = 0
        else:
            return session.run(interrupt)
    except Refusal as refusal:
        _print_problems(refusal.problems)
    except BrokenStartError as error:
        if launched_rank() == 0:
            print(error, file=sys.stderr, flush=True)
        status = FAILED
    if crew is not None and world.is_root:
        crew.dismiss(status)
    return status


def _crew(config: Config, world: "World") -> "Crew":
    """Make the crew of a run that is to outlive its ranks."""
    from fdrl_mpi.comm.crew import Crew
    from fdrl_mpi.comm.watched import MOST_SILENCES

    faults = config.faults
    participation = config.participation  # who trains does not answer; without a deadline that may take long
    has_deadline = participation.deadline_s or participation.deadline_factor
    patience_s = max(participation.deadline_s, MOST_SILENCES * faults.silence_s) if has_deadline else inf
    return Crew(
        world.comm,
        faults.spares,
        config.num_agents(world.size - 1 - faults.spares) // (world.size - 1 - faults.spares),
        faults.silence_s,
        patience_s,
        faults.max_misses,
    )


def _print_problems(problems: Sequence[Problem]) -> None:
    if launched_rank() == 0:
        print("\n".join(map(str, problems)), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
