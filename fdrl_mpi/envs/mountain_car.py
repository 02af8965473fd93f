"""MountainCar: drive an underpowered car out of a valley by swinging."""

from collections.abc import Mapping
from typing import ClassVar

from fdrl_mpi.envs.classic_control import Array, ClassicControl, Namespace
from fdrl_mpi.envs.contexts import ContextParameter, Contexts
from fdrl_mpi.steps import ActionSpec

_START_LOW, _START_HIGH = -0.6, -0.4


class MountainCar(ClassicControl):
    """gymnasium's ``MountainCar-v0`` with every physical parameter open.

    Actions push left, not at all, right; the reward is -1 in every step. `Parameters` are those of
    `ClassicControl`.

    Raises
    ------
    ValueError
        Also if a goal cannot be reached because it lies beyond the right wall or above the greatest speed.

    References
    ----------
    Moore, "Efficient memory-based learning for robot control", PhD thesis, Cambridge, 1990.
    """

    environment_id = "MountainCar-v0"
    context_table: ClassVar[dict[str, ContextParameter]] = {
        "min_position": ContextParameter(-1.2, "-", "left wall, where the car stops", high=_START_LOW),
        "max_position": ContextParameter(0.6, "-", "right wall", low=_START_HIGH),
        "max_speed": ContextParameter(0.07, "1/step", "speed is clipped to this", above=0.0),
        "goal_position": ContextParameter(0.5, "-", "the episode ends right of this"),
        "goal_velocity": ContextParameter(0.0, "1/step", "least speed at the goal"),
        "force": ContextParameter(0.001, "1/step^2", "acceleration by the motor", low=0.0),
        "gravity": ContextParameter(0.0025, "1/step^2", "acceleration on the steepest slope", low=0.0),
    }
    num_variables = 2
    num_drawn = 1
    start_limits = (_START_LOW, _START_HIGH)
    observation_size = 2
    action_spec = ActionSpec("discrete", 3, (0,), (2,))

    def __init__(self, contexts: Contexts, *, max_episode_steps: int = 200) -> None:
        super().__init__(contexts, max_episode_steps)
        self._check_reachable("goal_position", "max_position")
        self._check_reachable("goal_velocity", "max_speed")

    @staticmethod
    def starts(xp: Namespace, drawn: Array) -> Array:
        """See `ClassicControl.starts`."""
        return xp.stack([drawn[0], xp.zeros_like(drawn[0])])

    @staticmethod
    def advance(
        xp: Namespace, columns: Mapping[str, Array], physics: Array, actions: Array, noise: Array | float
    ) -> tuple[Array, Array | float, Array | bool]:
        """See `ClassicControl.advance`."""
        position, velocity = physics
        max_speed, left = columns["max_speed"], columns["min_position"]
        pull = xp.cos(3.0 * position) * columns["gravity"]
        velocity = velocity + ((actions - 1) * columns["force"] - pull)
        velocity = xp.minimum(xp.maximum(velocity, -max_speed), max_speed)
        position = xp.minimum(xp.maximum(position + velocity, left), columns["max_position"])
        velocity = xp.where((position == left) & (velocity < 0.0), 0.0, velocity)
        at_goal, fast = position >= columns["goal_position"], velocity >= columns["goal_velocity"]
        return xp.stack([position, velocity]), -1.0, at_goal & fast

    def _check_reachable(self, goal: str, bound: str) -> None:
        for goal_value, bound_value in zip(self.context[goal], self.context[bound], strict=True):
            if goal_value > bound_value:
                raise ValueError(
                    f"{goal} = {goal_value:g} of {self.environment_id} can never be reached: "
                    f"it is above {bound} = {bound_value:g}"
                )
