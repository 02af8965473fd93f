"""RewardProcess: the published perturbations, and what federated TD(0) reaches on them."""

from bisect import bisect_right

import numpy as np
import pytest

from fdrl_mpi.envs.reward_process import RewardProcess, perturbed_processes

NUM_STATES, GAMMA, STEP_SIZE, LOCAL_STEPS, ROUNDS = 10, 0.8, 0.05, 5, 2000
PUBLISHED = {  # (agents, delta): error of the authors' program after the last round, of seeds 0 and 1
    (1, 0.0): (0.041390, 0.045413),
    (5, 0.0): (0.015017, 0.013738),
    (10, 0.1): (0.018892, 0.011911),
}


def cumulative(chances: np.ndarray) -> list[float]:
    """As numpy's `choice` sums its probabilities, so that equal numbers draw equal states."""
    sums = chances.cumsum()
    return (sums / sums[-1]).tolist()


def federated_td(seed: int, num_agents: int, delta: float) -> float:
    """All agents in one process, drawing from one stream; returns the error of the last average."""
    kernels, rewards, truth, generator, *_ = perturbed_processes(seed, NUM_STATES, num_agents, delta)
    draws = iter(generator.random_sample(2 * ROUNDS * LOCAL_STEPS * num_agents).tolist())
    anywhere = cumulative(np.full(NUM_STATES, 1.0 / NUM_STATES))
    successors = [[cumulative(row) for row in kernel] for kernel in kernels]
    reward, average = rewards.tolist(), [0.0] * NUM_STATES
    for _ in range(ROUNDS):
        tables = [average.copy() for _ in range(num_agents)]
        for _ in range(LOCAL_STEPS):
            for values, rows in zip(tables, successors, strict=True):
                state = bisect_right(anywhere, next(draws))
                successor = bisect_right(rows[state], next(draws))
                values[state] += STEP_SIZE * (reward[state] + GAMMA * values[successor] - values[state])
        average = np.mean(tables, axis=0).tolist()
    return float(np.linalg.norm(average - truth) / NUM_STATES**0.5)


@pytest.mark.parametrize(("num_agents", "delta"), PUBLISHED)
def test_federated_td_ends_with_the_published_error(num_agents, delta):
    errors = [federated_td(seed, num_agents, delta) for seed in (0, 1)]
    np.testing.assert_allclose(errors, PUBLISHED[num_agents, delta], rtol=0, atol=1e-6)


def test_errors_stay_within_delta_before_rows_are_normalised():
    exact, close = (perturbed_processes(3, 10, 4, delta) for delta in (0.0, 0.01))
    for kernel in exact.kernels:
        np.testing.assert_allclose(kernel, exact.kernel, rtol=1e-15)
    np.testing.assert_array_equal(close.kernel, exact.kernel)
    distances = [np.linalg.norm(kernel - close.kernel) for kernel in close.kernels]
    # normalising takes the mean error of a row away, of chances around 1/10
    assert 0.005 < min(distances) <= max(distances) < 0.02
    assert len(set(distances)) == 4


def test_values_solve_the_equation_of_bellman():
    process = perturbed_processes(0, 6, 1, 0.0, gamma=0.9)
    np.testing.assert_allclose(process.values, process.rewards + 0.9 * process.kernel @ process.values)
    env = RewardProcess([{}], num_states=6, num_agents=1)
    np.testing.assert_array_equal(env.true_values(0.9), process.values)


def test_agent_selects_its_kernel_and_zero_the_process_itself():
    process = perturbed_processes(5, 10, 3, 0.2)
    env = RewardProcess([{"agent": 3}, {}, {"agent": 1}], seed=5, num_agents=3, delta=0.2)
    expected = [process.kernels[2], process.kernel, process.kernels[0]]
    np.testing.assert_array_equal(env.kernels[env.kernel_index][:, :, 0], expected)
    np.testing.assert_array_equal(env.rewards_table[:, 0], process.rewards)


def test_agents_and_sizes_out_of_range_are_refused():
    with pytest.raises(ValueError, match="agent = 4 must be at most num_agents = 3"):
        RewardProcess([{"agent": 4}], num_agents=3)
    with pytest.raises(ValueError, match=r"delta = -0.1 not below 0"):
        RewardProcess([{}], delta=-0.1)
    with pytest.raises(ValueError, match="num_states = 0"):
        RewardProcess([{}], num_states=0)
