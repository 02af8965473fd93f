"""The limit of a PPO learner in numpy: the same environment steps and array passes, and nothing else."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from time import perf_counter

import numpy as np
from clocks import Clock

from fdrl_mpi.arrays import ActionArray, FloatMatrix
from fdrl_mpi.rl.hyperparameters import PPOConfig
from fdrl_mpi.rl.network import Network, NetworkShape, mlp_layout
from fdrl_mpi.rl.ppo import BLOCK_ROWS
from fdrl_mpi.rl.rollout import Environment
from fdrl_mpi.steps import StepBuffers

Pass = Callable[[], object]
STREAM = 1


@dataclass(frozen=True)
class Limit:
    """Seconds of one rollout of T steps in N environments and of its update.

    Attributes
    ----------
    environment_s : float
        Stepping with given actions, those of the policy as it is.
    products_s : float
        The matrix products of inference, of the batch pass, and forward and backward in all epochs.
    elementwise_s : float
        Biases, activations and their slopes, and Adam, on arrays of the same sizes.
    """

    environment_s: float
    products_s: float
    elementwise_s: float

    @property
    def seconds(self) -> float:
        return self.environment_s + self.products_s + self.elementwise_s


class Arithmetic:
    """The array passes of one PPO iteration; arrays of one shape share their memory and stay cached.

    Parameters
    ----------
    settings : PPOConfig
    shape : NetworkShape
    num_envs : int
    """

    def __init__(self, settings: PPOConfig, shape: NetworkShape, num_envs: int) -> None:
        self._shape = shape
        self._towers = shape.num_towers
        self._products: list[Pass] = []
        self._elementwise: list[Pass] = []
        samples = settings.num_steps * num_envs
        self._add_inference(num_envs, settings.num_steps)
        for rows in _blocks(samples + num_envs):
            self._add_forward(rows, 1)
        updates = settings.num_epochs * settings.num_minibatches
        for rows in _blocks(samples // settings.num_minibatches):
            self._add_forward(rows, updates)
            self._add_backward(rows, updates)
        self._add_adam(updates)

    def multiply(self) -> None:
        """Make all matrix products of an iteration."""
        for work in self._products:
            work()

    def pass_over(self) -> None:
        """Make all elementwise passes of an iteration."""
        for work in self._elementwise:
            work()

    def _add_inference(self, rows: int, times: int) -> None:
        products, passes = [], []
        for inputs, units in self._layers():
            products.append(_product(_operand(rows, inputs), _operand(inputs, units)))
            passes += self._activation(_operand(rows, units), _operand(rows, units))
        top = self._shape.hidden[-1]
        products.append(_product(_operand(self._shape.num_outputs, top), _operand(rows, top).T))
        self._products += products * times
        self._elementwise += passes * times

    def _add_forward(self, rows: int, times: int) -> None:
        towers, top = self._towers, self._shape.hidden[-1]
        products, passes = [], []
        for inputs, units in self._layers():
            products.append(_product(_operand(towers, rows, inputs), _operand(towers, inputs, units)))
            passes += self._activation(_operand(towers, rows, units), _operand(towers, 1, units))
        for outputs in self._heads():
            products.append(_product(_operand(outputs, top), _operand(rows, top).T))
        self._products += products * times
        self._elementwise += passes * times

    def _add_backward(self, rows: int, times: int) -> None:
        towers, top = self._towers, self._shape.hidden[-1]
        products, passes = [], []
        for outputs in self._heads():
            products.append(_product(_operand(outputs, rows), _operand(rows, top)))
            products.append(_product(_operand(outputs, rows).T, _operand(outputs, top)))
        for number, (inputs, units) in enumerate(self._layers()):
            units_array = _operand(towers, rows, units)
            products.append(_product(_operand(towers, rows, inputs).transpose(0, 2, 1), units_array))
            if number:
                products.append(_product(units_array, _operand(towers, units, inputs)))
            passes += [_pass(np.multiply, units_array, units_array)] * 3
        self._products += products * times
        self._elementwise += passes * times

    def _add_adam(self, times: int) -> None:
        model = _operand(mlp_layout(self._shape).size)
        self._elementwise += [_pass(np.multiply, model, model)] * (10 * times)

    def _layers(self) -> Iterator[tuple[int, int]]:
        return pairwise((self._shape.observation_size, *self._shape.hidden))

    def _heads(self) -> tuple[int, ...]:
        """List the rows of the output products: actor and critic, or both at once."""
        num_outputs = self._shape.num_outputs
        return (num_outputs + 1,) if self._shape.num_towers == 1 else (num_outputs, 1)

    def _activation(self, units: FloatMatrix, bias: FloatMatrix) -> list[Pass]:
        activate = partial(np.tanh, units, _result(*units.shape))
        if self._shape.activation == "relu":
            activate = partial(np.maximum, units, 0.0, _result(*units.shape))
        return [_pass(np.add, units, bias), activate]


class Replay:
    """Steps an environment again with the actions a policy has taken in it.

    Parameters
    ----------
    environment : Environment
    num_steps : int
    """

    def __init__(self, environment: Environment, num_steps: int) -> None:
        self._environment = environment
        self._buffers = [
            StepBuffers.allocate(environment.num_envs, environment.observation_size) for _ in range(num_steps)
        ]
        self._actions: list[ActionArray] = []

    def record(self, network: Network, greedy: Callable[[FloatMatrix], ActionArray]) -> None:
        """Let the policy act greedily and keep its actions."""
        self._actions.clear()
        act = network.actor(self._environment.num_envs)
        observations = self._environment.reset(np.random.default_rng(STREAM))
        for out in self._buffers:
            actions = greedy(act(observations)).copy()
            self._environment.step(actions, out)
            self._actions.append(actions)
            observations = out.observations

    def play(self, clock: Clock) -> float:
        """Take the same actions from the same starts; return the seconds of the steps."""
        self._environment.reset(np.random.default_rng(STREAM))
        step, started = self._environment.step, clock.now()
        for actions, out in zip(self._actions, self._buffers, strict=True):
            step(actions, out)
        return clock.now() - started


def measure_limit(replay: Replay, arithmetic: Arithmetic, clock: Clock, seconds: float) -> Limit:
    """Repeat all parts in turn for about `seconds`, and take the median of each."""
    stop = perf_counter() + seconds
    taken: list[tuple[float, float, float]] = []
    while not taken or perf_counter() < stop:
        products_s, elementwise_s = (
            _timed(work, clock) for work in (arithmetic.multiply, arithmetic.pass_over)
        )
        taken.append((replay.play(clock), products_s, elementwise_s))
    return Limit(*np.median(taken, axis=0).tolist())


def _timed(work: Pass, clock: Clock) -> float:
    started = clock.now()
    work()
    return clock.now() - started


def _product(left: FloatMatrix, right: FloatMatrix) -> Pass:
    if left.ndim == 2:
        return partial(left.dot, right, _result(len(left), right.shape[1]))
    return partial(np.matmul, left, right, _result(*left.shape[:2], right.shape[2]))


def _pass(function: np.ufunc, left: FloatMatrix, right: FloatMatrix) -> Pass:
    return partial(function, left, right, _result(*left.shape))


@cache
def _operand(*shape: int) -> FloatMatrix:
    return np.full(shape, 0.5, np.float32)


@cache
def _result(*shape: int) -> FloatMatrix:
    return np.empty(shape, np.float32)


def _blocks(rows: int) -> list[int]:
    return [min(BLOCK_ROWS, rows - start) for start in range(0, rows, BLOCK_ROWS)]
