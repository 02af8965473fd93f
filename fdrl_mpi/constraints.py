"""What a configuration asks for that cannot work: every violation, why, and what to choose instead."""

from collections.abc import Iterator, Mapping

from fdrl_mpi.build_collective import GIVES, mixing_matrix
from fdrl_mpi.build_rule import make_rule
from fdrl_mpi.config import Config
from fdrl_mpi.constraints_faults import check_faults, check_validation
from fdrl_mpi.constraints_learning import check_learning
from fdrl_mpi.federation.participation import cohort_size
from fdrl_mpi.own_class import place_of
from fdrl_mpi.pmi import check_singletons
from fdrl_mpi.privacy.fixed_point import fraction_bits
from fdrl_mpi.problem import Problem
from fdrl_mpi.rl.hyperparameters import OwnConfig, ReinforceConfig
from fdrl_mpi.topology.ring import check_ring_degree

MOST_AGENTS_PER_RANK = 10_000
LAUNCH = "mpirun -n 17 python -m fdrl_mpi.train"


def check(config: Config, world_size: int, environ: Mapping[str, str]) -> list[Problem]:
    """Collect all violations; the same on every rank whose host has the same files.

    Parameters
    ----------
    config : Config
    world_size : int
        Ranks of the job: root, those with agents, spares.
    environ : mapping
        Variables of the launcher.
    """
    num_spares, num_ranks = config.faults.spares, world_size
    num_hosting = max(num_ranks - num_spares - 1, 1)
    num_agents = config.num_agents(num_hosting)
    return [
        *_world(num_ranks, environ),
        *check_faults(config, num_ranks, environ),
        *_fan_out(config),
        *_agents(config, num_hosting),
        *_gossip(config, num_agents),
        *_secure_ring(config, num_hosting),
        *check_validation(config),
        *_rule(config, num_agents),
        *_mode(config),
        *check_learning(config),
    ]


def _world(world_size: int, environ: Mapping[str, str]) -> Iterator[Problem]:
    if world_size > 1:
        return
    yield check_singletons(world_size, environ) or Problem(
        "a world of one rank",
        "rank 0 aggregates and ranks 1 to K train, so there is no agent",
        f"start with: {LAUNCH} (add --oversubscribe where ranks exceed cores)",
    )


def _agents(config: Config, num_hosting: int) -> Iterator[Problem]:
    """Find agents that cannot be spread over so many ranks."""
    agents = config.agents
    if not agents:
        return
    if config.agents_per_rank != 1:
        yield Problem(
            f"agents = {agents} with agents_per_rank = {config.agents_per_rank}",
            "both say how many agents there are",
            "leave out one of them",
        )
    if agents > MOST_AGENTS_PER_RANK * num_hosting:
        yield Problem(
            f"agents = {agents} on {num_hosting} ranks",
            f"a rank hosts {MOST_AGENTS_PER_RANK} agents at most",
            f"start {-(-agents // MOST_AGENTS_PER_RANK) + 1} ranks, spares not counted, or more",
        )
    if agents < num_hosting:
        yield Problem(
            f"agents = {agents} on {num_hosting} ranks",
            "some ranks would have nothing to do",
            f"start {agents + 1} ranks, spares not counted, or fewer",
        )
        return
    if agents % num_hosting == 0:
        return
    near = f"{agents - agents % num_hosting} or {agents - agents % num_hosting + num_hosting}"
    for refuses, what, why in (
        (config.comm.collective == "gossip", 'comm.collective = "gossip"', "neighbours exchange equal parts"),
        (config.faults.mode == "survive", 'faults.mode = "survive"', "ranks take each other's places"),
    ):
        if refuses:
            yield Problem(
                f"agents = {agents} on {num_hosting} ranks with {what}",
                f"{why}, so each must host as many agents as any other",
                f"choose {near} agents, or another number of ranks",
            )


def _fan_out(config: Config) -> Iterator[Problem]:
    if config.comm.fan_out == 1:
        yield Problem(
            "comm.fan_out = 1",
            "a tree in which every rank has one child is a chain of K steps",
            "choose 2 or more, or 0 to have it chosen",
        )


def _gossip(config: Config, num_agents: int) -> Iterator[Problem]:
    if config.comm.collective != "gossip":
        return
    if config.mode == "centralised":
        yield Problem(
            'mode = "centralised" with comm.collective = "gossip"',
            "one learner has all the worlds, so there is nobody to mix models with",
            "choose another collective or another mode",
        )
    if config.participation.fraction < 1.0 or config.aggregation.weighting != "uniform":
        yield Problem(
            f"comm.collective = gossip with participation.fraction = {config.participation.fraction} and "
            f"aggregation.weighting = {config.aggregation.weighting}",
            "the mixing matrix keeps the mean of all models only if all agents take part with equal weights",
            "set participation.fraction to 1.0 and aggregation.weighting to uniform",
        )
    try:
        mixing_matrix(config.comm.gossip, num_agents, config.seed)
    except ValueError as error:
        yield Problem(
            f"comm.gossip.graph = {config.comm.gossip.graph} with {num_agents} agents",
            str(error),
            "choose another graph: exponential, for example, exists for any number of agents",
        )


def _secure_ring(config: Config, num_parties: int) -> Iterator[Problem]:
    if config.comm.collective != "secure_ring":
        return
    secure, num_agents = config.comm.secure, config.num_agents(num_parties)
    if config.mode == "centralised":
        yield Problem(
            'mode = "centralised" with comm.collective = "secure_ring"',
            "one learner has all the worlds, and a sum of one is no secret",
            "choose another collective or another mode",
        )
    try:
        check_ring_degree(num_parties, secure.ring_degree, secure.colluders, secure.dropouts)
    except ValueError as error:
        yield Problem(
            f"comm.secure.ring_degree = {secure.ring_degree}, colluders = {secure.colluders} and dropouts = "
            f"{secure.dropouts} with {num_parties} parties",
            str(error),
            "start more ranks, raise comm.secure.ring_degree, or withstand fewer",
        )
    most = -(-num_agents // num_parties)
    size = -(-cohort_size(num_agents, config.participation.fraction) // most)
    if config.participation.fraction < 1.0 and size < secure.colluders + secure.dropouts + 2:
        yield Problem(
            f"comm.collective = secure_ring with cohorts that may lie on {size} ranks",
            f"with {secure.colluders} colluders and {secure.dropouts} dropouts, fewer than two honest "
            "parties may be left, and a sum of one is no secret",
            "raise participation.fraction or start more ranks",
        )
    try:
        fraction_bits(num_agents, secure.range)
    except ValueError as error:
        yield Problem(f"comm.secure.range = {secure.range}", str(error), "choose a smaller comm.secure.range")
    is_bounded = not isinstance(config.learner, ReinforceConfig | OwnConfig)
    if config.aggregation.weighting in ("episodes", "returns") or (
        config.aggregation.weighting == "samples" and not is_bounded
    ):
        yield Problem(
            f"aggregation.weighting = {config.aggregation.weighting} with comm.collective = secure_ring",
            "their number has no public bound near what agents reach, so shares would lose their last bits",
            f"set aggregation.weighting to {'samples or uniform' if is_bounded else 'uniform'}",
        )
    if secure.identity == "roster" and not secure.roster:
        yield Problem(
            'comm.secure.identity = "roster" with no comm.secure.roster',
            "the public keys of the parties are in that file",
            "name the file; python -m fdrl_mpi.roster makes one with the keys",
        )


def _rule(config: Config, num_agents: int) -> Iterator[Problem]:
    name, chosen = config.comm.collective, f"aggregation.rule = {config.aggregation.rule}"
    try:
        rule = make_rule(config.aggregation)
    except ValueError as error:
        yield Problem(
            chosen,
            str(error) + place_of(error),
            "mend aggregation.rule, aggregation.rule_kwargs, or the class",
        )
        return
    if not rule.is_mean:
        yield from _with_rule(config, chosen)
    if GIVES[name] < rule.needs:
        seeing = [name for name, gives in GIVES.items() if gives >= rule.needs]
        yield Problem(
            f"{chosen} with comm.collective = {name}",
            "the rule looks at single updates, the collective shows only their sum",
            f"set comm.collective to {' or '.join(seeing)}, or choose aggregation.rule = mean",
        )
    size = cohort_size(num_agents, config.participation.fraction)
    if size < rule.min_updates:
        yield Problem(
            f"{chosen} with cohorts of {size}",
            f"the rule is defined from {rule.min_updates} updates on",
            "start more ranks or raise participation.fraction",
        )


def _with_rule(config: Config, chosen: str) -> Iterator[Problem]:
    """Refuse what counts on the mean of updates, or never asks for a rule."""
    if config.mode != "federated":
        yield Problem(
            f'{chosen} with mode = "{config.mode}"',
            "it says what becomes of several agents' updates; here whoever learns steps its own model",
            "set aggregation.rule to mean, or mode to federated",
        )
    if config.comm.collective == "gossip":
        yield Problem(
            f"{chosen} with comm.collective = gossip",
            "neighbours mix models by their matrix; nobody aggregates",
            "set aggregation.rule to mean, or choose another collective",
        )
    if config.aggregation.weighting == "visits":
        yield Problem(
            f"{chosen} with aggregation.weighting = visits",
            "the weights of single coordinates belong to a mean",
            "set aggregation.rule to mean, or choose another weighting",
        )
    if config.objective.control_variates:
        yield Problem(
            f"{chosen} with objective.control_variates = true",
            "the global control variate is the mean of the agents' own",
            "set aggregation.rule to mean, or objective.control_variates to false",
        )


def _mode(config: Config) -> Iterator[Problem]:
    if config.mode == "centralised" and config.participation.fraction < 1.0:
        yield Problem(
            f'mode = "centralised" with participation.fraction = {config.participation.fraction}',
            "one learner has all the worlds, so there are no cohorts to draw",
            "set participation.fraction to 1.0",
        )
