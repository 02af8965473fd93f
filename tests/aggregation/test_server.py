"""Server optimisers: what reduces to FedAvg, first steps by hand, and state that is put back."""

import numpy as np
import pytest

from fdrl_mpi.aggregation.server import (
    Average,
    FedAdagrad,
    FedAdam,
    FedYogi,
    Momentum,
    WithControls,
    assembled,
)

PARAMS, LOCAL_MEAN = np.array([1.0, -2.0], np.float32), np.array([1.5, -4.0], np.float32)
WHOLE = slice(None)
AGGREGATES = {"parameters": LOCAL_MEAN, "difference": LOCAL_MEAN - PARAMS, "gradient": PARAMS - LOCAL_MEAN}


@pytest.mark.parametrize("kind", AGGREGATES)
def test_every_kind_of_update_with_a_step_of_one_is_fedavg(kind: str) -> None:
    """Models, their differences, and gradients that point back to them say the same."""
    np.testing.assert_array_equal(Average(kind).step(PARAMS, AGGREGATES[kind], WHOLE), LOCAL_MEAN)


@pytest.mark.parametrize("kind", AGGREGATES)
def test_half_a_step_goes_half_the_way(kind: str) -> None:
    np.testing.assert_array_equal(
        Average(kind, 0.5).step(PARAMS, AGGREGATES[kind], WHOLE), (PARAMS + LOCAL_MEAN) / 2.0
    )


def test_momentum_without_memory_is_fedavg_and_with_it_adds_up() -> None:
    np.testing.assert_array_equal(
        Momentum("parameters", 1.0, 0.0).step(PARAMS, LOCAL_MEAN, WHOLE), LOCAL_MEAN
    )
    server, ones = Momentum("difference", 1.0, 0.5), np.ones(2, np.float32)
    first = server.step(np.zeros(2, np.float32), ones, WHOLE)
    np.testing.assert_array_equal(server.step(first, ones, WHOLE), [2.5, 2.5])  # 1 + (0.5 + 1)


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (FedAdagrad("difference", 0.1, 0.0, 0.0, 1.0), 0.1 * 2.0 / (np.sqrt(1.0 + 4.0) + 1.0)),
        (FedAdam("difference", 0.1, 0.5, 0.75, 1.0), 0.1 * 1.0 / (np.sqrt(0.75 + 0.25 * 4.0) + 1.0)),
        (FedYogi("difference", 0.1, 0.5, 0.75, 1.0), 0.1 * 1.0 / (np.sqrt(1.0 + 0.25 * 4.0) + 1.0)),
    ],
    ids=["adagrad", "adam", "yogi"],
)
def test_first_adaptive_step_by_hand(server: FedAdam, expected: float) -> None:
    """The update is 2, v begins at tau^2 = 1: algorithm 2 of Reddi et al. written out."""
    step = server.step(np.zeros(1, np.float32), np.full(1, 2.0, np.float32), WHOLE)
    np.testing.assert_allclose(step, expected, rtol=1e-6)


def test_control_variates_move_by_the_share_that_takes_part() -> None:
    """Karimireddy et al., equation 5: c + |S| / N times the mean change."""
    server = WithControls(Average(), 2, participation=0.25)
    step = server.step(np.array([0, 0, 4, 4], np.float32), np.array([1, 2, 8, 0], np.float32), WHOLE)
    np.testing.assert_array_equal(step, [1, 2, 5, 3])


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_controls_may_be_cut_anywhere(cut: int) -> None:
    whole, last = np.arange(5, dtype=np.float32), np.arange(5, 10, dtype=np.float32)
    server = WithControls(Average(lr=0.5), 3, participation=0.5)
    parts = [server.step(whole[s], last[s], s) for s in (slice(0, cut), slice(cut, 5))]
    np.testing.assert_array_equal(np.concatenate(parts), server.step(whole, last, WHOLE))


def test_ranks_that_never_step_do_not_bring_old_state_back() -> None:
    """What was put back on every rank gives way to what the root has made of it since."""
    old, delta = {"momentum": np.ones(3, np.float32)}, np.zeros(3, np.float32)
    servers = [Momentum("difference", 1.0, 0.5) for _ in range(3)]
    for server in servers:
        server.set_state(old)
    servers[0].step(np.zeros(3, np.float32), delta, WHOLE)
    np.testing.assert_array_equal(assembled([s.get_state() for s in servers], 3)["momentum"], [0.5] * 3)
    untouched = assembled([server.get_state() for server in servers[1:]], 3)
    np.testing.assert_array_equal(untouched["momentum"], old["momentum"])
