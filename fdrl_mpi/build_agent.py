"""From names in a configuration to what acts: worlds, environments, models. Needs no MPI."""

from functools import partial
from importlib import import_module
from typing import Any, TypeAlias, get_args, get_type_hints

import numpy as np
from numpy.random import Generator

from fdrl_mpi.arrays import FloatVector
from fdrl_mpi.config import Config, EnvironmentConfig
from fdrl_mpi.envs.contexts import Contexts
from fdrl_mpi.envs.heterogeneity import draw_context
from fdrl_mpi.envs.vector import VectorEnv
from fdrl_mpi.own_class import check_members, construct, import_class
from fdrl_mpi.problem import UNLIKE, did_you_mean
from fdrl_mpi.rl.device import choose_engine
from fdrl_mpi.rl.hyperparameters import LearnerConfig, NetworkLearnerConfig, OwnConfig, QLearningConfig
from fdrl_mpi.rl.learner import Learner
from fdrl_mpi.rl.mlp import MLP
from fdrl_mpi.rl.model import Model, NetworkFactory
from fdrl_mpi.rl.network import Network, NetworkShape
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.streams import stream

ENVIRONMENTS = {
    "Acrobot-v1": "fdrl_mpi.envs.acrobot:Acrobot",
    "CartPole-v1": "fdrl_mpi.envs.cartpole:CartPole",
    "Catch": "fdrl_mpi.envs.catch:Catch",
    "MountainCar-v0": "fdrl_mpi.envs.mountain_car:MountainCar",
    "Pendulum-v1": "fdrl_mpi.envs.pendulum:Pendulum",
    "RandomMDP": "fdrl_mpi.envs.random_mdp:RandomMDP",
    "RewardProcess": "fdrl_mpi.envs.reward_process:RewardProcess",
    "TwoState": "fdrl_mpi.envs.two_state:TwoState",
    "WindyCliff": "fdrl_mpi.envs.windy_cliff:WindyCliff",
}

LEARNERS = {
    "ppo": "fdrl_mpi.rl.ppo:PPO",
    "a2c": "fdrl_mpi.rl.a2c:A2C",
    "q_averaging": "fdrl_mpi.rl.q_averaging:QAveraging",
    "q_learning": "fdrl_mpi.rl.q_learning:QLearning",
    "reinforce": "fdrl_mpi.rl.reinforce:Reinforce",
    "dqn": "fdrl_mpi.rl.dqn:DQN",
    "svrpg": "fdrl_mpi.rl.svrpg:SVRPG",
    "td": "fdrl_mpi.rl.td:TD",
    "sac": "fdrl_mpi.rl.sac:SAC",
}

LEARNER_MEMBERS = (
    "action_kinds",
    "unit",
    "make_model",
    "train",
    "restart",
    "get_state",
    "set_state",
)
"""What a learner of the user's own has, besides `params` once it is made."""

MODEL_MEMBERS = ("params", "pieces", "groups", "load", "store", "greedy", "state_dict", "describe")

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
        "gymnasium's: gym:ID, for example gym:LunarLander-v3; a class of yours: package.module:Class"
    )


def context_units(environment_id: str) -> dict[str, str]:
    """Look up the units of an environment's context; empty where it does not tell them."""
    if environment_id in ENVIRONMENTS:
        cls = _environment_class(environment_id)
    elif ":" in environment_id and not environment_id.startswith("gym:"):
        cls = import_class(environment_id)
    else:
        return {}
    table = getattr(cls, "context_table", {})
    return {name: parameter.units for name, parameter in table.items()}


def _environment_class(environment_id: str) -> Any:
    module, _, name = ENVIRONMENTS[environment_id].partition(":")
    return getattr(import_module(module), name)


def learner_class(name: str) -> Any:
    """Load the class of a learner; see `Learner` for its interface.

    Parameters
    ----------
    name : str
        One of `LEARNERS`, or ``package.module:Class``.

    Raises
    ------
    ValueError
        If there is no such class of the user's own, or it is no learner.
    """
    if name not in LEARNERS:
        cls = import_class(name)
        check_members(name, cls, "learner", LEARNER_MEMBERS)
        return cls
    module, _, class_name = LEARNERS[name].partition(":")
    return getattr(import_module(module), class_name)


def make_learner(
    settings: LearnerConfig, model: Model, environment: VectorEnv, objective: LocalObjective
) -> Learner:
    """Make one agent's algorithm.

    Raises
    ------
    ValueError
        If a class of the user's own does not take the arguments in `settings`, or refuses them.
    """
    kwargs = settings.kwargs if isinstance(settings, OwnConfig) else {}
    given = settings, model, environment, objective
    learner: Learner = construct(settings.algorithm, learner_class(settings.algorithm), given, kwargs)
    if not _is_same(getattr(learner, "params", None), model.params):
        raise ValueError(f"{settings.algorithm}: its params are not those of the model it was made with")
    return learner


def engine_of(learner: LearnerConfig, device: str) -> str:
    """Name the engine a learner computes with."""
    if not isinstance(learner, NetworkLearnerConfig):
        return "torch" if _is_on_torch(learner) else "numpy"
    return choose_engine(learner.engine, device, is_plain(learner))


def wanted_device(learner: LearnerConfig) -> str:
    """Name the device that a learner is to have, for `choose_device`."""
    if isinstance(learner, NetworkLearnerConfig) or _is_on_torch(learner):
        return str(learner.device)  # type: ignore[attr-defined]
    return "cpu"


def _is_on_torch(learner: LearnerConfig) -> bool:
    """Whether tables are to be learnt by torch."""
    return isinstance(learner, QLearningConfig) and learner.engine == "torch"


def is_plain(learner: LearnerConfig) -> bool:
    """Whether both engines can compute a learner's model."""
    return not isinstance(learner, NetworkLearnerConfig) or not (
        learner.network.module or learner.network.convolutions
    )


def make_model(
    learner: LearnerConfig,
    seed: int,
    environment: VectorEnv,
    engine: str,
    device: str,
    params: FloatVector | None = None,
) -> Model:
    """Make the model of a run as it begins, the same on every rank.

    Parameters
    ----------
    params : float32 array, shape (d,), optional
        Where its parameters are to lie.

    Raises
    ------
    ValueError
        If the learner cannot handle the environment.
    """
    name, kind = learner.algorithm, environment.action_spec.kind
    cls = learner_class(name)
    if kind not in cls.action_kinds:
        able = [other for other in LEARNERS if _can_learn(other, environment)]
        raise ValueError(
            f"learner.name = {name} cannot learn {kind} actions; in this environment these can learn: "
            f"{', '.join(able)}"
        )
    module = learner.network.module if isinstance(learner, NetworkLearnerConfig) else ""
    make: NetworkFactory = partial(_make_network, module, engine, device)
    model: Model = cls.make_model(learner, environment, make, stream(seed, "network"), params)
    if isinstance(learner, OwnConfig):
        _check_model(name, model, params)
    return model


def _check_model(name: str, model: Model, params: FloatVector | None) -> None:
    """Look whether what a learner of the user's own has made can travel.

    Raises
    ------
    ValueError
        If it is no model, or its parameters are not where they are to lie.
    """
    check_members(f"what {name}.make_model returned", model, "model", MODEL_MEMBERS)
    is_flat = model.params.dtype == np.float32 and model.params.ndim == 1
    pieces = sorted((piece.start, piece.stop) for piece in model.pieces.values())
    starts, stops = [start for start, _ in pieces], [stop for _, stop in pieces]
    if not is_flat or [*starts, len(model.params)] != [0, *stops]:
        raise ValueError(f"{name}.make_model: params must be a float32 vector, and pieces cover it once")
    if params is not None and not _is_same(model.params, params):
        raise ValueError(f"{name}.make_model: the parameters must lie in the vector it was given")


def _is_same(array: Any, params: FloatVector) -> bool:
    """Whether an array is a vector, whole, in the very memory; engines may make an object of their own."""
    is_there = isinstance(array, np.ndarray) and np.shares_memory(array, params)
    return is_there and array.shape == params.shape


def _can_learn(name: str, environment: VectorEnv) -> bool:
    """Try whether a learner makes a model for an environment: tables, for example, need states to count."""
    cls, kinds = learner_class(name), get_args(get_type_hints(Config)["learner"])
    if environment.action_spec.kind not in cls.action_kinds:
        return False
    settings = next(kind() for kind in kinds if kind.__struct_config__.tag == name)
    make = partial(_make_network, "", "numpy", "cpu")
    try:
        cls.make_model(settings, environment, make, stream(0, "network"), None)
    except ValueError:
        return False
    return True


def _make_network(
    module: str,
    engine: str,
    device: str,
    shape: NetworkShape,
    generator: Generator,
    params: FloatVector | None,
) -> Network:
    if engine == "numpy":
        return MLP(shape, generator, params)
    from fdrl_mpi.rl.torch_network import torch_cnn, torch_mlp, torch_module

    if module:
        return torch_module(import_class(module), shape, generator, device, params)
    return (torch_cnn if shape.convolutions else torch_mlp)(shape, generator, device, params)
