"""Networks differentiated by torch on the same flat buffers: for CUDA, and for users' own modules.

The only file that imports torch. `torch.optim` and `torch.distributions` stay out: their first use imports
half of torch and costs every rank a second.
"""

from collections.abc import Callable, Mapping
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from fdrl_mpi.arrays import FloatMatrix, FloatVector, State
from fdrl_mpi.rl.convolutions import channel_axis
from fdrl_mpi.rl.flat import Layout
from fdrl_mpi.rl.network import (
    FREE,
    Network,
    NetworkShape,
    Optimiser,
    initialise_mlp,
    mlp_layout,
    mlp_pieces,
    mlp_state_dict,
)
from fdrl_mpi.rl.optimiser import BETA_1, BETA_2, EPSILON, SQUARE_DECAY

Compute = Callable[[Tensor], Tensor]


class TorchNetwork:
    """A network whose parameters are views of one flat tensor; see `Network` for the interface.

    On the CPU the flat tensor and `params` are the same memory. On CUDA `params` is a mirror in host memory,
    copied once each way a round.

    Parameters
    ----------
    layout : Layout
    device : torch.device
    params : float32 array, shape (d,), optional
        Where the parameters are to lie in host memory.
    """

    def __init__(self, layout: Layout, device: torch.device, params: FloatVector | None = None) -> None:
        self.layout = layout
        self._device = device
        self._mirrored = device.type != "cpu"
        self._host = torch.zeros(layout.size) if params is None else torch.from_numpy(params)
        self._flat = self._host.to(device)
        self._gradient = torch.zeros_like(self._flat)
        self.params: FloatVector = self._host.numpy()
        self.free: FloatVector = layout.views(self.params).get("free", np.empty(0, np.float32))
        self.tensors = self._leaves()
        self.shape: NetworkShape
        self.pieces: Mapping[str, slice]
        self._compute: Compute
        self._compute_actor: Compute
        self._state_dict: Callable[[], dict[str, FloatMatrix]]
        self._inputs: Tensor = self._flat
        self._outputs: Tensor = self._flat

    def define(
        self,
        shape: NetworkShape,
        pieces: Mapping[str, slice],
        compute: Compute,
        compute_actor: Compute,
        state_dict: Callable[[], dict[str, FloatMatrix]],
    ) -> None:
        """Say how `tensors` turn (n, observation_size) into (total_outputs, n), or the first head's rows."""
        self.shape, self.pieces = shape, pieces
        self._compute, self._compute_actor, self._state_dict = compute, compute_actor, state_dict
        self.load()

    def load(self) -> None:
        """Copy `params` to the device."""
        if self._mirrored:
            with torch.no_grad():
                self._flat.copy_(self._host)

    def store(self) -> None:
        """Copy the device's parameters to `params`."""
        if self._mirrored:
            self._host.copy_(self._flat.detach())

    def actor(self, num_rows: int) -> Callable[[FloatMatrix], FloatMatrix]:
        """Act with the first head."""

        def act(observations: FloatMatrix) -> FloatMatrix:
            with torch.inference_mode():
                return self._to_host(self._compute_actor(self._to_device(observations)))

        return act

    def forward(self, observations: FloatMatrix) -> FloatMatrix:
        """Compute all heads: (n, observation_size) -> (total_outputs, n)."""
        if self._mirrored and self.free.size:
            self.free[:] = self.tensors["free"].detach().cpu().numpy()
        self._inputs = self._to_device(observations)
        if self.shape.differentiates_inputs:
            self._inputs.requires_grad_()
        self._outputs = self._compute(self._inputs)
        return self._to_host(self._outputs.detach())

    def backward(self, d_outputs: FloatMatrix, d_free: FloatVector, accumulate: bool) -> None:
        """Turn the loss's derivative by the last outputs into the flat gradient."""
        if not accumulate:
            self._gradient.zero_()
        torch.autograd.backward(self._loss(d_outputs))
        if self.free.size:
            free_gradient = self.tensors["free"].grad
            assert free_gradient is not None
            free_gradient += self._to_device(d_free)

    def input_gradient(self, d_outputs: FloatMatrix) -> FloatMatrix:
        """Turn the loss's derivative by the last outputs into that by the last inputs."""
        (gradient,) = torch.autograd.grad(self._loss(d_outputs), [self._inputs])
        return self._to_host(gradient)

    def blend(self, other: Network, share: float) -> None:
        """Move the parameters by `share` of the way to those of an equal network."""
        assert isinstance(other, TorchNetwork)
        with torch.no_grad():
            if share == 1.0:  # also where this network is not finite
                self._flat.copy_(other._flat)
            else:
                self._flat.lerp_(other._flat, share)

    def optimiser(self, name: str = "adam", epsilon: float = EPSILON) -> Optimiser:
        """Make an optimiser of the flat parameters."""
        if name == "sgd":
            return TorchSGD(self._flat, self._gradient)
        return (TorchAdam if name == "adam" else TorchRMSprop)(self._flat, self._gradient, epsilon)

    def state_dict(self) -> dict[str, FloatMatrix]:
        """Copy the parameters under the names of torch modules."""
        return self._state_dict()

    def flat_gradient(self) -> FloatVector:
        """Copy the flat gradient to host memory."""
        return self._to_host(self._gradient).copy()

    def _loss(self, d_outputs: FloatMatrix) -> Tensor:
        """Make a scalar with this gradient: given the gradient, autograd would import sympy, for a second."""
        return torch.dot(self._outputs.reshape(-1), self._to_device(d_outputs).reshape(-1))

    def _leaves(self) -> dict[str, Tensor]:
        """Cut the flat tensor into leaves of autograd whose gradients are views of the flat gradient."""
        leaves: dict[str, Tensor] = {}
        start = 0
        for name, shape in self.layout.shapes.items():
            stop = start + prod(shape)
            leaf = self._flat[start:stop].view(shape).requires_grad_()
            leaf.grad = self._gradient[start:stop].view(shape)
            leaves[name] = leaf
            start = stop
        return leaves

    def _to_device(self, array: FloatMatrix) -> Tensor:
        return torch.from_numpy(array).to(self._device)

    def _to_host(self, tensor: Tensor) -> FloatMatrix:
        array: FloatMatrix = tensor.cpu().numpy()
        return array


def _clip(gradient: Tensor, max_norm: float) -> float:
    """Scale a gradient down to an L2 norm in place; return its norm before."""
    norm = float(torch.dot(gradient, gradient).sqrt())
    if norm > max_norm:
        gradient *= max_norm / (norm + 1e-6)
    return norm


class _OnTensors:
    """What steps tensors."""

    params: Tensor

    def adopt(self, values: FloatVector) -> Tensor:
        """Copy a vector to where the parameters are."""
        return torch.from_numpy(values.copy()).to(self.params.device)


class TorchAdam(_OnTensors):
    """`optimiser.Adam` on torch tensors: one fused kernel on the flat parameters."""

    def __init__(self, flat: Tensor, gradient: Tensor, epsilon: float = EPSILON) -> None:
        self.params = flat.detach()
        self.gradient = gradient
        self._epsilon = epsilon
        self._mean = torch.zeros_like(self.params)
        self._square = torch.zeros_like(self.params)
        self._steps = torch.zeros((), device=flat.device)

    def step(self, lr: float, max_gradient_norm: float) -> float:
        """Clip the gradient to an L2 norm, step, and return the norm before clipping."""
        norm = _clip(self.gradient, max_gradient_norm)
        self._steps += 1
        torch._fused_adam_(  # what torch.optim.Adam(fused=True) calls
            [self.params],
            [self.gradient],
            [self._mean],
            [self._square],
            [],
            [self._steps],
            lr=lr,
            beta1=BETA_1,
            beta2=BETA_2,
            weight_decay=0.0,
            eps=self._epsilon,
            amsgrad=False,
            maximize=False,
        )
        return norm

    def get_state(self) -> State:
        """Return moments and step count in host memory."""
        arrays = {"mean": self._mean.cpu().numpy().copy(), "square": self._square.cpu().numpy().copy()}
        return {**arrays, "steps": int(self._steps)}

    def set_state(self, state: State) -> None:
        """Go on from `get_state`, or from that of the numpy engine, which keeps moments over 1 - beta."""
        if "mean" in state:
            mean, square = state["mean"], state["square"]
        else:
            mean = state["sum"] * np.float32(1.0 - BETA_1)
            square = state["square_sum"] * np.float32(1.0 - BETA_2)
        self._mean.copy_(torch.from_numpy(mean))
        self._square.copy_(torch.from_numpy(square))
        self._steps.fill_(state["steps"])


class TorchRMSprop(_OnTensors):
    """`optimiser.RMSprop` on torch tensors."""

    def __init__(self, flat: Tensor, gradient: Tensor, epsilon: float = EPSILON) -> None:
        self.params = flat.detach()
        self.gradient = gradient
        self._epsilon = epsilon
        self._square = torch.zeros_like(self.params)

    def step(self, lr: float, max_gradient_norm: float) -> float:
        """Clip the gradient to an L2 norm, step, and return the norm before clipping."""
        norm = _clip(self.gradient, max_gradient_norm)
        self._square.mul_(SQUARE_DECAY).addcmul_(self.gradient, self.gradient, value=1.0 - SQUARE_DECAY)
        self.params.addcdiv_(self.gradient, self._square.sqrt().add_(self._epsilon), value=-lr)
        return norm

    def get_state(self) -> State:
        return {"square": self._square.cpu().numpy().copy()}

    def set_state(self, state: State) -> None:
        self._square.copy_(torch.from_numpy(state["square"]))


class TorchSGD(_OnTensors):
    """`optimiser.SGD` on torch tensors."""

    def __init__(self, flat: Tensor, gradient: Tensor) -> None:
        self.params = flat.detach()
        self.gradient = gradient

    def step(self, lr: float, max_gradient_norm: float) -> float:
        """Clip the gradient to an L2 norm, step, and return the norm before clipping."""
        norm = _clip(self.gradient, max_gradient_norm)
        self.params.add_(self.gradient, alpha=-lr)
        return norm

    def get_state(self) -> State:
        return {}

    def set_state(self, state: State) -> None:
        """Do nothing: there is no state."""


def torch_mlp(
    shape: NetworkShape, generator: np.random.Generator, device: str, params: FloatVector | None = None
) -> TorchNetwork:
    """Make the perceptron of `mlp.MLP`, with the same flat model, on torch."""
    network = TorchNetwork(mlp_layout(shape), settle(device), params)
    initialise_mlp(shape, network.params, generator)
    towers = shape.num_towers
    _define_layers(network, shape, lambda rows: rows.expand(towers, *rows.shape), lambda rows: rows)
    return network


def torch_cnn(
    shape: NetworkShape, generator: np.random.Generator, device: str, params: FloatVector | None = None
) -> TorchNetwork:
    """Make convolutions, each followed by a ReLU, and on top of them the perceptron of `torch_mlp`.

    Every tower has convolutions of its own; of several towers they are computed as groups of one convolution.

    Notes
    -----
    On CUDA, cuDNN is kept to deterministic algorithms, and multiplies in TF32 unless torch is told otherwise.

    References
    ----------
    Mnih et al., "Human-level control through deep reinforcement learning", Nature 518, 2015, methods.
    """
    network = TorchNetwork(mlp_layout(shape), settle(device), params)
    initialise_mlp(shape, network.params, generator)
    torch.backends.cudnn.deterministic = True
    see, see_actor = _convolve(network, shape, shape.num_towers), _convolve(network, shape, 1)
    _define_layers(network, shape, see, lambda rows: see_actor(rows)[0])
    return network


def _convolve(network: TorchNetwork, shape: NetworkShape, num_towers: int) -> Compute:
    """Turn (n, observation_size) into what the first towers see, (num_towers, n, num_features)."""
    layers, tensors = shape.convolution_layers, network.tensors
    kernels = [tensors[f"conv_weight_{number}"] for number in range(len(layers))]
    biases = [tensors[f"conv_bias_{number}"] for number in range(len(layers))]
    image, axis = shape.observation_shape, 1 + channel_axis(shape.observation_shape)
    num_features = shape.num_features

    def see(observations: Tensor) -> Tensor:
        n, groups = len(observations), 1
        units = observations.reshape(n, *image).movedim(axis, 1)
        for layer, kernel, bias in zip(layers, kernels, biases, strict=True):
            weight, added = kernel[:num_towers].flatten(0, 1), bias[:num_towers].flatten()
            units = torch.relu(torch.conv2d(units, weight, added, layer.stride, groups=groups))
            groups = num_towers
        return units.reshape(n, num_towers, num_features).transpose(0, 1)

    return see


def _define_layers(network: TorchNetwork, shape: NetworkShape, see: Compute, see_actor: Compute) -> None:
    """Put hidden layers and heads on features.

    Parameters
    ----------
    see, see_actor : callable
        Take observations, (n, observation_size), to the features of all towers, (towers, n, num_features),
        and of the one that acts, (n, num_features).
    """
    tensors = network.tensors
    activate = torch.tanh if shape.activation == "tanh" else torch.relu
    weights = [tensors[f"weight_{number}"] for number in range(len(shape.hidden))]
    biases = [tensors[f"bias_{number}"] for number in range(len(shape.hidden))]
    head_weight, head_bias = tensors["head_weight"], tensors["head_bias"]
    towers = shape.tower_rows()
    num_outputs, is_bounded = shape.num_outputs, shape.is_bounded

    def compute(observations: Tensor) -> Tensor:
        units = see(observations)
        for weight, bias in zip(weights, biases, strict=True):
            units = activate(torch.baddbmm(bias, units, weight))
        heads = [
            torch.addmm(head_bias[rows], head_weight[rows], units[tower].T)
            for tower, rows in enumerate(towers)
        ]
        outputs = heads[0] if len(heads) == 1 else torch.cat(heads)
        if is_bounded:
            return torch.cat([torch.tanh(outputs[:num_outputs]), outputs[num_outputs:]])
        return outputs

    def compute_actor(observations: Tensor) -> Tensor:
        units = see_actor(observations)
        for weight, bias in zip(weights, biases, strict=True):
            units = activate(torch.addmm(bias[0], units, weight[0]))
        outputs = torch.addmm(head_bias[:num_outputs], head_weight[:num_outputs], units.T)
        return torch.tanh(outputs) if is_bounded else outputs

    network.define(
        shape, mlp_pieces(shape), compute, compute_actor, lambda: mlp_state_dict(shape, network.params)
    )


def torch_module(
    module_class: Callable[[int, int], nn.Module],
    shape: NetworkShape,
    generator: np.random.Generator,
    device: str,
    params: FloatVector | None = None,
) -> TorchNetwork:
    """Adopt a user's module: its parameters become views of the flat buffers.

    Parameters
    ----------
    module_class : callable
        ``module_class(observation_size, num_outputs)`` makes a module that turns float32 observations
        (n, observation_size) into (n, total_outputs): the outputs of the heads in their order, for example
        the actor's, then the value.
    generator : numpy.random.Generator
        Seeds torch while the module draws its initial weights.
    params : float32 array, shape (d,), optional
        Where the parameters are to lie in host memory.

    Raises
    ------
    ValueError
        If the module has buffers, which would not be federated, or another output shape.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator.integers(2**63)))
        module = module_class(shape.observation_size, shape.num_outputs)
    _check_module(module, shape)
    parameters = dict(module.named_parameters())
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    if shape.num_free:
        shapes["free"] = (shape.num_free,)
    network = TorchNetwork(Layout(shapes), settle(device), params)
    views = network.layout.views(network.params)
    for name, parameter in parameters.items():
        views[name][...] = parameter.detach().numpy()
        parameter.data = network.tensors[name].detach()
        parameter.grad = network.tensors[name].grad
    network.define(
        shape,
        _module_pieces(network.layout),
        lambda observations: module(observations).T,
        lambda observations: module(observations)[:, : shape.num_outputs].T,
        lambda: _module_state_dict(network.layout.views(network.params)),
    )
    return network


def _module_pieces(layout: Layout) -> dict[str, slice]:
    pieces, start = {}, 0
    for name, shape in layout.shapes.items():
        pieces[FREE if name == "free" else name] = slice(start, start + prod(shape))
        start += prod(shape)
    return pieces


def _module_state_dict(views: Mapping[str, FloatMatrix]) -> dict[str, FloatMatrix]:
    return {(FREE if name == "free" else name): view.copy() for name, view in views.items()}


def _check_module(module: nn.Module, shape: NetworkShape) -> None:
    name = type(module).__name__
    if not isinstance(module, nn.Module):
        raise ValueError(f"{name} is not a torch.nn.Module")
    kinds = {parameter.dtype for parameter in module.parameters()}
    if kinds != {torch.float32}:
        raise ValueError(
            f"{name} has parameters of {', '.join(sorted(map(str, kinds))) or 'no type: there are none'}; "
            "a model travels as torch.float32"
        )
    if buffers := [name for name, _ in module.named_buffers()]:
        raise ValueError(
            f"{type(module).__name__} keeps buffers ({', '.join(buffers)}), which are not federated"
        )
    wanted = (2, shape.total_outputs)
    with torch.no_grad():
        outputs = module(torch.zeros(2, shape.observation_size))
    if not isinstance(outputs, Tensor):
        raise ValueError(f"{name} gives a {type(outputs).__name__}, not a tensor")
    given = tuple(outputs.shape)
    if given != wanted:
        raise ValueError(
            f"{type(module).__name__} gives outputs of shape {given} for 2 observations, not {wanted}: "
            f"{', then '.join(f'{head.outputs} of the {head.name}' for head in shape.heads)}"
        )


def settle(name: str) -> torch.device:
    """Make torch ready for one rank and its device."""
    torch.set_num_threads(1)
    device = torch.device(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # else events, and a context of their own, would be on the first one
    return device
