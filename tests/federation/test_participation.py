"""Who takes part: drawn from the seed and the round alone."""

import numpy as np
import pytest

from fdrl_mpi.federation.participation import uniform_cohorts

ROUNDS = range(1, 301)


@pytest.mark.parametrize(
    ("num_agents", "fraction", "size"),
    [(10, 0.3, 3), (16, 0.5, 8), (7, 0.01, 1), (1, 0.5, 1), (9, 0.99, 9), (16, 1.0, 16)],
)
def test_cohorts_have_the_published_size(num_agents: int, fraction: float, size: int) -> None:
    cohorts = uniform_cohorts(0, num_agents, fraction)
    for round in ROUNDS:
        assert len(cohorts(round)) == size
        assert cohorts(round) <= set(range(1, num_agents + 1))


def test_every_rank_draws_the_same_cohort_in_whatever_order_it_asks() -> None:
    one, other = uniform_cohorts(5, 11, 0.4), uniform_cohorts(5, 11, 0.4)
    assert [one(round) for round in ROUNDS] == [other(round) for round in reversed(ROUNDS)][::-1]


def test_another_round_and_another_seed_draw_other_cohorts() -> None:
    cohorts, others = uniform_cohorts(5, 40, 0.5), uniform_cohorts(6, 40, 0.5)
    assert len({cohorts(round) for round in ROUNDS}) == len(ROUNDS)  # of 10^11 possible ones
    assert all(cohorts(round) != others(round) for round in ROUNDS)


def test_every_agent_is_drawn_equally_often() -> None:
    """3 of 10 agents: 300 rounds make 90 draws of each, standard deviation 7.9; the limit is 4 of them."""
    cohorts = uniform_cohorts(0, 10, 0.3)
    counts = np.array([sum(agent in cohorts(round) for round in ROUNDS) for agent in range(1, 11)])
    assert (np.abs(counts - 90) < 32).all()


def test_pairs_of_agents_meet_equally_often() -> None:
    """4 of 8 agents: a pair meets in 3 of 14 rounds, 64 of 300, standard deviation 7.1; 4.5 of them."""
    cohorts = uniform_cohorts(0, 8, 0.5)
    present = np.array([[agent in cohorts(round) for agent in range(1, 9)] for round in ROUNDS], np.float64)
    meetings = (present.T @ present)[np.triu_indices(8, 1)]
    assert (np.abs(meetings - 300 * 3 / 14) < 32).all()


def test_a_fraction_of_one_is_everybody() -> None:
    assert uniform_cohorts(3, 5, 1.0)(17) == {1, 2, 3, 4, 5}
