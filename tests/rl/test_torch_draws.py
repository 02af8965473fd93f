"""Numbers drawn on a device: known answers, independent members, the right distributions."""

from collections.abc import Callable, Sequence
from math import erf, sqrt

import numpy as np
import pytest
import torch

from fdrl_mpi.rl.distributions import Categorical, DiagonalGaussian
from fdrl_mpi.rl.torch_draws import NOISE, CounterDraws, OwnDraws, philox
from fdrl_mpi.streams import stream

CPU = torch.device("cpu")
KNOWN = [
    ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def _generators(agents: Sequence[int]) -> list[np.random.Generator]:
    return [stream(3, "train", agent, 1) for agent in agents]


def _draws(agents: Sequence[int]) -> CounterDraws:
    return CounterDraws(_generators(agents), num_envs=4, device=CPU)


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_gives_the_known_answers_of_its_authors(
    counter: list[int], key: list[int], words: str
) -> None:
    found = philox(torch.tensor(counter), torch.tensor(key))
    assert " ".join(f"{int(word):08x}" for word in found) == words


def _all_of(draws: CounterDraws | OwnDraws) -> list[torch.Tensor]:
    """Draw everything that a round draws, members first."""
    found = [draws.noise(Categorical(3), 3, 5), draws.noise(DiagonalGaussian(2), 2, 5)]
    draws.begin_rollout(5, 2)
    members = found[0].shape[1]
    every = torch.ones(4 * members, dtype=torch.bool)
    starts = [draws.starts(t, every, (-1.0, 2.0)).view(2, members, 4) for t in range(5)]
    starts += [draws.first_starts(2, (-1.0, 2.0)).view(2, members, 4) for _ in range(2)]
    draws.begin_batches(6, 3, 2, 5)
    explored = [draws.explored(slice(t, t + 2), 0.5) for t in (0, 2, 4)]
    by_member = [tensor.transpose(0, 1) for tensor in (*found, *starts, *explored)]
    return [*by_member, draws.orders(11), draws.orders(11), draws.places(0, 100), draws.places(1, 200)]


@pytest.mark.parametrize("kind", [CounterDraws, OwnDraws])
def test_what_a_member_draws_depends_on_nobody_else(kind: type[CounterDraws | OwnDraws]) -> None:
    together = _all_of(kind(_generators([1, 2, 3]), 4, CPU))
    for place, agent in enumerate((1, 2, 3)):
        alone = _all_of(kind(_generators([agent]), 4, CPU))
        for ours, theirs in zip(together, alone, strict=True):
            assert torch.equal(ours[place], theirs[0])


@pytest.mark.parametrize("kind", [CounterDraws, OwnDraws])
def test_episodes_of_others_that_last_longer_change_nothing(kind: type[CounterDraws | OwnDraws]) -> None:
    drawn = []
    for chunks in (1, 3):
        draws = kind(_generators([1, 2]), 4, CPU)
        draws.first_starts(2, (-1.0, 2.0))
        for chunk in range(chunks):
            draws.noise(Categorical(3), 3, 5)
            draws.begin_rollout(5, 2)
            ended = torch.tensor([chunk == 0] * 4 + [chunk == chunks - 1] * 4)
            draws.starts(4, ended, (-1.0, 2.0))
        drawn.append((draws.first_starts(2, (-1.0, 2.0)).view(2, 2, 4), draws.noise(Categorical(3), 3, 5)))
    for ours, theirs in zip(*drawn, strict=True):
        assert torch.equal(ours[:, 0], theirs[:, 0])


def test_nothing_is_drawn_twice() -> None:
    draws = _draws([1, 2])
    words = [draws._words(purpose, 4000).flatten() for purpose in (0, 1, 0)]
    draws.first_starts(1, (0.0, 1.0))
    words = torch.cat([*words, draws._words(1, 4000).flatten()])
    assert len(words.unique()) > len(words) - 5, "by chance 0.12 pairs of 32000 words are equal"


def _is_like(drawn: torch.Tensor, distribution: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Compare with a distribution function by Kolmogorov and Smirnov; one right sample in 1000 fails."""
    values = np.sort(drawn.numpy().ravel().astype(np.float64))
    steps = np.arange(len(values) + 1) / len(values)
    expected = distribution(values)
    distance = max(np.abs(expected - steps[:-1]).max(), np.abs(expected - steps[1:]).max())
    return bool(distance < 1.95 / sqrt(len(values)))


def test_uniform_numbers_lie_strictly_between_0_and_1_and_fill_it_evenly() -> None:
    drawn = _draws(range(1, 9))._uniform(NOISE, 20_000)
    assert drawn.dtype == torch.float32
    assert 0.0 < drawn.min() < 1e-4
    assert 1.0 - 1e-4 < drawn.max() < 1.0
    assert _is_like(drawn, lambda x: x)


def test_noise_has_the_distributions_that_numpys_has() -> None:
    gumbel = _draws(range(1, 9)).noise(Categorical(2), 2, 2000)
    assert gumbel.shape == (2000, 8, 2, 4)
    assert _is_like(gumbel, lambda x: np.exp(-np.exp(-x)))
    normal = _draws(range(1, 9)).noise(DiagonalGaussian(3), 3, 1001)
    assert normal.shape == (1001, 8, 3, 4)
    assert _is_like(normal, lambda x: 0.5 + 0.5 * np.array([erf(value / sqrt(2.0)) for value in x]))


def test_orders_are_permutations_and_every_place_is_as_likely() -> None:
    draws = _draws(range(1, 401))
    orders = torch.stack([draws.orders(5) for _ in range(10)]).view(-1, 5)
    assert torch.equal(orders.sort(dim=1).values, torch.arange(5).expand(4000, 5))
    counts = np.bincount(orders[:, 0].numpy(), minlength=5)
    assert np.square(counts - 800.0).sum() / 800.0 < 18.5, "chi squared, 4 degrees of freedom, 0.1 %"


def _is_even(drawn: torch.Tensor, size: int) -> bool:
    """Compare numbers below `size` with an even spread, by chi squared; one right sample in 1000 fails."""
    counts = np.bincount(drawn.numpy().ravel(), minlength=size)
    expected = drawn.numel() / size
    normal = (np.square(counts - expected).sum() / expected - size + 1) / sqrt(2 * (size - 1))
    return len(counts) == size and bool(normal < 4.0)


@pytest.mark.parametrize("kind", [CounterDraws, OwnDraws])
def test_exploration_and_places_are_spread_evenly(kind: type[CounterDraws | OwnDraws]) -> None:
    draws = kind(_generators(range(1, 9)), 4, CPU)
    draws.begin_batches(400, 3, 2, 1000)
    explored = draws.explored(slice(0, 400), 0.25)
    assert explored.shape == (400, 8, 4)
    is_any = explored >= 0
    assert abs(float(is_any.float().mean()) - 0.25) < 4.0 * sqrt(0.25 * 0.75 / explored.numel())
    assert _is_even(explored[is_any], 3)
    for batch, filled in enumerate((50, 77)):
        places = draws.places(batch, filled)
        assert places.shape == (8, 1000)
        assert _is_even(places, filled)


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
@pytest.mark.parametrize("kind", [CounterDraws, OwnDraws])
def test_a_certain_choice_leaves_nothing_to_chance(
    kind: type[CounterDraws | OwnDraws], epsilon: float
) -> None:
    draws = kind(_generators([1, 2]), 4, CPU)
    draws.begin_batches(300, 3, 0, 1)
    assert bool(((draws.explored(slice(0, 300), epsilon) >= 0) == (epsilon == 1.0)).all())


@pytest.mark.parametrize("kind", [CounterDraws, OwnDraws])
def test_starts_lie_within_their_limits(kind: type[CounterDraws | OwnDraws]) -> None:
    draws = kind(_generators([1, 2]), 4, CPU)
    draws.begin_rollout(7, 3)
    done = torch.tensor([True, False, True, True, False, False, True, True])
    starts = torch.stack([draws.starts(t, done, (-0.5, 0.25)) for t in range(7)])[:, :, done]
    assert starts.dtype == torch.float64
    assert -0.5 <= float(starts.min()) < -0.4
    assert 0.2 < float(starts.max()) < 0.25
