"""What an agent minimises besides its own loss, and what it remembers of its gradients."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fdrl_mpi.arrays import FloatMatrix, FloatVector, State
from fdrl_mpi.rl.distributions import Distribution, PerSample
from fdrl_mpi.rl.model import PolicyModel
from fdrl_mpi.rl.network import Optimiser


class LocalObjective:
    """Stands between a learner and its optimisers; changes nothing where nothing is asked for.

    Parameters
    ----------
    proximal : float
        mu: adds ``mu / 2 |x - anchor|^2`` to every loss.
    anchor_model : PolicyModel, optional
        A model that takes the anchor's parameters in every round, for learners that look at its policy.
    kl_coefficient : float
        beta: such a learner adds ``beta KL(anchor || policy)`` to its loss.
    tracks_gradients : bool
        Remember the mean of a round's gradients, as the losses gave them.
    holds_steps : bool
        Step nothing: only the mean gradient is wanted.
    shared : sequence of slices, optional
        The coordinates the proximal term holds: those that are federated. None: all.

    References
    ----------
    Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, equation 2 (proximal).
    Karimireddy et al., "SCAFFOLD", ICML 2020, equations 3 and 4 (corrections).
    Xie and Song, "FedKL", IEEE JSAC 2023 (the divergence from the global policy).
    """

    def __init__(
        self,
        proximal: float = 0.0,
        kl_coefficient: float = 0.0,
        anchor_model: PolicyModel | None = None,
        tracks_gradients: bool = False,
        holds_steps: bool = False,
        shared: Sequence[slice] | None = None,
    ) -> None:
        self.kl_coefficient = kl_coefficient
        self.anchor_model = anchor_model
        self._proximal, self._holds_steps = proximal, holds_steps
        self._shared = shared
        self._tracks = tracks_gradients or holds_steps
        self._steered: list[tuple[slice, SteeredOptimiser]] = []

    @property
    def is_active(self) -> bool:
        """Whether any optimiser has to be steered."""
        return self._proximal > 0.0 or self._tracks

    def steer(self, optimiser: Optimiser, start: int = 0) -> Optimiser:
        """Take an optimiser of the model's parameters from `start` on; the learner uses what is returned."""
        if not self.is_active:
            return optimiser
        stop = start + len(optimiser.params)
        proximal = self._strengths(slice(start, stop)) if self._proximal else 0.0
        steered = SteeredOptimiser(optimiser, proximal, self._tracks, self._holds_steps)
        self._steered = [(columns, other) for columns, other in self._steered if columns.start != start]
        self._steered.append((slice(start, stop), steered))
        return steered

    def _strengths(self, columns: slice) -> FloatVector | float:
        """Return mu for coordinates of the model: one for all, or 0 in those that are not federated."""
        if self._shared is None:
            return self._proximal
        strengths: FloatVector = np.zeros(columns.stop, np.float32)
        for part in self._shared:
            strengths[part] = self._proximal
        return strengths[columns]

    def begin(self, anchor: FloatVector, correction: FloatVector | None = None) -> None:
        """Begin a round.

        Parameters
        ----------
        anchor : float32 array, shape (d,)
            The model the round starts from.
        correction : float32 array, shape (d,), optional
            Is added to every gradient: SCAFFOLD's ``c - c_k``.
        """
        if self.anchor_model is not None:
            self.anchor_model.params[:] = anchor
            self.anchor_model.load()
        for columns, optimiser in self._steered:
            optimiser.begin(anchor[columns], None if correction is None else correction[columns])

    def pull(
        self,
        policy: Distribution,
        observations: FloatMatrix,
        outputs: FloatMatrix,
        free: FloatVector,
        scale: PerSample,
        d_outputs: FloatMatrix,
        d_free: FloatVector,
    ) -> None:
        """Add the derivative of the divergence from the anchor's policy; nothing where there is no anchor.

        Parameters
        ----------
        observations : float32 array, shape (n, observation_size)
        outputs, free : float32 arrays, shapes (size, n) and (num_free,)
            Of `policy`, for these observations.
        scale : float, or float32 array, shape (n,)
            Weight of each sample in the loss.
        d_outputs, d_free : float32 arrays, shaped like `outputs` and `free`
            Are added to.
        """
        if self.anchor_model is not None:
            anchor = self.anchor_model.network
            theirs = anchor.forward(observations)[: len(outputs)]
            weight = self.kl_coefficient * scale
            policy.kl_backward(outputs, free, theirs, anchor.free, weight, d_outputs, d_free)

    def mean_gradient(self, num_params: int) -> FloatVector:
        """Average the gradients of the round, shape (d,); 0 where no optimiser has stepped."""
        mean: FloatVector = np.zeros(num_params, np.float32)
        for columns, optimiser in self._steered:
            mean[columns] = optimiser.mean_gradient()
        return mean


class SteeredOptimiser:
    """An optimiser whose gradient is recorded, and bent, before each step."""

    def __init__(self, inner: Optimiser, proximal: FloatVector | float, tracks: bool, holds: bool) -> None:
        self.params, self.gradient = inner.params, inner.gradient
        self._inner, self._tracks, self._holds = inner, tracks, holds
        self._pulls = bool(np.any(proximal))
        self._proximal: Any = inner.adopt(proximal) if isinstance(proximal, np.ndarray) else proximal
        self._anchor: Any = self.params
        self._correction: Any = None
        self._total: Any = inner.adopt(np.zeros(len(self.params), np.float32))
        self._steps = 0

    def begin(self, anchor: FloatVector, correction: FloatVector | None) -> None:
        """Forget the gradients of the last round."""
        self._anchor = self._inner.adopt(anchor) if self._pulls else None
        self._correction = None if correction is None else self._inner.adopt(correction)
        self._total *= 0.0
        self._steps = 0

    def mean_gradient(self) -> FloatVector:
        """Average the gradients since `begin`, in host memory."""
        total = self._total if isinstance(self._total, np.ndarray) else self._total.cpu().numpy()
        mean: FloatVector = (total / max(self._steps, 1)).astype(np.float32, copy=False)
        return mean

    def step(self, lr: float, max_gradient_norm: float) -> float:
        """Record the gradient; bend it and step, unless steps are held."""
        self._steps += 1
        if self._tracks:
            self._total += self.gradient
        if self._holds:
            return float((self.gradient @ self.gradient) ** 0.5)
        if self._pulls:
            self.gradient += self._proximal * (self.params - self._anchor)
        if self._correction is not None:
            self.gradient += self._correction
        return self._inner.step(lr, max_gradient_norm)

    def adopt(self, values: FloatVector) -> Any:
        return self._inner.adopt(values)

    def get_state(self) -> State:
        return self._inner.get_state()

    def set_state(self, state: State) -> None:
        self._inner.set_state(state)
