"""CartPole: balance a pole on a cart by pushing left or right."""

from collections.abc import Mapping
from math import cos, radians, sin
from struct import Struct
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fdrl_mpi.arrays import FloatMatrix, State
from fdrl_mpi.envs.classic_control import Array, ClassicControl, Namespace
from fdrl_mpi.envs.contexts import ContextParameter, Contexts
from fdrl_mpi.steps import ActionSpec, StepBuffers

X_LIMIT = 2.4
THETA_LIMIT = radians(12)
START_LIMIT = 0.05
_ROW = Struct("4f")


class CartPole(ClassicControl):
    """gymnasium's ``CartPole-v1`` with every physical parameter open; equal to it bit for bit.

    The reward is 1 in every step. `Parameters` are those of `ClassicControl`.

    Notes
    -----
    Few environments are stepped one by one in Python floats, many by numpy: a numpy call costs as much as
    fifteen scalar operations, whatever its length. Both paths do the same operations in the same order and
    make the same draws, so they agree bit for bit (where numpy's sine is the C library's, as on Linux).

    References
    ----------
    Barto, Sutton and Anderson, "Neuronlike adaptive elements that can solve difficult learning control
    problems", IEEE SMC 1983; equations as corrected by Florian, "Correct equations for the dynamics of the
    cart-pole system", 2005, without friction. Parameter names: CARL (Benjamins et al., 2021).
    """

    environment_id = "CartPole-v1"
    context_table: ClassVar[dict[str, ContextParameter]] = {
        "gravity": ContextParameter(9.8, "m/s^2", "acceleration of gravity", low=0.0),
        "masscart": ContextParameter(1.0, "kg", "mass of the cart", above=0.0),
        "masspole": ContextParameter(0.1, "kg", "mass of the pole", above=0.0),
        "length": ContextParameter(0.5, "m", "half the length of the pole", above=0.0),
        "force_mag": ContextParameter(10.0, "N", "force of a push", low=0.0),
        "tau": ContextParameter(0.02, "s", "time between two actions", above=0.0),
    }
    num_variables = num_drawn = 4
    start_limits = (-START_LIMIT, START_LIMIT)
    observation_size = 4
    action_spec = ActionSpec("discrete", 2, (0,), (1,))
    scalar_below: ClassVar[int] = 28
    """Number of environments from which numpy is faster."""

    def __init__(self, contexts: Contexts, *, max_episode_steps: int = 500) -> None:
        super().__init__(contexts, max_episode_steps)
        self._is_scalar = self.num_envs < self.scalar_below
        self._prepare_scalars()

    def step(self, actions: NDArray[Any], out: StepBuffers) -> None:
        """See `VectorEnv.step`."""
        if self._is_scalar:
            self._step_scalars(actions, out)
        else:
            super().step(actions, out)

    def get_state(self) -> State:
        """See `VectorEnv.get_state`."""
        if self._is_scalar:
            self._physics[:] = np.array(self._rows).T
            self._episode_steps[:] = self._ages
        return super().get_state()

    def set_state(self, state: State) -> FloatMatrix:
        """See `VectorEnv.set_state`."""
        observations = super().set_state(state)
        self._arrays_to_scalars()
        return observations

    def _reset(self) -> FloatMatrix:
        observations = super()._reset()
        self._arrays_to_scalars()
        return observations

    @staticmethod
    def constants(context: Mapping[str, Array]) -> dict[str, Array]:
        """See `ClassicControl.constants`."""
        total_mass = context["masspole"] + context["masscart"]
        polemass_length = context["masspole"] * context["length"]
        return dict(context) | {"total_mass": total_mass, "polemass_length": polemass_length}

    @staticmethod
    def advance(
        xp: Namespace, columns: Mapping[str, Array], physics: Array, actions: Array, noise: Array | float
    ) -> tuple[Array, Array | float, Array | bool]:
        """See `ClassicControl.advance`."""
        total_mass, polemass_length = columns["total_mass"], columns["polemass_length"]
        _, x_dot, theta, theta_dot = physics
        sine, cosine = xp.sin(theta), xp.cos(theta)
        force = xp.where(actions == 1, columns["force_mag"], -columns["force_mag"])
        push = (theta_dot * theta_dot * polemass_length * sine + force) / total_mass
        theta_acceleration = (columns["gravity"] * sine - cosine * push) / (
            columns["length"] * (4.0 / 3.0 - columns["masspole"] * (cosine * cosine) / total_mass)
        )
        x_acceleration = push - polemass_length * theta_acceleration * cosine / total_mass
        rates = xp.stack([x_dot, x_acceleration, theta_dot, theta_acceleration])
        physics = physics + columns["tau"] * rates
        terminated = (xp.abs(physics[0]) > X_LIMIT) | (xp.abs(physics[2]) > THETA_LIMIT)
        return physics, 1.0, terminated

    def _prepare_scalars(self) -> None:
        names = ("gravity", "masspole", "total_mass", "length", "polemass_length", "force_mag", "tau")
        self._constants = list(zip(*(self.columns[name].tolist() for name in names), strict=True))
        self._nowhere = np.zeros(self.num_envs, np.bool_).data
        self._arrays_to_scalars()

    def _arrays_to_scalars(self) -> None:
        self._rows: list[list[float]] = self._physics.T.tolist()
        self._ages: list[int] = self._episode_steps.tolist()

    def _step_scalars(self, actions: NDArray[Any], out: StepBuffers) -> None:
        rows, ages, constants = self._rows, self._ages, self._constants
        last_age = self.max_episode_steps - 1
        write, row_bytes, final = _ROW.pack_into, _ROW.size, out.final_items
        out.rewards.fill(1.0)
        out.terminated_items[:] = self._nowhere
        out.truncated_items[:] = self._nowhere
        finished = []
        for i, action in enumerate(actions.tolist()):
            x, x_dot, theta, theta_dot = rows[i]
            gravity, masspole, total_mass, length, polemass_length, force_mag, tau = constants[i]
            sine, cosine = sin(theta), cos(theta)
            force = force_mag if action else -force_mag
            push = (theta_dot * theta_dot * polemass_length * sine + force) / total_mass
            theta_acceleration = (gravity * sine - cosine * push) / (
                length * (4.0 / 3.0 - masspole * (cosine * cosine) / total_mass)
            )
            x_acceleration = push - polemass_length * theta_acceleration * cosine / total_mass
            x += tau * x_dot
            x_dot += tau * x_acceleration
            theta += tau * theta_dot
            theta_dot += tau * theta_acceleration
            rows[i] = [x, x_dot, theta, theta_dot]
            write(final, row_bytes * i, x, x_dot, theta, theta_dot)
            inside = -X_LIMIT <= x <= X_LIMIT and -THETA_LIMIT <= theta <= THETA_LIMIT
            if inside and ages[i] < last_age:
                ages[i] += 1
            else:
                out.terminated_items[i] = not inside
                out.truncated_items[i] = ages[i] >= last_age
                finished.append(i)
        out.observation_items[:] = final
        out.any_done = bool(finished)
        if finished:
            self._start_scalars(finished, out)

    def _start_scalars(self, finished: list[int], out: StepBuffers) -> None:
        for i, start in zip(finished, self._starts_of(np.array(finished)).tolist(), strict=True):
            self._rows[i] = start
            self._ages[i] = 0
            _ROW.pack_into(out.observation_items, _ROW.size * i, *start)
