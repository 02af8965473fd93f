"""What cannot work of surviving failures, and what to do instead."""

from collections.abc import Iterator, Mapping

from fdrl_mpi.config import AverageConfig, Config, FedPGConfig
from fdrl_mpi.federation.injection import VARIABLE, parse_faults
from fdrl_mpi.launch_flags import check_launch
from fdrl_mpi.problem import Problem

ROOT_ALONE = ("tree", "gather", "secure_ring")
"""Collectives whose root makes the next model alone."""


def check_faults(config: Config, world_size: int, environ: Mapping[str, str]) -> list[Problem]:
    """Collect all violations; the same on every rank.

    Parameters
    ----------
    config : Config
    world_size : int
        Ranks of the job, spares included.
    environ : mapping
        Variables of the launcher.
    """
    if config.faults.mode == "abort":
        return [*_injected(environ, world_size), *_without_survival(config)]
    return [
        *_injected(environ, world_size),
        *check_launch(environ),
        *_spares(config, world_size),
        *_method(config),
    ]


def _injected(environ: Mapping[str, str], world_size: int) -> Iterator[Problem]:
    try:
        faults = parse_faults(environ.get(VARIABLE, ""))
        if strangers := sorted({fault.rank for fault in faults if fault.rank >= world_size}):
            raise ValueError(f"rank {', '.join(map(str, strangers))} in a job of {world_size} ranks")
    except ValueError as error:
        yield Problem(
            f"the environment variable {VARIABLE}",
            str(error).removeprefix(f"{VARIABLE}: "),
            "correct it, or unset it",
        )


def _without_survival(config: Config) -> Iterator[Problem]:
    if config.faults.spares:
        yield Problem(
            f'faults.spares = {config.faults.spares} with faults.mode = "abort"',
            "a run that ends with its first lost rank has no use for spares",
            'set faults.mode to "survive", or faults.spares to 0',
        )
    if config.participation.deadline_s or config.participation.deadline_factor:
        yield Problem(
            'participation.deadline_s or deadline_factor with faults.mode = "abort"',
            "to leave out an agent that is late, the others have to go on without it",
            'set faults.mode to "survive", or both to 0',
        )


def _spares(config: Config, world_size: int) -> Iterator[Problem]:
    if config.faults.spares and world_size < config.faults.spares + 2:
        yield Problem(
            f"faults.spares = {config.faults.spares} in a job of {world_size} ranks",
            "a root and at least one rank with agents are needed besides",
            f"start {config.faults.spares + 2} ranks or more, or choose fewer spares",
        )


def _method(config: Config) -> Iterator[Problem]:
    if config.mode != "federated" or config.comm.collective == "gossip":
        yield Problem(
            f'faults.mode = "survive" with mode = "{config.mode}" and comm.collective = '
            f'"{config.comm.collective}"',
            "what survives a lost rank is the model that all agents share, and here there is none",
            'choose faults.mode = "abort": the run goes on from its checkpoint',
        )
    server = config.aggregation.server
    has_state = not isinstance(server, AverageConfig)
    if has_state and config.comm.collective in ("auto", "node"):
        yield Problem(
            f'faults.mode = "survive" with aggregation.server.name = "{server.__struct_config__.tag}" and '
            f'comm.collective = "{config.comm.collective}"',
            "every rank of a node would hold a part of the server's state, and a lost rank's part is lost",
            "choose comm.collective = tree, gather, allreduce or secure_ring",
        )


def check_validation(config: Config) -> Iterator[Problem]:
    """List what is wrong with the checks of the next model."""
    own, name = config.aggregation.validation, config.comm.collective
    if own.most_drop and (config.mode != "federated" or name not in ("allreduce", *ROOT_ALONE)):
        yield Problem(
            f"aggregation.validation.most_drop = {own.most_drop} with mode = {config.mode} and "
            f"comm.collective = {name}",
            "the root does not have the whole next model before it is published",
            f"set comm.collective to allreduce, {' or '.join(ROOT_ALONE)}, or most_drop to 0",
        )
    if not own.recompute:
        return
    if config.faults.mode != "survive" or name not in ROOT_ALONE:
        yield Problem(
            f"aggregation.validation.recompute with faults.mode = {config.faults.mode} and "
            f"comm.collective = {name}",
            "it is the root's mirror that makes the model a second time, where the root alone makes it",
            f'set faults.mode to "survive" and comm.collective to {" or ".join(ROOT_ALONE)}',
        )
    aggregation = config.aggregation
    is_mean = aggregation.server == AverageConfig() and aggregation.update_kind == "parameters"
    is_mean = is_mean and aggregation.rule == "mean"
    if name in ROOT_ALONE and name != "gather" and is_mean:
        yield Problem(
            f"aggregation.validation.recompute with comm.collective = {name} and plain averaging",
            "the sum that arrives at the root is the next model: there is nothing to make again",
            "set comm.collective to gather, or choose another server, or set recompute to false",
        )
    if isinstance(config.aggregation.server, FedPGConfig):
        yield Problem(
            "aggregation.validation.recompute with aggregation.server.name = fedpg",
            "the root's step plays episodes of its own, which no other rank has seen",
            "set aggregation.validation.recompute to false",
        )
