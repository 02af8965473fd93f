"""What cannot work of surviving failures, and what to do instead."""

from collections.abc import Iterator, Mapping

from fdrl_mpi.config import AverageConfig, Config
from fdrl_mpi.federation.injection import VARIABLE, parse_faults
from fdrl_mpi.launch_flags import check_launch
from fdrl_mpi.problem import Problem


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
        return [*_injected(environ), *_without_survival(config)]
    return [
        *_injected(environ),
        *check_launch(environ),
        *_spares(config, world_size),
        *_method(config),
    ]


def _injected(environ: Mapping[str, str]) -> Iterator[Problem]:
    try:
        parse_faults(environ.get(VARIABLE, ""))
    except ValueError as error:
        yield Problem(f"the environment variable {VARIABLE}", str(error), "correct it, or unset it")


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
    if 1 < world_size < config.faults.spares + 2:
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
