"""Proximal policy optimisation, the clipped form; one learner for both engines.

The loss is differentiated by the network's outputs here, in array code; the network does the rest.

References
----------
Schulman et al., "Proximal Policy Optimization Algorithms", arXiv 1707.06347, equations 7 and 9. Huang et al.,
"The 37 Implementation Details of Proximal Policy Optimization", ICLR blog track 2022, for the details.
"""

from dataclasses import dataclass
from math import inf, sqrt
from time import perf_counter

import numpy as np

from fdrl_mpi.arrays import ActionArray, DoubleArray, FloatMatrix, FloatVector, State
from fdrl_mpi.rl.distributions import Distribution
from fdrl_mpi.rl.hyperparameters import PPOConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.network import ActorCritic
from fdrl_mpi.rl.returns import RewardScaler, generalised_advantages
from fdrl_mpi.rl.rollout import Environment, Rollout

BLOCK_ROWS = 1024
"""Rows a network works on at once: the hidden layers of a block stay in a core's second-level cache."""

DIAGNOSTICS = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")
_KL = DIAGNOSTICS.index("approx_kl")


@dataclass(frozen=True)
class Batch:
    """Samples of a rollout, one a row, or the same columns gathered in another order."""

    observations: FloatMatrix
    actions: ActionArray
    log_probability: FloatVector
    advantage: FloatVector
    target: FloatVector
    value: FloatVector

    def columns(self) -> tuple[ActionArray, ...]:
        return self.observations, self.actions, self.log_probability, self.advantage, self.target, self.value

    def rows(self, chosen: slice) -> "Batch":
        return Batch(*(column[chosen] for column in self.columns()))


class PPO:
    """One agent's PPO; see `Learner` for the interface.

    Parameters
    ----------
    settings : PPOConfig
    network : ActorCritic
    distribution : Distribution
        Turns the network's outputs into actions.
    environment : Environment
        The agent's worlds.
    """

    def __init__(
        self, settings: PPOConfig, network: ActorCritic, distribution: Distribution, environment: Environment
    ) -> None:
        self._settings = settings
        self._network = network
        self._distribution = distribution
        self._environment = environment
        self.restart()
        self._samples = settings.num_steps * environment.num_envs
        self._shuffled = self._empty_batch()
        self._minibatches = self._cut_minibatches()
        self.params = network.params

    def train(self, budget: Budget) -> TrainStats:
        """Alternate rollouts and updates until the budget is spent."""
        stats = TrainStats()
        sums = np.zeros(len(DIAGNOSTICS) + 1)
        self._network.load()
        self._rollout.begin_round(budget.generator)
        for _ in range(budget.env_steps // self._samples):
            started = perf_counter()
            self._rollout.collect(self._network, budget.generator)
            stats.rollout_s += perf_counter() - started
            stats.episodes += self._rollout.finished_episodes()
            stats.env_steps += self._samples
            stats.gradient_steps += self._update(self._batch(), budget, sums)
        self._network.store()
        names = (*DIAGNOSTICS, "gradient_norm")
        stats.means = dict(
            zip(names, (sums / max(stats.env_steps // self._samples, 1)).tolist(), strict=True)
        )
        return stats

    def restart(self) -> None:
        """Begin with a fresh optimiser, fresh episodes and no statistics; the model stays."""
        settings, environment = self._settings, self._environment
        self._rollout = Rollout(environment, settings.num_steps, self._distribution)
        self._optimiser = self._network.optimiser()
        scaler = RewardScaler(environment.num_envs, settings.gamma)
        self._scaler = scaler if settings.normalise_rewards else None

    def get_state(self) -> State:
        """Return model, optimiser, environments and reward statistics."""
        scaler = self._scaler.get_state() if self._scaler else {}
        return {
            "params": self.params.copy(),
            "optimiser": self._optimiser.get_state(),
            "rollout": self._rollout.get_state(),
            "scaler": scaler,
        }

    def set_state(self, state: State) -> None:
        """Go on from `get_state`."""
        self.params[:] = state["params"]
        self._optimiser.set_state(state["optimiser"])
        self._rollout.set_state(state["rollout"])
        if self._scaler:
            self._scaler.set_state(state["scaler"])

    def _empty_batch(self) -> Batch:
        """Allocate the columns into which each epoch gathers its order."""
        observation_size = self._environment.observation_size
        actions: ActionArray = np.empty(
            (self._samples, *self._distribution.action_shape), self._distribution.action_dtype
        )
        vectors = (np.empty(self._samples, np.float32) for _ in range(4))
        return Batch(np.empty((self._samples, observation_size), np.float32), actions, *vectors)

    def _cut_minibatches(self) -> list[list[Batch]]:
        """Cut the gathered columns into minibatches, each in blocks that fit the cache."""
        size = self._samples // self._settings.num_minibatches
        minibatches = [self._shuffled.rows(rows) for rows in _slices(self._samples, size)]
        return [[batch.rows(rows) for rows in _slices(size, BLOCK_ROWS)] for batch in minibatches]

    def _batch(self) -> Batch:
        """Add values, log-probabilities, advantages and targets to the rollout, in one pass."""
        rollout, settings = self._rollout, self._settings
        steps, num_envs = rollout.rewards.shape
        observations = rollout.observations.reshape((steps + 1) * num_envs, -1)
        actions = rollout.actions.reshape(self._samples, *self._distribution.action_shape)
        values = np.empty(len(observations), np.float32)
        log_probability = np.empty(self._samples, np.float32)
        for rows in _slices(len(observations), BLOCK_ROWS):
            outputs = self._network.forward(observations[rows])
            values[rows] = outputs[-1]
            chosen = actions[rows]
            if len(chosen):
                self._distribution.evaluate(outputs[:-1, : len(chosen)], self._network.free, chosen)
                log_probability[rows] = self._distribution.log_probability
        value_rows: FloatMatrix = values.reshape(steps + 1, num_envs)
        done = rollout.terminated | rollout.truncated
        rewards = self._scaler.scale(rollout.rewards, done) if self._scaler else rollout.rewards
        advantages = generalised_advantages(
            rewards,
            value_rows[:-1],
            self._next_values(value_rows),
            rollout.terminated,
            done,
            settings.gamma,
            settings.gae_lambda,
        )
        old = value_rows[:-1].ravel()
        flat = advantages.ravel()
        return Batch(observations[: self._samples], actions, log_probability, flat, flat + old, old)

    def _next_values(self, values: FloatMatrix) -> FloatMatrix:
        """Return the value of every true next observation; only truncated steps need a pass of their own."""
        rollout = self._rollout
        cut = rollout.truncated & ~rollout.terminated
        if not cut.any():
            return values[1:]
        next_values = values[1:].copy()
        final = rollout.final_observations[cut]
        padded = np.zeros((1 << (len(final) - 1).bit_length(), final.shape[1]), np.float32)
        padded[: len(final)] = final  # a network keeps arrays for each number of rows: let those be few
        blocks = [self._network.forward(padded[rows])[-1].copy() for rows in _slices(len(padded), BLOCK_ROWS)]
        next_values[cut] = np.concatenate(blocks)[: len(final)]
        return next_values

    def _update(self, batch: Batch, budget: Budget, sums: DoubleArray) -> int:
        """Make all epochs over one batch and return the number of optimiser steps."""
        settings, steps = self._settings, 0
        for epoch in range(1, settings.num_epochs + 1):
            order = budget.generator.permutation(self._samples)
            for column, gathered in zip(batch.columns(), self._shuffled.columns(), strict=True):
                column.take(order, axis=0, out=gathered, mode="clip")
            measured = settings.target_kl > 0.0 or epoch == settings.num_epochs
            means = np.zeros_like(sums)
            for blocks in self._minibatches:
                means[:-1] += self._gradient(blocks, measured)
                means[-1] += self._optimiser.step(budget.lr, settings.max_gradient_norm)
            means /= len(self._minibatches)
            steps += len(self._minibatches)
            if 0.0 < settings.target_kl < means[_KL]:
                break
        sums += means
        return steps

    def _gradient(self, blocks: list[Batch], measured: bool) -> DoubleArray:
        """Fill the network's flat gradient from one minibatch; return its DIAGNOSTICS if `measured`."""
        n = sum(len(block.advantage) for block in blocks)
        if self._settings.normalise_advantages:
            _normalise([block.advantage for block in blocks], n)
        sums = np.zeros(len(DIAGNOSTICS))
        for number, block in enumerate(blocks):
            sums += self._block_gradient(block, n, number > 0, measured)
        return sums / n

    def _block_gradient(self, block: Batch, n: int, accumulate: bool, measured: bool) -> DoubleArray | float:
        """Differentiate the mean loss of `n` samples by the outputs of one block of them."""
        settings, policy, network = self._settings, self._distribution, self._network
        outputs = network.forward(block.observations)
        policy.evaluate(outputs[:-1], network.free, block.actions)
        log_ratio = policy.log_probability - block.log_probability
        d_outputs, d_free = np.empty_like(outputs), np.empty_like(network.free)
        gain, d_log_probability = surrogate(log_ratio, block.advantage, settings.clip_range)
        d_log_probability *= 1.0 / n
        policy.backward(d_log_probability, -settings.entropy_coefficient / n, d_outputs[:-1], d_free)
        value_range = settings.clip_range if settings.clip_value else inf
        error = value_error(outputs[-1], block.value, block.target, value_range)
        np.multiply(error, settings.value_coefficient / n, out=d_outputs[-1])
        network.backward(d_outputs, d_free, accumulate)
        if not measured:
            return 0.0
        return np.array(
            [
                -gain.sum(),
                0.5 * np.square(outputs[-1] - block.target).sum(),
                policy.entropy.sum(),
                (np.expm1(log_ratio) - log_ratio).sum(),
                np.count_nonzero(np.abs(np.expm1(log_ratio)) > settings.clip_range),
            ]
        )


def surrogate(
    log_ratio: FloatVector, advantage: FloatVector, clip_range: float
) -> tuple[FloatVector, FloatVector]:
    """Compute the clipped surrogate of each sample and its loss's derivative by the log-probability.

    With ratio r and advantage A the surrogate is ``min(r A, clip(r, 1 - eps, 1 + eps) A)`` (equation 7);
    the loss is its negative. Where the clipped branch is the smaller one, it is flat: the derivative is 0,
    else ``-r A``.

    Parameters
    ----------
    log_ratio, advantage : float32 arrays, shape (n,)
    clip_range : float
        eps.

    Returns
    -------
    surrogate, d_loss : float32 arrays, shape (n,)
    """
    ratio = np.exp(log_ratio)
    gain = ratio * advantage
    np.maximum(ratio, 1.0 - clip_range, out=ratio)
    np.minimum(ratio, 1.0 + clip_range, out=ratio)
    ratio *= advantage
    free = gain <= ratio
    d_loss = np.multiply(gain, free)
    return np.minimum(gain, ratio, out=ratio), np.negative(d_loss, out=d_loss)


def value_error(
    value: FloatVector, old_value: FloatVector, target: FloatVector, clip_range: float
) -> FloatVector:
    """Differentiate the clipped value loss of each sample by the value.

    The loss is ``max((v - R)^2, (v_old + clip(v - v_old, -eps, eps) - R)^2) / 2``: its derivative is
    ``v - R``, but 0 where the value has left the range around its old value and the clipped error is the
    larger one. An infinite range gives the plain squared error.

    Parameters
    ----------
    value, old_value, target : float32 arrays, shape (n,)
    clip_range : float
        eps, may be infinite.

    References
    ----------
    Huang et al. 2022, detail 9 of the 13 core details.
    """
    error = value - target
    if clip_range == inf:
        return error
    moved = value - old_value
    clipped = np.minimum(np.maximum(moved, -clip_range), clip_range)
    inside = clipped == moved
    clipped += old_value
    clipped -= target
    larger = np.abs(error) > np.abs(clipped)
    error *= inside | larger
    return error


def _normalise(blocks: list[FloatVector], n: int) -> None:
    """Give the advantages of one minibatch zero mean and unit deviation, in place."""
    mean = sum(float(np.add.reduce(block)) for block in blocks) / n
    for block in blocks:
        block -= mean
    square = sum(float(np.dot(block, block)) for block in blocks)
    scale = 1.0 / (sqrt(square / max(n - 1, 1)) + 1e-8)
    for block in blocks:
        block *= scale


def _slices(length: int, size: int) -> list[slice]:
    """Cut `length` rows into slices of `size`, the last one shorter where it must be."""
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]
