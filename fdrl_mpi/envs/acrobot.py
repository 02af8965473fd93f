"""Acrobot: swing the tip of a two-link arm up, with a motor at the elbow only."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fdrl_mpi.arrays import BoolVector, DoubleArray, FloatMatrix, FloatVector
from fdrl_mpi.envs.classic_control import ClassicControl
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
    num_variables = 4
    observation_size = 6
    action_spec = ActionSpec("discrete", 3, (0,), (2,))

    def __init__(self, contexts: Contexts, *, max_episode_steps: int = 500) -> None:
        super().__init__(contexts, max_episode_steps)
        self._max_velocities = np.stack([self.context["max_velocity_1"], self.context["max_velocity_2"]])
        self._is_noisy = bool(self.context["torque_noise_max"].any())
        self._prepare_dynamics()

    def _draw_starts(self, count: int) -> DoubleArray:
        starts = self._generator.uniform(-_START_LIMIT, _START_LIMIT, (count, 4))
        return starts.astype(np.float32).astype(np.float64)  # gymnasium rounds its first state

    def _draw_noise(self) -> DoubleArray:
        """Draw a number from -1 to 1 for each environment; groups without noise draw nothing."""
        if not self._generators:
            return self._generator.uniform(-1.0, 1.0, self.num_envs)
        noise = np.zeros((len(self._generators), self.num_envs // len(self._generators)))
        largest = self.context["torque_noise_max"].reshape(noise.shape)
        for group in np.flatnonzero(largest.any(axis=1)).tolist():
            noise[group] = self._generators[group].uniform(-1.0, 1.0, noise.shape[1])
        return noise.ravel()

    def _advance(self, actions: NDArray[Any], rewards: FloatVector, terminated: BoolVector) -> None:
        torque = actions - 1.0
        if self._is_noisy:
            torque += self._draw_noise() * self.context["torque_noise_max"]
        y, dt = self._physics, self.context["dt"]
        k1 = self._rates(y, torque)
        k2 = self._rates(y + dt / 2.0 * k1, torque)
        k3 = self._rates(y + dt / 2.0 * k2, torque)
        k4 = self._rates(y + dt * k3, torque)
        y += dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)

        angles, velocities = y[:2], y[2:]
        angles -= 2.0 * np.pi * np.rint(angles / (2.0 * np.pi))
        np.minimum(np.maximum(velocities, -self._max_velocities), self._max_velocities, out=velocities)

        np.greater(-np.cos(angles[0]) - np.cos(angles[0] + angles[1]), 1.0, out=terminated)
        np.subtract(terminated, 1.0, out=rewards)

    def _observe(self, physics: DoubleArray, observations: FloatMatrix) -> None:
        observations[:, 0:4:2] = np.cos(physics[:2]).T
        observations[:, 1:4:2] = np.sin(physics[:2]).T
        observations[:, 4:] = physics[2:].T

    def _prepare_dynamics(self) -> None:
        context = self.context
        l1, lc1, lc2 = context["link_length_1"], context["link_com_1"], context["link_com_2"]
        m1, m2, moi = context["link_mass_1"], context["link_mass_2"], context["link_moi"]
        self._inertia_1 = m1 * lc1**2 + m2 * (l1**2 + lc2**2) + 2.0 * moi
        self._inertia_2 = m2 * lc2**2 + moi
        self._coupling = m2 * l1 * lc2
        self._weight_1 = (m1 * lc1 + m2 * l1) * context["gravity"]
        self._weight_2 = m2 * lc2 * context["gravity"]

    def _rates(self, y: DoubleArray, torque: DoubleArray) -> DoubleArray:
        theta_1, theta_2, velocity_1, velocity_2 = y
        coupling_sine = self._coupling * np.sin(theta_2)
        coupling_cosine = self._coupling * np.cos(theta_2)
        d1 = self._inertia_1 + 2.0 * coupling_cosine
        d2 = self._inertia_2 + coupling_cosine
        phi_2 = self._weight_2 * np.sin(theta_1 + theta_2)
        phi_1 = self._weight_1 * np.sin(theta_1) + phi_2
        phi_1 -= coupling_sine * velocity_2 * (velocity_2 + 2.0 * velocity_1)
        acceleration_2 = (torque + d2 / d1 * phi_1 - coupling_sine * velocity_1 * velocity_1 - phi_2) / (
            self._inertia_2 - d2 * d2 / d1
        )
        acceleration_1 = -(d2 * acceleration_2 + phi_1) / d1
        return np.array([velocity_1, velocity_2, acceleration_1, acceleration_2])
