"""The interface of a network over one flat parameter buffer, whichever engine computes it."""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod, sqrt
from typing import Any, Protocol

import numpy as np

from fdrl_mpi.arrays import FloatMatrix, FloatVector, State
from fdrl_mpi.rl.convolutions import Convolution, convolution_layers
from fdrl_mpi.rl.flat import Layout

TRUNK = "trunk"
"""Name of layers that several heads share."""
FREE = "log_std"
"""Name of the policy's free parameters."""


@dataclass(frozen=True)
class Head:
    """Outputs with a meaning of their own, on top of one tower of hidden layers.

    Attributes
    ----------
    name : str
    outputs : int
    tower : int
        Heads of one tower share its hidden layers; towers are counted from 0, in the order of their heads.
    gain : float
        Of the orthogonal initial weights.
    """

    name: str
    outputs: int
    tower: int = 0
    gain: float = 1.0


@dataclass(frozen=True)
class NetworkShape:
    """What goes in and comes out of a network, and what is between.

    Attributes
    ----------
    observation_size : int
    heads : tuple of Head
        The first one acts.
    hidden : tuple of int
        Units of each hidden layer of every tower.
    activation : "tanh" or "relu"
    num_free : int
        Parameters of the policy that no observation changes: the log deviations of a Gaussian.
    initialisation : "orthogonal" or "uniform"
    is_bounded : bool
        Whether the first head's outputs pass through a tanh.
    differentiates_inputs : bool
        Whether `Network.input_gradient` will be asked for.
    convolutions : tuple of (channels, kernel, stride)
        In front of the hidden layers of every tower.
    observation_shape : tuple of int
        What an observation is before it is flattened; of an image three numbers.

    Raises
    ------
    ValueError
        If there are convolutions that do not fit the observations.
    """

    observation_size: int
    heads: tuple[Head, ...]
    hidden: tuple[int, ...]
    activation: str
    num_free: int = 0
    initialisation: str = "orthogonal"
    is_bounded: bool = False
    differentiates_inputs: bool = False
    convolutions: tuple[tuple[int, int, int], ...] = ()
    observation_shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        convolution_layers(self.observation_shape, self.convolutions)

    @property
    def convolution_layers(self) -> list[Convolution]:
        """What the convolutions make of an image."""
        return convolution_layers(self.observation_shape, self.convolutions)

    @property
    def num_features(self) -> int:
        """Values that go into the first hidden layer."""
        layers = self.convolution_layers
        return layers[-1].size if layers else self.observation_size

    @property
    def num_outputs(self) -> int:
        """Outputs of the head that acts: logits, means of a Gaussian, values of actions."""
        return self.heads[0].outputs

    @property
    def total_outputs(self) -> int:
        """Outputs of all heads."""
        return sum(head.outputs for head in self.heads)

    @property
    def num_towers(self) -> int:
        """Number of towers of hidden layers."""
        return self.heads[-1].tower + 1

    def tower_rows(self) -> list[slice]:
        """Say which rows of the outputs each tower computes."""
        rows, start = [], 0
        for tower in range(self.num_towers):
            stop = start + sum(head.outputs for head in self.heads if head.tower == tower)
            rows.append(slice(start, stop))
            start = stop
        return rows


def actor_critic_shape(
    observation_size: int,
    num_outputs: int,
    num_free: int,
    hidden: tuple[int, ...],
    activation: str,
    shared: bool,
    **options: Any,
) -> NetworkShape:
    """Shape a policy and a state value, on the same hidden layers or on two towers.

    Gains: 0.01 for the actor's outputs, 1 for the value (Andrychowicz et al., "What Matters in On-Policy
    Reinforcement Learning", ICLR 2021, section 3.2).
    """
    actor, critic = Head("actor", num_outputs, 0, 0.01), Head("critic", 1, 0 if shared else 1)
    return NetworkShape(observation_size, (actor, critic), hidden, activation, num_free, **options)


class Optimiser(Protocol):
    """Steps flat parameters along their flat gradient.

    Attributes
    ----------
    params, gradient : vectors of the engine, shape (d,)
        numpy arrays or torch tensors, changed in place.
    """

    params: Any
    gradient: Any

    def step(self, lr: float, max_gradient_norm: float) -> float:
        """Clip the gradient to an L2 norm, step, and return the norm before clipping."""

    def adopt(self, values: FloatVector) -> Any:
        """Copy a vector to where the parameters are."""

    def get_state(self) -> State: ...

    def set_state(self, state: State) -> None: ...


class Network(Protocol):
    """A network over one flat parameter buffer.

    Outputs are transposed: row a holds output a of every sample, heads one below the other.

    Attributes
    ----------
    params : float32 array, shape (d,)
        Host memory; what MPI sends.
    free : float32 array, shape (num_free,)
        The policy's free parameters in host memory.
    pieces : mapping
        Where each parameter lies in `params`, under the names of `state_dict`.
    """

    shape: NetworkShape
    layout: Layout
    params: FloatVector
    free: FloatVector
    pieces: Mapping[str, slice]

    def load(self) -> None:
        """Bring `params` to where the network computes."""

    def store(self) -> None:
        """Bring what the network has learnt back to `params`."""

    def actor(self, num_rows: int) -> Callable[[FloatMatrix], FloatMatrix]:
        """Prepare to act on `num_rows` observations at a time; to be called again when parameters change.

        The function takes (num_rows, observation_size) to the first head's (num_outputs, num_rows), in an
        array that its next call overwrites.
        """

    def forward(self, observations: FloatMatrix) -> FloatMatrix:
        """Compute all heads: (n, observation_size) -> (total_outputs, n), kept for `backward`."""

    def backward(self, d_outputs: FloatMatrix, d_free: FloatVector, accumulate: bool) -> None:
        """Turn the loss's derivative by the last outputs into the flat gradient (added if `accumulate`)."""

    def input_gradient(self, d_outputs: FloatMatrix) -> FloatMatrix:
        """Turn it into the derivative by the last inputs, (n, observation_size); the gradient stays."""

    def blend(self, other: "Network", share: float) -> None:
        """Move the parameters by `share` of the way to those of an equal network (Polyak averaging)."""

    def flat_gradient(self) -> FloatVector:
        """Copy the flat gradient to host memory."""

    def optimiser(self, name: str = "adam", epsilon: float = 1e-5) -> Optimiser:
        """Make an optimiser of this network's parameters: "adam", "rmsprop" or "sgd"."""

    def state_dict(self) -> dict[str, FloatMatrix]:
        """Copy the parameters under the names and shapes of the same network made of torch modules."""


def mlp_layout(shape: NetworkShape) -> Layout:
    """Lay out a multi-layer perceptron; both engines share it, so their flat models are interchangeable.

    Towers are the slices of a leading axis, so that each layer is one batched product. Convolutions come
    before the hidden layers.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for number, layer in enumerate(shape.convolution_layers):
        shapes[f"conv_weight_{number}"] = (shape.num_towers, *layer.weight_shape)
        shapes[f"conv_bias_{number}"] = (shape.num_towers, layer.channels)
    inputs = shape.num_features
    for number, units in enumerate(shape.hidden):
        shapes[f"weight_{number}"] = (shape.num_towers, inputs, units)
        shapes[f"bias_{number}"] = (shape.num_towers, 1, units)
        inputs = units
    shapes["head_weight"] = (shape.total_outputs, inputs)
    shapes["head_bias"] = (shape.total_outputs, 1)
    if shape.num_free:
        shapes["free"] = (shape.num_free,)
    return Layout(shapes)


def initialise_mlp(shape: NetworkShape, params: FloatVector, generator: np.random.Generator) -> None:
    """Fill `params`.

    orthogonal: gain sqrt(2) in convolutions and hidden layers (Saxe et al., ICLR 2014), that of the head on
    top, zero biases; a kernel is a matrix with a row for each channel that comes out.
    uniform: weights and biases in +-1 / sqrt(inputs of the layer), as torch initialises its layers.
    """
    params[:], generator.bit_generator.state = _drawn(pickle.dumps((shape, generator)))


@lru_cache(maxsize=4)  # all agents of a rank begin alike, and a matrix takes longer to draw than to copy
def _drawn(shape_and_generator: bytes) -> tuple[FloatVector, Mapping[str, Any]]:
    """Draw the parameters of a perceptron; return them, and the generator's state afterwards."""
    shape, generator = pickle.loads(shape_and_generator)
    layout = mlp_layout(shape)
    params: FloatVector = np.zeros(layout.size, np.float32)
    _fill(shape, layout.views(params), generator)
    params.flags.writeable = False
    return params, generator.bit_generator.state


def _fill(shape: NetworkShape, views: Mapping[str, FloatMatrix], generator: np.random.Generator) -> None:
    _initialise_convolutions(shape, views, generator)
    if shape.initialisation == "uniform":
        for number in range(len(shape.hidden)):
            weight, bias = views[f"weight_{number}"], views[f"bias_{number}"]
            _fill_uniformly(weight, bias, weight.shape[1], generator)
        _fill_uniformly(views["head_weight"], views["head_bias"], shape.hidden[-1], generator)
        return
    for number in range(len(shape.hidden)):
        for weight in views[f"weight_{number}"]:
            weight[:] = _orthogonal(weight.shape, sqrt(2.0), generator)
    start = 0
    for head in shape.heads:
        weight = views["head_weight"][start : start + head.outputs]
        weight[:] = _orthogonal(weight.shape, head.gain, generator)
        start += head.outputs


def mlp_pieces(shape: NetworkShape) -> dict[str, slice]:
    """Say where each parameter of a perceptron lies, under the names of `torch.nn.Sequential` modules.

    A tower with one head has its name: `actor.0.weight`, ..., `actor.4.weight`. A tower with several heads is
    the `trunk`, with linear layers `actor` and `critic` on top. Convolutions are a module `conv` in front of
    the tower's layers: `actor.conv.0.weight`, `actor.conv.2.weight`. Free parameters: `log_std`.
    """
    starts, start = {}, 0
    for name, dimensions in mlp_layout(shape).shapes.items():
        starts[name] = start
        start += prod(dimensions)
    pieces: dict[str, slice] = {}
    for number, layer in enumerate(shape.convolution_layers):
        for tower in range(shape.num_towers):
            name = f"{tower_name(shape, tower)}.conv.{2 * number}"
            size = prod(layer.weight_shape)
            pieces[f"{name}.weight"] = _piece(starts[f"conv_weight_{number}"], tower, size)
            pieces[f"{name}.bias"] = _piece(starts[f"conv_bias_{number}"], tower, layer.channels)
    inputs = shape.num_features
    for number, units in enumerate(shape.hidden):
        for tower in range(shape.num_towers):
            name, size = f"{tower_name(shape, tower)}.{2 * number}", inputs * units
            pieces[f"{name}.weight"] = _piece(starts[f"weight_{number}"], tower, size)
            pieces[f"{name}.bias"] = _piece(starts[f"bias_{number}"], tower, units)
        inputs = units
    first = 0
    for head in shape.heads:
        name, stop = head_name(shape, head), first + head.outputs
        weight, bias = starts["head_weight"], starts["head_bias"]
        pieces[f"{name}.weight"] = slice(weight + first * inputs, weight + stop * inputs)
        pieces[f"{name}.bias"] = slice(bias + first, bias + stop)
        first = stop
    if shape.num_free:
        pieces[FREE] = slice(starts["free"], starts["free"] + shape.num_free)
    return pieces


def mlp_state_dict(shape: NetworkShape, params: FloatVector) -> dict[str, FloatMatrix]:
    """Copy a flat perceptron under the names of `mlp_pieces`, with the shapes of torch's layers."""
    heads = {head_name(shape, head): head.outputs for head in shape.heads}
    arrays: dict[str, FloatMatrix] = {}
    for name, piece in mlp_pieces(shape).items():
        layer, _, kind = name.rpartition(".")
        values = params[piece].copy()
        if kind != "weight":
            arrays[name] = values
        elif layer in heads:
            arrays[name] = values.reshape(heads[layer], -1)
        elif ".conv." in layer:
            arrays[name] = values.reshape(shape.convolution_layers[_number(layer)].weight_shape)
        else:
            units = shape.hidden[_number(layer)]
            arrays[name] = values.reshape(-1, units).T.copy()
    return arrays


def mlp_layers(shape: NetworkShape) -> dict[str, list[int]]:
    """List the sizes from linear layer to layer of each tower, and of each head on a common trunk."""
    layers: dict[str, list[int]] = {}
    for head in shape.heads:
        name, sizes = tower_name(shape, head.tower), [shape.num_features, *shape.hidden]
        if name == TRUNK:
            layers[TRUNK] = sizes
            layers[head.name] = [sizes[-1], head.outputs]
        else:
            layers[name] = [*sizes, head.outputs]
    return layers


def tower_name(shape: NetworkShape, tower: int) -> str:
    """Name the hidden layers of a tower."""
    heads = [head.name for head in shape.heads if head.tower == tower]
    return heads[0] if len(heads) == 1 else TRUNK


def head_name(shape: NetworkShape, head: Head) -> str:
    """Name the last layer of a head: it continues its tower's name where it has the tower to itself."""
    tower = tower_name(shape, head.tower)
    return head.name if tower == TRUNK else f"{tower}.{2 * len(shape.hidden)}"


def _number(layer: str) -> int:
    """Count the layer of a `torch.nn.Sequential` in which every second module is an activation."""
    return int(layer.rpartition(".")[2]) // 2


def _piece(start: int, number: int, size: int) -> slice:
    return slice(start + number * size, start + (number + 1) * size)


def _initialise_convolutions(
    shape: NetworkShape, views: Mapping[str, FloatMatrix], generator: np.random.Generator
) -> None:
    for number, layer in enumerate(shape.convolution_layers):
        kernels, bias = views[f"conv_weight_{number}"], views[f"conv_bias_{number}"]
        if shape.initialisation == "uniform":
            _fill_uniformly(kernels, bias, layer.fan_in, generator)
            continue
        for kernel in kernels:
            matrix = _orthogonal((layer.channels, layer.fan_in), sqrt(2.0), generator)
            kernel[:] = matrix.reshape(layer.weight_shape)


def _fill_uniformly(
    weight: FloatMatrix, bias: FloatMatrix, inputs: int, generator: np.random.Generator
) -> None:
    bound = 1.0 / sqrt(inputs)
    weight[:] = generator.uniform(-bound, bound, weight.shape)
    bias[:] = generator.uniform(-bound, bound, bias.shape)


def _orthogonal(shape: tuple[int, ...], gain: float, generator: np.random.Generator) -> FloatMatrix:
    """Draw a matrix with orthonormal rows or columns, times `gain`."""
    rows, columns = shape
    tall = generator.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q *= np.sign(np.diag(r))
    return (gain * (q if rows >= columns else q.T)).astype(np.float32)
