"""From names in a configuration to what acts: worlds, environments, networks. Needs no MPI."""

from importlib import import_module
from typing import Any, TypeAlias

from fdrl_mpi.arrays import FloatVector
from fdrl_mpi.config import Config, EnvironmentConfig
from fdrl_mpi.envs.contexts import Contexts
from fdrl_mpi.envs.heterogeneity import draw_context
from fdrl_mpi.envs.vector import VectorEnv
from fdrl_mpi.own_class import import_class
from fdrl_mpi.problem import UNLIKE, did_you_mean
from fdrl_mpi.rl.distributions import Distribution, distribution_of
from fdrl_mpi.rl.hyperparameters import PPOConfig
from fdrl_mpi.rl.mlp import MLP
from fdrl_mpi.rl.network import ActorCritic, NetworkShape
from fdrl_mpi.streams import stream

ENVIRONMENTS = {
    "Acrobot-v1": "fdrl_mpi.envs.acrobot:Acrobot",
    "CartPole-v1": "fdrl_mpi.envs.cartpole:CartPole",
    "MountainCar-v0": "fdrl_mpi.envs.mountain_car:MountainCar",
    "Pendulum-v1": "fdrl_mpi.envs.pendulum:Pendulum",
    "RandomMDP": "fdrl_mpi.envs.random_mdp:RandomMDP",
    "RewardProcess": "fdrl_mpi.envs.reward_process:RewardProcess",
    "TwoState": "fdrl_mpi.envs.two_state:TwoState",
    "WindyCliff": "fdrl_mpi.envs.windy_cliff:WindyCliff",
}

Context: TypeAlias = dict[str, float]
"""What is particular about one agent's world: values of physical parameters, by name."""


def draw_worlds(config: Config, num_agents: int, num_unseen: int = 0) -> list[Context]:
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
    if config.id in ENVIRONMENTS:
        try:
            environment: VectorEnv = _environment_class(config.id)(contexts, **config.kwargs)
        except TypeError as error:
            raise ValueError(f"environment.kwargs: {error}") from error
        return environment

    from fdrl_mpi.envs.gymnasium_lookup import from_class, from_id  # gymnasium: 2 MB a rank

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
    table = _environment_class(environment_id).context_table
    return {name: parameter.units for name, parameter in table.items()}


def _environment_class(environment_id: str) -> Any:
    module, _, name = ENVIRONMENTS[environment_id].partition(":")
    return getattr(import_module(module), name)


def network_shape(learner: PPOConfig, environment: VectorEnv) -> NetworkShape:
    """Say what a network must take and give to act in an environment."""
    spec, settings = environment.action_spec, learner.network
    return NetworkShape(
        environment.observation_size,
        spec.size,
        distribution_of(spec).num_free,
        settings.hidden,
        settings.activation,
        settings.shared,
    )


def make_network(
    learner: PPOConfig,
    seed: int,
    environment: VectorEnv,
    engine: str,
    device: str,
    params: FloatVector | None = None,
) -> tuple[ActorCritic, Distribution]:
    """Make the network of a run with its initial model, the same on every rank, and its policy.

    Parameters
    ----------
    params : float32 array, shape (d,), optional
        Where its parameters are to lie.
    """
    distribution = distribution_of(environment.action_spec)
    shape, settings = network_shape(learner, environment), learner.network
    generator = stream(seed, "network")
    if engine == "numpy":
        return MLP(shape, generator, params), distribution
    from fdrl_mpi.rl.torch_network import torch_mlp, torch_module

    if settings.module:
        module_class = import_class(settings.module)
        return torch_module(module_class, shape, generator, device, params), distribution
    return torch_mlp(shape, generator, device, params), distribution
