"""What a process loads: nothing heavy before it is needed, measured in processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"numpy", "mpi4py", "h5py", "torch", "gymnasium", "matplotlib"}
ROUND = """
from pathlib import Path
from types import SimpleNamespace

from fdrl_mpi.process import prepare_process

prepare_process()
import fdrl_mpi.session
from fdrl_mpi.build import Builder
from fdrl_mpi.config_file import read

overrides = [("mode", "independent"), ("learner.engine", "{engine}"), ("learner.device", "cpu")]
config = read([Path("configs/smoke.toml")], overrides)
numbers = dict(rank=1, size=2, num_agents=1, num_enrolled=1, local_rank=0)
placement = SimpleNamespace(agents_per_rank=1)
world = SimpleNamespace(**numbers, agents=range(1, 2), comm=None, placement=placement)
builder = Builder(config, world)
agent = builder.build(builder.connect())
learner = agent.parts.participants[1].learner
learner.train(agent.plan.schedule(1, 1))
assert (learner.params != agent.params).any()
agent.evaluations.own[0].run(learner.params)
"""


def _loaded_by(program: str) -> set[str]:
    """Modules that are loaded once `program` has run."""
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_training_in_our_own_worlds_on_the_numpy_engine_loads_neither_torch_nor_gymnasium() -> None:
    loaded = _loaded_by(ROUND.format(engine="numpy"))
    assert {"fdrl_mpi.session", "fdrl_mpi.rl.ppo", "numpy"} <= loaded
    assert not loaded & {"torch", "gymnasium", "matplotlib", "safetensors"}


def test_training_on_the_torch_engine_never_loads_its_compiler() -> None:
    """Nor sympy, which autograd imports where it is handed a gradient, for almost a second."""
    loaded = _loaded_by(ROUND.format(engine="torch"))
    assert {"fdrl_mpi.session", "torch"} <= loaded
    assert not loaded & {"torch._dynamo", "torch._inductor", "sympy"}


@pytest.mark.parametrize("module", ["train", "evaluate", "report", "doctor", "export"])
def test_a_command_line_settles_its_process_before_numpy_and_mpi_are_loaded(module: str) -> None:
    """And can read and refuse a configuration without them: `prepare_process` comes first in `main`."""
    loaded = _loaded_by(f"import fdrl_mpi.{module}")
    assert f"fdrl_mpi.{module}" in loaded
    assert not loaded & HEAVY


def test_a_configuration_is_read_and_written_without_numpy() -> None:
    loaded = _loaded_by(
        "from pathlib import Path\n"
        "from fdrl_mpi.config_file import read, to_toml\n"
        "to_toml(read([Path('configs/cartpole.toml')], []), comments=True)"
    )
    assert "fdrl_mpi.config_file" in loaded
    assert not loaded & HEAVY
