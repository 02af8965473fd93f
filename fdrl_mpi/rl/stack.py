"""A equal perceptrons at once: the numpy engine with one more axis in front.

What one of them computes is what `MLP` computes with its parameters: the same products, one after another in
C instead of in Python.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fdrl_mpi.arrays import FloatMatrix
from fdrl_mpi.rl.mlp import COPIED_VALUES, backward_activation
from fdrl_mpi.rl.network import NetworkShape, mlp_layout
from fdrl_mpi.rl.on_policy import BLOCK_ROWS, slices


@dataclass(frozen=True)
class _Workspace:
    """The arrays of one pass over n rows of each of B networks.

    Attributes
    ----------
    hidden, d_hidden, slope : lists of float32 arrays, shape (B, towers, n, units)
    outputs : float32 array, shape (total_outputs, B, n)
    transposed : list of float32 arrays, shape (B, towers, units, inputs)
        Of the weights behind the first layer.
    ones : float32 array, shape (1, n)
    """

    hidden: list[FloatMatrix]
    d_hidden: list[FloatMatrix]
    slope: list[FloatMatrix]
    outputs: FloatMatrix
    transposed: list[FloatMatrix]
    ones: FloatMatrix


class MLPStack:
    """Perceptrons of one shape over the rows of two matrices.

    Outputs are transposed as those of a `Network` are: row a holds output a of every sample, the samples of
    one network behind those of the one before it.

    Parameters
    ----------
    shape : NetworkShape
        Without convolutions.
    params, gradient : float32 arrays, shape (A, d)
        Changed in place; `gradient` is what `backward` fills.
    workspaces : dict, optional
        Where to keep what a pass needs: stacks that share it compute one after another.

    Attributes
    ----------
    free : float32 array, shape (A, num_free)
    """

    def __init__(
        self,
        shape: NetworkShape,
        params: FloatMatrix,
        gradient: FloatMatrix,
        workspaces: dict[tuple[int, int], _Workspace] | None = None,
    ) -> None:
        assert not shape.convolutions, "this engine has no convolutions"
        layout, self.shape = mlp_layout(shape), shape
        self.params, self.gradient = params, gradient
        views, layers = layout.stacked_views(params), range(len(shape.hidden))
        self._weights = [views[f"weight_{number}"] for number in layers]
        self._biases = [views[f"bias_{number}"] for number in layers]
        self._head_weight, self._head_bias = views["head_weight"], views["head_bias"]
        self.free: FloatMatrix = views.get("free", np.empty((len(params), 0), np.float32))
        self._d = layout.stacked_views(gradient)
        self._rows = shape.tower_rows()
        self._workspaces = {} if workspaces is None else workspaces
        self._observations: FloatMatrix = np.empty((len(params), 0, shape.observation_size), np.float32)
        self._activate: Callable[[FloatMatrix, FloatMatrix], FloatMatrix] = (
            np.tanh if shape.activation == "tanh" else _relu
        )

    def __len__(self) -> int:
        return len(self.params)

    @staticmethod
    def size(shape: NetworkShape) -> int:
        """Count the parameters of one network, d."""
        return mlp_layout(shape).size

    def parts(self, rows: int) -> "list[tuple[slice, MLPStack]]":
        """Cut the stack so that passes over `rows` rows of each network stay in the cache."""
        blocks = slices(len(self), max(1, BLOCK_ROWS // rows))
        return [(members, self._part(members)) for members in blocks]

    def _part(self, members: slice) -> "MLPStack":
        return MLPStack(self.shape, self.params[members], self.gradient[members], self._workspaces)

    def actor(self, num_rows: int) -> Callable[[FloatMatrix], FloatMatrix]:
        """Prepare to act on ``num_rows / A`` observations of each network at a time.

        The function takes (num_rows, observation_size) to the first head's (num_outputs, num_rows), in an
        array that its next call overwrites; to be called again when parameters change.
        """
        members, num_outputs = len(self), self.shape.num_outputs
        each = num_rows // members
        layers = []
        for weight, bias in zip(self._weights, self._biases, strict=True):
            tiled = np.repeat(bias[:, 0], each, axis=1)
            layers.append((weight[:, 0], tiled, np.empty_like(tiled)))
        head_weight = self._head_weight[:, :num_outputs]
        head_bias = np.repeat(self._head_bias[:, :num_outputs, 0].T, each, axis=1)
        outputs, top = np.empty_like(head_bias), layers[-1][-1].swapaxes(1, 2)
        by_member = outputs.reshape(num_outputs, members, each).swapaxes(0, 1)
        activate, matmul, add, is_bounded = self._activate, np.matmul, np.add, self.shape.is_bounded

        def act(observations: FloatMatrix) -> FloatMatrix:
            inputs = observations.reshape(members, each, -1)
            for weight, bias, units in layers:
                matmul(inputs, weight, units)
                add(units, bias, units)
                activate(units, units)
                inputs = units
            matmul(head_weight, top, by_member)
            add(outputs, head_bias, outputs)
            return np.tanh(outputs, outputs) if is_bounded else outputs

        return act

    def forward(self, observations: FloatMatrix) -> FloatMatrix:
        """Compute all heads: (A, n, observation_size) -> (total_outputs, A, n)."""
        work = self._workspace(observations.shape[1])
        self._observations = observations
        inputs = observations[:, None]
        for weight, bias, units in zip(self._weights, self._biases, work.hidden, strict=True):
            np.matmul(inputs, weight, out=units)
            np.add(units, bias, out=units)
            self._activate(units, units)
            inputs = units
        outputs, top = work.outputs, work.hidden[-1]
        by_member = outputs.swapaxes(0, 1)
        for tower, rows in enumerate(self._rows):
            np.matmul(self._head_weight[:, rows], top[:, tower].swapaxes(1, 2), out=by_member[:, rows])
        np.add(by_member, self._head_bias, out=by_member)
        if self.shape.is_bounded:
            acting = outputs[: self.shape.num_outputs]
            np.tanh(acting, out=acting)
        return outputs

    def backward(self, d_outputs: FloatMatrix, d_free: FloatMatrix) -> None:
        """Fill the gradient from the losses' derivatives by the last outputs, shape (total_outputs, A, n).

        `d_outputs` is overwritten where the first head is bounded; `d_free` has shape (A, num_free).
        """
        gradient, work = self._d, self._workspace(d_outputs.shape[2])
        if self.shape.is_bounded:
            acting = slice(self.shape.num_outputs)
            d_outputs[acting] *= 1.0 - np.square(work.outputs[acting])
        by_member = d_outputs.swapaxes(0, 1)
        np.matmul(by_member, work.ones.T, out=gradient["head_bias"])
        for tower, rows in enumerate(self._rows):
            d_rows = by_member[:, rows]
            np.matmul(d_rows, work.hidden[-1][:, tower], out=gradient["head_weight"][:, rows])
            self._backward_head(d_rows, self._head_weight[:, rows], work.d_hidden[-1][:, tower])
        for number in reversed(range(len(self._weights))):
            d_units = work.d_hidden[number]
            backward_activation(self.shape.activation, work.hidden[number], d_units, work.slope[number])
            np.matmul(work.ones, d_units, out=gradient[f"bias_{number}"])
            below = work.hidden[number - 1] if number else self._observations[:, None]
            np.matmul(below.swapaxes(2, 3), d_units, out=gradient[f"weight_{number}"])
            if number:
                self._backward_layer(number, d_units, work)
        if self.free.size:
            gradient["free"][:] = d_free

    def _backward_head(self, d_rows: FloatMatrix, weight: FloatMatrix, d_top: FloatMatrix) -> None:
        """Differentiate by the units below the heads of one tower; one head needs no product."""
        through = np.multiply if d_rows.shape[1] == 1 else np.matmul
        through(d_rows.swapaxes(1, 2), weight, out=d_top)

    def _backward_layer(self, number: int, d_units: FloatMatrix, work: _Workspace) -> None:
        """Differentiate by what goes into a hidden layer; of small ones as `MLP` does it, to the bit."""
        weight = self._weights[number].swapaxes(2, 3)
        if weight[0, 0].size < COPIED_VALUES:
            transposed = work.transposed[number - 1]
            np.copyto(transposed, weight)
            weight = transposed
        np.matmul(d_units, weight, out=work.d_hidden[number - 1])

    def _workspace(self, rows: int) -> _Workspace:
        members = len(self)
        if (members, rows) not in self._workspaces:
            layers = [(members, self.shape.num_towers, rows, units) for units in self.shape.hidden]
            hidden, d_hidden, slope = ([np.empty(layer, np.float32) for layer in layers] for _ in range(3))
            outputs = np.empty((self.shape.total_outputs, members, rows), np.float32)
            transposed = [np.empty(weight.swapaxes(2, 3).shape, np.float32) for weight in self._weights[1:]]
            ones = np.ones((1, rows), np.float32)
            made = _Workspace(hidden, d_hidden, slope, outputs, transposed, ones)
            self._workspaces[members, rows] = made
        return self._workspaces[members, rows]


def _relu(units: FloatMatrix, out: FloatMatrix) -> FloatMatrix:
    return np.maximum(units, np.float32(0.0), out=out)
