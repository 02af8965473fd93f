"""Heat a house: comfort, prices that change over the day, and weather; every agent has a house of its own."""

from math import pi
from typing import ClassVar

import numpy as np

from fdrl_mpi.arrays import DoubleArray, FloatMatrix, IntVector, State
from fdrl_mpi.envs.contexts import ContextParameter, Contexts, context_columns
from fdrl_mpi.steps import ActionSpec, StepBuffers

STEP_H = 0.25
LEVELS = 5
NIGHT_PRICE, DAY_PRICE = 0.15, 0.35
"""Of a kWh: from 22 to 6 o'clock, and in between."""
LOWEST_C, HIGHEST_C = 20.0, 22.0
DISCOMFORT = 0.2
"""Cost of an hour with one degree outside of this range; it grows with the square."""
FROZEN_C, FROZEN_COST = 5.0, 50.0
PERSISTENCE = 0.98
"""Correlation of the weather's deviation from one step to the next."""


class Heating:
    """N houses with one room and one heater each; see `VectorEnv` for the interface.

    The room exchanges heat with the outside, ``C dT/dt = (T_out - T) / R + P u``. With T_out and u constant
    over a step of h hours the solution is exact: T moves by the share ``1 - exp(-h / (R C))`` of the way to
    ``T_out + R P u``. The action u is one of five levels. An episode ends in a terminal state where the pipes
    freeze, and is truncated after `max_episode_steps` of a quarter of an hour.

    Parameters
    ----------
    contexts : sequence of mappings from parameter names to values
        One per house; the names are those of `context_table`.
    max_episode_steps : int
    """

    is_vectorised: ClassVar[bool] = True
    context_table: ClassVar[dict[str, ContextParameter]] = {
        "resistance": ContextParameter(5.0, "K/kW", "resistance of walls and windows, R", above=0.0),
        "capacity": ContextParameter(10.0, "kWh/K", "heat that warms the house by one degree, C", above=0.0),
        "power": ContextParameter(8.0, "kW", "heat of the heater at its highest level, P", above=0.0),
        "outside": ContextParameter(2.0, "degC", "mean temperature outside"),
        "swing": ContextParameter(5.0, "K", "amplitude of the day outside", low=0.0),
        "unrest": ContextParameter(2.0, "K", "standard deviation of the weather", low=0.0),
    }
    observation_size = 5
    observation_shape = (5,)
    observation_divisor = 1.0
    action_spec = ActionSpec("discrete", LEVELS, (0.0,), (LEVELS - 1.0,))

    def __init__(self, contexts: Contexts, max_episode_steps: int = 192) -> None:
        self.context = context_columns("Heating", self.context_table, contexts)
        self.num_envs, self._max_episode_steps = len(contexts), max_episode_steps
        self._share = -np.expm1(-STEP_H / (self.context["resistance"] * self.context["capacity"]))
        self._inside, self._hour, self._weather = np.zeros((3, self.num_envs))
        self._age: IntVector = np.zeros(self.num_envs, np.int64)
        self._generator = np.random.default_rng(0)

    def reset(self, generator: np.random.Generator) -> FloatMatrix:
        """Start an episode in every house."""
        self.reseed(generator)
        self._start(np.arange(self.num_envs))
        return self._observations()

    def reseed(self, generator: np.random.Generator) -> None:
        """Draw from `generator` from now on."""
        self._generator = generator

    def step(self, actions: IntVector, out: StepBuffers) -> None:
        """Heat for a quarter of an hour."""
        context = self.context
        heat = context["power"] * actions / (LEVELS - 1)
        price = np.where((self._hour >= 6.0) & (self._hour < 22.0), DAY_PRICE, NIGHT_PRICE)
        target = self._outside() + context["resistance"] * heat
        self._inside += self._share * (target - self._inside)
        self._hour = (self._hour + STEP_H) % 24.0
        self._weather *= PERSISTENCE
        self._weather += self._shock() * np.sqrt(1.0 - PERSISTENCE**2)
        self._age += 1

        excess = np.maximum(LOWEST_C - self._inside, self._inside - HIGHEST_C)
        discomfort = DISCOMFORT * np.square(np.maximum(excess, 0.0))
        np.less(self._inside, FROZEN_C, out=out.terminated)
        np.greater_equal(self._age, self._max_episode_steps, out=out.truncated)
        out.rewards[:] = -STEP_H * (price * heat + discomfort) - FROZEN_COST * out.terminated
        out.final_observations[:] = self._observations()
        finished = np.flatnonzero(out.terminated | out.truncated)
        out.any_done = finished.size > 0
        if out.any_done:
            self._start(finished)
        out.observations[:] = self._observations()

    def get_state(self) -> State:
        """Copy all that is needed to go on."""
        return {name: getattr(self, f"_{name}").copy() for name in ("inside", "hour", "weather", "age")}

    def set_state(self, state: State) -> FloatMatrix:
        """Go on from `get_state`."""
        if state["inside"].shape != self._inside.shape:
            raise ValueError(f"state of {len(state['inside'])} houses, there are {self.num_envs}")
        for name, values in state.items():
            setattr(self, f"_{name}", values.copy())
        return self._observations()

    def close(self) -> None:
        """Hold nothing that would have to be released."""

    def _start(self, houses: IntVector) -> None:
        """Begin at any hour, with a room that is neither cold nor hot."""
        self._inside[houses] = self._generator.uniform(17.0, 23.0, len(houses))
        self._hour[houses] = self._generator.uniform(0.0, 24.0, len(houses))
        self._weather[houses] = self._shock()[houses]
        self._age[houses] = 0

    def _shock(self) -> DoubleArray:
        return self.context["unrest"] * self._generator.standard_normal(self.num_envs)

    def _outside(self) -> DoubleArray:
        """Compute the temperature outside, which is highest at 15 o'clock."""
        day = np.cos(2.0 * pi * (self._hour - 15.0) / 24.0)
        outside: DoubleArray = self.context["outside"] + self.context["swing"] * day + self._weather
        return outside

    def _observations(self) -> FloatMatrix:
        angle = 2.0 * pi * self._hour / 24.0
        is_day = (self._hour >= 6.0) & (self._hour < 22.0)
        columns = (self._inside - 21.0) / 5.0, self._outside() / 10.0, np.sin(angle), np.cos(angle), is_day
        return np.stack(columns, axis=1).astype(np.float32)
