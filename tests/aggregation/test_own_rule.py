"""What a rule of the user's own returns is looked at before a model is made of it."""

import numpy as np
import pytest

from fdrl_mpi.aggregation.mean import Mean
from fdrl_mpi.aggregation.own_rule import OwnRule
from fdrl_mpi.aggregation.views import Stack, Sum, View


class Returns:
    needs, min_updates = View.STACK, 3

    def __init__(self, aggregate):
        self._aggregate = aggregate

    def aggregate(self, received):
        return self._aggregate


STACK = Stack(np.ones((3, 2), np.float32), np.ones(3, np.float32))
SUM = Sum(np.ones(2, np.float32), 1.0)


@pytest.mark.parametrize("received", [STACK, SUM])
def test_a_vector_of_the_coordinates_that_are_here_is_passed_on(received):
    aggregate = np.array([3.0, 4.0], np.float32)
    assert OwnRule("a:B", Returns(aggregate)).aggregate(received) is aggregate


@pytest.mark.parametrize("received", [STACK, SUM])
@pytest.mark.parametrize(
    ("aggregate", "found"),
    [
        (np.ones(2), "float64 of shape"),
        (np.ones(3, np.float32), r"shape \(3,\)"),
        (np.ones((1, 2), np.float32), r"shape \(1, 2\)"),
        (None, "NoneType"),
        (np.float32(1.0), r"shape \(\)"),
    ],
)
def test_anything_else_is_refused_with_what_is_needed(received, aggregate, found):
    with pytest.raises(
        ValueError, match=rf"a:B.aggregate returned .*{found}.*needed: float32 of shape \(2,\)"
    ):
        OwnRule("a:B", Returns(aggregate)).aggregate(received)


def test_a_rule_is_a_mean_only_if_it_says_so():
    assert not OwnRule("a:B", Returns(None)).is_mean
    assert OwnRule("a:B", Mean()).is_mean


def test_what_a_rule_declares_is_kept():
    rule = OwnRule("a:B", Returns(None))
    assert (rule.needs, rule.min_updates) == (View.STACK, 3)
