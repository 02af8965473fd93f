"""The proximal term holds what is federated, and nothing else."""

import numpy as np
import pytest

from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.rl.optimiser import SGD


@pytest.mark.parametrize("start", [0, 2])
def test_a_proximal_step_pulls_the_shared_coordinates_alone(start: int) -> None:
    """``x - lr mu (x - anchor)`` with lr 0.5 and mu 1 is half way, in coordinates 1, 2 and 5 of a model."""
    objective = LocalObjective(proximal=1.0, shared=(slice(1, 3), slice(5, 6)))
    params, gradient = np.ones(4, np.float32), np.zeros(4, np.float32)
    optimiser = objective.steer(SGD(params, gradient), start)
    objective.begin(np.zeros(6, np.float32))
    optimiser.step(0.5, 1e9)
    expected = np.array([1.0, 0.5, 0.5, 1.0, 1.0, 0.5], np.float32)
    np.testing.assert_array_equal(params, expected[start : start + 4])


def test_without_a_choice_everything_is_pulled() -> None:
    objective = LocalObjective(proximal=1.0)
    params = np.ones(4, np.float32)
    optimiser = objective.steer(SGD(params, np.zeros(4, np.float32)))
    objective.begin(np.zeros(4, np.float32))
    optimiser.step(0.5, 1e9)
    np.testing.assert_array_equal(params, 0.5)
