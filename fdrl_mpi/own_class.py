"""Classes of the user's own, named in a configuration as ``package.module:Class``."""

import importlib
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Parameter, isclass, signature
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from fdrl_mpi.problem import UNLIKE, did_you_mean

Made = TypeVar("Made")


def import_class(path: str) -> type[Any]:
    """Import a class; the current directory is searched before Python's path, and stays on it.

    Raises
    ------
    ValueError
        If the name has another form, the module cannot be imported, or has no such class.
    """
    module_name, _, class_name = path.partition(":")
    if not (module_name and class_name):
        raise ValueError(f"{path!r} must be written package.module:Class")
    module = import_module(module_name)
    cls = getattr(module, class_name, None)
    if not isclass(cls):
        classes = [name for name, value in vars(module).items() if isclass(value)]
        raise ValueError(
            f"{module_name} has no class {class_name!r}: {did_you_mean(class_name, classes, UNLIKE)}"
        )
    return cls


def import_module(module_name: str) -> ModuleType:
    """Import a module that may lie in the current directory.

    Raises
    ------
    ValueError
        If it cannot be imported.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"cannot import {module_name}: {error}. It is looked for in {here} and on Python's path"
        ) from error


def place_of(error: BaseException) -> str:
    """Say where in a user's code an error was raised, in brackets; empty if nowhere in it.

    That is all which belongs neither to this package nor to Python and its libraries.
    """
    package, standard = Path(__file__).parent, sysconfig.get_path("stdlib")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)  # of what is compiled or frozen there is none
        is_library = {"site-packages", "dist-packages"} & set(file.parts) or file.is_relative_to(standard)
        if file.is_file() and not is_library and not file.is_relative_to(package):
            return f" ({file}:{frame.lineno}, in {frame.name})"
    return ""


def construct(
    name: str, constructor: Callable[..., Made], given: Sequence[Any], kwargs: Mapping[str, Any]
) -> Made:
    """Call a constructor with what the program gives it and what a configuration does.

    Parameters
    ----------
    name : str
        Of the class, for messages.
    given : sequence
        Positional arguments.
    kwargs : mapping
        Keyword arguments, from the configuration.

    Raises
    ------
    ValueError
        If it takes no such arguments, or needs others; also what it raises itself.
    """
    check_arguments(name, constructor, kwargs)
    try:
        signature(constructor).bind(*given, **kwargs)
    except TypeError as error:
        raise ValueError(f"the constructor of {name}: {error}") from error
    return constructor(*given, **kwargs)


def check_arguments(name: str, constructor: Callable[..., Any], wanted: Iterable[str]) -> None:
    """Compare names of arguments with those a constructor has.

    Raises
    ------
    ValueError
        If it lacks one; with the nearest it has.
    """
    parameters = signature(constructor).parameters
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for argument in sorted(wanted):
        if argument not in parameters:
            raise ValueError(
                f"the constructor of {name} has no argument {argument!r}: "
                f"{did_you_mean(argument, parameters, UNLIKE)} It has: {', '.join(parameters) or 'none'}"
            )


def check_members(name: str, owner: Any, interface: str, members: Iterable[str]) -> None:
    """Look whether a class, or an object of it, has what its interface asks for.

    Raises
    ------
    ValueError
        If it lacks something; with all that it lacks.
    """
    missing = [member for member in members if not hasattr(owner, member)]
    if missing:
        raise ValueError(f"{name} is no {interface}: it has no {', no '.join(missing)}")
