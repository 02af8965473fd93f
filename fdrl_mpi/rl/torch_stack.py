"""A equal perceptrons at once on a device, and the optimisers of their parameters."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fdrl_mpi.arrays import State
from fdrl_mpi.rl.network import NetworkShape, mlp_layout
from fdrl_mpi.rl.optimiser import BETA_1, BETA_2, SQUARE_DECAY

MOMENTS = {"adam": ("sum", "square_sum"), "rmsprop": ("square",), "sgd": ()}
"""What each optimiser keeps of every parameter, under the names of `optimiser`."""


class TorchStack:
    """Perceptrons of one shape, with the flat models of `mlp.MLP`, over the rows of a matrix.

    Parameters
    ----------
    shape : NetworkShape
        Without convolutions.
    params : float32 tensor, shape (A, d)

    Attributes
    ----------
    gradient : float32 tensor, shape (A, d)
        What `differentiate` fills.
    free : float32 tensor, shape (A, num_free)
    """

    def __init__(self, shape: NetworkShape, params: Tensor) -> None:
        assert not shape.convolutions, "these are perceptrons"
        layout, self.shape, self.params = mlp_layout(shape), shape, params
        self.gradient = torch.zeros_like(params)
        views = layout.stacked_views(params)
        leaves = {name: view.detach().requires_grad_() for name, view in views.items()}
        self._leaves, self._gradients = [*leaves.values()], [*layout.stacked_views(self.gradient).values()]
        layers = range(len(shape.hidden))
        self._weights: list[Tensor] = [leaves[f"weight_{number}"] for number in layers]
        self._biases: list[Tensor] = [leaves[f"bias_{number}"] for number in layers]
        self._head_weight: Tensor = leaves["head_weight"]
        self._head_bias: Tensor = leaves["head_bias"]
        self.free: Tensor = leaves.get("free", params[:, :0])
        self._rows = shape.tower_rows()
        self._activate = torch.tanh if shape.activation == "tanh" else torch.relu

    def forward(self, observations: Tensor) -> Tensor:
        """Compute all heads: (A, n, observation_size) -> (A, total_outputs, n)."""
        heads = [self._tower(observations, tower, rows) for tower, rows in enumerate(self._rows)]
        outputs = heads[0] if len(heads) == 1 else torch.cat(heads, dim=1)
        if not self.shape.is_bounded:
            return outputs
        acting = self.shape.num_outputs
        return torch.cat([torch.tanh(outputs[:, :acting]), outputs[:, acting:]], dim=1)

    def act(self, observations: Tensor) -> Tensor:
        """Compute the first head: (A, n, observation_size) -> (A, num_outputs, n)."""
        outputs = self._tower(observations, 0, slice(self.shape.num_outputs))
        return torch.tanh(outputs) if self.shape.is_bounded else outputs

    def differentiate(self, loss: Tensor, accumulate: bool = False) -> None:
        """Fill the gradient from a sum of all networks' losses, or add to it."""
        for into, gradient in zip(self._gradients, torch.autograd.grad(loss, self._leaves), strict=True):
            into.add_(gradient) if accumulate else into.copy_(gradient)

    def _tower(self, units: Tensor, tower: int, rows: slice) -> Tensor:
        for weight, bias in zip(self._weights, self._biases, strict=True):
            units = self._activate(torch.baddbmm(bias[:, tower], units, weight[:, tower]))
        return torch.baddbmm(self._head_bias[:, rows], self._head_weight[:, rows], units.transpose(1, 2))


class TorchStackOptimiser:
    """Steps each row of parameters as `optimiser` would step it alone.

    Parameters
    ----------
    name : "adam", "rmsprop" or "sgd"
    params, gradient : float32 tensors, shape (A, d)
        Changed in place.
    moments : sequence of float32 tensors, shape (A, d)
        As many as `MOMENTS` lists.
    epsilon : float
    """

    def __init__(
        self, name: str, params: Tensor, gradient: Tensor, moments: Sequence[Tensor], epsilon: float
    ) -> None:
        self._name, self._epsilon = name, epsilon
        self._params, self._gradient, self._moments = params, gradient, moments
        self._steps = torch.zeros(len(params), dtype=torch.float64, device=params.device)

    def step(self, lr: float, max_gradient_norm: float) -> Tensor:
        """Clip each gradient to an L2 norm, step; return the norms before, shape (A,)."""
        norms: Tensor = torch.linalg.vector_norm(self._gradient, dim=1)
        shrinking: Tensor = torch.where(norms > max_gradient_norm, max_gradient_norm / (norms + 1e-6), 1.0)
        self._gradient.mul_(shrinking[:, None])
        if self._name == "adam":
            self._step_adam(lr)
        elif self._name == "rmsprop":
            self._step_rmsprop(lr)
        else:
            self._params.add_(self._gradient, alpha=-lr)
        return norms

    def begin(self, states: Sequence[State]) -> None:
        """Go on from the step counts of these states; the moments are the caller's to bring."""
        steps = np.array([state.get("steps", 0) for state in states], np.float64)
        self._steps.copy_(torch.from_numpy(steps))

    def counts(self) -> list[State]:
        """Return what a state holds besides its moments, for each row."""
        if self._name != "adam":
            return [{} for _ in self._params]
        return [{"steps": int(steps)} for steps in self._steps.tolist()]

    def _step_adam(self, lr: float) -> None:
        """Make one step of `optimiser.Adam`, which keeps its moments over 1 - beta."""
        mean, square = self._moments
        self._steps += 1.0
        correction = torch.sqrt((1.0 - BETA_2) / (1.0 - BETA_2**self._steps))
        sizes = lr * (1.0 - BETA_1) / ((1.0 - BETA_1**self._steps) * correction)
        epsilons = self._epsilon / correction
        mean.mul_(BETA_1).add_(self._gradient)
        square.mul_(BETA_2).addcmul_(self._gradient, self._gradient)
        root = square.sqrt().add_(epsilons[:, None].float())
        self._params.sub_(torch.div(mean, root, out=root).mul_(sizes[:, None].float()))

    def _step_rmsprop(self, lr: float) -> None:
        (square,) = self._moments
        square.mul_(SQUARE_DECAY).addcmul_(self._gradient, self._gradient, value=1.0 - SQUARE_DECAY)
        self._params.addcdiv_(self._gradient, square.sqrt().add_(self._epsilon), value=-lr)
