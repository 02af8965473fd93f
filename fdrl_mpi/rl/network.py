"""The interface of an actor-critic network, whichever engine computes it."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Protocol

import numpy as np

from fdrl_mpi.arrays import FloatMatrix, FloatVector, State
from fdrl_mpi.rl.flat import Layout


@dataclass(frozen=True)
class NetworkShape:
    """What goes in and comes out of an actor-critic network.

    Attributes
    ----------
    observation_size : int
    num_outputs : int
        Outputs of the actor: logits, or means of a Gaussian.
    num_free : int
        Parameters of the policy that no observation changes: the log deviations of a Gaussian.
    """

    observation_size: int
    num_outputs: int
    num_free: int
    hidden: tuple[int, ...]
    activation: str
    shared: bool


class Optimiser(Protocol):
    """Steps the flat parameters of one network along its flat gradient."""

    def step(self, lr: float, max_gradient_norm: float) -> float:
        """Clip the gradient to an L2 norm, step, and return the norm before clipping."""

    def get_state(self) -> State: ...

    def set_state(self, state: State) -> None: ...


class ActorCritic(Protocol):
    """Actor and critic over one flat parameter buffer.

    Outputs are transposed: row a holds the actor's output a of every sample, the last row the values.

    Attributes
    ----------
    params : float32 array, shape (d,)
        Host memory; what MPI sends.
    free : float32 array, shape (num_free,)
        The policy's free parameters in host memory.
    """

    layout: Layout
    params: FloatVector
    free: FloatVector

    def load(self) -> None:
        """Bring `params` to where the network computes."""

    def store(self) -> None:
        """Bring what the network has learnt back to `params`."""

    def actor(self, num_rows: int) -> Callable[[FloatMatrix], FloatMatrix]:
        """Freeze the policy as it is now, for acting on `num_rows` observations at a time.

        The function takes (num_rows, observation_size) to (num_outputs, num_rows), in an array that its
        next call overwrites.
        """

    def forward(self, observations: FloatMatrix) -> FloatMatrix:
        """Compute actor and critic: (n, observation_size) -> (num_outputs + 1, n), kept for `backward`."""

    def backward(self, d_outputs: FloatMatrix, d_free: FloatVector, accumulate: bool) -> None:
        """Turn the loss's derivative by the last outputs into the flat gradient (added if `accumulate`)."""

    def optimiser(self) -> Optimiser:
        """Make the Adam optimiser of this network's parameters."""

    def state_dict(self) -> dict[str, FloatMatrix]:
        """Copy the parameters under the names and shapes of the same network made of torch modules."""


def mlp_layout(shape: NetworkShape) -> Layout:
    """Lay out a multi-layer perceptron; both engines share it, so their flat models are interchangeable.

    Actor and critic are the two slices of a leading axis (one slice if they share their layers), so that
    each layer is one batched product.
    """
    towers = 1 if shape.shared else 2
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = shape.observation_size
    for number, units in enumerate(shape.hidden):
        shapes[f"weight_{number}"] = (towers, inputs, units)
        shapes[f"bias_{number}"] = (towers, 1, units)
        inputs = units
    shapes["head_weight"] = (shape.num_outputs + 1, inputs)
    shapes["head_bias"] = (shape.num_outputs + 1, 1)
    if shape.num_free:
        shapes["free"] = (shape.num_free,)
    return Layout(shapes)


def initialise_mlp(shape: NetworkShape, params: FloatVector, generator: np.random.Generator) -> None:
    """Fill `params` with orthogonal weights and zero biases.

    Gains: sqrt(2) in hidden layers, 0.01 for the actor's outputs, 1 for the value (Andrychowicz et al.,
    "What Matters in On-Policy Reinforcement Learning", ICLR 2021, section 3.2; CleanRL's `ppo.py`).
    """
    params.fill(0.0)
    views = mlp_layout(shape).views(params)
    for number in range(len(shape.hidden)):
        for weight in views[f"weight_{number}"]:
            weight[:] = _orthogonal(weight.shape, sqrt(2.0), generator)
    actor, critic = views["head_weight"][:-1], views["head_weight"][-1:]
    actor[:] = _orthogonal(actor.shape, 0.01, generator)
    critic[:] = _orthogonal(critic.shape, 1.0, generator)


def mlp_state_dict(shape: NetworkShape, params: FloatVector) -> dict[str, FloatMatrix]:
    """Copy a flat perceptron under the names of `torch.nn.Sequential` modules.

    Separate towers: `actor` and `critic`, each Linear, activation, Linear, ... Shared layers: `trunk`, with
    Linear layers `actor` and `critic` on top. Free parameters: `log_std`.
    """
    views = mlp_layout(shape).views(params)
    arrays: dict[str, FloatMatrix] = {}
    towers = ("trunk",) if shape.shared else ("actor", "critic")
    for tower, name in enumerate(towers):
        for number in range(len(shape.hidden)):
            arrays[f"{name}.{2 * number}.weight"] = views[f"weight_{number}"][tower].T.copy()
            arrays[f"{name}.{2 * number}.bias"] = views[f"bias_{number}"][tower, 0].copy()
    last = "" if shape.shared else f".{2 * len(shape.hidden)}"
    arrays[f"actor{last}.weight"] = views["head_weight"][:-1].copy()
    arrays[f"actor{last}.bias"] = views["head_bias"][:-1, 0].copy()
    arrays[f"critic{last}.weight"] = views["head_weight"][-1:].copy()
    arrays[f"critic{last}.bias"] = views["head_bias"][-1:, 0].copy()
    if shape.num_free:
        arrays["log_std"] = views["free"].copy()
    return arrays


def _orthogonal(shape: tuple[int, ...], gain: float, generator: np.random.Generator) -> FloatMatrix:
    """Draw a matrix with orthonormal rows or columns, times `gain` (Saxe et al., ICLR 2014)."""
    rows, columns = shape
    tall = generator.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q *= np.sign(np.diag(r))
    return (gain * (q if rows >= columns else q.T)).astype(np.float32)
