"""How well a model does in given worlds: greedy episodes, run in slices so that nobody waits for them."""

import logging
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from fdrl_mpi.arrays import BoolVector, DoubleArray, FloatMatrix, FloatVector
from fdrl_mpi.rl.model import Greedy, Model
from fdrl_mpi.rl.rollout import Environment
from fdrl_mpi.steps import StepBuffers
from fdrl_mpi.streams import stream

LOG = logging.getLogger(__name__)
SLICE_S = 5e-3
STEP_LIMIT = 100_000
"""Steps after which an episode of a world that never ends counts as it stands."""


@dataclass(frozen=True)
class Evaluated:
    """Mean return and length of the episodes in each world, shape (worlds,)."""

    returns: DoubleArray
    lengths: DoubleArray


class Evaluation:
    """Plays `episodes` greedy episodes in each of several worlds, all at once.

    Parameters
    ----------
    environment : Environment
        One environment for each episode, those of a world next to each other.
    model : Model
        Its parameters are overwritten.
    episodes : int
        In each world.
    seed : int
        Episodes start alike in every evaluation of a run, so that models are compared on the same ones.
    purpose : str
        Name of the stream of their starts.
    """

    def __init__(
        self,
        environment: Environment,
        model: Model,
        episodes: int,
        seed: int,
        purpose: str = "evaluation",
    ) -> None:
        self._environment = environment
        self._model = model
        self._episodes = episodes
        self._seed, self._purpose = seed, purpose
        self._buffers = StepBuffers.allocate(environment.num_envs, environment.observation_size)
        self._act: Greedy
        self._observations: FloatMatrix
        self._active: BoolVector = np.zeros(environment.num_envs, np.bool_)
        self._returns: DoubleArray = np.zeros(environment.num_envs)
        self._lengths: DoubleArray = np.zeros(environment.num_envs)

    def start(self, params: FloatVector) -> None:
        """Begin the episodes of a model, which is copied."""
        self._model.params[:] = params
        self._model.load()
        self._act = self._model.greedy(self._environment.num_envs)
        self._observations = self._environment.reset(stream(self._seed, self._purpose))
        self._active.fill(True)
        self._returns.fill(0.0)
        self._lengths.fill(0.0)

    def advance(self, seconds: float = SLICE_S) -> bool:
        """Go on for about `seconds`; return whether all episodes have ended."""
        stop = perf_counter() + seconds
        while self._active.any() and perf_counter() < stop:
            self._step()
        return not self._active.any()

    def result(self) -> Evaluated:
        """Return the means of the finished episodes."""
        if self._lengths.max() >= STEP_LIMIT:
            LOG.warning("evaluation: episodes did not end within %d steps and were cut there", STEP_LIMIT)
        returns, lengths = (totals.reshape(-1, self._episodes) for totals in (self._returns, self._lengths))
        return Evaluated(returns.mean(axis=1), lengths.mean(axis=1))

    def run(self, params: FloatVector) -> Evaluated:
        """Evaluate a model without a pause."""
        self.start(params)
        self.advance(seconds=np.inf)
        return self.result()

    def _step(self) -> None:
        out, active = self._buffers, self._active
        self._environment.step(self._act(self._observations), out)
        self._observations = out.observations
        self._returns += np.where(active, out.rewards, 0.0)
        self._lengths += active
        if out.any_done:
            active &= ~(out.terminated | out.truncated)
        active &= self._lengths < STEP_LIMIT
