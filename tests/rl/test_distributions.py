"""Action distributions: values and derivatives against float64 formulae, draws against probabilities."""

from math import log, pi
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch import Tensor

from fdrl_mpi.rl.distributions import Categorical, DiagonalGaussian, Distribution, distribution_of
from fdrl_mpi.steps import ActionSpec
from fdrl_mpi.streams import stream

SPECS = [ActionSpec("discrete", 4, (0,), (3,)), ActionSpec("box", 3, (-1,) * 3, (1,) * 3)]
ROWS = 29
CHI_SQUARE_999 = {3: 16.27, 7: 24.32}
"""The 99.9th percentile, by degrees of freedom."""


def _case(spec: ActionSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outputs, free parameters and actions."""
    draws = stream(1, "case")
    outputs = draws.normal(0.0, 2.0, (spec.size, ROWS)).astype(np.float32)
    if spec.kind == "discrete":
        return outputs, np.empty(0, np.float32), draws.integers(spec.size, size=ROWS)
    free = draws.normal(0.0, 0.5, spec.size).astype(np.float32)
    return outputs, free, draws.normal(0.0, 2.0, (ROWS, spec.size)).astype(np.float32)


def _written_out(
    spec: ActionSpec, outputs: Tensor, free: Tensor, actions: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Log-probability and entropy as textbooks give them."""
    if spec.kind == "discrete":
        probability = outputs.exp() / outputs.exp().sum(0)
        entropy = -(probability * probability.log()).sum(0)
        return probability[torch.from_numpy(actions), torch.arange(ROWS)].log(), entropy
    variance = (2.0 * free[:, None]).exp()
    density = torch.exp(-((torch.from_numpy(actions).T - outputs) ** 2) / (2.0 * variance))
    log_probability = (density / torch.sqrt(2.0 * pi * variance)).log().sum(0)
    return log_probability, (0.5 * torch.log(2.0 * pi * np.e * variance)).sum().expand(ROWS)


def _double(array: np.ndarray) -> Tensor:
    return torch.tensor(array, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("spec", SPECS)
def test_log_probability_and_entropy_are_those_of_the_formulae(spec: ActionSpec) -> None:
    outputs, free, actions = _case(spec)
    policy = distribution_of(spec)
    policy.evaluate(outputs, free, actions)
    log_probability, entropy = _written_out(spec, _double(outputs), _double(free), actions)
    np.testing.assert_allclose(policy.log_probability, log_probability.detach(), rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(policy.entropy, entropy.detach(), rtol=2e-6, atol=2e-6)  # float32 rounding


@pytest.mark.parametrize("d_entropy", [0.0, -0.3])
@pytest.mark.parametrize("spec", SPECS)
def test_derivatives_are_those_of_autograd(spec: ActionSpec, d_entropy: float) -> None:
    outputs, free, actions = _case(spec)
    weights = stream(2, "weights").standard_normal(ROWS, dtype=np.float32)
    doubles = _double(outputs), _double(free)
    log_probability, entropy = _written_out(spec, *doubles, actions)
    loss = (torch.from_numpy(weights) * log_probability).sum() + d_entropy * entropy.sum()
    expected = torch.autograd.grad(loss, doubles, allow_unused=True)

    policy = distribution_of(spec)
    d_outputs, d_free = np.empty_like(outputs), np.empty_like(free)
    policy.evaluate(outputs, free, actions)
    policy.backward(weights, d_entropy, d_outputs, d_free)
    np.testing.assert_allclose(d_outputs, expected[0], rtol=1e-5, atol=1e-6)  # float32 rounding
    if policy.num_free:
        np.testing.assert_allclose(d_free, expected[1], rtol=1e-5, atol=1e-5)  # of a sum over all rows


def test_choices_with_equal_logits_have_the_entropy_of_a_fair_die() -> None:
    policy = Categorical(6)
    policy.evaluate(np.full((6, 1), 3.0, np.float32), np.empty(0, np.float32), np.array([2]))
    assert policy.log_probability[0] == pytest.approx(-log(6.0), rel=1e-6)
    assert policy.entropy[0] == pytest.approx(log(6.0), rel=1e-6)


def test_standard_normals_at_their_mean_have_the_textbook_density_and_entropy() -> None:
    policy = DiagonalGaussian(2)
    policy.evaluate(np.zeros((2, 1), np.float32), np.zeros(2, np.float32), np.zeros((1, 2), np.float32))
    assert policy.log_probability[0] == pytest.approx(-log(2.0 * pi), rel=1e-6)
    assert policy.entropy[0] == pytest.approx(1.0 + log(2.0 * pi), rel=1e-6)


def test_logits_too_large_to_exponentiate_give_finite_values_and_derivatives() -> None:
    policy = Categorical(2)
    outputs = np.array([[1e4, 1e4], [-1e4, -1e4]], np.float32)
    d_outputs = np.empty_like(outputs)
    policy.evaluate(outputs, np.empty(0, np.float32), np.array([0, 1]))
    policy.backward(np.ones(2, np.float32), 1.0, d_outputs, np.empty(0, np.float32))
    np.testing.assert_array_equal(policy.log_probability, [0.0, -2e4])
    np.testing.assert_array_equal(policy.entropy, 0.0)
    np.testing.assert_array_equal(d_outputs, [[0.0, -1.0], [0.0, 1.0]])


@pytest.mark.parametrize("spec", SPECS)
def test_values_do_not_depend_on_what_was_evaluated_before(spec: ActionSpec) -> None:
    outputs, free, actions = _case(spec)
    fresh, used = distribution_of(spec), distribution_of(spec)
    for rows in (ROWS, 7):
        used.evaluate(-outputs[:, :rows], free, actions[:rows])
    for policy in (fresh, used):
        policy.evaluate(outputs, free, actions)
    np.testing.assert_array_equal(used.log_probability, fresh.log_probability)
    np.testing.assert_array_equal(used.entropy, fresh.entropy)


def _draw(policy: Distribution, outputs: np.ndarray, free: np.ndarray, steps: int) -> np.ndarray:
    """Actions of `steps` steps of one environment, shape (steps, *action_shape)."""
    noise = policy.noise(stream(3, "noise"), steps, 1)
    actions = np.empty((steps, 1, *policy.action_shape), policy.action_dtype)
    for step_noise, action in zip(noise, actions, strict=True):
        policy.sample(outputs[:, None], free, step_noise, action)
    return actions[:, 0]


def test_choices_are_drawn_as_often_as_their_probabilities_say() -> None:
    logits, draws = np.array([0.0, 1.5, -1.0, 0.7], np.float32), 20_000
    probability = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum()
    counts = np.bincount(_draw(Categorical(4), logits, np.empty(0, np.float32), draws), minlength=4)
    chi_square = ((counts - draws * probability) ** 2 / (draws * probability)).sum()
    assert chi_square < CHI_SQUARE_999[3]


def test_real_actions_fill_the_eighths_of_their_normals_evenly() -> None:
    means, free, draws = np.array([0.5, -2.0], np.float32), np.array([-1.0, 0.4], np.float32), 20_000
    actions = _draw(DiagonalGaussian(2), means, free, draws)
    for values, mean, log_deviation in zip(actions.T, means, free, strict=True):
        normal = NormalDist(float(mean), float(np.exp(log_deviation)))
        counts = np.bincount(np.searchsorted([normal.inv_cdf(i / 8) for i in range(1, 8)], values))
        assert ((counts - draws / 8) ** 2 / (draws / 8)).sum() < CHI_SQUARE_999[7]
    assert abs(np.corrcoef(actions.T)[0, 1]) < 3.3 / np.sqrt(draws)  # independent: 99.9 %


@pytest.mark.parametrize("spec", SPECS)
def test_greedy_action_is_the_most_likely_one(spec: ActionSpec) -> None:
    outputs, free, _ = _case(spec)
    policy = distribution_of(spec)
    greedy = policy.greedy(outputs)
    policy.evaluate(outputs, free, greedy)
    highest = policy.log_probability.copy()
    for shift in (1, 2, 3) if spec.kind == "discrete" else (-0.1, 0.1):
        others = (greedy + shift) % spec.size if spec.kind == "discrete" else greedy + np.float32(shift)
        policy.evaluate(outputs, free, others)
        assert (policy.log_probability < highest).all()


@pytest.mark.parametrize("spec", SPECS)
def test_actions_have_the_declared_shape_and_dtype(spec: ActionSpec) -> None:
    outputs, _, actions = _case(spec)
    policy = distribution_of(spec)
    greedy = policy.greedy(outputs)
    assert greedy.shape == (ROWS, *policy.action_shape) == actions.shape
    assert greedy.dtype == policy.action_dtype


def test_gumbel_noise_is_finite_also_for_the_extreme_draws() -> None:
    class Extremes:
        def standard_exponential(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
            return np.resize(np.array([0.0, 1e-45, 1e-38, 1.0, 1e3], dtype), shape)

    noise = Categorical(5).noise(Extremes(), 2, 1)  # type: ignore[arg-type]
    assert np.isfinite(noise).all()
    assert noise.min() == pytest.approx(-log(1e3))
    assert noise.max() == pytest.approx(-log(np.finfo(np.float32).tiny))
