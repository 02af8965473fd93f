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
from fdrl_mpi.rl.flat import Layout
from fdrl_mpi.rl.network import NetworkShape, initialise_mlp, mlp_layout, mlp_state_dict
from fdrl_mpi.rl.optimiser import BETA_1, BETA_2, EPSILON

Compute = Callable[[Tensor], Tensor]


class TorchNetwork:
    """An actor-critic whose parameters are views of one flat tensor; see `ActorCritic` for the interface.

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
        self._compute: Compute
        self._compute_actor: Compute
        self._state_dict: Callable[[], dict[str, FloatMatrix]]
        self._outputs: Tensor = self._flat

    def define(
        self, compute: Compute, compute_actor: Compute, state_dict: Callable[[], dict[str, FloatMatrix]]
    ) -> None:
        """Say how `tensors` turn (n, observation_size) into (num_outputs + 1, n), or the actor's rows."""
        self._compute, self._compute_actor, self._state_dict = compute, compute_actor, state_dict

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
        """Act with the policy as it is now."""

        def act(observations: FloatMatrix) -> FloatMatrix:
            with torch.inference_mode():
                return self._to_host(self._compute_actor(self._to_device(observations)))

        return act

    def forward(self, observations: FloatMatrix) -> FloatMatrix:
        """Compute actor and critic: (n, observation_size) -> (num_outputs + 1, n)."""
        if self._mirrored and self.free.size:
            self.free[:] = self.tensors["free"].detach().cpu().numpy()
        self._outputs = self._compute(self._to_device(observations))
        return self._to_host(self._outputs.detach())

    def backward(self, d_outputs: FloatMatrix, d_free: FloatVector, accumulate: bool) -> None:
        """Turn the loss's derivative by the last outputs into the flat gradient."""
        if not accumulate:
            self._gradient.zero_()
        # A scalar with this gradient: given one, autograd would import sympy, a second for every rank.
        loss = torch.dot(self._outputs.reshape(-1), self._to_device(d_outputs).reshape(-1))
        torch.autograd.backward(loss)
        if self.free.size:
            free_gradient = self.tensors["free"].grad
            assert free_gradient is not None
            free_gradient += self._to_device(d_free)

    def optimiser(self) -> "TorchAdam":
        """Make the Adam optimiser of the flat parameters."""
        return TorchAdam(self._flat, self._gradient)

    def state_dict(self) -> dict[str, FloatMatrix]:
        """Copy the parameters under the names of torch modules."""
        return self._state_dict()

    def flat_gradient(self) -> FloatVector:
        """Copy the flat gradient to host memory."""
        return self._to_host(self._gradient).copy()

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


class TorchAdam:
    """`optimiser.Adam` on torch tensors: one fused kernel on the flat parameters."""

    def __init__(self, flat: Tensor, gradient: Tensor) -> None:
        self._flat = flat.detach()
        self._gradient = gradient
        self._mean = torch.zeros_like(self._flat)
        self._square = torch.zeros_like(self._flat)
        self._steps = torch.zeros((), device=flat.device)

    def step(self, lr: float, max_gradient_norm: float) -> float:
        """Clip the gradient to an L2 norm, step, and return the norm before clipping."""
        norm = float(torch.dot(self._gradient, self._gradient).sqrt())
        if norm > max_gradient_norm:
            self._gradient *= max_gradient_norm / (norm + 1e-6)
        self._steps += 1
        torch._fused_adam_(  # what torch.optim.Adam(fused=True) calls
            [self._flat],
            [self._gradient],
            [self._mean],
            [self._square],
            [],
            [self._steps],
            lr=lr,
            beta1=BETA_1,
            beta2=BETA_2,
            weight_decay=0.0,
            eps=EPSILON,
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


def torch_mlp(
    shape: NetworkShape, generator: np.random.Generator, device: str, params: FloatVector | None = None
) -> TorchNetwork:
    """Make the perceptron of `mlp.MLP`, with the same flat model, on torch."""
    network = TorchNetwork(mlp_layout(shape), _device(device), params)
    initialise_mlp(shape, network.params, generator)
    tensors = network.tensors
    activate = torch.tanh if shape.activation == "tanh" else torch.relu
    weights = [tensors[f"weight_{number}"] for number in range(len(shape.hidden))]
    biases = [tensors[f"bias_{number}"] for number in range(len(shape.hidden))]
    head_weight, head_bias = tensors["head_weight"], tensors["head_bias"]
    towers = len(weights[0])

    def compute(observations: Tensor) -> Tensor:
        units = observations.expand(towers, *observations.shape)
        for weight, bias in zip(weights, biases, strict=True):
            units = activate(torch.baddbmm(bias, units, weight))
        if towers == 1:
            return torch.addmm(head_bias, head_weight, units[0].T)
        actor = torch.addmm(head_bias[:-1], head_weight[:-1], units[0].T)
        critic = torch.addmm(head_bias[-1:], head_weight[-1:], units[1].T)
        return torch.cat([actor, critic])

    def compute_actor(observations: Tensor) -> Tensor:
        units = observations
        for weight, bias in zip(weights, biases, strict=True):
            units = activate(torch.addmm(bias[0], units, weight[0]))
        return torch.addmm(head_bias[:-1], head_weight[:-1], units.T)

    network.define(compute, compute_actor, lambda: mlp_state_dict(shape, network.params))
    network.load()
    return network


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
        (n, observation_size) into (n, num_outputs + 1): the actor's outputs, then the value.
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
    network = TorchNetwork(Layout(shapes), _device(device), params)
    views = network.layout.views(network.params)
    for name, parameter in parameters.items():
        views[name][...] = parameter.detach().numpy()
        parameter.data = network.tensors[name].detach()
        parameter.grad = network.tensors[name].grad
    network.define(
        lambda observations: module(observations).T,
        lambda observations: module(observations)[:, :-1].T,
        lambda: _module_state_dict(network.layout.views(network.params)),
    )
    network.load()
    return network


def _module_state_dict(views: Mapping[str, FloatMatrix]) -> dict[str, FloatMatrix]:
    return {("log_std" if name == "free" else name): view.copy() for name, view in views.items()}


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
    wanted = (2, shape.num_outputs + 1)
    with torch.no_grad():
        outputs = module(torch.zeros(2, shape.observation_size))
    if not isinstance(outputs, Tensor):
        raise ValueError(f"{name} gives a {type(outputs).__name__}, not a tensor")
    given = tuple(outputs.shape)
    if given != wanted:
        raise ValueError(
            f"{type(module).__name__} gives outputs of shape {given} for 2 observations, not {wanted}: "
            f"{shape.num_outputs} outputs of the actor, then the value"
        )


def _device(name: str) -> torch.device:
    """Settle torch for one rank, and name the device."""
    torch.set_num_threads(1)
    return torch.device(name)
