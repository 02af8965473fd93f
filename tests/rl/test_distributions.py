"""Action distributions: values and derivatives against float64 formulae, draws against probabilities."""

from collections.abc import Sequence
from math import log, pi
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch import Tensor

from fdrl_mpi.rl.distributions import (
    Categorical,
    DiagonalGaussian,
    Distribution,
    MultiCategorical,
    distribution_of,
)
from fdrl_mpi.steps import ActionSpec
from fdrl_mpi.streams import stream

SIZES = (3, 1, 4)
SPECS = [
    ActionSpec("discrete", 4, (0,), (3,)),
    ActionSpec("multi_discrete", 8, (0,) * 3, (2, 0, 3), SIZES),
    ActionSpec("box", 3, (-1,) * 3, (1,) * 3),
]
ROWS = 29
CHI_SQUARE_999 = {3: 16.27, 7: 24.32}
"""The 99.9th percentile, by degrees of freedom."""


def _case(spec: ActionSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outputs, free parameters and actions."""
    draws = stream(1, "case")
    outputs = draws.normal(0.0, 2.0, (spec.size, ROWS)).astype(np.float32)
    if spec.kind == "discrete":
        return outputs, np.empty(0, np.float32), draws.integers(spec.size, size=ROWS)
    if spec.kind == "multi_discrete":
        return outputs, np.empty(0, np.float32), draws.integers(spec.sizes, size=(ROWS, len(spec.sizes)))
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
    if spec.kind == "multi_discrete":
        parts = zip(spec.sizes, outputs.split(spec.sizes), actions.T, strict=True)
        each = [_written_out(_choice(size), part, free, chosen) for size, part, chosen in parts]
        log_probabilities, entropies = zip(*each, strict=True)
        return torch.stack(log_probabilities).sum(0), torch.stack(entropies).sum(0)
    variance = (2.0 * free[:, None]).exp()
    density = torch.exp(-((torch.from_numpy(actions).T - outputs) ** 2) / (2.0 * variance))
    log_probability = (density / torch.sqrt(2.0 * pi * variance)).log().sum(0)
    return log_probability, (0.5 * torch.log(2.0 * pi * np.e * variance)).sum().expand(ROWS)


def _choice(size: int) -> ActionSpec:
    return ActionSpec("discrete", size, (0,), (size - 1,))


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


def _anchor(spec: ActionSpec) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and free parameters of another policy."""
    outputs, free, _ = _case(spec)
    draws = stream(4, "anchor")
    return tuple(array + draws.normal(0.0, 0.7, array.shape).astype(np.float32) for array in (outputs, free))


def _divergence(
    policy: Distribution, own: Sequence[np.ndarray], anchor: Sequence[np.ndarray], scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The divergence of each sample and, from zero, its derivatives."""
    d_outputs, d_free = (np.zeros_like(array) for array in own)
    return policy.kl_backward(*own, *anchor, scale, d_outputs, d_free), d_outputs, d_free


@pytest.mark.parametrize("spec", SPECS)
def test_divergence_is_that_of_the_formula(spec: ActionSpec) -> None:
    own, anchor = _case(spec)[:2], _anchor(spec)
    divergence, _, _ = _divergence(distribution_of(spec), own, anchor)
    family = torch.distributions
    if spec.kind == "box":
        first, second = (
            family.Normal(_double(means).T, _double(free).exp()) for means, free in (anchor, own)
        )
        expected = family.kl_divergence(first, second).sum(1)
    else:
        parts = zip(
            *(_double(logits).split(spec.sizes or spec.size) for logits, _ in (anchor, own)), strict=True
        )
        expected = sum(
            family.kl_divergence(*(family.Categorical(logits=part.T) for part in pair)) for pair in parts
        )
    assert divergence.dtype == np.float32
    np.testing.assert_allclose(divergence, expected.detach(), rtol=1e-5, atol=1e-6)  # float32 rounding


@pytest.mark.parametrize("spec", SPECS)
def test_derivatives_of_the_divergence_are_its_difference_quotients(spec: ActionSpec) -> None:
    """In float64, central, steps of 1e-5: the error is 1e-10 times the third derivative, and rounding."""
    own, anchor = (
        [array.astype(np.float64) for array in arrays] for arrays in (_case(spec)[:2], _anchor(spec))
    )
    policy, step = distribution_of(spec), 1e-5
    _, *derivatives = _divergence(policy, own, anchor, scale=0.3)
    for array, derivative in zip(own, derivatives, strict=True):
        quotients = np.empty_like(array)
        for index in np.ndindex(array.shape):
            value = array[index]
            totals = []
            for array[index] in (value - step, value + step):
                totals.append(_divergence(policy, own, anchor)[0].sum())
            array[index] = value
            quotients[index] = 0.3 * (totals[1] - totals[0]) / (2.0 * step)
        np.testing.assert_allclose(derivative, quotients, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("spec", SPECS)
def test_policy_does_not_diverge_from_itself(spec: ActionSpec) -> None:
    own = _case(spec)[:2]
    for array in _divergence(distribution_of(spec), own, own):
        np.testing.assert_array_equal(array, 0.0)


@pytest.mark.parametrize("spec", SPECS)
def test_derivatives_of_the_divergence_are_added_and_leave_the_evaluated_ones(spec: ActionSpec) -> None:
    outputs, free, actions = _case(spec)
    policy = distribution_of(spec)
    policy.evaluate(outputs, free, actions)
    first, second = ([np.empty_like(outputs), np.empty_like(free)] for _ in range(2))
    policy.backward(np.ones(ROWS, np.float32), 0.2, *first)
    _, *added = _divergence(policy, (outputs, free), _anchor(spec), scale=0.5)
    policy.backward(np.ones(ROWS, np.float32), 0.2, *second)
    policy.kl_backward(outputs, free, *_anchor(spec), 0.5, *second)
    for alone, penalty, both in zip(first, added, second, strict=True):
        np.testing.assert_allclose(both, alone + penalty, rtol=1e-5, atol=1e-5)


def test_divergence_of_logits_too_large_to_exponentiate_is_finite() -> None:
    outputs, free = np.array([[1e4], [-1e4]], np.float32), np.empty(0, np.float32)
    divergence, d_outputs, _ = _divergence(Categorical(2), (outputs, free), (-outputs, free))
    np.testing.assert_array_equal(divergence, 2e4)
    np.testing.assert_array_equal(d_outputs, [[1.0], [-1.0]])


@pytest.mark.parametrize("d_entropy", [0.0, -0.3])
def test_several_choices_of_one_component_are_one_choice(d_entropy: float) -> None:
    """Bit for bit, from the noise to the derivatives."""
    outputs, free, actions = _case(_choice(4))
    one, several = Categorical(4), MultiCategorical((4,))
    results = []
    for policy, chosen in ((one, actions), (several, actions[:, None])):
        noise = policy.noise(stream(3, "noise"), 1, ROWS)[0]
        sampled, d_outputs = np.empty_like(chosen), np.empty_like(outputs)
        policy.sample(outputs, free, noise, sampled)
        policy.evaluate(outputs, free, chosen)
        policy.backward(np.ones(ROWS, np.float32), d_entropy, d_outputs, free)
        greedy = policy.greedy(outputs).ravel()
        results.append([sampled.ravel(), greedy, policy.log_probability, policy.entropy, d_outputs])
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)


def test_components_are_chosen_independently() -> None:
    """Every pair of choices as often as the product of their probabilities says."""
    logits, draws = np.array([0.3, -0.4, 1.0, 0.0, -1.0, 0.5], np.float32), 20_000
    actions = _draw(MultiCategorical((2, 4)), logits, np.empty(0, np.float32), draws)
    first, second = (np.exp(part) / np.exp(part).sum() for part in np.split(logits.astype(np.float64), [2]))
    expected = draws * np.outer(first, second).ravel()
    counts = np.bincount(actions[:, 0] * 4 + actions[:, 1], minlength=8)
    assert ((counts - expected) ** 2 / expected).sum() < CHI_SQUARE_999[7]


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
    sizes = {"discrete": spec.size, "multi_discrete": spec.sizes}.get(spec.kind)
    for shift in (1, 2, 3) if sizes else (-0.1, 0.1):
        others = (greedy + shift) % sizes if sizes else greedy + np.float32(shift)
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
