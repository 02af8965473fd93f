"""Acrobot: swing the tip of a two-link arm up, with a motor at the elbow only."""

from collections.abc import Mapping
from math import pi
from typing import ClassVar

import numpy as np

from fdrl_mpi.arrays import DoubleArray
from fdrl_mpi.envs.classic_control import Array, ClassicControl, Namespace
from fdrl_mpi.envs.contexts import ContextParameter, Contexts
from fdrl_mpi.steps import ActionSpec

_START_LIMIT = 0.1


class Acrobot(ClassicControl):
    """gymnasium's ``Acrobot-v1`` (the book's dynamics) with every physical parameter open.

    Actions are torques of -1, 0 and 1 N m; the reward is -1 until the tip is one link length (1, whatever the
    lengths, as in gymnasium) above the shoulder, then 0. `Parameters` are those of `ClassicControl`.

    Notes
    -----
    One Runge-Kutta step of order 4 between two actions. Torque noise is drawn from the stream of the
    episode starts, in every step, if any environment has some.

    References
    ----------
    Sutton, "Generalization in reinforcement learning: successful examples using sparse coarse coding",
    NeurIPS 1996; equations of Sutton and Barto, "Reinforcement Learning: An Introduction", 1998, figure 11.5.
    """

    environment_id = "Acrobot-v1"
    context_table: ClassVar[dict[str, ContextParameter]] = {
        "link_length_1": ContextParameter(1.0, "m", "length of the upper link", above=0.0),
        "link_mass_1": ContextParameter(1.0, "kg", "mass of the upper link", above=0.0),
        "link_mass_2": ContextParameter(1.0, "kg", "mass of the lower link", above=0.0),
        "link_com_1": ContextParameter(0.5, "m", "centre of mass of the upper link", low=0.0),
        "link_com_2": ContextParameter(0.5, "m", "centre of mass of the lower link", low=0.0),
        "link_moi": ContextParameter(1.0, "kg m^2", "moment of inertia of either link", above=0.0),
        "max_velocity_1": ContextParameter(4 * np.pi, "rad/s", "speed limit of the shoulder", above=0.0),
        "max_velocity_2": ContextParameter(9 * np.pi, "rad/s", "speed limit of the elbow", above=0.0),
        "gravity": ContextParameter(9.8, "m/s^2", "acceleration of gravity", low=0.0),
        "dt": ContextParameter(0.2, "s", "time between two actions", above=0.0),
        "torque_noise_max": ContextParameter(0.0, "N m", "uniform noise on the torque", low=0.0),
    }
    num_variables = num_drawn = 4
    start_limits = (-_START_LIMIT, _START_LIMIT)
    observation_size = 6
    action_spec = ActionSpec("discrete", 3, (0,), (2,))

    def __init__(self, contexts: Contexts, *, max_episode_steps: int = 500) -> None:
        super().__init__(contexts, max_episode_steps)
        self._is_noisy = bool(self.context["torque_noise_max"].any())

    @property
    def is_noisy(self) -> bool:
        """See `ClassicControl.is_noisy`."""
        return self._is_noisy

    @staticmethod
    def constants(context: Mapping[str, Array]) -> dict[str, Array]:
        """See `ClassicControl.constants`."""
        l1, lc1, lc2 = context["link_length_1"], context["link_com_1"], context["link_com_2"]
        m1, m2, moi = context["link_mass_1"], context["link_mass_2"], context["link_moi"]
        return dict(context) | {
            "inertia_1": m1 * lc1**2 + m2 * (l1**2 + lc2**2) + 2.0 * moi,
            "inertia_2": m2 * lc2**2 + moi,
            "coupling": m2 * l1 * lc2,
            "weight_1": (m1 * lc1 + m2 * l1) * context["gravity"],
            "weight_2": m2 * lc2 * context["gravity"],
        }

    @staticmethod
    def starts(xp: Namespace, drawn: Array) -> Array:
        """See `ClassicControl.starts`."""
        rounded = xp.asarray(drawn, dtype=xp.float32)  # as gymnasium rounds its first state
        return xp.asarray(rounded, dtype=xp.float64)

    def _draw_noise(self) -> DoubleArray | float:
        """Draw a number from -1 to 1 for each environment; groups without noise draw nothing."""
        if not self._is_noisy:
            return 0.0
        if not self._generators:
            return self._generator.uniform(-1.0, 1.0, self.num_envs)
        noise = np.zeros((len(self._generators), self.num_envs // len(self._generators)))
        largest = self.context["torque_noise_max"].reshape(noise.shape)
        for group in np.flatnonzero(largest.any(axis=1)).tolist():
            noise[group] = self._generators[group].uniform(-1.0, 1.0, noise.shape[1])
        return noise.ravel()

    @staticmethod
    def advance(
        xp: Namespace, columns: Mapping[str, Array], physics: Array, actions: Array, noise: Array | float
    ) -> tuple[Array, Array | float, Array | bool]:
        """See `ClassicControl.advance`."""
        torque = (actions - 1.0) + noise * columns["torque_noise_max"]
        y, dt = physics, columns["dt"]
        k1 = _rates(xp, columns, y, torque)
        k2 = _rates(xp, columns, y + dt / 2.0 * k1, torque)
        k3 = _rates(xp, columns, y + dt / 2.0 * k2, torque)
        k4 = _rates(xp, columns, y + dt * k3, torque)
        y = y + dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)

        angles = y[:2] - 2.0 * pi * xp.round(y[:2] / (2.0 * pi))
        fastest = xp.stack([columns["max_velocity_1"], columns["max_velocity_2"]])
        velocities = xp.minimum(xp.maximum(y[2:], -fastest), fastest)
        terminated = -xp.cos(angles[0]) - xp.cos(angles[0] + angles[1]) > 1.0
        return xp.concatenate([angles, velocities]), xp.where(terminated, 0.0, -1.0), terminated

    @staticmethod
    def observe(xp: Namespace, physics: Array) -> Array:
        """See `ClassicControl.observe`."""
        (cos_1, cos_2), (sin_1, sin_2) = xp.cos(physics[:2]), xp.sin(physics[:2])
        return xp.stack([cos_1, sin_1, cos_2, sin_2, physics[2], physics[3]])


def _rates(xp: Namespace, columns: Mapping[str, Array], y: Array, torque: Array) -> Array:
    """Compute the time derivative of a state."""
    theta_1, theta_2, velocity_1, velocity_2 = y
    coupling_sine = columns["coupling"] * xp.sin(theta_2)
    coupling_cosine = columns["coupling"] * xp.cos(theta_2)
    d1 = columns["inertia_1"] + 2.0 * coupling_cosine
    d2 = columns["inertia_2"] + coupling_cosine
    phi_2 = columns["weight_2"] * xp.sin(theta_1 + theta_2)
    phi_1 = columns["weight_1"] * xp.sin(theta_1) + phi_2
    phi_1 = phi_1 - coupling_sine * velocity_2 * (velocity_2 + 2.0 * velocity_1)
    acceleration_2 = (torque + d2 / d1 * phi_1 - coupling_sine * velocity_1 * velocity_1 - phi_2) / (
        columns["inertia_2"] - d2 * d2 / d1
    )
    acceleration_1 = -(d2 * acceleration_2 + phi_1) / d1
    return xp.stack([velocity_1, velocity_2, acceleration_1, acceleration_2])
