"""Bad input: one clear message on rank 0, exit status 2, nothing written."""

import sys

import pytest

pytestmark = pytest.mark.launch
TIME_LIMIT_S = 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learner.lrr", "1e-3"], "did you mean `learner.lr`?"),
        (["--learner.lr", "fast"], "learner.lr = "),
        (["--rounds", "0"], "rounds = 0"),
        (["--config", "absent.toml"], "absent.toml"),
        (["--environment.id", "CartPole-v2"], "did you mean CartPole-v1?"),
        (["--environment.id", "gym:CartPoll-v1"], "CartPole"),
        (["--environment.id", "nowhere:World"], "cannot import nowhere"),
        (["--learner.name", "dqqn"], "expected one of ppo"),
        (["--aggregation.rule", "nowhere:Rule"], "cannot import nowhere"),
        (
            ["--environment.heterogeneity.gravitty", '{distribution="uniform",low=1,high=2}'],
            "did you mean gravity?",
        ),
        (
            ["--environment.heterogeneity.masscart", '{distribution="uniform",low=-2,high=-1}'],
            "mass of the cart",
        ),
        (
            ["--environment.id", "gym:Blackjack-v1", "--learner.network.module", "math:sqrt"],
            "math has no class",
        ),
        (["--learner.budget", "65"], "learner.budget = 65"),
        (["--learner.engine", "numpy", "--learner.device", "cuda"], "the numpy engine computes on the CPU"),
        (["--run.resume", "elsewhere"], "there is no run in it"),
        (["--run.name", "n" * 300], "choose a shorter run.name"),
        (["--run.name", b"n\xff".decode(errors="surrogateescape")], "--run.name: its value holds bytes"),
        (["--agents_per_rank", "9" * 25], "agents_per_rank = 9999"),
        (["--comm.collective", "gossip"], "equal weights"),
        (["--comm.collective", "secure_ring"], "a sum of one is no secret"),
        (["--learner.network.hidden", "[9999999999999]"], "this run cannot begin"),
    ],
)
def test_bad_input_is_refused_once_and_nothing_is_written(finish, tmp_path, arguments, message):
    ended = finish(3, *arguments)
    assert ended.returncode == 2
    assert ended.stderr.count(message) == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_an_own_class_refuses_is_said_with_its_place(finish, tmp_path):
    lines = [
        "class World:",
        "    is_vectorised = True",
        "    def __init__(self, contexts):",
        "        raise ValueError('it is too cold')",
    ]
    (tmp_path / "mine.py").write_text("\n".join(lines))
    ended = finish(3, "--environment.id", "mine:World")
    assert ended.returncode == 2
    assert ended.stderr.count(f"it is too cold ({tmp_path / 'mine.py'}:4, in __init__)") == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "runs").exists()


def test_world_of_one_rank_is_refused_with_the_command_to_use(finish, tmp_path):
    ended = finish(1)
    assert ended.returncode == 2
    assert "mpirun -n 17 python -m fdrl_mpi.train" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_several_mistakes_are_named_together(finish):
    ended = finish(2, "--learner.lr", "fast", "--commm.collective", "gather", "--rounds", "-1")
    assert ended.returncode == 2
    for key in ("learner.lr", "comm", "rounds"):
        assert key in ended.stderr


def test_dry_run_writes_nothing(finish, tmp_path):
    ended = finish(3, "--dry-run")
    assert ended.returncode == 0
    assert "agent 2" in ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_dry_run_says_in_numbers_what_would_run_and_travel(finish):
    ended = finish(2, "--rounds", "1", "--learner.share", "trunk", "--dry-run")
    assert ": 1 agent, 1 round of " in ended.stdout
    assert "of the parameters travel" in ended.stdout


def test_run_directory_with_other_files_is_refused(finish, tmp_path):
    (tmp_path / "runs/cartpole").mkdir(parents=True)
    (tmp_path / "runs/cartpole/thesis.txt").write_text("years of work")
    ended = finish(2, "--rounds", "1")
    assert ended.returncode == 2
    assert "holds files, but no run" in ended.stderr
    assert [path.name for path in (tmp_path / "runs/cartpole").iterdir()] == ["thesis.txt"]


UNEQUAL_WORLD = """
import gymnasium
import numpy as np

class World(gymnasium.Env):
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, size=1.0):
        self.observation_space = gymnasium.spaces.Box(-1, 1, (int(size),), np.float32)
"""


def test_agents_whose_models_have_different_layouts_are_refused(finish, tmp_path):
    (tmp_path / "mine.py").write_text(UNEQUAL_WORLD)
    sizes = '{size={distribution="evenly",low=1,high=2}}'
    ended = finish(3, "--environment.id", "mine:World", "--environment.heterogeneity", sizes)
    assert ended.returncode == 2
    assert "have no model in common" in ended.stderr, ended.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rounds", "7"], "rank 1 and rank 0 read different configurations"),
        (["--learner.lr", "fast"], "learner.lr ="),
    ],
)
def test_configuration_that_differs_between_ranks_is_refused_by_all(start, tmp_path, words, message):
    program = [sys.executable, "-m", "fdrl_mpi.train"]
    process = start(1, ":", "-n", "1", *program, *words)
    out, err = process.communicate(timeout=TIME_LIMIT_S)
    assert process.returncode == 2
    assert err.count(message) == 1, out + err
    assert list(tmp_path.iterdir()) == []
