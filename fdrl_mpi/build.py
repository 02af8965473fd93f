"""From names in a configuration to the objects of one rank.

Names are looked up here, in `build_agent` and in `build_collective`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fdrl_mpi.aggregation.mean import Mean
from fdrl_mpi.aggregation.server import Average
from fdrl_mpi.aggregation.weighting import WEIGHTINGS
from fdrl_mpi.arrays import FloatVector
from fdrl_mpi.build_agent import Context, draw_worlds, make_environment, make_network
from fdrl_mpi.build_collective import make_collective
from fdrl_mpi.comm.world import World
from fdrl_mpi.config import Config
from fdrl_mpi.envs.contexts import Contexts
from fdrl_mpi.envs.vector import VectorEnv
from fdrl_mpi.federation.evaluation import Evaluation
from fdrl_mpi.federation.participation import uniform_cohorts
from fdrl_mpi.federation.round import Parts
from fdrl_mpi.federation.schedule import budgets
from fdrl_mpi.federation.synchronous import Evaluations, Plan
from fdrl_mpi.rl.device import choose_device, choose_engine
from fdrl_mpi.rl.distributions import Distribution
from fdrl_mpi.rl.learner import Learner
from fdrl_mpi.rl.network import ActorCritic
from fdrl_mpi.rl.ppo import PPO

RULES = {"mean": Mean}
SERVERS = {"average": Average}
LEARNERS = {"ppo": PPO}


@dataclass(frozen=True)
class Rank:
    """The objects of one rank.

    Attributes
    ----------
    params : float32 array, shape (d,)
        The initial model, the same on every rank.
    engine, device : str
        What this rank computes with.
    """

    parts: Parts
    plan: Plan
    evaluations: Evaluations
    params: FloatVector
    engine: str
    device: str


class Builder:
    """Makes everything one rank needs for a run.

    In two steps, because all ranks must know that their models have the same length before they make the
    collective together.

    Raises
    ------
    ValueError
        If environment, learner and network do not fit together; the message says how.
    """

    def __init__(self, config: Config, world: World) -> None:
        self._config, self._world = config, world
        self._worlds = draw_worlds(config, world.num_agents)
        self._device = choose_device(config.learner.device, world.local_rank)
        self._engine = choose_engine(config.learner.engine, self._device, bool(config.learner.network.module))
        self._environments = {
            agent: self._environment(contexts)
            for agent in world.agents
            if (contexts := _training_contexts(config, self._worlds, agent))
        }
        some = next(iter(self._environments.values()), None) or self._environment(self._worlds[:1])
        network, _ = self._network(some)
        self.params, self.layout = network.params.copy(), network.layout

    def build(self) -> Rank:
        """Make the rest; every rank calls it."""
        config, world = self._config, self._world
        collective = make_collective(config, world, len(self.params), RULES[config.aggregation.rule].needs)
        parts = Parts(
            world=world,
            collective=collective,
            aggregator=RULES[config.aggregation.rule](),
            weighting=WEIGHTINGS["uniform" if config.mode == "independent" else config.aggregation.weighting],
            server=SERVERS[config.aggregation.server](),
            learners={
                agent: self._learner(environment, collective.rows[world.agents.index(agent)])
                for agent, environment in self._environments.items()
            },
        )
        evaluations = self._evaluations(collective.has_global_model)
        plan = make_plan(config, world.num_agents)
        return Rank(parts, plan, evaluations, self.params, self._engine, self._device)

    def _learner(self, environment: VectorEnv, row: FloatVector) -> Learner:
        network, distribution = self._network(environment, row)
        make = LEARNERS[self._config.algorithm]
        return make(self._config.learner, network, distribution, environment)

    def _evaluations(self, has_global_model: bool) -> Evaluations:
        """Make what evaluates on this rank: the root the published model, else each agent its own."""
        if not has_global_model:
            return Evaluations(
                None, [self._evaluation(self._worlds[agent - 1 : agent]) for agent in self._world.agents]
            )
        return Evaluations(self._evaluation(self._worlds) if self._world.is_root else None)

    def _evaluation(self, worlds: Sequence[Context]) -> Evaluation:
        episodes = self._config.evaluation.episodes
        environment = self._environment([world for world in worlds for _ in range(episodes)])
        network, distribution = self._network(environment)
        return Evaluation(environment, network, distribution, episodes, self._config.seed)

    def _environment(self, contexts: Contexts) -> VectorEnv:
        return make_environment(self._config.environment, contexts)

    def _network(
        self, environment: VectorEnv, params: FloatVector | None = None
    ) -> tuple[ActorCritic, Distribution]:
        config = self._config
        return make_network(config.learner, config.seed, environment, self._engine, self._device, params)


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


def _training_contexts(config: Config, worlds: Sequence[Context], agent: int) -> list[Context]:
    """List the contexts of an agent's environments; empty where it does not train.

    The centralised learner is agent 1, with the environments of all agents.
    """
    if config.mode == "centralised" and agent > 1:
        return []
    own = worlds if config.mode == "centralised" else worlds[agent - 1 : agent]
    return [world for world in own for _ in range(config.environment.num_envs)]
