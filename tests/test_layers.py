"""Imports point one way, and one library stays in one folder: read from the sources, nothing is imported."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import fdrl_mpi

PACKAGE = Path(fdrl_mpi.__file__).parent

FOUNDATION = {"", "arrays", "own_class", "pmi", "problem", "process", "steps", "streams"}
"""What everything may import (the empty name is the package itself); these import only each other."""

MAY_IMPORT = {
    # command lines, and what only one of them needs
    "train": (
        "command_line comm config config_file constraints_faults federation.interrupt logs session starting"
    ),
    "launch": (
        "batch_system command_line config config_file launch_flags record.checkpoint record.verdict starting"
    ),
    "starting": "comm",
    "evaluate": "config_file cross_evaluation rl.denormals trained_run",
    "report": "record reporting",
    "export": "build_agent config_file envs record reporting.runs rl trackers trained_run",
    "reproduce": "comm logs published starting",
    "published": ("comm config config_file envs federation record rl session trained_run"),
    "doctor": "diagnosis inspection",
    "roster": "privacy.keys",
    "diagnosis": "comm inspection launch_flags rl",
    "inspection": "comm",
    # running, refusing, wiring, reading
    "session": (
        "build build_agent comm config config_file constraints federation logs progress record recording "
        "resumption rl survival"
    ),
    "survival": "build build_agent comm config federation logs progress record recording",
    "recording": "build build_agent config config_file record",
    "cross_evaluation": "build_agent federation fine_tuning trained_run",
    "fine_tuning": "build_agent config rl trained_run",
    "trained_run": "build_agent config config_file envs record rl",
    "constraints_faults": "config federation.injection launch_flags",
    "constraints": (
        "build_collective build_rule config constraints_faults constraints_learning federation privacy "
        "rl.hyperparameters topology"
    ),
    "constraints_learning": "build_agent build_collective config rl.hyperparameters",
    "build": "aggregation build_agent build_collective build_rule build_team comm config envs federation rl",
    "build_rule": "aggregation config",
    "build_team": "build_agent config envs federation rl",
    "build_collective": "aggregation comm config topology",
    "build_agent": "config envs rl",
    "resumption": "config config_file record",
    "command_line": "config config_file envs.heterogeneity schema",
    "config_file": "config schema",
    "schema_page": "config config_file schema",
    "schema": "config",
    "config": "envs.heterogeneity rl.hyperparameters",
    "progress": "federation",
    "trackers": "record reporting",
    "reporting": "record",
    "logs": "",
    "launch_flags": "",
    "batch_system": "",
    # when and who
    "federation": "aggregation comm record rl",
    # how bytes move, how one agent learns, where it acts, what is written
    "comm": "aggregation.sums aggregation.views topology privacy",
    "rl": "",
    "envs": "",
    "record": "",
    # what is computed
    "aggregation": "",
    "compression": "",
    "privacy": "",
    "adversary": "",
    "topology": "",
}
"""What each folder and module imports of the others; a name with a dot means that one module only."""

LIBRARIES = {
    "numpy": "*",
    "mpi4py": "comm",
    "torch": (
        "rl.torch_draws rl.torch_members rl.torch_network rl.torch_policy rl.torch_replay rl.torch_stack "
        "rl.torch_table_draws rl.torch_team rl.torch_team_dqn rl.torch_team_q_learning "
        "rl.torch_team_reinforce rl.torch_worlds export"
    ),
    "h5py": "record",
    "cryptography": "privacy comm.handshake",
    "gymnasium": "envs",
    "matplotlib": "reporting",
    "safetensors": "export",
    "tensorboard": "trackers.tensorboard_events",
    "wandb": "trackers.wandb_offline",
    "mlflow": "trackers.mlflow_store",
    "msgspec": "build command_line config config_file envs.heterogeneity rl.hyperparameters schema",
}
"""Where each library is imported; anywhere else only for type checkers."""


@dataclass(frozen=True)
class Import:
    """One module that a file imports; for type checkers only, if `is_type`."""

    file: Path
    line: int
    name: str
    is_type: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: imports {self.name}"


def read_imports(file: Path) -> Iterator[Import]:
    """List what a file imports anywhere in it; a relative import keeps its dots."""
    tree = ast.parse(file.read_text())
    typing = {
        node
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and ast.unparse(test.test) == "TYPE_CHECKING"
        for statement in test.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (Import(file, node.lineno, name, node in typing) for name in names)


def strays(file: Path, module: str) -> list[Import]:
    """List the imports of a file that the tables do not allow; `module` is its name below the package."""
    return [entry for entry in read_imports(file) if not _is_allowed(entry, module)]


def _is_allowed(entry: Import, module: str) -> bool:
    library, _, below = entry.name.partition(".")
    if library == "fdrl_mpi":
        return _is_layered(below, module)
    if library in sys.stdlib_module_names:
        return True
    places = LIBRARIES.get(library, "")
    return places == "*" or entry.is_type or any(_is_in(module, place) for place in places.split())


def _is_layered(imported: str, module: str) -> bool:
    own = _unit(module)
    if _unit(imported) in FOUNDATION or (own == _unit(imported) and own in MAY_IMPORT):
        return True
    return any(_is_in(imported, place) for place in MAY_IMPORT.get(own, "").split())


def _unit(name: str) -> str:
    """The folder or module directly below the package; empty for what the package itself defines."""
    first = name.partition(".")[0]
    return first if (PACKAGE / first).is_dir() or (PACKAGE / f"{first}.py").is_file() else ""


def _is_in(module: str, place: str) -> bool:
    return f"{module}.".startswith(f"{place}.")


def _modules() -> list[tuple[Path, str]]:
    """Every source file and its name below the package."""
    files = sorted(PACKAGE.rglob("*.py"))
    names = [".".join(file.relative_to(PACKAGE).with_suffix("").parts) for file in files]
    return [
        (file, name.removesuffix("__init__").rstrip(".")) for file, name in zip(files, names, strict=True)
    ]


def test_no_import_strays() -> None:
    found = [str(entry) for file, module in _modules() for entry in strays(file, module)]
    assert not found, "not allowed by the tables of this test:\n" + "\n".join(found)


def test_every_module_has_its_line_in_the_table() -> None:
    units = {_unit(module) for _, module in _modules()}
    assert units >= {"rl", "envs", "comm", "session", "train"}
    assert units <= FOUNDATION | MAY_IMPORT.keys()


def test_the_table_has_no_circles() -> None:
    edges = {
        unit: {place.partition(".")[0] for place in places.split()} for unit, places in MAY_IMPORT.items()
    }
    assert set(TopologicalSorter(edges).static_order()) == MAY_IMPORT.keys()


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("federation.clock", "import mpi4py", "mpi4py"),
        ("comm.world", "from mpi4py import MPI", ""),
        ("federation.clock", "if TYPE_CHECKING:\n    from mpi4py import MPI", ""),
        (
            "federation.clock",
            "if TYPE_CHECKING:\n    from fdrl_mpi.build import build",
            "fdrl_mpi.build.build",
        ),
        ("rl.ppo", "def late():\n    from torch import nn", "torch.nn"),
        ("rl.torch_network", "from torch import nn", ""),
        ("rl.torch_network_2", "from torch import nn", "torch.nn"),
        ("aggregation.mean", "import numpy.linalg\nimport scipy", "scipy"),
        ("aggregation.mean", "from fdrl_mpi.rl.flat import Layout", "fdrl_mpi.rl.flat.Layout"),
        ("aggregation.mean", "from fdrl_mpi import rl", "fdrl_mpi.rl"),
        ("aggregation.mean", "from fdrl_mpi import __version__", ""),
        ("aggregation.mean", "from .views import Sum", ".views.Sum"),
        ("comm.gather", "from fdrl_mpi.aggregation.views import Sum", ""),
        ("comm.gather", "from fdrl_mpi.aggregation.mean import Mean", "fdrl_mpi.aggregation.mean.Mean"),
        ("config", "from fdrl_mpi.rl.ppo import PPO", "fdrl_mpi.rl.ppo.PPO"),
        ("streams", "from fdrl_mpi.config import Config", "fdrl_mpi.config.Config"),
        ("streams", "from fdrl_mpi.arrays import State", ""),
        ("build", "from fdrl_mpi.session import Session", "fdrl_mpi.session.Session"),
    ],
)
def test_a_stray_import_is_named_with_file_and_line(
    module: str, source: str, found: str, tmp_path: Path
) -> None:
    file = tmp_path / "module.py"
    file.write_text(f"import os\n{source}\n")
    line = 2 + source.count("\n")
    expected = [f"{file}:{line}: imports {found}"] if found else []
    assert [str(entry) for entry in strays(file, module)] == expected
