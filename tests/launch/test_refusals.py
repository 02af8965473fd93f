"""Bad input: one clear message on rank 0, exit status 2, nothing written."""

import pytest

pytestmark = pytest.mark.launch


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


def test_run_directory_with_other_files_is_refused(finish, tmp_path):
    (tmp_path / "runs/cartpole").mkdir(parents=True)
    (tmp_path / "runs/cartpole/thesis.txt").write_text("years of work")
    ended = finish(2, "--rounds", "1")
    assert ended.returncode == 2
    assert "holds files, but no run" in ended.stderr
    assert [path.name for path in (tmp_path / "runs/cartpole").iterdir()] == ["thesis.txt"]
