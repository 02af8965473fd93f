"""A rule is found by its name, or as a class of the user's own."""

import numpy as np
import pytest

from fdrl_mpi.aggregation.mean import Mean
from fdrl_mpi.aggregation.views import Stack
from fdrl_mpi.build_rule import make_rule
from fdrl_mpi.config import AggregationConfig

SOURCE = """
from fdrl_mpi.aggregation.views import View

class Largest:
    needs = View.STACK

    def __init__(self, least=2):
        if least < 1:
            raise ValueError("least must be above 0")
        self.min_updates = least

    def aggregate(self, received):
        return received.rows[received.weights > 0].max(axis=0)

class Nothing:
    needs = View.SUM
"""


@pytest.fixture(autouse=True)
def _rules(tmp_path, monkeypatch):
    (tmp_path / "rules_of_a_user.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_the_mean_is_found_by_its_name():
    assert isinstance(make_rule(AggregationConfig()), Mean)


def test_a_class_is_made_with_its_arguments_and_used():
    rule = make_rule(AggregationConfig(rule="rules_of_a_user:Largest", rule_kwargs={"least": 3}))
    assert rule.min_updates == 3
    rows = np.array([[1, 9], [2, 3], [7, 8]], np.float32)
    np.testing.assert_array_equal(rule.aggregate(Stack(rows, np.array([1, 1, 0], np.float32))), [2, 9])


@pytest.mark.parametrize(
    ("rule", "kwargs", "message"),
    [
        ("meen", {}, "did you mean mean"),
        ("mean", {"trim": 1}, "the constructor of mean has no argument 'trim'.*It has: none"),
        ("rules_of_nobody:Largest", {}, "cannot import rules_of_nobody"),
        ("rules_of_a_user:Larges", {}, "did you mean Largest"),
        ("rules_of_a_user:Largest", {"leest": 1}, "did you mean least"),
        ("rules_of_a_user:Largest", {"least": 0}, "least must be above 0"),
        ("rules_of_a_user:Nothing", {}, "is no aggregation rule: it has no min_updates, no aggregate"),
    ],
)
def test_what_is_no_rule_is_refused_with_the_reason(rule, kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_rule(AggregationConfig(rule=rule, rule_kwargs=kwargs))
