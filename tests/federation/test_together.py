"""Who trains together, and that it is told when agents do not."""

import numpy as np
import pytest
from scripted import BUDGET, scripted

from fdrl_mpi.build import make_participant, make_plan, make_wire
from fdrl_mpi.build_agent import draw_worlds, engine_of, make_environment, make_model
from fdrl_mpi.build_team import TEAM_SIZE, make_together, why_in_turn
from fdrl_mpi.config_file import read
from fdrl_mpi.federation.together import Together
from fdrl_mpi.federation.wire import whole
from fdrl_mpi.rl.learner import Budget

IN_TURN = {
    "learner.name = svrpg": {"learner.name": "svrpg"},
    "learner.name = svrpg on the torch engine": {"learner.name": "svrpg", "learner.engine": "torch"},
    "learner.network.module": {
        "learner.name": "reinforce",
        "learner.baseline": "none",
        "learner.network.module": "torch.nn:Linear",
    },
    "environment.id = RandomMDP": {"environment.id": "RandomMDP", "learner.engine": "torch"},
    "draws in every step": {
        "environment.id": "Acrobot-v1",
        "environment.heterogeneity": '{torque_noise_max = {distribution = "listed", values = [0.0, 1.0]}}',
        "learner.engine": "torch",
    },
    "environment.id = Catch": {"environment.id": "Catch"},
    "bound to its optimiser": {"objective.proximal": "0.1"},
    "hands in": {"aggregation.update_kind": "gradient", "aggregation.weighting": "uniform"},
    "learner.target_kl": {"learner.name": "ppo", "learner.target_kl": "0.01"},
    "learner.normalise_rewards": {"learner.name": "ppo", "learner.normalise_rewards": "true"},
    "real numbers": {"environment.id": "Pendulum-v1"},
    "2048 samples": {"environment.num_envs": "64", "learner.num_steps": "128"},
}


def _why(changes: dict[str, str]) -> str:
    config = read([], [("agents_per_rank", "2"), *changes.items()])
    environment = make_environment(config.environment, [{}] * config.environment.num_envs)
    engine = engine_of(config.learner, "cpu")
    model = make_model(config.learner, config.seed, environment, engine, "cpu")
    worlds = draw_worlds(config, 2)
    return why_in_turn(config, worlds, make_wire(config, model), engine, environment, model)


@pytest.mark.parametrize("reason", IN_TURN)
def test_what_does_not_fit_is_trained_in_turn_and_the_reason_is_told(reason: str) -> None:
    assert reason in _why(IN_TURN[reason])


@pytest.mark.parametrize("share", ["all", "actor", "trunk"])
def test_what_travels_of_a_model_does_not_matter(share: str) -> None:
    assert not _why({"learner.share": share})
    assert not _why({"learner.share": share, "aggregation.update_kind": "difference"})


class Staged:
    """A learner of a stage."""

    def __init__(self, stage: int) -> None:
        self.stage = stage


def _crews(budgets: dict[int, Budget], stages: dict[int, int]) -> list[tuple[int, ...]]:
    participants = {agent: scripted(whole(3))[0] for agent in budgets}
    for agent, participant in participants.items():
        participant.learner = Staged(stages.get(agent, 0))
    return Together(lambda size: None, lambda squad: None, 2, TEAM_SIZE).squads(participants, budgets)


def test_a_crew_has_the_same_to_do() -> None:
    other = Budget(BUDGET.work + 1, BUDGET.lr, BUDGET.generator)
    assert _crews({1: BUDGET, 2: other, 3: BUDGET, 4: BUDGET}, {4: 7}) == [(1, 3), (2,), (4,)]


def test_many_agents_make_several_crews_of_equal_size() -> None:
    squads = _crews(dict.fromkeys(range(1, 2 * TEAM_SIZE + 2), BUDGET), {})
    assert [len(squad) for squad in squads] == [43, 43, 43]
    assert [agent for squad in squads for agent in squad] == list(range(1, 2 * TEAM_SIZE + 2))


@pytest.mark.parametrize(("fewest", "sizes"), [(1, [1]), (2, [])])
def test_one_agent_is_a_team_only_where_a_team_draws_otherwise(fewest: int, sizes: list[int]) -> None:
    made = []

    class Team:
        def __init__(self, size: int) -> None:
            made.append(size)

        def train(self, members, budgets, environment):
            return [member.train(budget) for member, budget in zip(members, budgets, strict=True)]

    participant, *_ = scripted(whole(3))
    together = Together(Team, lambda squad: None, fewest, TEAM_SIZE)
    [stats] = together.train((1,), {1: participant}, {1: np.zeros(3, np.float32)}, {1: BUDGET})
    assert made == sizes
    assert stats.episodes == [(1.0, 1.0)]


def test_a_team_is_made_of_any_environment_with_the_same_spaces() -> None:
    """A rank whose agents are all known already has none of its own at hand."""
    changes = [("environment.num_envs", "3"), ("environment.heterogeneity", "{}"), ("learner.budget", "192")]
    config = read([], [*changes, ("learner.num_steps", "64")])
    one = make_environment(config.environment, [{}])
    model = make_model(config.learner, config.seed, one, "numpy", "cpu")
    wire, together = make_wire(config, model), make_together(config, [{}, {}], one, model, "numpy", "cpu")
    participants = {}
    for agent in (1, 2):
        environment, row = make_environment(config.environment, [{}] * 3), np.zeros(wire.length, np.float32)
        participants[agent] = make_participant(config, wire, environment, "numpy", "cpu", row)
    budgets = {agent: make_plan(config, 2).schedule(1, agent) for agent in participants}
    squads = together.squads(participants, budgets)
    all_stats = together.train(squads[0], participants, dict.fromkeys(participants, model.params), budgets)
    assert squads == [(1, 2)]
    assert [stats.env_steps for stats in all_stats] == [192, 192]
    assert not np.array_equal(participants[1].row, participants[2].row)
