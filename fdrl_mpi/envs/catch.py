"""Catch: move a paddle under a falling ball; the smallest task that is seen as an image."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fdrl_mpi.arrays import FloatMatrix, IntVector, State
from fdrl_mpi.envs.contexts import ContextParameter, Contexts, context_columns
from fdrl_mpi.steps import ActionSpec, StepBuffers

LEFT, STAY, RIGHT = range(3)


class Catch:
    """N boards of bytes, 255 at the ball and at the paddle and 0 elsewhere, delivered divided by 255.

    The ball starts in any column of the top row, the paddle in the middle of the bottom row. In each step the
    paddle moves by one column (actions: 0 left, 1 stay, 2 right), the ball falls by one row, and with chance
    `drift` it moves by one column, as likely to the left as to the right; walls stop both. An episode ends
    when the ball reaches the bottom row, after ``rows - 1`` steps. That step pays 1 if the ball is caught,
    else -1; the others pay nothing.

    Parameters
    ----------
    contexts : sequence of mappings
        ``drift``, one per environment.
    rows, columns : int
        Size of the board, at least 2 and 1.

    Raises
    ------
    ValueError
        If a context has an unknown name or a value out of range, or the board is too small.

    Notes
    -----
    All episodes have the same length, so all boards begin a new one in the same step. Each step draws one
    uniform number per board, whatever its drift.

    References
    ----------
    Mnih, Heess, Graves and Kavukcuoglu, "Recurrent Models of Visual Attention", NeurIPS 2014, section 4.2.
    Size and pixels: Osband et al., "Behaviour Suite for Reinforcement Learning", ICLR 2020, whose board has 5
    columns and whose ball does not drift.
    """

    is_vectorised: ClassVar[bool] = True
    environment_id = "Catch"
    context_table: ClassVar[dict[str, ContextParameter]] = {
        "drift": ContextParameter(0.0, "-", "chance that the ball moves sideways", low=0.0, high=1.0),
    }
    observation_divisor = 255.0
    observation_order = "the rows of the board from top to bottom: 1 at the ball and at the paddle, else 0"
    action_spec = ActionSpec("discrete", 3, (0.0,), (2.0,))

    def __init__(self, contexts: Contexts, *, rows: int = 10, columns: int = 10) -> None:
        if rows < 2 or columns < 1:
            raise ValueError(f"a board of {rows} rows and {columns} columns is too small: 2 and 1 are needed")
        self._drift = context_columns(self.environment_id, self.context_table, contexts)["drift"]
        self.num_envs = len(contexts)
        self.rows, self.columns = rows, columns
        self.observation_size = rows * columns
        self.observation_shape: tuple[int, ...] = (rows, columns, 1)
        self._board = np.arange(self.num_envs)
        self._height = 0
        self._ball: IntVector = np.zeros(self.num_envs, np.int64)
        self._paddle: IntVector = np.zeros(self.num_envs, np.int64)
        self._generator = np.random.default_rng(0)

    def reset(self, generator: np.random.Generator) -> FloatMatrix:
        """See `VectorEnv.reset`."""
        self._generator = generator
        self._start_episodes()
        return self._observations()

    def reseed(self, generator: np.random.Generator) -> None:
        """See `VectorEnv.reseed`."""
        self._generator = generator

    def step(self, actions: NDArray[Any], out: StepBuffers) -> None:
        """See `VectorEnv.step`."""
        self._height -= 1
        self._paddle += actions - STAY
        self._ball += self._draw_drift()
        for column in (self._paddle, self._ball):
            np.clip(column, 0, self.columns - 1, out=column)
        self._observe(out.final_observations)
        is_over = self._height == 0
        out.terminated.fill(is_over)
        out.truncated.fill(False)
        out.rewards.fill(0.0)
        out.any_done = is_over
        if is_over:
            out.rewards[:] = np.where(self._ball == self._paddle, 1.0, -1.0)
            self._start_episodes()
        self._observe(out.observations)

    def get_state(self) -> State:
        """See `VectorEnv.get_state`.

        Returns
        -------
        dict
            `height` of the balls above the paddles, rows; columns of `ball` and `paddle`, int64, shape (N,).
        """
        return {"height": self._height, "ball": self._ball.copy(), "paddle": self._paddle.copy()}

    def set_state(self, state: State) -> FloatMatrix:
        """See `VectorEnv.set_state`."""
        height, ball, paddle = int(state["height"]), state["ball"], state["paddle"]
        fits = ball.shape == paddle.shape == self._ball.shape and 1 <= height < self.rows
        if not fits or max(ball.max(), paddle.max()) >= self.columns:
            raise ValueError(
                f"state holds {len(ball)} boards, balls at height {height} in columns up to {ball.max()}; "
                f"these are {self.num_envs} boards of {self.rows} rows and {self.columns} columns"
            )
        self._height = height
        self._ball[:], self._paddle[:] = ball, paddle
        return self._observations()

    def close(self) -> None:
        """See `VectorEnv.close`; nothing is held."""

    def _start_episodes(self) -> None:
        self._height = self.rows - 1
        self._ball[:] = self._generator.integers(self.columns, size=self.num_envs)
        self._paddle.fill(self.columns // 2)

    def _draw_drift(self) -> IntVector:
        """Draw -1, 0 or 1 for each ball: of the numbers below `drift`, the smaller half moves to the left."""
        uniform = self._generator.random(self.num_envs)
        moves: IntVector = np.where(uniform < 0.5 * self._drift, -1, 1) * (uniform < self._drift)
        return moves

    def _observe(self, observations: FloatMatrix) -> None:
        observations.fill(0.0)
        observations[self._board, (self.rows - 1 - self._height) * self.columns + self._ball] = 1.0
        observations[self._board, (self.rows - 1) * self.columns + self._paddle] = 1.0

    def _observations(self) -> FloatMatrix:
        observations = np.empty((self.num_envs, self.observation_size), np.float32)
        self._observe(observations)
        return observations
