"""How much local work a round allows."""

import pytest

from fdrl_mpi.federation.schedule import Schedule, budgets


def _budgets(seed: int = 0, decay_rounds: int = 4) -> Schedule:
    return budgets(seed, work=128, lr=0.8, decay_rounds=decay_rounds)


def test_a_falling_step_size_loses_the_same_in_every_round_and_stays_at_zero() -> None:
    lrs = [_budgets()(round, 1).lr for round in (1, 2, 3, 4, 5, 6)]
    assert lrs == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0, 0.0])


def test_a_step_size_without_decay_stays() -> None:
    assert [_budgets(decay_rounds=0)(round, 1).lr for round in (1, 2, 10_000)] == [0.8, 0.8, 0.8]


def test_every_agent_has_the_same_steps_in_every_round() -> None:
    assert {_budgets()(round, agent).work for round in (1, 9) for agent in (1, 2, 9)} == {128}


def test_agents_rounds_and_seeds_have_streams_of_their_own() -> None:
    keys = [(seed, round, agent) for seed in (0, 1) for round in (1, 2, 3) for agent in (1, 2, 3)]
    draws = {_budgets(seed)(round, agent).generator.integers(2**63) for seed, round, agent in keys}
    assert len(draws) == len(keys)


def test_a_budget_asked_for_twice_has_the_same_stream_from_its_beginning() -> None:
    budget = _budgets()
    first = budget(2, 3).generator.random(5).tolist()
    assert budget(2, 3).generator.random(5).tolist() == first
