"""From names in a configuration to the objects of one rank; names are looked up here and in `build_agent`."""

from collections.abc import Sequence
from dataclasses import dataclass

from fdrl_mpi.aggregation.mean import Mean
from fdrl_mpi.aggregation.server import Average
from fdrl_mpi.aggregation.weighting import WEIGHTINGS
from fdrl_mpi.arrays import FloatVector
from fdrl_mpi.build_agent import Context, draw_worlds, make_environment, make_network
from fdrl_mpi.comm.allreduce import Allreduce
from fdrl_mpi.comm.collective import Collective
from fdrl_mpi.comm.gather import Gather
from fdrl_mpi.comm.isolated import Isolated
from fdrl_mpi.comm.world import World
from fdrl_mpi.config import Config
from fdrl_mpi.envs.contexts import Contexts
from fdrl_mpi.envs.vector import VectorEnv
from fdrl_mpi.federation.evaluation import Evaluation
from fdrl_mpi.federation.participation import uniform_cohorts
from fdrl_mpi.federation.round import Parts
from fdrl_mpi.federation.schedule import budgets
from fdrl_mpi.federation.synchronous import Plan
from fdrl_mpi.rl.device import choose_device, choose_engine
from fdrl_mpi.rl.distributions import Distribution
from fdrl_mpi.rl.learner import Learner
from fdrl_mpi.rl.network import ActorCritic
from fdrl_mpi.rl.ppo import PPO

RULES = {"mean": Mean}
SERVERS = {"average": Average}
COLLECTIVES: dict[str, type[Allreduce] | type[Gather]] = {"allreduce": Allreduce, "gather": Gather}
LEARNERS = {"ppo": PPO}


@dataclass(frozen=True)
class Rank:
    """The objects of one rank.

    Attributes
    ----------
    evaluation : Evaluation or None
        See `SynchronousRun`.
    params : float32 array, shape (d,)
        The initial model, the same on every rank.
    engine, device : str
        What this rank computes with.
    """

    parts: Parts
    plan: Plan
    evaluation: Evaluation | None
    params: FloatVector
    engine: str
    device: str


def build(config: Config, world: World) -> Rank:
    """Make everything one rank needs for a run.

    Raises
    ------
    ValueError
        If environment, learner and network do not fit together; the message says how.
    """
    device = choose_device(config.learner.device, world.local_rank)
    engine = choose_engine(config.learner.engine, device, bool(config.learner.network.module))
    builder = _Builder(config, world, engine, device)
    learner, network = builder.learner()
    evaluation = builder.evaluation()
    params = network.params.copy()
    parts = Parts(
        world=world,
        collective=builder.collective(params),
        aggregator=RULES[config.aggregation.rule](),
        weighting=WEIGHTINGS[config.aggregation.weighting],
        server=SERVERS[config.aggregation.server](),
        learner=learner,
    )
    return Rank(parts, make_plan(config, world.num_agents), evaluation, params, engine, device)


def make_plan(config: Config, num_agents: int) -> Plan:
    """Decide who takes part when, with how much work, and what happens between rounds."""
    learner, is_pooled = config.learner, config.mode == "centralised"
    return Plan(
        participation=uniform_cohorts(config.seed, num_agents, config.participation.fraction),
        schedule=budgets(
            config.seed,
            learner.budget * (num_agents if is_pooled else 1),
            learner.lr,
            learner.lr_decay_rounds,
        ),
        rounds=config.rounds,
        evaluate_every=config.evaluation.every,
        checkpoint_every=config.checkpoint.every,
    )


class _Builder:
    """Makes the pieces of one rank that depend on each other."""

    def __init__(self, config: Config, world: World, engine: str, device: str) -> None:
        self._config, self._world, self._engine, self._device = config, world, engine, device
        self._worlds = draw_worlds(config, world.num_agents)

    def learner(self) -> tuple[Learner | None, ActorCritic]:
        """Make this rank's learner, or None, and the network that holds the initial model."""
        contexts = _training_contexts(self._config, self._worlds, self._world.rank)
        environment = self._environment(contexts or self._worlds[:1])
        network, distribution = self._network(environment)
        if not contexts:
            return None, network
        make = LEARNERS[self._config.algorithm]
        return make(self._config.learner, network, distribution, environment), network

    def evaluation(self) -> Evaluation | None:
        """Make what evaluates on this rank: the root everything, an agent that learns alone itself."""
        rank, episodes = self._world.rank, self._config.evaluation.episodes
        is_alone = self._config.mode == "independent"
        if (rank == 0) == is_alone:
            return None
        worlds = self._worlds[rank - 1 : rank] if is_alone else self._worlds
        environment = self._environment([world for world in worlds for _ in range(episodes)])
        network, distribution = self._network(environment)
        return Evaluation(environment, network, distribution, episodes, self._config.seed)

    def collective(self, params: FloatVector) -> Collective:
        """Make what moves the models of this run."""
        if self._config.mode == "independent":
            return Isolated(params)
        return COLLECTIVES[self._config.comm.collective](self._world.comm, len(params))

    def _environment(self, contexts: Contexts) -> VectorEnv:
        return make_environment(self._config.environment, contexts)

    def _network(self, environment: VectorEnv) -> tuple[ActorCritic, Distribution]:
        config = self._config
        return make_network(config.learner, config.seed, environment, self._engine, self._device)


def _training_contexts(config: Config, worlds: Sequence[Context], rank: int) -> list[Context]:
    """List the contexts of a rank's environments; empty where nobody trains.

    The centralised learner is agent 1, with the environments of all agents.
    """
    if rank == 0 or (config.mode == "centralised" and rank > 1):
        return []
    own = worlds if config.mode == "centralised" else worlds[rank - 1 : rank]
    return [world for world in own for _ in range(config.environment.num_envs)]
