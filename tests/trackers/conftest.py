"""Stand-ins for the libraries of trackers, which note what they are told."""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

WithLibrary = Callable[..., Any]


@pytest.fixture
def with_library(monkeypatch: pytest.MonkeyPatch) -> WithLibrary:
    """Give a module of `fdrl_mpi.trackers` that finds stand-ins for the libraries it imports.

    ``with_library("wandb_offline", {"wandb": {"init": ...}})`` puts attributes into modules.
    """

    def load(tracker: str, libraries: dict[str, dict[str, Any]]) -> Any:
        for name, attributes in libraries.items():
            library = ModuleType(name)
            library.__dict__.update(attributes)
            monkeypatch.setitem(sys.modules, name, library)
        monkeypatch.delitem(sys.modules, f"fdrl_mpi.trackers.{tracker}", raising=False)
        module = importlib.import_module(f"fdrl_mpi.trackers.{tracker}")
        del sys.modules[f"fdrl_mpi.trackers.{tracker}"]  # the next import is to find what is installed
        return module

    return load
