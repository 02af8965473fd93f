"""RandomMDP: the published instances, and what QAvg reaches on them."""

import numpy as np
import pytest

from fdrl_mpi.envs.finite_mdp import state_values
from fdrl_mpi.envs.random_mdp import RandomMDP, random_mdp_instance

KAPPAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
GAMMA = 0.9
PUBLISHED = {  # (run, local steps): return on the centre less 5, of the program behind table 1
    (0, 1): (4.54384747, 4.54384747, 4.54384747, 4.54384747, 4.44225587, 4.44225587),
    (1, 1): (2.52031079, 2.39990207, 2.39990207, 2.39990207, 2.39990207, 1.94230082),
    (1, 32): (2.39990207, 2.39990207, 2.39990207, 2.39990207, 2.39990207, 1.94230082),
    (2, 1): (3.85328663,) * 6,
}
PUBLISHED_MEANS = (3.811953, 3.796202, 3.776946, 3.776039, 3.688694, 3.627328)
"""Over runs 0 to 9, with 1 local step."""


def policy_return(action_values: np.ndarray, kernels: np.ndarray, rewards: np.ndarray) -> float:
    """The expected return of the greedy policy from a uniform start, averaged over worlds."""
    states, policy = np.arange(len(rewards)), action_values.argmax(axis=1)
    values = [
        state_values(kernel[states, policy], rewards[states, policy], GAMMA).mean() for kernel in kernels
    ]
    return float(np.mean(values))


def q_avg(kernels: np.ndarray, rewards: np.ndarray, first: np.ndarray, local_steps: int) -> np.ndarray:
    """Jin et al.: every world sweeps by itself `local_steps` times, then the Q-tables are averaged."""
    average, step_size, returns = first, 0.01, []
    for _ in range(128 // local_steps):
        if len(returns) > 2 and returns[-1] - returns[-2] < 1e-3 * returns[-2]:
            step_size *= 0.95
        values = np.tile(average.max(axis=1), (len(kernels), 1))
        for _ in range(local_steps):
            sweep = (rewards + GAMMA * np.einsum("isat,it->isa", kernels, values)).max(axis=2)
            values += step_size * (sweep - values)
        average = (rewards + GAMMA * np.einsum("isat,it->isa", kernels, values)).mean(axis=0)
        returns.append(policy_return(average, kernels, rewards))
    return average


def return_on_the_centre(run: int, kappa: float, local_steps: int) -> float:
    kernels, rewards, first = random_mdp_instance(run, kappa)
    average = q_avg(kernels[:5], rewards, first, local_steps)
    return policy_return(average, kernels[:1], rewards) - 0.5 / (1.0 - GAMMA)


def test_first_numbers_are_those_of_the_program():
    _, rewards, first = random_mdp_instance(0, 0.0)
    np.testing.assert_allclose(rewards[0, :3], [0.83831504, 0.89377886, 0.31826756], rtol=0, atol=5e-9)
    np.testing.assert_allclose(first[0, :3], [0.36906688, 0.95795023, 0.5373549], rtol=0, atol=5e-9)


@pytest.mark.parametrize(("run", "local_steps"), PUBLISHED)
def test_q_avg_reaches_the_published_return(run, local_steps):
    returns = [return_on_the_centre(run, kappa, local_steps) for kappa in KAPPAS]
    np.testing.assert_allclose(returns, PUBLISHED[run, local_steps], rtol=0, atol=1e-6)


def test_mean_return_falls_with_heterogeneity_as_published():
    means = [np.mean([return_on_the_centre(run, kappa, 1) for run in range(10)]) for kappa in KAPPAS]
    np.testing.assert_allclose(means, PUBLISHED_MEANS, rtol=0, atol=1e-5)
    assert means == sorted(means, reverse=True)


def test_kappa_mixes_the_centre_with_what_the_centre_never_does():
    centre, own = (random_mdp_instance(3, kappa) for kappa in (0.0, 1.0))
    assert (centre.kernels == centre.kernels[0]).all()
    np.testing.assert_array_equal(own.kernels[0], centre.kernels[0])
    assert not (own.kernels[1:] * own.kernels[0]).any()
    mixed = random_mdp_instance(3, 0.25).kernels
    np.testing.assert_allclose(mixed[1:], 0.75 * centre.kernels[1:] + 0.25 * own.kernels[1:], rtol=1e-15)
    np.testing.assert_array_equal(own.rewards, centre.rewards)


def test_environment_holds_the_instance_and_leaves_the_global_stream_alone():
    np.random.seed(7)
    before = np.random.get_state()[1].tolist()
    env = RandomMDP([{"kernel": 4}], run=2, kappa=0.6)
    instance = random_mdp_instance(2, 0.6)
    np.testing.assert_array_equal(env.kernels[0], instance.kernels[4])
    np.testing.assert_array_equal(env.rewards_table, instance.rewards)
    np.testing.assert_array_equal(env.initial_values, instance.initial_values)
    assert np.random.get_state()[1].tolist() == before


def test_run_or_kappa_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"run = 16000 must be in \[0, 16000\)"):
        RandomMDP([{}], run=16_000)
    with pytest.raises(ValueError, match=r"kappa = 1.1 must be in \[0, 1\]"):
        RandomMDP([{}], kappa=1.1)
    with pytest.raises(ValueError, match=r"kernel = 25 .* must be in \[0, 24\]"):
        RandomMDP([{"kernel": 25}])
