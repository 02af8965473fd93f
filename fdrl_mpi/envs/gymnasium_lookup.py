"""Find a gymnasium environment by its id, or a user's own class by its name."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from inspect import signature
from itertools import chain
from types import MappingProxyType
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from fdrl_mpi.envs.contexts import Contexts
from fdrl_mpi.envs.gymnasium_vector import GymnasiumVector
from fdrl_mpi.envs.vector import VectorEnv
from fdrl_mpi.own_class import check_arguments, construct, import_class, import_module
from fdrl_mpi.problem import UNLIKE, did_you_mean

NOTHING: Mapping[str, Any] = MappingProxyType({})


def from_id(environment_id: str, contexts: Contexts, kwargs: Mapping[str, Any] = NOTHING) -> GymnasiumVector:
    """Make one registered environment per context.

    Parameters
    ----------
    environment_id : str
        As for `gymnasium.make`, with its version; ``module:ID`` imports the module that registers it first.
    contexts : sequence of mappings
        Constructor arguments, one mapping per environment; they win over `kwargs`.
    kwargs : mapping
        Arguments of `gymnasium.make` or of the constructor, the same for all.

    Raises
    ------
    ValueError
        If the id is unknown, a package is missing, or the constructor has no such argument.
    """
    spec = _find_spec(environment_id)
    with _explaining_missing_packages(environment_id):
        constructor = _load_constructor(spec)
        own_kwargs = kwargs.keys() - signature(gymnasium.make).parameters.keys()
        check_arguments(environment_id, constructor, _names(contexts, own_kwargs))
        make_kwargs = {"disable_env_checker": True, **kwargs}
        return GymnasiumVector(partial(gymnasium.make, spec, **make_kwargs), contexts)


def from_class(path: str, contexts: Contexts, kwargs: Mapping[str, Any] = NOTHING) -> VectorEnv:
    """Make environments from a class that need not be registered.

    A `gymnasium.Env` is constructed once per context, without any wrapper, so it must truncate its episodes
    itself. A class with ``is_vectorised = True`` follows `VectorEnv` and is constructed as
    ``Class(contexts, **kwargs)``; without `observation_shape` and `observation_divisor`, its observations are
    vectors as they stand.

    Parameters
    ----------
    path : str
        ``package.module:Class``. The current directory is searched before Python's path, and stays on it.
    contexts : sequence of mappings
        Constructor arguments, one mapping per environment; they win over `kwargs`.
    kwargs : mapping
        Constructor arguments that are the same for all.

    Raises
    ------
    ValueError
        If there is no such class, it is no environment, or its constructor has no such argument.
    """
    cls = import_class(path)
    if getattr(cls, "is_vectorised", False):
        vectorised: VectorEnv = construct(path, cls, [contexts], kwargs)
        if not hasattr(vectorised, "observation_shape"):
            vectorised.observation_shape = (vectorised.observation_size,)
        if not hasattr(vectorised, "observation_divisor"):
            vectorised.observation_divisor = 1.0
        return vectorised
    if not issubclass(cls, gymnasium.Env):
        raise ValueError(f"{path} is not an environment: derive it from gymnasium.Env")
    check_arguments(path, cls, _names(contexts, kwargs))
    return GymnasiumVector(_own(path, partial(cls, **kwargs)), contexts)


def _own(path: str, make: Callable[..., gymnasium.Env[Any, Any]]) -> Callable[..., gymnasium.Env[Any, Any]]:
    """Keep apart what a user's constructor raises from what this program refuses: the traceback is wanted."""

    def made(**context: float) -> gymnasium.Env[Any, Any]:
        try:
            return make(**context)
        except (ValueError, OSError, MemoryError) as error:
            raise RuntimeError(f"{path} could not be made with {context or 'no context'}") from error

    return made


def _find_spec(environment_id: str) -> EnvSpec:
    module_name, _, name = environment_id.rpartition(":")
    if module_name:
        import_module(module_name)
    if name not in gymnasium.registry:
        raise ValueError(
            f"gymnasium has no environment {name!r}: {did_you_mean(name, gymnasium.registry, UNLIKE)} "
            "One that another package registers is written module:ID, so that the module is imported first"
        )
    return gymnasium.spec(name)


def _load_constructor(spec: EnvSpec) -> Callable[..., Any]:
    if spec.entry_point is None:
        raise ValueError(f"{spec.id} exists only as a vector of equal environments, which takes no contexts")
    return spec.entry_point if callable(spec.entry_point) else load_env_creator(spec.entry_point)


@contextmanager
def _explaining_missing_packages(environment_id: str) -> Iterator[None]:
    try:
        yield
    except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as error:
        raise ValueError(
            f"{environment_id} needs a package that is not installed ({error}). "
            'Box2D, MiniGrid and highway-env come with: pip install "fdrl-mpi[envs]"; MuJoCo with: '
            'pip install "fdrl-mpi[mujoco]"'
        ) from error


def _names(contexts: Contexts, kwargs: Iterable[str]) -> set[str]:
    return {*kwargs, *chain.from_iterable(contexts)}
