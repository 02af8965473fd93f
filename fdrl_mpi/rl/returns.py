"""Returns and advantages of a rollout."""

import numpy as np

from fdrl_mpi.arrays import BoolVector, DoubleArray, FloatMatrix, State


def generalised_advantages(
    rewards: FloatMatrix,
    values: FloatMatrix,
    next_values: FloatMatrix,
    terminated: BoolVector,
    done: BoolVector,
    gamma: float,
    gae_lambda: float,
) -> FloatMatrix:
    """Estimate advantages by an exponential mean of n-step errors.

    ``delta_t = r_t + gamma (1 - terminated_t) V(final_obs_t) - V(o_t)`` and
    ``A_t = delta_t + gamma lambda (1 - done_t) A_{t+1}``. A truncated episode is bootstrapped, a terminated
    one is not; neither passes advantage on to the episode before it.

    Parameters
    ----------
    rewards, values : float32 arrays, shape (T, N)
    next_values : float32 array, shape (T, N)
        Value of the true next observation, before any reset.
    terminated, done : bool arrays, shape (T, N)
        `done` is terminated or truncated.
    gamma, gae_lambda : float in [0, 1]

    Returns
    -------
    float32 array, shape (T, N)

    References
    ----------
    Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage Estimation",
    ICLR 2016, equation 16. Pardo et al., "Time Limits in Reinforcement Learning", ICML 2018, for truncation.
    """
    delta = np.where(terminated, np.float32(0.0), next_values)
    delta *= gamma
    delta += rewards
    delta -= values
    passed_on = np.where(done, np.float32(0.0), np.float32(gamma * gae_lambda))
    advantages = np.empty_like(delta)
    later = np.zeros(delta.shape[1], np.float32)
    for error, share, advantage in zip(delta[::-1], passed_on[::-1], advantages[::-1], strict=True):
        np.multiply(later, share, out=advantage)
        np.add(advantage, error, out=advantage)
        later = advantage
    return advantages


class RewardScaler:
    """Divides rewards by the running deviation of the discounted return.

    The statistics are the agent's own and never travel.

    References
    ----------
    Engstrom et al., "Implementation Matters in Deep RL", ICLR 2020, section 3, item 2.
    """

    def __init__(self, num_envs: int, gamma: float) -> None:
        self._gamma = gamma
        self._return = np.zeros(num_envs)
        self._count, self._mean, self._square = 1e-4, 0.0, 1.0

    def scale(self, rewards: FloatMatrix, done: BoolVector) -> FloatMatrix:
        """Return `rewards`, shape (T, N), scaled step by step with what was known at that step."""
        scaled = np.empty_like(rewards)
        for step, reward in enumerate(rewards):
            self._return = self._return * self._gamma + reward
            self._update(self._return)
            scaled[step] = np.clip(reward / np.sqrt(self._square + 1e-8), -10.0, 10.0)
            self._return[done[step]] = 0.0
        return scaled

    def get_state(self) -> State:
        """Return the running moments."""
        return {
            "return": self._return.copy(),
            "count": self._count,
            "mean": self._mean,
            "square": self._square,
        }

    def set_state(self, state: State) -> None:
        """Go on from `get_state`."""
        self._return = state["return"].copy()
        self._count, self._mean, self._square = state["count"], state["mean"], state["square"]

    def _update(self, batch: DoubleArray) -> None:
        """Merge a batch into the running moments (Chan et al. 1979)."""
        n, shift = len(batch), float(batch.mean()) - self._mean
        total = self._count + n
        moment = self._square * self._count + float(batch.var()) * n + shift * shift * self._count * n / total
        self._mean += shift * n / total
        self._square, self._count = moment / total, total
