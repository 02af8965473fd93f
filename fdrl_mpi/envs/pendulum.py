"""Pendulum: swing a rod up with a motor too weak to lift it."""

from collections.abc import Mapping
from math import pi
from typing import ClassVar

from fdrl_mpi.envs.classic_control import Array, ClassicControl, Namespace
from fdrl_mpi.envs.contexts import ContextParameter, Contexts
from fdrl_mpi.steps import ActionSpec

TORQUE_LIMIT = 2.0


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
    num_variables = num_drawn = 2
    start_limits = (-1.0, 1.0)
    observation_size = 3
    action_spec = ActionSpec("box", 1, (-TORQUE_LIMIT,), (TORQUE_LIMIT,))

    def __init__(self, contexts: Contexts, *, max_episode_steps: int = 200) -> None:
        super().__init__(contexts, max_episode_steps)

    @staticmethod
    def starts(xp: Namespace, drawn: Array) -> Array:
        """See `ClassicControl.starts`."""
        return xp.stack([drawn[0] * pi, drawn[1]])

    @staticmethod
    def advance(
        xp: Namespace, columns: Mapping[str, Array], physics: Array, actions: Array, noise: Array | float
    ) -> tuple[Array, Array | float, Array | bool]:
        """See `ClassicControl.advance`."""
        theta, speed = physics
        max_speed, max_torque = columns["max_speed"], columns["max_torque"]
        wanted = xp.asarray(actions[:, 0], dtype=xp.float64)
        torque = xp.minimum(xp.maximum(wanted, -max_torque), max_torque)
        angle = (theta + pi) % (2.0 * pi) - pi
        rewards = -(angle * angle + 0.1 * (speed * speed) + 0.001 * (torque * torque))

        fall = 3.0 * columns["gravity"] / (2.0 * columns["l"]) * xp.sin(theta)
        drive = 3.0 / (columns["m"] * columns["l"] ** 2) * torque
        speed = speed + (fall + drive) * columns["dt"]
        speed = xp.minimum(xp.maximum(speed, -max_speed), max_speed)
        physics = xp.stack([theta + speed * columns["dt"], speed])
        return physics, rewards, False

    @staticmethod
    def observe(xp: Namespace, physics: Array) -> Array:
        """See `ClassicControl.observe`."""
        theta, speed = physics
        return xp.stack([xp.cos(theta), xp.sin(theta), speed])
