"""What agents that learn together on a device draw: from their own generators, or on the device itself."""

from collections.abc import Sequence
from math import pi
from typing import Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from fdrl_mpi.arrays import BoolVector
from fdrl_mpi.rl.distributions import Distribution
from fdrl_mpi.rl.dqn import EpsilonGreedy
from fdrl_mpi.rl.rollout import Draws
from fdrl_mpi.rl.team import Generators

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
NUM_ROUNDS = 10
"""Constants of Philox 4x32."""
MASK = 0xFFFFFFFF
NOISE, STARTS, ORDER, EXPLORATION, PLACES = range(5)
"""What is drawn: the third word of a counter."""

Generated: TypeAlias = Sequence[np.random.Generator]
"""The members' generators of this round."""


class DeviceDraws(Protocol):
    """Random numbers of A members with N environments each, where the members' tensors are."""

    def noise(self, distribution: Distribution, size: int, steps: int) -> Tensor:
        """Draw what actions are sampled with, shape (T, A, size, N), float32."""

    def begin_rollout(self, steps: int, num_drawn: int) -> None:
        """Prepare the first states of episodes that end within so many steps."""

    def starts(self, step: int, done: Tensor, limits: tuple[float, float]) -> Tensor:
        """Draw numbers for the episodes that begin after a step, shape (num_drawn, A * N), float64.

        What stands in the columns of other environments means nothing.
        """

    def first_starts(self, num_drawn: int, limits: tuple[float, float]) -> Tensor:
        """Draw what `starts` does for one episode in every environment; call `begin_rollout` before `starts`.

        From then on what a member draws does not depend on how long the episodes of others last: once all of
        its own have ended, it gets numbers that mean nothing.
        """

    def orders(self, samples: int) -> Tensor:
        """Draw a permutation for each member, shape (A, samples), int64."""

    def begin_batches(self, steps: int, num_actions: int, batches: int, batch_size: int) -> None:
        """Prepare the exploration of so many steps, and so many batches out of a memory."""

    def explored(self, steps: slice, epsilon: float) -> Tensor:
        """Draw an action for each of these steps where it is to be any, and -1 where it is to be the best.

        Shape (T, A, N), int64.
        """

    def places(self, batch: int, filled: int) -> Tensor:
        """Draw the places of a batch out of so many, shape (A, batch_size), int64."""


class OwnDraws:
    """The numbers that every member would draw alone, drawn in host memory."""

    def __init__(self, generators: Generated, num_envs: int, device: torch.device) -> None:
        self._num_envs, self._device, self._num_drawn = num_envs, device, 0
        self._own, self._members, self._idle = generators, list(generators), np.random.default_rng(0)
        self._generators = Generators(self._members)
        self._num_actions = self._batch_size = 0
        self._under_way: BoolVector | None = None

    def noise(self, distribution: Distribution, size: int, steps: int) -> Tensor:
        """See `DeviceDraws.noise`."""
        members = len(self._generators.members)
        drawn: Draws = distribution.noise(self._generators, steps, members * self._num_envs)  # type: ignore[arg-type]
        noise = torch.from_numpy(drawn).to(self._device)
        return noise.view(steps, size, members, self._num_envs).transpose(1, 2)

    def begin_rollout(self, steps: int, num_drawn: int) -> None:
        """See `DeviceDraws.begin_rollout`."""
        self._num_drawn = num_drawn

    def starts(self, step: int, done: Tensor, limits: tuple[float, float]) -> Tensor:
        """See `DeviceDraws.starts`."""
        finished = done.cpu().numpy().reshape(-1, self._num_envs)
        starts = self._drawn_starts(finished, limits)
        if self._under_way is not None:
            self._leave(self._under_way, finished)
        return starts

    def first_starts(self, num_drawn: int, limits: tuple[float, float]) -> Tensor:
        """See `DeviceDraws.first_starts`."""
        self._members[:], self._num_drawn = self._own, num_drawn
        self._under_way = np.ones((len(self._own), self._num_envs), np.bool_)
        return self._drawn_starts(self._under_way, limits)

    def orders(self, samples: int) -> Tensor:
        """See `DeviceDraws.orders`."""
        orders = [generator.permutation(samples) for generator in self._members]
        return torch.from_numpy(np.stack(orders)).to(self._device)

    def begin_batches(self, steps: int, num_actions: int, batches: int, batch_size: int) -> None:
        """See `DeviceDraws.begin_batches`."""
        self._num_actions, self._batch_size = num_actions, batch_size

    def explored(self, steps: slice, epsilon: float) -> Tensor:
        """See `DeviceDraws.explored`."""
        count = steps.stop - steps.start
        policy, members = EpsilonGreedy(self._num_actions, count), len(self._members)
        policy.epsilon.fill(epsilon)
        drawn = policy.noise(self._generators, count, members * self._num_envs)  # type: ignore[arg-type]
        return torch.from_numpy(drawn).to(self._device).view(count, members, self._num_envs)

    def places(self, batch: int, filled: int) -> Tensor:
        """See `DeviceDraws.places`."""
        places = [generator.integers(filled, size=self._batch_size) for generator in self._members]
        return torch.from_numpy(np.stack(places)).to(self._device)

    def _drawn_starts(self, finished: BoolVector, limits: tuple[float, float]) -> Tensor:
        starts = np.zeros((*finished.shape, self._num_drawn))
        for member in np.flatnonzero(finished.any(axis=1)).tolist():
            size = (int(finished[member].sum()), self._num_drawn)
            starts[member, finished[member]] = self._members[member].uniform(*limits, size)
        return torch.from_numpy(starts.reshape(-1, self._num_drawn).T).to(self._device)

    def _leave(self, under_way: BoolVector, finished: BoolVector) -> None:
        """Spare the generators of members whose episodes have all ended, as if they had stopped."""
        under_way &= ~finished
        for member in np.flatnonzero(~under_way.any(axis=1)).tolist():
            self._members[member] = self._idle


class CounterDraws:
    """Numbers computed on the device: word j of a member's n-th call is a function of key, j and n.

    Calls are counted anew from each `first_starts` on, whose number goes in too.

    So a member's numbers depend on nobody else's, nothing waits for the host, and CPU and CUDA draw the same
    bits. The key is drawn from the member's generator.

    References
    ----------
    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011: Philox 4x32 with ten rounds. Box
    and Muller, "A note on the generation of random normal deviates", 1958.
    """

    def __init__(self, generators: Generated, num_envs: int, device: torch.device) -> None:
        keys = [generator.integers(1 << 32, size=2) for generator in generators]
        self._keys = torch.from_numpy(np.stack(keys)).to(device)
        self._num_envs, self._device, self._num_calls, self._num_waves = num_envs, device, 0, 0
        self._starts = self._any = self._shares = self._places = torch.zeros(0, device=device)

    def noise(self, distribution: Distribution, size: int, steps: int) -> Tensor:
        """See `DeviceDraws.noise`."""
        count = steps * size * self._num_envs
        is_normal = distribution.num_free > 0
        drawn = self._normal(count) if is_normal else -torch.log(-torch.log(self._uniform(NOISE, count)))
        return drawn.view(len(self._keys), steps, size, self._num_envs).transpose(0, 1)

    def begin_rollout(self, steps: int, num_drawn: int) -> None:
        """See `DeviceDraws.begin_rollout`."""
        members = len(self._keys)
        drawn = self._uniform(STARTS, steps * num_drawn * self._num_envs)
        by_step = drawn.view(members, steps, num_drawn, self._num_envs).permute(1, 2, 0, 3)
        self._starts = by_step.reshape(steps, num_drawn, members * self._num_envs).double()

    def starts(self, step: int, done: Tensor, limits: tuple[float, float]) -> Tensor:
        """See `DeviceDraws.starts`."""
        low, high = limits
        return low + (high - low) * self._starts[step]

    def first_starts(self, num_drawn: int, limits: tuple[float, float]) -> Tensor:
        """See `DeviceDraws.first_starts`."""
        self._num_waves, self._num_calls = self._num_waves + 1, 0
        self.begin_rollout(1, num_drawn)
        low, high = limits
        return low + (high - low) * self._starts[0]

    def orders(self, samples: int) -> Tensor:
        """See `DeviceDraws.orders`."""
        return self._words(ORDER, samples).argsort(dim=1, stable=True)

    def begin_batches(self, steps: int, num_actions: int, batches: int, batch_size: int) -> None:
        """See `DeviceDraws.begin_batches`."""
        members = len(self._keys)
        words = self._words(EXPLORATION, 2 * steps * self._num_envs)
        by_step = words.view(members, 2, steps, self._num_envs).permute(2, 1, 0, 3)
        self._any, self._shares = (by_step[:, 0] * num_actions) >> 32, by_step[:, 1]
        places = self._words(PLACES, batches * batch_size)
        self._places = places.view(members, batches, batch_size).transpose(0, 1)

    def explored(self, steps: slice, epsilon: float) -> Tensor:
        """See `DeviceDraws.explored`."""
        return torch.where(self._shares[steps] < epsilon * 2.0**32, self._any[steps], -1)

    def places(self, batch: int, filled: int) -> Tensor:
        """See `DeviceDraws.places`."""
        return (self._places[batch] * filled) >> 32

    def _normal(self, count: int) -> Tensor:
        half = -(-count // 2)
        radius, angle = self._uniform(NOISE, 2 * half).view(-1, 2, half).unbind(1)
        radius, angle = torch.sqrt(-2.0 * torch.log(radius)), 2.0 * pi * angle
        both = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
        return both[:, :count].contiguous()

    def _uniform(self, purpose: int, count: int) -> Tensor:
        """Draw numbers strictly between 0 and 1, shape (A, count): odd multiples of 2^-24."""
        return (2.0 * (self._words(purpose, count) >> 9) + 1.0).float() * 2.0**-24

    def _words(self, purpose: int, count: int) -> Tensor:
        """Compute words of 32 bits as int64, shape (A, count)."""
        self._num_calls += 1
        blocks = torch.arange(-(-count // 4), device=self._device)
        others = (torch.full_like(blocks, word) for word in (self._num_calls, purpose, self._num_waves))
        counter = torch.stack([blocks, *others])
        words = philox(counter[:, None], self._keys.T[:, :, None])
        return torch.stack(words, dim=-1).view(len(self._keys), -1)[:, :count]


def philox(counter: Tensor, key: Tensor) -> list[Tensor]:
    """Compute four words of each counter; Salmon et al., section 3.3.

    Parameters
    ----------
    counter, key : int64 tensors, shape (4, ...) and (2, ...)
        Words of 32 bits, broadcast against each other.
    """
    zero, one, two, three = counter.unbind()
    low_key, high_key = key.unbind()
    for _ in range(NUM_ROUNDS):
        left, right = zero * MULTIPLIERS[0], two * MULTIPLIERS[1]
        zero = ((right >> 32) & MASK) ^ one ^ low_key
        two = ((left >> 32) & MASK) ^ three ^ high_key
        one, three = right & MASK, left & MASK
        low_key, high_key = (low_key + WEYL[0]) & MASK, (high_key + WEYL[1]) & MASK
    return [zero, one, two, three]
