"""Families of action distributions on a device, differentiated by torch; A members, n samples each."""

from math import log, pi
from typing import Protocol

import torch
from torch import Tensor

from fdrl_mpi.rl.model import PolicyModel
from fdrl_mpi.steps import ActionSpec


class TorchPolicy(Protocol):
    """What `distributions.Distribution` is on arrays.

    Outputs have shape (A, size, n), and the free parameters (A, num_free).
    """

    def sample(self, outputs: Tensor, free: Tensor, noise: Tensor) -> Tensor:
        """Choose actions, shape (A, n) or (A, n, size), with noise of the outputs' shape."""

    def log_probability(self, outputs: Tensor, free: Tensor, actions: Tensor) -> Tensor:
        """Compute the log-probabilities of actions, shape (A, n)."""

    def entropy(self, outputs: Tensor, free: Tensor) -> Tensor:
        """Compute the entropies, shape (A, n), or (A, 1) where all samples have the same."""


class TorchCategorical:
    """See `distributions.Categorical`."""

    def sample(self, outputs: Tensor, free: Tensor, noise: Tensor) -> Tensor:
        """See `TorchPolicy.sample`."""
        return (outputs + noise).argmax(dim=1)

    def log_probability(self, outputs: Tensor, free: Tensor, actions: Tensor) -> Tensor:
        """See `TorchPolicy.log_probability`."""
        return torch.log_softmax(outputs, dim=1).gather(1, actions[:, None]).squeeze(1)

    def entropy(self, outputs: Tensor, free: Tensor) -> Tensor:
        """See `TorchPolicy.entropy`."""
        log_probability = torch.log_softmax(outputs, dim=1)
        return -(log_probability.exp() * log_probability).sum(dim=1)


class TorchGaussian:
    """See `distributions.DiagonalGaussian`."""

    def sample(self, outputs: Tensor, free: Tensor, noise: Tensor) -> Tensor:
        """See `TorchPolicy.sample`."""
        return (outputs + noise * free.exp()[:, :, None]).transpose(1, 2)

    def log_probability(self, outputs: Tensor, free: Tensor, actions: Tensor) -> Tensor:
        """See `TorchPolicy.log_probability`."""
        score = (actions.transpose(1, 2) - outputs) / free.exp()[:, :, None]
        constant = free.sum(dim=1, keepdim=True) + 0.5 * free.shape[1] * log(2.0 * pi)
        return -0.5 * torch.square(score).sum(dim=1) - constant

    def entropy(self, outputs: Tensor, free: Tensor) -> Tensor:
        """See `TorchPolicy.entropy`."""
        return free.sum(dim=1, keepdim=True) + 0.5 * free.shape[1] * (1.0 + log(2.0 * pi))


def policy_of(spec: ActionSpec) -> TorchPolicy:
    """Choose the family for an action space without components."""
    return TorchCategorical() if spec.kind == "discrete" else TorchGaussian()


def policy_objection(model: PolicyModel) -> str:
    """See `Team.objection`: say what policies like this one have that is not here."""
    has_components = len(model.distribution.action_shape) == 1 and not model.distribution.num_free
    return "actions of several components" if has_components else ""
