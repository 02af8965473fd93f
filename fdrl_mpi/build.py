"""From names in a configuration to the objects of one rank: the only place where names are looked up."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

import numpy as np
from gymnasium.spaces import Box, Discrete

from fdrl_mpi.aggregation.mean import Mean
from fdrl_mpi.aggregation.server import Average
from fdrl_mpi.aggregation.weighting import WEIGHTINGS
from fdrl_mpi.comm.allreduce import Allreduce
from fdrl_mpi.comm.collective import Collective
from fdrl_mpi.comm.gather import Gather
from fdrl_mpi.comm.isolated import Isolated
from fdrl_mpi.comm.world import World
from fdrl_mpi.config import Config, EnvironmentConfig
from fdrl_mpi.envs.contexts import Contexts
from fdrl_mpi.envs.heterogeneity import draw_context
from fdrl_mpi.envs.vector import VectorEnv
from fdrl_mpi.federation.evaluation import Evaluation
from fdrl_mpi.federation.participation import uniform_cohorts
from fdrl_mpi.federation.round import Parts
from fdrl_mpi.federation.schedule import budgets
from fdrl_mpi.federation.synchronous import Plan
from fdrl_mpi.own_class import import_class
from fdrl_mpi.problem import UNLIKE, did_you_mean
from fdrl_mpi.rl.device import choose_device, choose_engine
from fdrl_mpi.rl.distributions import Distribution, distribution_of
from fdrl_mpi.rl.hyperparameters import PPOConfig
from fdrl_mpi.rl.learner import ActionSpec, Learner
from fdrl_mpi.rl.mlp import MLP
from fdrl_mpi.rl.network import ActorCritic, NetworkShape
from fdrl_mpi.rl.ppo import PPO
from fdrl_mpi.streams import stream

RULES = {"mean": Mean}
SERVERS = {"average": Average}
COLLECTIVES: dict[str, type[Allreduce] | type[Gather]] = {"allreduce": Allreduce, "gather": Gather}
LEARNERS = {"ppo": PPO}
ENVIRONMENTS = {
    "Acrobot-v1": "fdrl_mpi.envs.acrobot:Acrobot",
    "CartPole-v1": "fdrl_mpi.envs.cartpole:CartPole",
    "MountainCar-v0": "fdrl_mpi.envs.mountain_car:MountainCar",
    "Pendulum-v1": "fdrl_mpi.envs.pendulum:Pendulum",
}


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
    params: np.ndarray
    engine: str
    device: str


def draw_worlds(config: Config, num_agents: int, num_unseen: int = 0) -> list[dict[str, float]]:
    """Draw the context of every agent's world, and of worlds that no agent trains on."""
    heterogeneity = config.environment.heterogeneity
    agents = range(1, num_agents + num_unseen + 1)
    return [draw_context(heterogeneity, config.seed, agent, num_agents) for agent in agents]


def make_environment(config: EnvironmentConfig, contexts: Contexts) -> VectorEnv:
    """Make one environment per context.

    Raises
    ------
    ValueError
        If there is no such environment, or it takes no such context or argument.
    """
    from fdrl_mpi.envs.gymnasium_lookup import from_class, from_id

    if config.id in ENVIRONMENTS:
        module, _, name = ENVIRONMENTS[config.id].partition(":")
        try:
            environment: VectorEnv = getattr(import_module(module), name)(contexts, **config.kwargs)
        except TypeError as error:
            raise ValueError(f"environment.kwargs: {error}") from error
        return environment
    if config.id.startswith("gym:"):
        return from_id(config.id.removeprefix("gym:"), contexts, config.kwargs)
    if ":" in config.id:
        return from_class(config.id, contexts, config.kwargs)
    raise ValueError(
        f'environment.id = "{config.id}" is no environment of this program: '
        f"{did_you_mean(config.id, ENVIRONMENTS, UNLIKE)} Own ones: {', '.join(ENVIRONMENTS)}; "
        f"gymnasium's: gym:ID, for example gym:{config.id}; a class of yours: package.module:Class"
    )


def context_units(environment_id: str) -> dict[str, str]:
    """Look up the units of an environment's context; empty where it does not tell them."""
    if environment_id not in ENVIRONMENTS:
        return {}
    module, _, name = ENVIRONMENTS[environment_id].partition(":")
    table = getattr(import_module(module), name).context_table
    return {parameter: entry.units for parameter, entry in table.items()}


def action_spec(environment: VectorEnv) -> ActionSpec:
    """Describe what an agent can do, for its learner."""
    space = environment.action_space
    if isinstance(space, Discrete):
        return ActionSpec("discrete", int(space.n))
    assert isinstance(space, Box)
    return ActionSpec("box", int(np.prod(space.shape)))


def make_network(
    learner: PPOConfig, seed: int, environment: VectorEnv, engine: str, device: str
) -> tuple[ActorCritic, Distribution]:
    """Make the network of a run with its initial model, the same on every rank, and its policy."""
    distribution = distribution_of(action_spec(environment))
    settings = learner.network
    shape = NetworkShape(
        environment.observation_size,
        action_spec(environment).size,
        distribution.num_free,
        settings.hidden,
        settings.activation,
        settings.shared,
    )
    generator = stream(seed, "network")
    if engine == "numpy":
        return MLP(shape, generator), distribution
    from fdrl_mpi.rl.torch_network import torch_mlp, torch_module

    if settings.module:
        module_class = import_class(settings.module)
        return torch_module(module_class, shape, generator, device), distribution
    return torch_mlp(shape, generator, device), distribution


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
        contexts = training_contexts(self._config, self._worlds, self._world.rank)
        environment = self._environment(contexts or self._worlds[:1])
        network, distribution = self._network(environment)
        if not contexts:
            return None, network
        make = LEARNERS["ppo"]
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

    def collective(self, params: np.ndarray) -> Collective:
        """Make what moves the models of this run."""
        if self._config.mode == "independent":
            return Isolated(params)
        return COLLECTIVES[self._config.comm.collective](self._world.comm, len(params))

    def _environment(self, contexts: Contexts) -> VectorEnv:
        return make_environment(self._config.environment, contexts)

    def _network(self, environment: VectorEnv) -> tuple[ActorCritic, Distribution]:
        config = self._config
        return make_network(config.learner, config.seed, environment, self._engine, self._device)


def training_contexts(
    config: Config, worlds: Sequence[dict[str, float]], rank: int
) -> list[dict[str, float]]:
    """List the contexts of a rank's environments; empty where nobody trains.

    The centralised learner is agent 1, with the environments of all agents.
    """
    if rank == 0 or (config.mode == "centralised" and rank > 1):
        return []
    own = worlds if config.mode == "centralised" else worlds[rank - 1 : rank]
    return [world for world in own for _ in range(config.environment.num_envs)]
