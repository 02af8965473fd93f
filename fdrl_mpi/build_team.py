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
    "numpy": {
        "ppo": "fdrl_mpi.rl.team_on_policy:PPOTeam",
        "a2c": "fdrl_mpi.rl.team_on_policy:A2CTeam",
        "dqn": "fdrl_mpi.rl.team_dqn:DQNTeam",
        "reinforce": "fdrl_mpi.rl.team_reinforce:ReinforceTeam",
        "q_learning": "fdrl_mpi.rl.team_q_learning:QLearningTeam",
    },
    "torch": {
        "ppo": "fdrl_mpi.rl.torch_team:TorchPPOTeam",
        "a2c": "fdrl_mpi.rl.torch_team:TorchA2CTeam",
        "dqn": "fdrl_mpi.rl.torch_team_dqn:TorchDQNTeam",
        "reinforce": "fdrl_mpi.rl.torch_team_reinforce:TorchReinforceTeam",
        "q_learning": "fdrl_mpi.rl.torch_team_q_learning:TorchQLearningTeam",
    },
}
"""By engine and learner."""

TEAM_SIZE = 64
"""Agents of one team on the CPU: more spread a call over more agents, but their models leave the cache."""
DEVICE_TEAM_SIZE = 1 << 16
"""Agents of one team on a device, which is the faster the more it has to do at once."""


def why_in_turn(
    config: Config,
    worlds: Sequence[Context],
    wire: Wire,
    engine: str,
    environment: VectorEnv,
    model: Model,
) -> str:
    """Say why the agents of a rank train one after another; empty if they train together.

    Parameters
    ----------
    worlds : sequence of Context
        Of all agents of the run.
    environment, model : VectorEnv, Model
        Like those of every agent.
    """
    objective = config.objective
    if config.algorithm not in TEAMS[engine]:
        return f"learner.name = {config.algorithm} on the {engine} engine"
    on_torch = "tables" if config.algorithm == "q_learning" else "advance"
    if not hasattr(environment, "reseed_groups" if engine == "numpy" else on_torch):
        return f"environment.id = {config.environment.id}"
    if engine == "torch" and on_torch == "advance" and _is_noisy(config, worlds):
        return "what the environment draws in every step"
    if objective.proximal or objective.kl_coefficient or wire.company != "nothing" or wire.kind == "gradient":
        return "what each agent minimises, or hands in, is bound to its optimiser"
    return _team_class(config, engine).objection(config.learner, model, config.environment.num_envs)


def _is_noisy(config: Config, worlds: Sequence[Context]) -> bool:
    """Whether some agent's environment draws in every step."""
    return bool(getattr(make_environment(config.environment, worlds), "is_noisy", False))


def make_together(
    config: Config,
    worlds: Sequence[Context],
    environment: VectorEnv,
    model: Model,
    engine: str,
    device: str,
) -> Together:
    """Make what trains the agents of a rank together.

    Parameters
    ----------
    worlds : sequence of Context
        Of all agents of the run.
    engine, device : str
        What they train on.
    environment, model : VectorEnv, Model
        With the spaces and the network of every agent's; how many environments there are does not matter.
    """
    cls, where = _team_class(config, engine), () if engine == "numpy" else (device,)

    def make_team(num_members: int) -> Team:
        worlds = Worlds(environment, num_members, config.environment.num_envs)
        return cls(config.learner, model, worlds, *where)

    def environment_of(squad: Squad) -> GroupedEnvironment:
        contexts = [worlds[agent - 1] for agent in squad for _ in range(config.environment.num_envs)]
        made: GroupedEnvironment = make_environment(config.environment, contexts)  # type: ignore[assignment]
        return made

    sizes = (2, TEAM_SIZE) if device == "cpu" else (1, DEVICE_TEAM_SIZE)
    return Together(make_team, environment_of, *sizes)


def team_bytes(config: Config, environment: VectorEnv, model: Model, num_members: int) -> int:
    """Estimate the memory that a team of the torch engine takes on its device."""
    worlds = Worlds(environment, num_members, config.environment.num_envs)
    needed: int = _team_class(config, "torch").memory_bytes(config.learner, model, worlds)  # type: ignore[attr-defined]
    return needed


def _team_class(config: Config, engine: str) -> type[Team]:
    module, _, name = TEAMS[engine][config.algorithm].partition(":")
    cls: type[Team] = getattr(import_module(module), name)
    return cls
