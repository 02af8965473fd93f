import tomllib
from pathlib import Path

import pytest

from fdrl_mpi.config import MAY_DIFFER_ON_RESUME, Config
from fdrl_mpi.config_file import differing_keys, read
from fdrl_mpi.envs.heterogeneity import Uniform
from fdrl_mpi.schema import keys

EXPERIMENTS = sorted((Path(__file__).parent.parent / "configs").glob("*.toml"))


def test_the_default_worlds_are_heterogeneous_cartpoles():
    assert Config().environment.id == "CartPole-v1"
    assert Config().environment.heterogeneity["gravity"] == Uniform(low=5.0, high=15.0)
    assert len(Config().environment.heterogeneity) == 5


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_an_experiment_names_every_key_and_itself(file):
    def leaves(table, path=""):
        for name, value in table.items():
            dotted = f"{path}{name}"
            is_section = isinstance(value, dict) and dotted not in free
            yield from leaves(value, f"{dotted}.") if is_section else [dotted]

    free = ("environment.heterogeneity", "environment.kwargs")
    config = read([file], [])
    named = set(leaves(tomllib.loads(file.read_text())))
    assert named == keys(config).keys()
    assert config.run.name == file.stem


def test_the_cartpole_experiment_is_the_default_job():
    [cartpole] = [file for file in EXPERIMENTS if file.stem == "cartpole"]
    assert read([cartpole], []) == Config()


def test_a_resumed_run_may_change_how_long_and_what_is_told():
    allowed = [("rounds", "99"), ("log.level", "debug"), ("evaluation.every", "1"), ("run.name", "x")]
    assert differing_keys(Config(), read([], allowed), MAY_DIFFER_ON_RESUME) == []
    assert differing_keys(Config(), read([], [("seed", "1")]), MAY_DIFFER_ON_RESUME) == ["seed"]
