"""The squashed Gaussian is a density, and its derivatives are those autograd finds."""

import numpy as np
import pytest
import torch

from fdrl_mpi.rl.squashed_gaussian import SquashedGaussian
from fdrl_mpi.streams import stream

SIZE, N = 3, 41


def _case() -> tuple[np.ndarray, np.ndarray]:
    draws = stream(0, "case")
    return (
        draws.standard_normal((2 * SIZE, N), dtype=np.float32),
        draws.standard_normal((SIZE, N), dtype=np.float32),
    )


def _written(outputs: torch.Tensor, noise: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Actions and log-densities in float64, from torch's own distribution."""
    mean, raw = outputs[:SIZE], outputs[SIZE:]
    deviation = torch.exp(-5.0 + 3.5 * (torch.tanh(raw) + 1.0))
    sample = mean + deviation * torch.tensor(noise, dtype=torch.float64)
    normal = torch.distributions.Normal(mean, deviation)
    actions = torch.tanh(sample)
    return actions, (normal.log_prob(sample) - torch.log(1.0 - actions**2)).sum(0)


def test_density_integrates_to_one() -> None:
    """Over a fine grid of actions; the tanh rule is exact to 1e-3 for this smooth one."""
    grid = np.linspace(-0.9995, 0.9995, 4001)
    outputs = np.repeat(np.array([[0.3], [-0.2]], np.float32), len(grid), axis=1)
    deviation = np.exp(-5.0 + 3.5 * (np.tanh(np.float64(-0.2)) + 1.0))
    noise = ((np.arctanh(grid) - 0.3) / deviation).astype(np.float32)[None]
    policy = SquashedGaussian(1, len(grid))
    np.testing.assert_allclose(policy.sample(outputs, noise)[0], grid, atol=1e-5)
    assert np.trapezoid(np.exp(policy.evaluate()), grid) == pytest.approx(1.0, abs=2e-3)


def test_samples_and_densities_are_those_of_torch() -> None:
    outputs, noise = _case()
    policy = SquashedGaussian(SIZE, N)
    actions, log_probability = _written(torch.tensor(outputs, dtype=torch.float64), noise)
    np.testing.assert_allclose(policy.sample(outputs, noise), actions, rtol=1e-4, atol=1e-6)
    near_bound = (actions.abs() > 0.9999).any(0).numpy()
    assert near_bound.sum() < N / 2
    np.testing.assert_allclose(policy.evaluate()[~near_bound], log_probability[~near_bound], rtol=1e-3)


def test_derivatives_by_the_outputs_are_those_of_autograd() -> None:
    """Of ``sum(c a + w log p)``; float32 against float64."""
    outputs, noise = _case()
    noise *= 0.3
    weights = stream(1, "weights").standard_normal((SIZE, N), dtype=np.float32)
    leaf = torch.tensor(outputs, dtype=torch.float64, requires_grad=True)
    actions, log_probability = _written(leaf, noise)
    (expected,) = torch.autograd.grad(
        (torch.tensor(weights) * actions).sum() + 0.7 * log_probability.sum(), leaf
    )
    policy, d_outputs = SquashedGaussian(SIZE, N), np.empty_like(outputs)
    policy.sample(outputs, noise)
    policy.backward(weights, 0.7, d_outputs)
    np.testing.assert_allclose(d_outputs, expected, rtol=1e-3, atol=1e-5)


def test_densities_at_the_bounds_are_finite() -> None:
    outputs = np.array([[40.0, -40.0, 1e4, 0.0], [9.0, -9.0, 0.0, 0.0]], np.float32)
    policy = SquashedGaussian(1, 4)
    assert np.abs(policy.sample(outputs, np.ones((1, 4), np.float32))).max() <= 1.0
    assert np.isfinite(policy.evaluate()).all()
