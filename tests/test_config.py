import re
import tomllib
from pathlib import Path

import pytest

from fdrl_mpi.config import MAY_DIFFER_ON_RESUME, Config
from fdrl_mpi.config_file import differing_keys, read
from fdrl_mpi.constraints import check
from fdrl_mpi.envs.heterogeneity import Listed, Uniform
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

    free = ("environment.heterogeneity", "environment.kwargs", "aggregation.rule_kwargs")
    config = read([file], [])
    named = set(leaves(tomllib.loads(file.read_text())))
    assert named == keys(config).keys()
    assert config.run.name == file.stem


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_an_experiment_is_complete_with_its_file_and_the_ranks_it_names(file):
    config = read([file], [])
    command = rf"mpirun -n (\d+) fdrl-train --config configs/{file.stem}\.toml"
    [ranks] = re.findall(rf"^#     {command}$", file.read_text(), re.MULTILINE)
    num_agents = config.num_agents(int(ranks) - 1)
    for world in config.environment.heterogeneity.values():
        assert not isinstance(world, Listed) or len(world.values) == num_agents
    assert check(config, int(ranks), {}) == []


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_remarks_name_the_unit_of_the_budget_and_every_other_weighting(file):
    config, text = read([file], []), file.read_text()
    [budget] = re.findall(r"^budget = .*# (.+)", text, re.MULTILINE)
    assert budget == keys(config)["learner.budget"].description
    [weighting] = re.findall(r"^weighting = .*# .*; or (.+)", text, re.MULTILINE)
    choices = set(keys(config)["aggregation.weighting"].kind.values)
    assert set(weighting.split(", ")) == choices - {config.aggregation.weighting}


def test_the_cartpole_experiment_is_the_default_job():
    [cartpole] = [file for file in EXPERIMENTS if file.stem == "cartpole"]
    assert read([cartpole], []) == Config()


def test_a_resumed_run_may_change_how_long_and_what_is_told():
    allowed = [("rounds", "99"), ("log.level", "debug"), ("evaluation.every", "1"), ("run.name", "x")]
    assert differing_keys(Config(), read([], allowed), MAY_DIFFER_ON_RESUME) == []
    assert differing_keys(Config(), read([], [("seed", "1")]), MAY_DIFFER_ON_RESUME) == ["seed"]
