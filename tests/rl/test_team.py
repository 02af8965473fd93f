"""Learners that learn together come to what each would come to alone."""

import re
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from learners import flat, make_learner

from fdrl_mpi.build_agent import make_environment, make_model
from fdrl_mpi.build_team import TEAMS, why_in_turn
from fdrl_mpi.federation.wire import whole
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.team import Team, Worlds, joined, parted
from fdrl_mpi.streams import stream

SMALL = {"learner.network.hidden": "[8, 8]", "environment.num_envs": "2"}
TABLE = {"environment.id": "RandomMDP", "learner.budget": "210", "learner.epsilon_steps": "500"}
DQN = SMALL | {
    "learner.budget": "120",
    "learner.learning_starts": "32",
    "learner.batch_size": "16",
    "learner.buffer_size": "64",
    "learner.target_every": "40",
}
LEARNERS = {
    "ppo": SMALL | {"learner.num_steps": "32", "learner.budget": "128"},
    "ppo that is cut short": SMALL
    | {"learner.num_steps": "32", "learner.budget": "128", "environment.kwargs": "{max_episode_steps = 9}"},
    "a2c": SMALL | {"learner.budget": "120"},
    "a2c with adam": SMALL
    | {"learner.budget": "120", "learner.optimiser": "adam", "learner.normalise_advantages": "true"},
    "ppo on Acrobot": SMALL
    | {
        "environment.id": "Acrobot-v1",
        "learner.num_steps": "16",
        "learner.budget": "64",
        "learner.optimiser": "sgd",
        "learner.network.shared": "true",
        "learner.network.activation": "relu",
        "learner.network.bounded": "true",
    },
    "ppo on Pendulum, torch": SMALL
    | {"environment.id": "Pendulum-v1", "learner.num_steps": "16", "learner.budget": "64"},
    "dqn": DQN,
    "dqn with every option": DQN
    | {
        "learner.double": "true",
        "learner.dueling": "true",
        "learner.loss": "huber",
        "learner.federate_target": "true",
        "learner.tau": "0.5",
        "learner.gradient_steps": "2",
    },
    "reinforce": SMALL | {"learner.batch_episodes": "4", "learner.budget": "8"},
    "reinforce up to a horizon": SMALL
    | {"learner.batch_episodes": "4", "learner.budget": "8", "learner.horizon": "11"},
    "reinforce with every option, torch": SMALL
    | {
        "learner.batch_episodes": "4",
        "learner.budget": "8",
        "learner.baseline": "batch",
        "learner.mean_over": "episodes",
        "learner.entropy_coefficient": "0.01",
        "learner.optimiser": "rmsprop",
    },
    "reinforce whole returns, torch": SMALL
    | {
        "learner.batch_episodes": "2",
        "learner.budget": "4",
        "learner.baseline": "none",
        "learner.credit": "return",
        "learner.network.shared": "true",
    },
    "reinforce against each episode, torch": SMALL
    | {
        "learner.batch_episodes": "4",
        "learner.budget": "4",
        "learner.baseline": "episode",
        "environment.kwargs": "{max_episode_steps = 70}",
    },
    "reinforce on Pendulum, torch": SMALL
    | {
        "environment.id": "Pendulum-v1",
        "learner.batch_episodes": "4",
        "learner.budget": "4",
        "learner.horizon": "70",
        "learner.entropy_coefficient": "0.01",
    },
    "q_learning": TABLE | {"environment.num_envs": "3"},
    "q_learning in one world": TABLE | {"environment.num_envs": "1"},
    "q_learning by sarsa": TABLE | {"environment.num_envs": "2", "learner.method": "sarsa"},
    "q_learning by expected_sarsa": TABLE
    | {"environment.num_envs": "2", "learner.method": "expected_sarsa", "environment.id": "WindyCliff"},
    "q_learning of what is always played": TABLE
    | {"environment.num_envs": "2", "environment.id": "TwoState", "learner.behaviour": "fixed"},
}
for name in (
    *("ppo", "ppo that is cut short", "a2c", "a2c with adam", "ppo on Acrobot"),
    *("dqn", "dqn with every option", "reinforce", "reinforce up to a horizon"),
    *(learner for learner in LEARNERS if learner.startswith("q_learning")),
):
    LEARNERS[f"{name}, torch"] = LEARNERS[name]
ROUNDS = 3


def _settings(name: str) -> dict[str, str]:
    return {"learner.name": re.split("[ ,]", name)[0], **LEARNERS[name]}


class Company:
    """Agents of one configuration, and a team of them."""

    def __init__(self, name: str, num_agents: int) -> None:
        self.engine = "torch" if name.endswith("torch") else "numpy"
        self.config, first = make_learner(_settings(name))
        self.learners = [first, *(make_learner(_settings(name))[1] for _ in range(num_agents - 1))]

    def _team(self, size: int) -> Team:
        one = make_environment(self.config.environment, [{}] * self.config.environment.num_envs)
        model = make_model(self.config.learner, self.config.seed, one, "numpy", "cpu")
        assert not why_in_turn(self.config, [{}], whole(len(model.params)), self.engine, one, model)
        return self.team_class(self.config.learner, model, Worlds(one, size, one.num_envs))

    @property
    def team_class(self) -> type[Team]:
        module, _, name = TEAMS[self.engine][self.config.algorithm].partition(":")
        return getattr(import_module(module), name)

    def budgets(self, round: int, agents: Sequence[int]) -> list[Budget]:
        learner = self.config.learner
        return [Budget(learner.budget, learner.lr, stream(0, "train", agent, round)) for agent in agents]

    def in_turn(self, round: int, agents: Sequence[int]) -> list[TrainStats]:
        budgets = self.budgets(round, agents)
        return [self.learners[agent].train(budget) for agent, budget in zip(agents, budgets, strict=True)]

    def together(self, round: int, agents: Sequence[int]) -> list[TrainStats]:
        contexts = [{}] * (len(agents) * self.config.environment.num_envs)
        environment = make_environment(self.config.environment, contexts)
        members = [self.learners[agent] for agent in agents]
        return self._team(len(agents)).train(members, self.budgets(round, agents), environment)


def _check_equal(ours: Company, theirs: Company) -> None:
    """Float32 rounding: a product of few rows may be added up in another order."""
    for one, other in zip(ours.learners, theirs.learners, strict=True):
        mine, its = flat(one.get_state()), flat(other.get_state())
        assert mine.keys() == its.keys()
        for path, leaf in mine.items():
            np.testing.assert_allclose(leaf, its[path], rtol=1e-4, atol=1e-5, err_msg=path)


def _check_alike(ours: Sequence[TrainStats], theirs: Sequence[TrainStats]) -> None:
    """Clipped losses have thresholds, at which rounding decides whether a sample counts."""
    for one, other in zip(ours, theirs, strict=True):
        assert one.means == pytest.approx(other.means, rel=0.02, abs=1e-5)
        episodes = [np.reshape(stats.episodes, (-1, 2)) for stats in (one, other)]
        np.testing.assert_allclose(*episodes, rtol=1e-5)
        rest = {"means": {}, "rollout_s": 0.0, "episodes": []}
        assert replace(one, **rest) == replace(other, **rest)


@pytest.mark.parametrize("num_agents", [1, 2, 5])
@pytest.mark.parametrize("name", LEARNERS)
def test_a_team_equals_its_members_in_turn(name: str, num_agents: int) -> None:
    ours, theirs, everyone = Company(name, num_agents), Company(name, num_agents), range(num_agents)
    for round in range(1, ROUNDS + 1):
        _check_alike(ours.together(round, everyone), theirs.in_turn(round, everyone))
    _check_equal(ours, theirs)


@pytest.mark.parametrize("name", ["ppo", "ppo that is cut short", "reinforce"])
def test_products_of_several_rows_are_equal_to_the_bit(name: str) -> None:
    ours, theirs = Company(name, 4), Company(name, 4)
    ours.together(1, range(4))
    theirs.in_turn(1, range(4))
    for one, other in zip(ours.learners, theirs.learners, strict=True):
        np.testing.assert_array_equal(one.params, other.params)


@pytest.mark.parametrize("name", LEARNERS)
def test_agents_may_train_alone_in_one_round_and_together_in_the_next(name: str) -> None:
    ours, theirs = Company(name, 5), Company(name, 5)
    cohorts = [[0, 1, 2, 3, 4], [1, 3], [4], [0, 1, 2, 3, 4]]
    for round, cohort in enumerate(cohorts, 1):
        alike: dict[object, list[int]] = {}
        for agent in cohort:
            alike.setdefault(ours.learners[agent].stage, []).append(agent)
        for agents in alike.values():
            (ours.in_turn if round == 3 else ours.together)(round, agents)
        theirs.in_turn(round, cohort)
    _check_equal(ours, theirs)


@pytest.mark.parametrize("name", LEARNERS)
def test_what_a_member_saves_goes_on_alone(name: str) -> None:
    ours, theirs = Company(name, 3), Company(name, 3)
    ours.together(1, range(3))
    for one, other in zip(ours.learners, theirs.learners, strict=True):
        other.set_state(one.get_state())
    ours.together(2, range(3))
    theirs.in_turn(2, range(3))
    _check_equal(ours, theirs)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_member_that_diverges_spoils_nobody_else(name: str) -> None:
    ours, theirs = Company(name, 3), Company(name, 3)
    for company in (ours, theirs):
        company.in_turn(1, range(3))
        company.learners[1].params[:] = np.nan
    with np.errstate(over="ignore", invalid="ignore"):
        ours.together(2, range(3))
        theirs.in_turn(2, [0, 2])
    del ours.learners[1], theirs.learners[1]
    _check_equal(ours, theirs)


def test_parting_undoes_joining() -> None:
    states = [{"a": np.arange(6.0).reshape(2, 3) + k, "b": {"c": np.arange(3) - k}} for k in range(4)]
    for one, other in zip(parted(joined(states), 4), states, strict=True):
        np.testing.assert_array_equal(one["a"], other["a"])
        np.testing.assert_array_equal(one["b"]["c"], other["b"]["c"])
