"""Advantages against their definition, and the reward scale against a naive variance."""

import numpy as np
import pytest

from fdrl_mpi.rl.returns import RewardScaler, generalised_advantages
from fdrl_mpi.streams import stream

STEPS, ENVS = 40, 5
GAMMA = 0.97


class Samples:
    """A rollout with every kind of ending, some in the last step."""

    def __init__(self) -> None:
        draws = stream(1, "rollout")
        self.rewards = draws.standard_normal((STEPS, ENVS), dtype=np.float32)
        self.terminated = draws.random((STEPS, ENVS)) < 0.1
        self.truncated = draws.random((STEPS, ENVS)) < 0.1
        self.terminated[-1], self.truncated[-1] = [1, 0, 1, 0, 0], [0, 1, 1, 0, 0]
        self.done = self.terminated | self.truncated
        values = draws.standard_normal((STEPS + 1, ENVS), dtype=np.float32)
        final_values = draws.standard_normal((STEPS, ENVS), dtype=np.float32)
        self.values, self.next_values = values[:-1], np.where(self.done, final_values, values[1:])

    def advantages(self, gae_lambda: float) -> np.ndarray:
        return generalised_advantages(
            self.rewards, self.values, self.next_values, self.terminated, self.done, GAMMA, gae_lambda
        )

    def errors(self) -> np.ndarray:
        """One-step errors in float64."""
        bootstrap = np.where(self.terminated, 0.0, self.next_values.astype(np.float64))
        return self.rewards + GAMMA * bootstrap - self.values


@pytest.mark.parametrize("gae_lambda", [0.0, 0.3, 0.95, 1.0])
def test_advantages_are_the_discounted_sum_of_the_errors_of_their_episode(gae_lambda: float) -> None:
    """The sum of Schulman et al. 2016, equation 16, term by term; tolerance: float32 rounding of 40 terms."""
    samples = Samples()
    errors, expected = samples.errors(), np.zeros((STEPS, ENVS))
    for t, env in np.ndindex(STEPS, ENVS):
        for later in range(t, STEPS):
            expected[t, env] += (GAMMA * gae_lambda) ** (later - t) * errors[later, env]
            if samples.done[later, env]:
                break
    np.testing.assert_allclose(samples.advantages(gae_lambda), expected, rtol=1e-5, atol=1e-5)


def test_lambda_zero_gives_the_one_step_error() -> None:
    samples = Samples()
    np.testing.assert_allclose(samples.advantages(0.0), samples.errors(), rtol=1e-6, atol=1e-6)


def test_lambda_one_gives_the_discounted_return_minus_the_value() -> None:
    samples = Samples()
    returns = np.zeros((STEPS, ENVS))
    for t, env in np.ndindex(STEPS, ENVS):
        for later in range(t, STEPS):
            returns[t, env] += GAMMA ** (later - t) * samples.rewards[later, env]
            if samples.done[later, env] or later == STEPS - 1:
                if not samples.terminated[later, env]:
                    returns[t, env] += GAMMA ** (later - t + 1) * samples.next_values[later, env]
                break
    np.testing.assert_allclose(samples.advantages(1.0), returns - samples.values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        (False, False, 1.0 + 0.5 * 8.0 - 3.0),
        (False, True, 1.0 + 0.5 * 8.0 - 3.0),
        (True, False, 1.0 - 3.0),
        (True, True, 1.0 - 3.0),
    ],
)
def test_only_termination_stops_the_bootstrap(terminated: bool, truncated: bool, expected: float) -> None:
    """Reward 1, value 3, value of the final observation 8, gamma 1/2: exact in float32."""
    row, flag = np.ones((1, 1), np.float32), np.ones((1, 1), np.bool_)
    advantages = generalised_advantages(
        row, 3.0 * row, 8.0 * row, flag & terminated, flag & (terminated | truncated), 0.5, 1.0
    )
    assert advantages.item() == expected


def test_nothing_after_the_end_of_an_episode_reaches_the_steps_before() -> None:
    changed, samples = Samples(), Samples()
    ends = samples.done.argmax(axis=0)
    for env, end in enumerate(ends):
        changed.rewards[end + 1 :, env] += 100.0
        changed.values[end + 1 :, env] -= 100.0
    advantages, others = samples.advantages(0.95), changed.advantages(0.95)
    for env, end in enumerate(ends):
        assert samples.done[end, env]
        np.testing.assert_array_equal(advantages[: end + 1, env], others[: end + 1, env])
        assert (advantages[end + 1 :, env] != others[end + 1 :, env]).all()


def test_a_terminal_states_value_is_not_read() -> None:
    samples, spoiled = Samples(), Samples()
    spoiled.next_values[spoiled.terminated] = np.nan
    np.testing.assert_array_equal(samples.advantages(0.95), spoiled.advantages(0.95))


def test_rewards_are_divided_by_the_running_deviation_of_the_discounted_return() -> None:
    """Population variance of the discounted returns so far, and 1e-4 prior samples of mean 0, variance 1."""
    samples, prior = Samples(), 1e-4
    scaled = RewardScaler(ENVS, GAMMA).scale(samples.rewards, samples.done)
    running, seen = np.zeros(ENVS), []
    for t, rewards in enumerate(samples.rewards.astype(np.float64)):
        running = GAMMA * running + rewards
        seen.append(running.copy())
        count = np.size(seen) + prior
        variance = (np.square(seen).sum() + prior) / count - (np.sum(seen) / count) ** 2
        np.testing.assert_allclose(scaled[t], rewards / np.sqrt(variance), rtol=1e-6)
        running[samples.done[t]] = 0.0
    assert scaled.dtype == np.float32


def test_scaled_rewards_are_clipped_at_ten_deviations() -> None:
    rewards = np.zeros((1001, 1), np.float32)
    rewards[-1] = 1e6
    done = np.ones(rewards.shape, np.bool_)
    assert RewardScaler(1, GAMMA).scale(rewards, done)[-1] == 10.0
    assert RewardScaler(1, GAMMA).scale(-rewards, done)[-1] == -10.0


def test_scaler_goes_on_from_its_state_bit_for_bit() -> None:
    samples, half = Samples(), STEPS // 2
    unbroken, resumed = RewardScaler(ENVS, GAMMA), RewardScaler(ENVS, GAMMA)
    unbroken.scale(samples.rewards[:half], samples.done[:half])
    state = unbroken.get_state()
    expected = unbroken.scale(samples.rewards[half:], samples.done[half:])
    resumed.set_state(state)
    np.testing.assert_array_equal(resumed.scale(samples.rewards[half:], samples.done[half:]), expected)
