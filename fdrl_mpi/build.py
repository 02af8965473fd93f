"""From names in a configuration to the objects of one rank.

Names are looked up here, in `build_agent` and in `build_collective`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fdrl_mpi.aggregation.aggregator import Aggregator
from fdrl_mpi.aggregation.mean import CoordinateMean
from fdrl_mpi.aggregation.server import (
    Average,
    FedAdagrad,
    FedAdam,
    FedYogi,
    Momentum,
    ServerOptimizer,
    UpdateKind,
    WithControls,
)
from fdrl_mpi.aggregation.weighting import WEIGHTINGS
from fdrl_mpi.arrays import FloatMatrix, FloatVector
from fdrl_mpi.build_agent import (
    Context,
    draw_worlds,
    engine_of,
    is_plain,
    make_environment,
    make_learner,
    make_model,
    wanted_device,
)
from fdrl_mpi.build_collective import make_collective
from fdrl_mpi.build_rule import make_rule
from fdrl_mpi.build_team import make_together, team_bytes, why_in_turn
from fdrl_mpi.comm.collective import Collective
from fdrl_mpi.comm.world import World
from fdrl_mpi.config import Config, FedPGConfig
from fdrl_mpi.envs.contexts import Contexts
from fdrl_mpi.envs.vector import VectorEnv
from fdrl_mpi.federation.evaluation import Evaluation
from fdrl_mpi.federation.fedpg import FedPG
from fdrl_mpi.federation.participant import Participant
from fdrl_mpi.federation.participation import cohort_size, uniform_cohorts
from fdrl_mpi.federation.round import Check, Parts
from fdrl_mpi.federation.schedule import budgets
from fdrl_mpi.federation.synchronous import Evaluations, Plan
from fdrl_mpi.federation.together import Together
from fdrl_mpi.federation.validation import Validation
from fdrl_mpi.federation.wire import Company, Wire
from fdrl_mpi.rl.device import check_memory, choose_device, cuda_devices
from fdrl_mpi.rl.hyperparameters import QLearningConfig, ReinforceConfig, SVRPGConfig, pooled
from fdrl_mpi.rl.model import Model, PolicyModel, shared_columns
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.rl.svrpg import SVRPG

MODEL_COPIES = 8
"""Of an agent alone on a device: parameters, gradient, moments, a target, temporaries."""
SERVERS: dict[str, Callable[[UpdateKind, Any], ServerOptimizer]] = {
    "average": lambda kind, own: Average(kind, own.lr),
    "momentum": lambda kind, own: Momentum(kind, own.lr, own.beta),
    "adagrad": lambda kind, own: FedAdagrad(kind, own.lr, own.beta_1, 0.0, own.tau),
    "adam": lambda kind, own: FedAdam(kind, own.lr, own.beta_1, own.beta_2, own.tau),
    "yogi": lambda kind, own: FedYogi(kind, own.lr, own.beta_1, own.beta_2, own.tau),
}


@dataclass(frozen=True)
class Rank:
    """The objects of one rank.

    Attributes
    ----------
    params : float32 array, shape (d,)
        The initial model, the same on every rank.
    engine, device : str
        What this rank computes with.
    travels : str
        What of the model is federated, in words; see `describe_wire`.
    trains : str
        How the agents of one rank train, in words; empty where each has a rank of its own.
    """

    parts: Parts
    plan: Plan
    evaluations: Evaluations
    params: FloatVector
    engine: str
    device: str
    travels: str
    trains: str


class Builder:
    """Makes everything one rank needs for a run.

    In two steps, because all ranks must know that their models have the same parts before they make the
    collective together.

    Parameters
    ----------
    config : Config
    world : World
    participants : mapping, optional
        Agents that are here already, by id; they stay what they are.

    Attributes
    ----------
    wire : Wire
    pieces : mapping
        Where each parameter lies in the model.

    Raises
    ------
    ValueError
        If environment, learner and network do not fit together; the message says how.
    """

    def __init__(
        self, config: Config, world: World, participants: Mapping[int, Participant] | None = None
    ) -> None:
        self._config, self._world, self._known = config, world, participants or {}
        self._worlds = draw_worlds(config, world.num_enrolled)
        self._device = choose_device(wanted_device(config.learner), world.local_rank)
        self._engine = engine_of(config.learner, self._device)
        self._environments = {
            agent: self._environment(contexts)
            for agent in world.agents
            if agent not in self._known
            if (contexts := _training_contexts(config, self._worlds, agent))
        }
        some = next(iter(self._environments.values()), None) or self._environment(self._worlds[:1])
        self._alone = ("numpy", "cpu") if is_plain(config.learner) else (self._engine, self._device)
        model = self._model(some)
        self.params, self.pieces = model.params.copy(), dict(model.pieces)
        self.wire = make_wire(config, model)
        self._travels = describe_wire(self.wire, model)
        self._aggregator = make_aggregator(config, self.wire)
        self._together, self._trains = self._choose_together(some, model)
        self._trains += self._check_memory(some, model)
        if self._together is None:
            self._alone = self._engine, self._device
        if self._together is None and self._engine == "torch" and isinstance(config.learner, QLearningConfig):
            reason = self._trains or "; a rank has one agent"
            raise ValueError(
                "learner.engine = torch with learner.name = q_learning is for tables of several agents, "
                f"learnt together{reason}; set learner.engine = numpy"
            )

    def connect(self) -> Collective:
        """Make that by which models move; every rank calls it."""
        needs, wire = self._aggregator.needs, self.wire
        return make_collective(self._config, self._world, wire.length, needs, wire.num_changes)

    def build(self, collective: Collective) -> Rank:
        """Make the rest, of this rank."""
        config, world, wire = self._config, self._world, self.wire
        parts = Parts(
            world=world,
            collective=collective,
            aggregator=self._aggregator,
            weighting=WEIGHTINGS["uniform" if config.mode == "independent" else config.aggregation.weighting],
            server=self._server(),
            participants=self._participants(collective.rows),
            wire=wire,
            fresh=self.params,
            together=self._together,
        )
        parts.checks = self._checks(parts.has_global_policy)
        evaluations = self._evaluations(parts.has_global_policy)
        plan = make_plan(config, world.num_enrolled)
        return Rank(
            parts, plan, evaluations, self.params, self._engine, self._device, self._travels, self._trains
        )

    def _choose_together(self, environment: VectorEnv, model: Model) -> tuple[Together | None, str]:
        """Make what trains agents of a rank together, unless they train in turn; say which it is."""
        config = self._config
        if self._world.placement.agents_per_rank == 1 or config.mode == "centralised":
            return None, ""
        engine, device = self._engine, self._device
        if reason := why_in_turn(config, self._worlds, self.wire, engine, environment, model):
            return None, f"; agents of a rank train in turn ({reason})"
        together = make_together(config, self._worlds, environment, model, engine, device)
        return together, "; agents of a rank train together"

    def _check_memory(self, environment: VectorEnv, model: Model) -> str:
        """Compare what the ranks of a CUDA device need there with what it has; say how much that is."""
        world, device = self._world, self._device
        if self._engine == "numpy" or device == "cpu":
            return ""
        agents, is_team = world.placement.agents_per_rank, self._together is not None
        needed = (
            team_bytes(self._config, environment, model, agents)
            if is_team
            else agents * MODEL_COPIES * model.params.nbytes
        )
        node, num_devices = world.nodes[world.rank], len(cuda_devices())
        first = int(is_team and node == 0)  # beside teams the root computes nothing there
        turns = [local % num_devices for local in range(first, world.nodes.count(node))]
        check_memory(device, turns.count(world.local_rank % num_devices), needed)
        return f", with about {needed / 1e9:.2g} GB a rank on {device}"

    def _participants(self, rows: FloatMatrix) -> dict[int, Participant]:
        """Make this rank's agents; those that are known get new rows."""
        config, world, participants = self._config, self._world, {}
        for agent, row in zip(world.agents, rows, strict=True):
            if agent in self._known:
                participants[agent] = self._known[agent]
                participants[agent].move(row)
            elif agent in self._environments:
                participants[agent] = make_participant(
                    config, self.wire, self._environments[agent], *self._alone, row
                )
        return participants

    def _server(self) -> ServerOptimizer:
        """Make the server's step; one that learns is made on the root alone."""
        config, own = self._config, self._config.aggregation.server
        if not isinstance(own, FedPGConfig) or not self._world.is_root:
            return make_server(config, self.wire, self._world.num_enrolled)
        settings = svrpg_settings(config, own)
        environment = self._environment([{}] * own.num_envs)
        model = self._model(environment)
        assert isinstance(model, PolicyModel)
        return FedPG(SVRPG(settings, model, environment, LocalObjective()), own.lr, config.seed)

    def _evaluations(self, has_global_policy: bool) -> Evaluations:
        """Make what evaluates on this rank: the root the published model, else each agent its own."""
        if not has_global_policy:
            return Evaluations(
                None, [self._evaluation(self._worlds[agent - 1 : agent]) for agent in self._world.agents]
            )
        return Evaluations(self._evaluation(self._worlds) if self._world.is_root else None)

    def _checks(self, has_global_policy: bool) -> list[Check]:
        """Make what the next model must stand; the root alone plays it."""
        own, wire, fresh = self._config.aggregation.validation, self.wire, self.params
        if not own.most_drop:
            return []
        if not has_global_policy:
            raise ValueError(
                "aggregation.validation.most_drop: there is no policy to play before it is published, every "
                "agent's is its own; set it to 0"
            )
        evaluation = self._evaluation(self._worlds, own.episodes) if self._world.is_root else None
        return [Validation(evaluation, own.most_drop, lambda published: wire.model(published, fresh))]

    def _evaluation(self, worlds: Sequence[Context], episodes: int = 0) -> Evaluation:
        episodes = episodes or self._config.evaluation.episodes
        environment = self._environment([world for world in worlds for _ in range(episodes)])
        return Evaluation(environment, self._model(environment), episodes, self._config.seed)

    def _environment(self, contexts: Contexts) -> VectorEnv:
        return make_environment(self._config.environment, contexts)

    def _model(self, environment: VectorEnv, params: FloatVector | None = None) -> Model:
        config = self._config
        return make_model(config.learner, config.seed, environment, *self._alone, params)


def make_aggregator(config: Config, wire: Wire) -> Aggregator:
    """Make the rule by which updates become one."""
    return CoordinateMean() if wire.company == "weights" else make_rule(config.aggregation)


def make_server(config: Config, wire: Wire, num_agents: int) -> ServerOptimizer:
    """Make what turns the aggregate into the next model."""
    own = config.aggregation.server
    if isinstance(own, FedPGConfig):
        return Average(wire.kind)
    server = SERVERS[str(own.__struct_config__.tag)](wire.kind, own)
    if wire.company != "controls":
        return server
    participation = cohort_size(num_agents, config.participation.fraction) / num_agents
    return WithControls(server, wire.num_shared, participation)


def svrpg_settings(config: Config, own: FedPGConfig) -> SVRPGConfig:
    """Give the root's learner the agents' settings, and the inner loop of the FedPG-BR program."""
    assert isinstance(config.learner, ReinforceConfig)
    shared = {name: getattr(config.learner, name) for name in ReinforceConfig.__struct_fields__}
    inner = {"inner_steps": own.inner_steps, "importance": "step", "ratio_range": own.ratio_range}
    return SVRPGConfig(**shared | inner)


def make_participant(
    config: Config, wire: Wire, environment: VectorEnv, engine: str, device: str, row: FloatVector
) -> Participant:
    """Make an agent: model, learner, and what it hands in.

    Parameters
    ----------
    row : float32 array, shape (length of the wire,)
        Where what it hands in is to lie.
    """
    learner = pooled(config.learner, environment.num_envs // config.environment.num_envs)
    model = make_model(learner, config.seed, environment, engine, device, row if wire.is_plain else None)
    anchor = None
    if config.objective.kl_coefficient:
        anchor = make_model(learner, config.seed, environment, engine, device)
    objective = LocalObjective(
        config.objective.proximal,
        config.objective.kl_coefficient,
        anchor if isinstance(anchor, PolicyModel) else None,
        tracks_gradients=wire.company == "controls",
        holds_steps=wire.kind == "gradient",
        shared=None if wire.is_whole else wire.columns,
    )
    return Participant(make_learner(learner, model, environment, objective), objective, wire, row)


def make_wire(config: Config, model: Model) -> Wire:
    """Say what travels; alone, and on pooled experience, everything belongs together.

    Raises
    ------
    ValueError
        If `learner.share` names what is not there.
    """
    everything = (slice(0, len(model.params)),)
    if config.mode != "federated":
        return Wire(everything, len(model.params))
    share = getattr(config.learner, "share", "all")
    columns = tuple(shared_columns(model, share))
    company: Company = "nothing"
    if config.aggregation.weighting == "visits":
        company = "weights"
    elif config.objective.control_variates:
        company = "controls"
    acts = all(_travel(piece, columns) for piece in _acting(model))
    return Wire(columns, len(model.params), config.aggregation.update_kind, company, acts)


def describe_wire(wire: Wire, model: Model) -> str:
    """Say in words how many parameters travel, and whether any of them acts; empty where all travel."""
    if wire.is_whole:
        return ""
    words = f"; {wire.num_shared} of the parameters travel"
    if any(_travel(piece, wire.columns) for piece in _acting(model)):
        return words
    return f"{words}, none of those that act: every agent's policy is its own"


def _acting(model: Model) -> list[slice]:
    """List where those parameters lie that choose actions."""
    return [model.pieces[name] for name in model.groups.get("actor", model.pieces)]


def _travel(piece: slice, columns: Sequence[slice]) -> bool:
    return any(some.start <= piece.start and piece.stop <= some.stop for some in columns)


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
            learner.lr_decay,
        ),
        rounds=config.rounds,
        evaluate_every=config.evaluation.every,
        checkpoint_every=config.checkpoint.every,
        deadline_s=config.participation.deadline_s,
        deadline_factor=config.participation.deadline_factor,
    )


def _training_contexts(config: Config, worlds: Sequence[Context], agent: int) -> list[Context]:
    """List the contexts of an agent's environments; empty where it does not train.

    The centralised learner is agent 1, with the environments of all agents.
    """
    if config.mode == "centralised" and agent > 1:
        return []
    own = worlds if config.mode == "centralised" else worlds[agent - 1 : agent]
    return [world for world in own for _ in range(config.environment.num_envs)]
