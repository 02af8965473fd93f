"""A round that is given up leaves nothing behind."""

from types import SimpleNamespace

import numpy as np
import pytest
from scripted import BUDGET, scripted

from fdrl_mpi.aggregation.mean import Mean
from fdrl_mpi.aggregation.server import Average, WithControls
from fdrl_mpi.aggregation.views import Stack
from fdrl_mpi.aggregation.weighting import uniform
from fdrl_mpi.federation.round import Parts, federated_round
from fdrl_mpi.federation.wire import Wire, whole


class Alone:
    """A world of the root and one agent, in one process."""

    agents, all_agents, placement = (1,), (1,), SimpleNamespace(agents_per_rank=1)
    is_root = False

    def meet(self, ballot, meanwhile, limit_s):
        return np.stack([np.zeros_like(ballot), ballot])

    def of_seats(self, table):
        return table.reshape(-1, *table.shape[2:])

    def agree(self, is_fine):
        return is_fine


class OneRow:
    """Shows the one row there is, unless the exchange is given up."""

    hides_updates, gives_up = False, False

    def encode(self, models, own_weights, weights):
        self.models, self.weights = models, weights.astype(np.float32)

    def exchange(self):
        return None if self.gives_up else Stack(self.rows, self.weights)

    def publish(self, params):
        return self.models if self.gives_up else [params]


@pytest.mark.parametrize("gives_up", [False, True])
def test_a_control_variate_is_renewed_only_with_the_global_one(gives_up: bool) -> None:
    """c stays where the exchange is given up, and so does c_k; else both become the gradient."""
    participant, learner, objective = scripted(Wire((slice(0, 2),), 2, company="controls"))
    learner.move, objective.gradient = 1.0, 3.0
    collective = OneRow()
    collective.gives_up, collective.rows = gives_up, participant.row[None]
    server, participants = WithControls(Average(), 2, 1.0), {1: participant}
    parts = Parts(Alone(), collective, Mean(), uniform, server, participants, None, None)
    outcome = federated_round(parts, 1, [np.zeros(4, np.float32)], {1: BUDGET}, False, lambda: False)
    control = participant.get_state()["control"]
    np.testing.assert_array_equal(control, outcome.models[0][2:])
    np.testing.assert_array_equal(control, np.zeros(2) if gives_up else [3.0, 3.0])


class Divides:
    """A rule that is no mean, and divides by 0."""

    is_mean = False

    def aggregate(self, received):
        return np.full(received.rows.shape[1], np.inf, np.float32)


def test_what_a_rule_makes_of_finite_updates_is_taken_only_if_it_is_finite() -> None:
    participant, learner, _ = scripted(whole(2))
    learner.move, collective = 1.0, OneRow()
    collective.rows = learner.params[None]
    for rule, published, refusal in ((Mean(), 1.0, ""), (Divides(), 0.0, "mend aggregation.rule")):
        learner.params[:] = 0.0
        parts = Parts(Alone(), collective, rule, uniform, Average(), {1: participant}, whole(2), None)
        outcome = federated_round(parts, 1, [np.zeros(2, np.float32)], {1: BUDGET}, False, lambda: False)
        np.testing.assert_array_equal(outcome.models[0], np.full(2, published))
        assert refusal in outcome.refusal
        assert outcome.is_taken == (not refusal)
