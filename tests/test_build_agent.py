"""Names that do not fit are refused with those that do."""

import re

import pytest

from fdrl_mpi.build_agent import make_environment, make_model
from fdrl_mpi.config_file import read


def learners_offered(learner: str, environment_id: str, *more: tuple[str, str]) -> list[str]:
    config = read([], [("learner.name", learner), ("environment.id", environment_id), *more])
    environment = make_environment(config.environment, [{}])
    with pytest.raises(ValueError, match="these can learn: ") as refusal:
        make_model(config.learner, config.seed, environment, "numpy", "cpu")
    return str(refusal.value).partition("these can learn: ")[2].split(", ")


def test_only_learners_that_can_learn_in_the_environment_are_offered() -> None:
    networks = ["ppo", "a2c", "reinforce", "dqn", "svrpg"]
    assert learners_offered("sac", "CartPole-v1") == networks
    assert learners_offered("sac", "RandomMDP") == ["ppo", "a2c", "q_averaging", "q_learning", *networks[2:]]
    assert learners_offered("dqn", "Pendulum-v1") == ["ppo", "a2c", "reinforce", "svrpg", "sac"]


def test_a_mistyped_environment_gets_the_nearest_and_examples_that_exist() -> None:
    with pytest.raises(ValueError, match=re.escape("did you mean CartPole-v1?")) as refusal:
        make_environment(read([], [("environment.id", "CartPole")]).environment, [{}])
    assert "gym:CartPole" not in str(refusal.value)
