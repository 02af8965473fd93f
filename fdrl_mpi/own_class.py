"""Classes of the user's own, named in a configuration as ``package.module:Class``."""

import importlib
import sys
from inspect import isclass
from pathlib import Path
from types import ModuleType
from typing import Any

from fdrl_mpi.problem import UNLIKE, did_you_mean


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
