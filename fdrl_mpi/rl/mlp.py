"""A multi-layer perceptron with a hand-written gradient: the numpy engine.

Every array a pass needs is allocated once for each number of rows; every operation writes into one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fdrl_mpi.arrays import FloatMatrix, FloatVector, IntVector
from fdrl_mpi.rl.network import Network, NetworkShape, initialise_mlp, mlp_layout, mlp_pieces, mlp_state_dict
from fdrl_mpi.rl.optimiser import EPSILON, NumpyOptimiser, numpy_optimiser

COPIED_VALUES = 128 * 128
"""Size from which a product with a transposed weight is faster than with a transposed copy of it."""


@dataclass(frozen=True)
class _Workspace:
    """The arrays of one pass over a given number of rows.

    Attributes
    ----------
    hidden, d_hidden, slope : lists of float32 arrays, shape (towers, rows, units)
    outputs, d_outputs : float32 arrays, shape (total_outputs, rows)
    d_inputs : float32 array, shape (rows, observation_size)
    zeros : list of float32 arrays, shape (towers, rows, units)
        The larger of two arrays takes a third of the time of the larger of an array and a number.
    ones : float32 array, shape (1, rows)
        ``ones @ x`` sums columns 4 to 6 times faster than ``x.sum(0)``.
    """

    hidden: list[FloatMatrix]
    d_hidden: list[FloatMatrix]
    slope: list[FloatMatrix]
    outputs: FloatMatrix
    d_outputs: FloatMatrix
    d_inputs: FloatMatrix
    zeros: list[FloatMatrix]
    ones: FloatMatrix


class MLP:
    """Towers of layers as batched products over one flat buffer; see `Network` for the interface.

    Parameters
    ----------
    shape : NetworkShape
    generator : numpy.random.Generator
        Draws the initial weights.
    params : float32 array, shape (d,), optional
        Where the parameters are to lie.
    """

    def __init__(
        self, shape: NetworkShape, generator: np.random.Generator, params: FloatVector | None = None
    ) -> None:
        assert not shape.convolutions, "this engine has no convolutions"
        self.layout = mlp_layout(shape)
        self.params: FloatVector = np.empty(self.layout.size, np.float32) if params is None else params
        self.gradient: FloatVector = np.zeros(self.layout.size, np.float32)
        self._partial: FloatVector = np.zeros(self.layout.size, np.float32)
        initialise_mlp(shape, self.params, generator)
        self.shape = shape
        self._rows = shape.tower_rows()
        self.pieces: Mapping[str, slice] = mlp_pieces(shape)
        views = self.layout.views(self.params)
        self._weights = [views[f"weight_{number}"] for number in range(len(shape.hidden))]
        self._biases = [views[f"bias_{number}"] for number in range(len(shape.hidden))]
        self._head_weight, self._head_bias = views["head_weight"], views["head_bias"]
        self.free: FloatVector = views.get("free", np.empty(0, np.float32))
        self._transposed = [np.empty(w.transpose(0, 2, 1).shape, np.float32) for w in self._weights]
        self._workspaces: dict[int, _Workspace] = {}
        self._observations: FloatMatrix = np.empty((0, shape.observation_size), np.float32)
        self._gradient_views = self.layout.views(self.gradient)
        self._partial_views = self.layout.views(self._partial)
        self._activate: Callable[[FloatMatrix, FloatMatrix], FloatMatrix] = (
            np.tanh if shape.activation == "tanh" else _relu
        )

    def load(self) -> None:
        """Do nothing: `params` is where the network computes."""

    def store(self) -> None:
        """Do nothing: `params` is where the network computes."""

    def actor(self, num_rows: int) -> Callable[[FloatMatrix], FloatMatrix]:
        """Prepare to act on `num_rows` observations at a time; to be called again when parameters change.

        At a handful of rows the calls cost more than the arithmetic: `ndarray.dot` takes half the time of
        `matmul`, and a bias that is already tiled a third of one that is broadcast.
        """
        layers = []
        for weight, bias in zip(self._weights, self._biases, strict=True):
            tiled = bias[0] if num_rows == 1 else np.repeat(bias[0], num_rows, axis=0)
            layers.append((weight[0], tiled, np.empty_like(tiled)))
        num_outputs, is_bounded = self.shape.num_outputs, self.shape.is_bounded
        head_weight = self._head_weight[:num_outputs]
        head_bias = self._head_bias[:num_outputs]
        if num_rows > 1:
            head_bias = np.repeat(head_bias, num_rows, axis=1)
        outputs, top = np.empty_like(head_bias), layers[-1][-1].T
        activate, add = self._activate, np.add

        def act(observations: FloatMatrix) -> FloatMatrix:
            inputs = observations
            for weight, bias, units in layers:
                inputs.dot(weight, units)
                add(units, bias, units)
                activate(units, units)
                inputs = units
            head_weight.dot(top, outputs)
            add(outputs, head_bias, outputs)
            return np.tanh(outputs, outputs) if is_bounded else outputs

        return act

    def forward(self, observations: FloatMatrix) -> FloatMatrix:
        """Compute all heads: (n, observation_size) -> (total_outputs, n)."""
        work = self._workspace(len(observations))
        is_relu, inputs = self.shape.activation == "relu", observations
        self._observations = observations
        for weight, bias, units, zeros in zip(
            self._weights, self._biases, work.hidden, work.zeros, strict=True
        ):
            np.matmul(inputs, weight, out=units)
            np.add(units, bias, out=units)
            np.maximum(units, zeros, out=units) if is_relu else np.tanh(units, out=units)
            inputs = units
        outputs, top = work.outputs, work.hidden[-1]
        for tower, rows in enumerate(self._rows):
            np.matmul(self._head_weight[rows], top[tower].T, out=outputs[rows])
        np.add(outputs, self._head_bias, out=outputs)
        if self.shape.is_bounded:
            acting = outputs[: self.shape.num_outputs]
            np.tanh(acting, out=acting)
        return outputs

    def backward(self, d_outputs: FloatMatrix, d_free: FloatVector, accumulate: bool) -> None:
        """Turn the loss's derivative by the last outputs into the flat gradient."""
        gradient = self._partial_views if accumulate else self._gradient_views
        work = self._workspace(d_outputs.shape[1])
        d_outputs = self._before_bound(d_outputs, work)
        np.matmul(d_outputs, work.ones.T, out=gradient["head_bias"])
        for tower, rows in enumerate(self._rows):
            np.matmul(d_outputs[rows], work.hidden[-1][tower], out=gradient["head_weight"][rows])
        self._backward_head(d_outputs, work)
        for number in reversed(range(len(self._weights))):
            d_units = work.d_hidden[number]
            backward_activation(self.shape.activation, work.hidden[number], d_units, work.slope[number])
            np.matmul(work.ones, d_units, out=gradient[f"bias_{number}"])
            if number == 0:
                np.matmul(self._observations.T, d_units, out=gradient["weight_0"])
            else:
                below = work.hidden[number - 1]
                np.matmul(below.transpose(0, 2, 1), d_units, out=gradient[f"weight_{number}"])
                self._backward_layer(number, d_units, work.d_hidden[number - 1])
        if self.free.size:
            gradient["free"][:] = d_free
        if accumulate:
            np.add(self.gradient, self._partial, out=self.gradient)

    def input_gradient(self, d_outputs: FloatMatrix) -> FloatMatrix:
        """Turn the loss's derivative by the last outputs into that by the last inputs.

        A tower is passed only by the samples whose derivative by its outputs is not 0: of the smaller one of
        two critics that is one pass for both.
        """
        work = self._workspace(d_outputs.shape[1])
        d_outputs = self._before_bound(d_outputs, work)
        work.d_inputs.fill(0.0)
        for tower, rows in enumerate(self._rows):
            passing = np.flatnonzero(d_outputs[rows].any(axis=0))
            work.d_inputs[passing] += self._tower_input_gradient(tower, d_outputs[rows], passing, work)
        return work.d_inputs

    def _tower_input_gradient(
        self, tower: int, d_outputs: FloatMatrix, passing: IntVector, work: _Workspace
    ) -> FloatMatrix:
        """Pass the chosen samples through one tower."""
        n = len(passing)
        d_units = work.d_hidden[-1][tower, :n]
        np.matmul(d_outputs[:, passing].T, self._head_weight[self._rows[tower]], out=d_units)
        for number in reversed(range(len(self._weights))):
            slope = work.slope[number][tower, :n]
            work.hidden[number][tower].take(passing, axis=0, out=slope, mode="clip")
            backward_activation(self.shape.activation, slope, d_units, slope)
            if number:
                d_below = work.d_hidden[number - 1][tower, :n]
                d_units = np.matmul(d_units, self._weights[number][tower].T, out=d_below)
        d_inputs: FloatMatrix = d_units @ self._weights[0][tower].T
        return d_inputs

    def blend(self, other: Network, share: float) -> None:
        """Move the parameters by `share` of the way to those of an equal network."""
        if share == 1.0:
            self.params[:] = other.params
            return
        np.subtract(other.params, self.params, out=self._partial)
        np.multiply(self._partial, share, out=self._partial)
        np.add(self.params, self._partial, out=self.params)

    def flat_gradient(self) -> FloatVector:
        """Copy the flat gradient."""
        return self.gradient.copy()

    def optimiser(self, name: str = "adam", epsilon: float = EPSILON) -> NumpyOptimiser:
        """Make an optimiser of the flat parameters."""
        return numpy_optimiser(name, self.params, self.gradient, epsilon)

    def state_dict(self) -> dict[str, FloatMatrix]:
        """Copy the parameters under the names of torch modules."""
        return mlp_state_dict(self.shape, self.params)

    def _before_bound(self, d_outputs: FloatMatrix, work: _Workspace) -> FloatMatrix:
        """Differentiate by what went into the tanh of the first head, if there is one."""
        if not self.shape.is_bounded:
            return d_outputs
        acting = slice(0, self.shape.num_outputs)
        work.d_outputs[:] = d_outputs
        work.d_outputs[acting] *= 1.0 - np.square(work.outputs[acting])
        return work.d_outputs

    def _backward_head(self, d_outputs: FloatMatrix, work: _Workspace) -> None:
        """Differentiate by the units below the heads."""
        weight, d_top = self._head_weight, work.d_hidden[-1]
        for tower, rows in enumerate(self._rows):
            if rows.stop - rows.start == 1:
                np.multiply(d_outputs[rows].T, weight[rows], out=d_top[tower])
            else:
                np.matmul(d_outputs[rows].T, weight[rows], out=d_top[tower])

    def _backward_layer(self, number: int, d_units: FloatMatrix, d_below: FloatMatrix) -> None:
        """Differentiate by what goes into a hidden layer; of small ones from a transposed copy, for speed."""
        weight = self._weights[number].transpose(0, 2, 1)
        if weight[0].size >= COPIED_VALUES:
            np.matmul(d_units, weight, out=d_below)
            return
        transposed = self._transposed[number]
        np.copyto(transposed, weight)
        np.matmul(d_units, transposed, out=d_below)

    def _workspace(self, rows: int) -> _Workspace:
        if rows not in self._workspaces:
            layers = [(len(weight), rows, weight.shape[-1]) for weight in self._weights]
            hidden, d_hidden, slope = ([np.empty(layer, np.float32) for layer in layers] for _ in range(3))
            shape = self.shape
            outputs, d_outputs = (np.empty((shape.total_outputs, rows), np.float32) for _ in range(2))
            d_inputs = np.empty((rows, shape.observation_size), np.float32)
            zeros = [np.zeros(layer, np.float32) for layer in layers]  # untouched, they take no memory
            ones = np.ones((1, rows), np.float32)
            self._workspaces[rows] = _Workspace(
                hidden, d_hidden, slope, outputs, d_outputs, d_inputs, zeros, ones
            )
        return self._workspaces[rows]


def _relu(units: FloatMatrix, out: FloatMatrix) -> FloatMatrix:
    return np.maximum(units, 0.0, out=out)


def backward_activation(
    activation: str, units: FloatMatrix, d_units: FloatMatrix, slope: FloatMatrix
) -> None:
    """Multiply `d_units` by the activation's slope, which its own output gives; arrays of one shape."""
    if activation == "tanh":
        np.multiply(units, units, out=slope)
        np.subtract(1.0, slope, out=slope)
    else:
        np.greater(units, 0.0, out=slope)
    np.multiply(d_units, slope, out=d_units)
