"""How much an agent's update counts."""

import pytest

from fdrl_mpi.aggregation.weighting import WEIGHTINGS, largest_weight


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("uniform", [1.0, 1.0, 1.0]),
        ("samples", [4096.0, 512.0, 4096.0]),
        ("episodes", [20.0, 3.0, 0.0]),
        ("returns", [12.5, 0.0, 0.0]),
    ],
)
def test_agents_count_by_what_the_weighting_names(name: str, weights: list[float]) -> None:
    """Three agents: their steps, finished episodes, and the mean return of the newest ones."""
    agents = [(4096, 20, 12.5), (512, 3, -3.0), (4096, 0, 0.0)]
    assert [WEIGHTINGS[name](*agent) for agent in agents] == weights


def test_every_weighting_gives_a_float_that_is_not_negative() -> None:
    for weighting in WEIGHTINGS.values():
        for agent in ((0, 0, 0.0), (1, 0, -1e9), (10**9, 10**6, 500.0)):
            weight = weighting(*agent)
            assert isinstance(weight, float)
            assert weight >= 0.0


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_weight_stays_below_its_bound_or_has_none(name: str) -> None:
    if name in ("episodes", "returns"):
        with pytest.raises(ValueError, match="no public bound"):
            largest_weight(name, 64)
    else:
        assert WEIGHTINGS[name](64, 64, 1e9) <= largest_weight(name, 64)
