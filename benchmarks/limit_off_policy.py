"""The limit of DQN and SAC in numpy: the environment steps and array passes of both, and nothing else.

``python benchmarks/limit_off_policy.py [--learner dqn sac] [--repeats 5] [--cpu-time] [--json]``

One environment is stepped with random actions, its resets included; matrix products and elementwise passes
have the shapes of one action and of one update. Nothing is stored, sampled or drawn.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from one_core import pin

from fdrl_mpi.process import prepare_process

if TYPE_CHECKING:
    import numpy as np
    from clocks import Clock

    from fdrl_mpi.arrays import FloatMatrix
    from fdrl_mpi.envs.vector import VectorEnv

Pass = Callable[[], object]

STEPS = 20_000
"""Environment steps of one measurement; a hundred times fewer actions and updates make one of arithmetic."""

STEPPING_COLUMNS = {
    "program": "program",
    "environment": "environment",
    "step_us": "us/step",
    "spread": "+-",
    "env_steps_per_s": "steps/s",
}
ARITHMETIC_COLUMNS = {
    "learner": "learner",
    "act_products_us": "act: products us",
    "act_elementwise_us": "elementwise us",
    "update_products_us": "update: products us",
    "update_elementwise_us": "elementwise us",
    "update_gflop": "GFLOP",
    "gflop_per_s": "GFLOP/s",
    "products_limit": "env + products, steps/s",
    "limit_steps_per_s": "limit steps/s",
}


@dataclass(frozen=True)
class Passes:
    """Array passes of one action or one update.

    Attributes
    ----------
    products : list of callables
        Matrix products, written into arrays of their own.
    elementwise : list of callables
        Biases, activations and their slopes, Adam, moving targets.
    multiply_adds : int
        Of the products.
    """

    products: list[Pass]
    elementwise: list[Pass]
    multiply_adds: int

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(
            self.products + other.products,
            self.elementwise + other.elementwise,
            self.multiply_adds + other.multiply_adds,
        )


class Perceptron:
    """The passes of one network with ReLU units, for a batch of one size.

    Parameters
    ----------
    sizes : tuple of int
        Inputs, units of each hidden layer, outputs.
    rows : int
        Batch size.
    """

    def __init__(self, sizes: tuple[int, ...], rows: int) -> None:
        self._layers = list(pairwise(sizes))
        self._weights = [_operand(*layer) for layer in self._layers]
        self._biases = [_operand(units) for _, units in self._layers]
        self._units = [_operand(rows, size) for size in sizes]
        self._slopes = [_operand(rows, size) for size in sizes]
        self._multiply_adds = [rows * inputs * units for inputs, units in self._layers]
        self._size = sum(inputs * units + units for inputs, units in self._layers)

    def forward(self) -> Passes:
        """Values of all layers."""
        import numpy as np

        products = [
            _product(self._units[layer], weights, self._units[layer + 1])
            for layer, weights in enumerate(self._weights)
        ]
        biases = [
            _into(np.add, units, bias) for units, bias in zip(self._units[1:], self._biases, strict=True)
        ]
        activations = [partial(np.maximum, units, np.float32(0.0), out=units) for units in self._units[1:-1]]
        return Passes(products, biases + activations, sum(self._multiply_adds))

    def weight_gradients(self) -> Passes:
        """Gradients of all weights, and of the biases as products with a vector of ones."""
        ones = _operand(1, len(self._units[0]))
        products = []
        for layer, (inputs, units) in enumerate(self._layers):
            slopes = self._slopes[layer + 1]
            products.append(_product(self._units[layer].T, slopes, _operand(inputs, units)))
            products.append(_product(ones, slopes, _operand(1, units)))
        biases = sum(len(ones[0]) * units for _, units in self._layers)
        return Passes(products, [], sum(self._multiply_adds) + biases)

    def unit_gradients(self, input_columns: int = 0) -> Passes:
        """Gradients of all hidden units, and of the last `input_columns` inputs."""
        import numpy as np

        backward = range(len(self._layers) - 1, 0, -1)
        products, elementwise, count = [], [], 0
        for layer in backward:
            slopes, units = self._slopes[layer], self._units[layer]
            products.append(_product(self._slopes[layer + 1], self._weights[layer].T, slopes))
            mask = np.empty(units.shape, np.bool_)
            elementwise += [
                partial(np.greater, units, np.float32(0.0), out=mask),
                _into(np.multiply, slopes, mask),
            ]
            count += self._multiply_adds[layer]
        if input_columns:
            rows, weights = len(self._units[0]), self._weights[0][-input_columns:]
            products.append(_product(self._slopes[1], weights.T, _operand(rows, input_columns)))
            count += rows * weights.size
        return Passes(products, elementwise, count)

    def backward(self) -> Passes:
        """All that training this network takes after its forward pass and its loss."""
        return self.weight_gradients() + self.unit_gradients()

    def adam(self) -> Passes:
        """Ten passes over all parameters."""
        return self._over_parameters(10)

    def follow(self) -> Passes:
        """Move a target network: two passes over all parameters."""
        return self._over_parameters(2)

    def _over_parameters(self, times: int) -> Passes:
        import numpy as np

        model = _operand(self._size)
        return Passes([], [_into(np.multiply, model, model)] * times, 0)


@dataclass(frozen=True)
class Arithmetic:
    """One action and one update of a learner, and how many steps it takes between updates."""

    name: str
    environment_id: str
    act: Passes
    update: Passes
    train_every: int


def dqn_arithmetic() -> Arithmetic:
    """DQN: online and target network forward, online network backward, Adam."""
    from off_policy_settings import DQNSettings

    settings = DQNSettings()
    sizes = (4, *settings.hidden, 2)
    online, target = (Perceptron(sizes, settings.batch_size) for _ in range(2))
    update = target.forward() + online.forward() + online.backward() + online.adam()
    act = Perceptron(sizes, 1).forward()
    return Arithmetic("dqn", settings.environment_id, act, update, settings.train_every)


def sac_arithmetic() -> Arithmetic:
    """SAC: both critics, actor, targets; the temperature takes the densities of the actor's own update.

    The goals take the actor and two targets; the critics go forward and backward; the actor goes forward,
    through both critics to their action, and backward.
    """
    from off_policy_settings import SACSettings

    settings = SACSettings()
    critic_sizes, actor_sizes = (4, *settings.hidden, 1), (3, *settings.hidden, 2)
    actor = Perceptron(actor_sizes, settings.batch_size)
    update = actor.forward() + actor.forward() + actor.backward() + actor.adam()
    for _ in range(2):
        critic, target = (Perceptron(critic_sizes, settings.batch_size) for _ in range(2))
        update += target.forward() + critic.forward() + critic.backward() + critic.adam() + critic.follow()
        update += critic.forward() + critic.unit_gradients(input_columns=1)
    act = Perceptron(actor_sizes, 1).forward()
    return Arithmetic("sac", settings.environment_id, act, update, 1)


LEARNERS = {"dqn": dqn_arithmetic, "sac": sac_arithmetic}


def main() -> None:
    """Measure and report."""
    prepare_process()
    arguments = _arguments()

    from clocks import ProcessorClock, WallClock
    from reporting import machine, print_json, print_report

    from fdrl_mpi.rl.denormals import flush_denormals

    facts = machine() | {"pinned_to_core": pin(), "clock": "processor" if arguments.cpu_time else "wall"}
    flush_denormals()
    clock = ProcessorClock() if arguments.cpu_time else WallClock()
    arithmetics = [LEARNERS[name]() for name in arguments.learner]
    stepping = [
        row for one in arithmetics for row in _stepping_rows(one.environment_id, arguments.repeats, clock)
    ]
    own = {row["environment"]: row["step_us"] for row in stepping if row["program"] == "fdrl_mpi"}
    rows = [_arithmetic_row(one, own[one.environment_id], arguments.repeats, clock) for one in arithmetics]
    repeats = f"medians of {arguments.repeats}; +-: half the quartile range"
    print_report("Stepping alone, one environment", stepping, STEPPING_COLUMNS, repeats)
    print_report("Arithmetic alone, and with the own environment", rows, ARITHMETIC_COLUMNS, repeats)
    if arguments.json:
        print_json(facts, stepping + rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--learner", nargs="+", default=list(LEARNERS), choices=LEARNERS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true", help="count processor time: others use the core")
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    return parser.parse_args()


def _stepping_rows(environment_id: str, repeats: int, clock: "Clock") -> list[dict[str, Any]]:
    """Step gymnasium's environment, the own one, and gymnasium's inside the own interface, in turn."""
    from reporting import Spread

    programs = {
        "gymnasium.make": partial(_gymnasium_s, environment_id),
        "fdrl_mpi": partial(_own_s, environment_id),
        "fdrl_mpi, gym:": partial(_own_s, f"gym:{environment_id}"),
    }
    taken: dict[str, list[float]] = {program: [] for program in programs}
    for _ in range(repeats):
        for program, seconds in programs.items():
            taken[program].append(seconds(clock))
    rows = []
    for program, seconds in taken.items():
        spread = Spread.of([1e6 * one / STEPS for one in seconds])
        row = {"program": program, "environment": environment_id, "step_us": spread.median}
        rows.append(row | {"spread": spread.relative, "env_steps_per_s": 1e6 / spread.median})
    return rows


def _gymnasium_s(environment_id: str, clock: "Clock") -> float:
    import gymnasium

    environment = gymnasium.make(environment_id)
    environment.action_space.seed(1)
    actions = [environment.action_space.sample() for _ in range(STEPS)]
    environment.reset(seed=1)
    started = clock.now()
    for action in actions:
        _, _, terminated, truncated, _ = environment.step(action)
        if terminated or truncated:
            environment.reset()
    seconds = clock.now() - started
    environment.close()
    return seconds


def _own_s(environment_id: str, clock: "Clock") -> float:
    import numpy as np

    from fdrl_mpi.build_agent import make_environment
    from fdrl_mpi.config import EnvironmentConfig
    from fdrl_mpi.steps import StepBuffers

    environment = make_environment(EnvironmentConfig(id=environment_id), [{}])
    actions = _random_actions(environment, np.random.default_rng(1))
    out = StepBuffers.allocate(1, environment.observation_size)
    environment.reset(np.random.default_rng(1))
    step, started = environment.step, clock.now()
    for action in actions:
        step(action, out)
    seconds = clock.now() - started
    environment.close()
    return seconds


def _random_actions(environment: "VectorEnv", generator: "np.random.Generator") -> list[Any]:
    import numpy as np

    spec = environment.action_spec
    if spec.kind == "discrete":
        return list(generator.integers(spec.size, size=(STEPS, 1)))
    return list(generator.uniform(spec.low, spec.high, (STEPS, 1, spec.size)).astype(np.float32))


def _arithmetic_row(one: Arithmetic, environment_us: float, repeats: int, clock: "Clock") -> dict[str, Any]:
    import numpy as np

    parts = (one.act.products, one.act.elementwise, one.update.products, one.update.elementwise)
    times = STEPS // 100
    taken = [[1e6 * _timed(part, times, clock) for part in parts] for _ in range(repeats + 1)][1:]
    act_products, act_elementwise, products, elementwise = np.median(taken, axis=0).tolist()
    with_products = environment_us + act_products + products / one.train_every
    with_all = with_products + act_elementwise + elementwise / one.train_every
    return {
        "learner": one.name,
        "environment": one.environment_id,
        "act_products_us": act_products,
        "act_elementwise_us": act_elementwise,
        "update_products_us": products,
        "update_elementwise_us": elementwise,
        "update_gflop": 2e-9 * one.update.multiply_adds,
        "gflop_per_s": 2e-3 * one.update.multiply_adds / products,
        "products_limit": 1e6 / with_products,
        "limit_steps_per_s": 1e6 / with_all,
    }


def _timed(works: list[Pass], times: int, clock: "Clock") -> float:
    started = clock.now()
    for _ in range(times):
        for work in works:
            work()
    return (clock.now() - started) / times


def _product(left: "FloatMatrix", right: "FloatMatrix", out: "FloatMatrix") -> Pass:
    import numpy as np

    is_outer = left.shape[1] == 1  # no BLAS call in matmul, and four times slower there
    return partial(np.multiply if is_outer else np.matmul, left, right, out=out)


def _into(function: "np.ufunc", target: "FloatMatrix", other: Any) -> Pass:
    return partial(function, target, other, out=target)


def _operand(*shape: int) -> "FloatMatrix":
    import numpy as np

    return np.full(shape, 0.5, np.float32)


if __name__ == "__main__":
    main()
