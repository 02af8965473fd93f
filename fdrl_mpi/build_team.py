"""From a configuration to teams: which agents of a rank train together, and with what."""

from collections.abc import Sequence
from importlib import import_module

from fdrl_mpi.build_agent import Context, make_environment
from fdrl_mpi.config import Config
from fdrl_mpi.envs.vector import VectorEnv
from fdrl_mpi.federation.together import Squad, Together
from fdrl_mpi.federation.wire import Wire
from fdrl_mpi.rl.model import Model
from fdrl_mpi.rl.team import GroupedEnvironment, Team, Worlds

TEAMS = {
    "ppo": "fdrl_mpi.rl.team_on_policy:PPOTeam",
    "a2c": "fdrl_mpi.rl.team_on_policy:A2CTeam",
    "dqn": "fdrl_mpi.rl.team_dqn:DQNTeam",
    "reinforce": "fdrl_mpi.rl.team_reinforce:ReinforceTeam",
    "q_learning": "fdrl_mpi.rl.team_q_learning:QLearningTeam",
}


def why_in_turn(config: Config, wire: Wire, engine: str, environment: VectorEnv, model: Model) -> str:
    """Say why the agents of a rank train one after another; empty if they train together.

    Parameters
    ----------
    environment, model : VectorEnv, Model
        Like those of every agent.
    """
    objective = config.objective
    if config.algorithm not in TEAMS:
        return f"learner.name = {config.algorithm}"
    if engine != "numpy":
        return f"{engine} engine"
    if not hasattr(environment, "reseed_groups"):
        return f"environment.id = {config.environment.id}"
    if objective.proximal or objective.kl_coefficient or wire.company != "nothing" or wire.kind == "gradient":
        return "what each agent minimises, or hands in, is bound to its optimiser"
    return _team_class(config).objection(config.learner, model, config.environment.num_envs)


def make_together(
    config: Config, worlds: Sequence[Context], environment: VectorEnv, model: Model
) -> Together:
    """Make what trains the agents of a rank together.

    Parameters
    ----------
    worlds : sequence of Context
        Of all agents of the run.
    environment, model : VectorEnv, Model
        With the spaces and the network of every agent's; how many environments there are does not matter.
    """
    cls = _team_class(config)

    def make_team(num_members: int) -> Team:
        return cls(config.learner, model, Worlds(environment, num_members, config.environment.num_envs))

    def environment_of(squad: Squad) -> GroupedEnvironment:
        contexts = [worlds[agent - 1] for agent in squad for _ in range(config.environment.num_envs)]
        made: GroupedEnvironment = make_environment(config.environment, contexts)  # type: ignore[assignment]
        return made

    return Together(make_team, environment_of)


def _team_class(config: Config) -> type[Team]:
    module, _, name = TEAMS[config.algorithm].partition(":")
    cls: type[Team] = getattr(import_module(module), name)
    return cls
