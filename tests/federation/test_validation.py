"""Whether a new model may be published."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from fdrl_mpi.aggregation.mean import Mean
from fdrl_mpi.aggregation.server import Average, FedAdam, WithControls
from fdrl_mpi.aggregation.views import Stack, Sum
from fdrl_mpi.federation.validation import Evidence, Validation, digest


class _Played:
    """An evaluation in which a model's numbers are its returns in three worlds."""

    def __init__(self):
        self.count = 0

    def run(self, params):
        self.count += 1
        return SimpleNamespace(returns=params.astype(float))


def _model(*values):
    return np.array(values, np.float32)


def _validation(most_drop):
    played = _Played()
    return Validation(played, most_drop, lambda published: published), played


def test_a_model_may_be_as_much_worse_as_is_allowed_and_no_more():
    validation, _ = _validation(most_drop=10.0)
    last = _model(100, 200, 300)
    assert validation(last, last - 10, None) == ""
    assert "mean return 189.5 after 200, and no more than 10" in validation(last, last - 10.5, None)
    assert validation(last, last + 1000, None) == ""


def test_what_may_be_chance_is_allowed():
    """Losses of 0, 0 and 60: the mean is 20, the standard deviation 28.28, three standard errors 48.99."""
    validation, _ = _validation(most_drop=1.0)
    last = _model(100, 200, 300)
    assert validation(last, _model(100, 200, 240), None) == ""
    assert validation(last, _model(80, 180, 280), None) != ""


def test_every_model_is_played_once():
    validation, played = _validation(most_drop=1.0)
    first, second, third = (_model(value, value, value) for value in (1, 2, 3))
    validation(first, second, None)
    validation(second, third, None)
    assert played.count == 3
    validation(second, _model(4, 4, 4), None)  # the third was refused
    assert played.count == 4


def test_a_model_that_is_changed_in_place_is_played_again():
    validation, _ = _validation(most_drop=1.0)
    last, next = _model(5, 5, 5), _model(6, 6, 6)
    assert validation(last, next, None) == ""
    next -= 3
    assert validation(last, next, None) != ""


def test_ranks_that_play_nothing_object_to_nothing():
    assert Validation(None, 1.0, lambda published: published)(_model(9), _model(0), None) == ""


@pytest.mark.parametrize(
    "server", [Average(), FedAdam("parameters", 0.1, 0.9, 0.99, 1e-3)], ids=["mean", "adam"]
)
@pytest.mark.parametrize("gives", ["rows", "sum"])
def test_a_second_rank_makes_the_same_model(server, gives):
    rng = np.random.default_rng(3)
    base, rows = rng.standard_normal(7).astype(np.float32), rng.standard_normal((3, 7)).astype(np.float32)
    received = Stack(rows, np.ones(3, np.float32)) if gives == "rows" else Sum(rows.mean(0), 1.0)
    for _ in range(2):
        before = server.get_state()
        params = server.step(base, Mean().aggregate(received), slice(None))
        evidence = pickle.loads(pickle.dumps(Evidence.collect(Mean(), server, before, base, received)))
        assert evidence.digest() == digest(params)
        params[3] = np.nextafter(params[3], np.float32(9))
        assert evidence.digest() != digest(params)


def test_collecting_evidence_leaves_the_server_as_it_is():
    inner = FedAdam("parameters", 0.1, 0.9, 0.99, 1e-3)
    server = WithControls(inner, 2, 0.5)
    before, base, aggregate = server.get_state(), _model(0, 0, 0, 0), _model(1, 2, 3, 4)
    server.step(base, aggregate, slice(None))
    after = server.get_state()
    Evidence.collect(Mean(), server, before, base, Sum(aggregate, 1.0))
    for name, value in after.items():
        np.testing.assert_array_equal(value, server.get_state()[name])
