"""Names that do not fit are refused with those that do."""

import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fdrl_mpi.build_agent import context_units, make_environment, make_learner, make_model
from fdrl_mpi.config_file import read
from fdrl_mpi.rl.model import policy_model
from fdrl_mpi.rl.objective import LocalObjective


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


class Walk:
    """A learner that has all that is asked for, and a network for actions."""

    action_kinds, unit = ("discrete",), "steps"

    def __init__(self, settings, model, environment, objective, stride=1.0):
        self.params, self.stride = model.params, stride

    @staticmethod
    def make_model(settings, environment, make_network, generator, params):
        return policy_model(settings, environment, make_network, generator, params)

    def train(self, budget): ...

    def restart(self): ...

    def get_state(self): ...

    def set_state(self, state): ...


class Copies(Walk):
    def __init__(self, settings, model, environment, objective):
        self.params = model.params.copy()


class Elsewhere(Walk):
    @staticmethod
    def make_model(settings, environment, make_network, generator, params):
        return policy_model(settings, environment, make_network, generator, None)


class Holes(Walk):
    @staticmethod
    def make_model(settings, environment, make_network, generator, params):
        model = policy_model(settings, environment, make_network, generator, params)
        model.pieces = dict(list(model.pieces.items())[1:])
        return model


class NoModel(Walk):
    @staticmethod
    def make_model(settings, environment, make_network, generator, params):
        return SimpleNamespace(params=params)


class Part(Walk):
    def __init__(self, settings, model, environment, objective):
        self.params = model.params[:-1]


def own_learner(cls: type, engine: str = "numpy", **changes: str):
    """Make a learner of the user's own as a run does, its parameters in a vector that is there already."""
    sys.modules["walks_of_a_user"] = SimpleNamespace(**{cls.__name__: cls})
    own = {"learner.name": "own", "learner.id": f"walks_of_a_user:{cls.__name__}"} | changes
    config = read([], [("environment.heterogeneity", "{}"), *own.items()])
    environment = make_environment(config.environment, [{}])
    size = len(make_model(config.learner, 0, environment, engine, "cpu").params)
    model = make_model(config.learner, 0, environment, engine, "cpu", np.zeros(size, np.float32))
    return make_learner(config.learner, model, environment, LocalObjective())


@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_a_learner_of_ones_own_is_made_with_its_arguments(engine: str) -> None:
    assert own_learner(Walk, engine, **{"learner.kwargs.stride": "0.5"}).stride == 0.5


@pytest.mark.parametrize(
    ("cls", "changes", "message"),
    [
        (Walk, {"learner.kwargs.strid": "0.5"}, "no argument 'strid': did you mean stride"),
        (Walk, {"environment.id": "Pendulum-v1"}, "cannot learn box actions"),
        (Copies, {}, "its params are not those of the model"),
        (Part, {}, "its params are not those of the model"),
        (Elsewhere, {}, "must lie in the vector it was given"),
        (Holes, {}, "pieces cover it once"),
        (NoModel, {}, "is no model: it has no pieces"),
        (type("Empty", (), {}), {}, "is no learner: it has no action_kinds"),
    ],
)
def test_a_class_that_would_not_learn_what_travels_is_refused(cls, changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        own_learner(cls, **changes)


def test_units_of_a_context_are_those_of_the_users_own_table() -> None:
    assert context_units("heating:Heating")["resistance"] == "K/kW"
    assert context_units("gym:CartPole-v1") == {}
