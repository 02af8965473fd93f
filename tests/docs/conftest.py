"""Pages of `docs/`, and small runs started as a user starts them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fdrl_mpi.launch_flags import FLAGS

ROOT = Path(__file__).parents[2]
TIME_LIMIT_S = 120
SMALL = [
    "--environment.num_envs=2",
    "--learner.budget=64",
    "--learner.num_steps=16",
    "--learner.num_minibatches=2",
    "--learner.network.hidden=[8,8]",
    "--evaluation.episodes=1",
]


@pytest.fixture(scope="session")
def pages() -> dict[str, str]:
    """Every page, and the README, by its path from the root of the repository."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in files}


@pytest.fixture(scope="session")
def run() -> Callable[..., str]:
    """Run a command in a folder to its end; return what it has printed."""

    def finish(command: list[str], folder: Path, **variables: str) -> str:
        environment = {
            **os.environ,
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
            "PYTHONDONTWRITEBYTECODE": "1",
            **variables,
        }
        ended = subprocess.run(
            [sys.executable if word == "python" else word for word in command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    return finish


@pytest.fixture(scope="session")
def runs(run, tmp_path_factory) -> Path:
    """A folder in which three small runs lie in `runs/`.

    `cartpole` as its configuration says, with a report and exports; `alone`: independent agents;
    `lost`: two ranks are lost, and Adam steps a part of the model.
    """
    folder = tmp_path_factory.mktemp("docs")
    train = ["python", "-m", "fdrl_mpi.train", *SMALL]
    few = ["--rounds", "4", "--checkpoint.every", "2"]
    run(["mpirun", "-n", "3", *train, *few], folder)
    run(["mpirun", "-n", "3", *train, *few, "--mode", "independent", "--run.name", "alone"], folder)
    lost = [
        "--run.name",
        "lost",
        "--faults.mode",
        "survive",
        "--faults.spares",
        "1",
        "--learner.share",
        "actor",
    ]
    server = ["--comm.collective", "tree", "--aggregation.server.name", "adam"]
    kill = "rank=2,round=3,phase=exchange,action=kill"
    run(["mpirun", *FLAGS.split(), "-n", "5", *train, *few, *lost, *server], folder, FDRL_FAULTS=kill)
    for command in ("report", "export", "export --to csv", "export --format torch"):
        run(["python", "-m", *f"fdrl_mpi.{command}".split(), "runs/cartpole"], folder)
    run(["python", "-m", "fdrl_mpi.export", "runs/cartpole", "--agent", "2"], folder)
    return folder
