"""Where a run goes on, decided from its directory before anything is written."""

from dataclasses import dataclass
from pathlib import Path

from fdrl_mpi.config import MAY_DIFFER_ON_RESUME, Config
from fdrl_mpi.config_file import ConfigError, differing_keys, read
from fdrl_mpi.problem import Problem
from fdrl_mpi.record.checkpoint import CheckpointStore
from fdrl_mpi.record.run_directory import RunDirectory

LONGEST_NAME = 255
"""Bytes of a file name."""


@dataclass(frozen=True)
class Beginning:
    """What to do with the run directory before a run.

    Attributes
    ----------
    directory : RunDirectory
    set_aside : bool
        Rename the run that is there.
    copy_from : RunDirectory or None
        Begin with a copy of another run.
    problems : list of Problem
        Why the run cannot begin.
    """

    directory: RunDirectory
    set_aside: bool
    copy_from: RunDirectory | None
    problems: list[Problem]


def run_directory(config: Config) -> RunDirectory:
    """Name the directory of a run."""
    return RunDirectory(Path(config.run.dir) / config.run.name)


def beginning(config: Config, num_agents: int) -> Beginning:
    """Look at the run directory, and at the one to go on from; nothing is changed."""
    own = run_directory(config)
    resume = config.run.resume
    if any(len(part.encode()) > LONGEST_NAME for part in own.path.parts):
        too_long = f"a name in it is longer than {LONGEST_NAME} bytes, which file systems do not take"
        return Beginning(
            own, False, None, [Problem(f"run directory {own.path}", too_long, "choose a shorter run.name")]
        )
    if resume == "never":
        return Beginning(own, not own.is_empty(), None, [])
    if resume == "auto" or Path(resume).resolve() == own.path.resolve():
        if own.is_empty():
            return Beginning(own, False, None, [] if resume == "auto" else [_nothing_there(own)])
        return Beginning(own, False, None, _mismatches(own, config, num_agents))
    other = RunDirectory(resume)
    problems = _mismatches(other, config, num_agents) if not other.is_empty() else [_nothing_there(other)]
    if not own.is_empty():
        problems.append(
            Problem(
                f"run.resume = {resume} with a run in {own.path}",
                "a run that goes on from another one needs a directory of its own",
                "choose another run.name",
            )
        )
    return Beginning(own, False, other, problems)


def _nothing_there(directory: RunDirectory) -> Problem:
    return Problem(
        f"run.resume = {directory.path}",
        "there is no run in it",
        "name a run directory, or use auto or never",
    )


def _mismatches(directory: RunDirectory, config: Config, num_agents: int) -> list[Problem]:
    """Compare a run with what is asked for now."""
    is_own = directory.path == run_directory(config).path
    if not directory.config.is_file():
        return [
            Problem(
                f"{directory.path} holds files, but no run",
                f"it has no {directory.config.name}, and a run does not mix with other files",
                "choose another run.name or run.dir" if is_own else "name a run directory in run.resume",
            )
        ]
    try:
        stored = read([directory.config], [])
    except ConfigError as error:
        return [
            Problem(
                f"the run in {directory.path}",
                f"its {directory.config.name} cannot be used: {error.problems[0]}",
                "mend it, choose another run.name, or set run.resume to never (the old run is kept aside)",
            )
        ]
    problems = []
    if keys := differing_keys(stored, config, MAY_DIFFER_ON_RESUME):
        problems.append(
            Problem(
                f"the run in {directory.path} has another configuration",
                f"they differ in {', '.join(keys)}",
                "choose another run.name, set run.resume to never (the old run is kept aside), "
                "or undo the difference",
            )
        )
    store = CheckpointStore(directory.path, keep=1)
    rounds = store.rounds()
    agents = store.manifest(rounds[-1]).facts.get("agents") if rounds else None
    if agents not in (None, num_agents):
        problems.append(
            Problem(
                f"the run in {directory.path} has {agents} agents, this job {num_agents}",
                "agents keep their worlds and optimisers for the whole run",
                _on_how_many(agents, config.faults.spares),
            )
        )
    if rounds and rounds[-1] > config.rounds:
        problems.append(
            Problem(
                f"rounds = {config.rounds} with a run of {rounds[-1]} rounds in {directory.path}",
                "a run does not go back",
                f"ask for more than {rounds[-1]} rounds, or choose another run.name",
            )
        )
    return problems


def _on_how_many(agents: int, num_spares: int) -> str:
    """Say how to start so many agents."""
    if num_spares:  # each rank hosts as many
        return f"start {agents + 1 + num_spares} ranks with agents_per_rank = 1, or choose another run.name"
    return f"start with agents = {agents} on at most {agents + 1} ranks, or choose another run.name"
