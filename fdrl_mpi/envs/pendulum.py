"""Pendulum: swing a rod up with a motor too weak to lift it."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fdrl_mpi.arrays import BoolVector, DoubleArray, FloatMatrix, FloatVector
from fdrl_mpi.envs.classic_control import ClassicControl
from fdrl_mpi.envs.contexts import ContextParameter, Contexts
from fdrl_mpi.steps import ActionSpec

TORQUE_LIMIT = 2.0
_START_LIMITS = (np.pi, 1.0)


class Pendulum(ClassicControl):
    """gymnasium's ``Pendulum-v1`` with every physical parameter open.

    The reward is ``-(angle^2 + 0.1 speed^2 + 0.001 torque^2)`` before the step, the angle in [-pi, pi) from
    upright and the torque as clipped. No state is terminal. `Parameters` are those of `ClassicControl`.

    Notes
    -----
    The action space is [-2, 2] N m in every world, so that one policy fits all; a world may have a weaker
    motor.
    """

    environment_id = "Pendulum-v1"
    context_table: ClassVar[dict[str, ContextParameter]] = {
        "gravity": ContextParameter(10.0, "m/s^2", "acceleration of gravity", low=0.0),
        "m": ContextParameter(1.0, "kg", "mass of the rod", above=0.0),
        "l": ContextParameter(1.0, "m", "length of the rod", above=0.0),
        "dt": ContextParameter(0.05, "s", "time between two actions", above=0.0),
        "max_speed": ContextParameter(8.0, "rad/s", "speed is clipped to this", above=0.0),
        "max_torque": ContextParameter(2.0, "N m", "torque is clipped to this", low=0.0, high=TORQUE_LIMIT),
    }
    num_variables = 2
    observation_size = 3
    action_spec = ActionSpec("box", 1, (-TORQUE_LIMIT,), (TORQUE_LIMIT,))

    def __init__(self, contexts: Contexts, *, max_episode_steps: int = 200) -> None:
        super().__init__(contexts, max_episode_steps)

    def _draw_starts(self, count: int) -> DoubleArray:
        return self._generator.uniform(-1.0, 1.0, (count, 2)) * _START_LIMITS

    def _advance(self, actions: NDArray[Any], rewards: FloatVector, terminated: BoolVector) -> None:
        context, (theta, speed) = self.context, self._physics
        max_speed, max_torque = context["max_speed"], context["max_torque"]
        torque = np.minimum(np.maximum(actions[:, 0], -max_torque), max_torque)
        angle = (theta + np.pi) % (2.0 * np.pi) - np.pi
        rewards[:] = -(angle * angle + 0.1 * (speed * speed) + 0.001 * (torque * torque))
        terminated.fill(False)

        fall = 3.0 * context["gravity"] / (2.0 * context["l"]) * np.sin(theta)
        drive = 3.0 / (context["m"] * context["l"] ** 2) * torque
        speed += (fall + drive) * context["dt"]
        np.minimum(np.maximum(speed, -max_speed), max_speed, out=speed)
        theta += speed * context["dt"]

    def _observe(self, physics: DoubleArray, observations: FloatMatrix) -> None:
        theta, speed = physics
        observations[:, 0] = np.cos(theta)
        observations[:, 1] = np.sin(theta)
        observations[:, 2] = speed
