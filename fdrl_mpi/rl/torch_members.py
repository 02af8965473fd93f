"""What teams on a device share: the members' models and moments, their environments, and acting in them.

A round brings the members' models, moments and environments to the device in one copy each, and back. Members
keep what is theirs in host memory, as learners of the numpy engine.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from fdrl_mpi.arrays import State
from fdrl_mpi.rl.hyperparameters import PerceptronConfig
from fdrl_mpi.rl.learner import TrainStats
from fdrl_mpi.rl.network import NetworkShape, mlp_layout
from fdrl_mpi.rl.rollout import EpisodeLog
from fdrl_mpi.rl.team import GroupedEnvironment, Worlds, joined, parted
from fdrl_mpi.rl.torch_draws import CounterDraws, DeviceDraws, OwnDraws
from fdrl_mpi.rl.torch_network import settle
from fdrl_mpi.rl.torch_stack import MOMENTS, TorchStack, TorchStackOptimiser
from fdrl_mpi.rl.torch_worlds import Experience, TorchWorlds

WORLDS_KEPT = 4
"""Squads whose environments' parameters stay on the device."""


class TorchTeam(ABC):
    """A learners with perceptrons on a device; see `Team`.

    Parameters
    ----------
    shape : NetworkShape
        Of every member's network.
    optimiser : "adam", "rmsprop" or "sgd"
    epsilon : float
        Of the optimiser.
    worlds : Worlds
    device : str
    draws : class, optional
        `OwnDraws` on the CPU, so that members come to what they would come to alone; `CounterDraws` on CUDA,
        where drawing on the host would take longer than learning.
    models : tuple of str
        What members save of the length of a model; the first is the one that is learnt.
    """

    def __init__(
        self,
        shape: NetworkShape,
        optimiser: str,
        epsilon: float,
        worlds: Worlds,
        device: str,
        draws: type[OwnDraws | CounterDraws] | None,
        models: tuple[str, ...] = ("params",),
    ) -> None:
        self._spec, self._device = worlds.action_spec, settle(device)
        self._draws_class = draws or (OwnDraws if self._device.type == "cpu" else CounterDraws)
        self._num_members, self._num_envs = worlds.num_members, worlds.envs_each
        self._models, self._moments = models, MOMENTS[optimiser]
        rows = (len(models) + len(self._moments), self._num_members, mlp_layout(shape).size)
        self._host = torch.zeros(rows, pin_memory=self._device.type == "cuda")
        self._vectors = torch.zeros(rows, device=self._device)
        params, moments = self._vectors[0], [*self._vectors[len(models) :]]
        self._stack = TorchStack(shape, params)
        self._optimiser = TorchStackOptimiser(optimiser, params, self._stack.gradient, moments, epsilon)
        self._worlds: dict[int, TorchWorlds] = {}

    @abstractmethod
    def _choose(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """Choose actions, shape (A, N) or (A, N, size), by the first heads' outputs, shape (A, size, N)."""

    def _enter(self, environment: GroupedEnvironment) -> TorchWorlds:
        """Find these environments on the device, or bring their parameters there."""
        known = self._worlds.get(id(environment))
        if known is None or not known.is_of(environment):
            if len(self._worlds) == WORLDS_KEPT:
                del self._worlds[next(iter(self._worlds))]
            known = TorchWorlds(environment, self._device)  # type: ignore[arg-type]
            self._worlds[id(environment)] = known
        return known

    def _bring(self, states: Sequence[State]) -> None:
        """Bring models and moments to the device, from what each member has saved."""
        host, size = self._host.numpy(), self._host.shape[2]
        for row, state in enumerate(states):
            for model, name in zip(host, self._models, strict=False):
                model[row] = state[name][:size]
            for moment, name in zip(host[len(self._models) :], self._moments, strict=True):
                moment[row] = state["optimiser"][name]
        self._vectors.copy_(self._host, non_blocking=True)
        self._optimiser.begin([state["optimiser"] for state in states])

    def _brought_back(self) -> list[State]:
        """Return models and moments as each member saves them; good until the next of these."""
        self._host.copy_(self._vectors)
        states = []
        for vectors, counts in zip(self._host.numpy().swapaxes(0, 1), self._optimiser.counts(), strict=True):
            models = dict(zip(self._models, vectors, strict=False))
            moments = dict(zip(self._moments, vectors[len(models) :], strict=True))
            states.append({**models, "optimiser": moments | counts})
        return states

    @torch.no_grad()
    def _play(
        self,
        worlds: TorchWorlds,
        draws: DeviceDraws,
        noise: Iterable[Tensor],
        out: Experience,
        first: int = 0,
    ) -> None:
        """Act once for each noise, with the policies of all members; write from row `first` on."""
        rows = (self._num_members, self._num_envs, worlds.system.observation_size)
        for t, step_noise in enumerate(noise, first):
            seen = worlds.observe()
            out.observations[t] = seen
            actions = self._choose(self._stack.act(seen.view(rows)), step_noise)
            worlds.step(t, actions.flatten(0, 1), out, draws)

    def _by_member(self, rows: Tensor) -> Tensor:
        """Order by members what is ordered by steps: (T, A * N, ...) to (A, T * N, ...)."""
        split = rows.view(len(rows), self._num_members, self._num_envs, *rows.shape[2:])
        return split.transpose(0, 1).reshape(self._num_members, -1, *rows.shape[2:])


class Rollouts:
    """The environments of all members and the episodes under way in them; see `rollout.Rollout`.

    Parameters
    ----------
    worlds : TorchWorlds
    states : sequence of State
        What the rollout of each member has saved.
    """

    def __init__(self, worlds: TorchWorlds, states: Sequence[State]) -> None:
        self.worlds, self._num_members = worlds, len(states)
        self._log = EpisodeLog(worlds.system.num_envs)
        self._told: list[tuple[Tensor, Tensor]] = []
        state = joined(states)
        worlds.set_state(state["environment"])
        self._log.set_state(state["episodes"])

    def tell(self, experience: Experience) -> None:
        """Keep what episodes are counted by, on the device."""
        self._told.append((experience.rewards, experience.terminated | experience.truncated))

    def count(self, all_stats: Sequence[TrainStats]) -> None:
        """Let every member count the episodes that have ended in what was told, once a round."""
        rewards, done = (torch.cat(parts).cpu().numpy() for parts in zip(*self._told, strict=True))
        envs_each = self.worlds.system.num_envs // self._num_members
        for env, total, length in self._log.add_numbered(rewards, done):
            all_stats[env // envs_each].episodes.append((total, length))

    def get_states(self) -> list[State]:
        """Return what the rollout of each member would save."""
        state = {"environment": self.worlds.get_state(), "episodes": self._log.get_state()}
        return parted(state, self._num_members)


def network_objection(network: PerceptronConfig) -> str:
    """See `Team.objection`: say what such networks have that perceptrons have not."""
    if network.module:
        return "learner.network.module"
    return "learner.network.convolutions" if network.convolutions else ""


def model_values(shape: NetworkShape, optimiser: str, num_members: int, num_models: int = 1) -> int:
    """Count the float32 values that models, gradients, moments and the optimiser's temporaries take."""
    copies = 2 * num_models + 1 + 2 * len(MOMENTS[optimiser])
    return num_members * mlp_layout(shape).size * copies


class Stopwatch:
    """Adds up the seconds between starts and stops, on CUDA without waiting for the device.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._marks: list[Any] = []

    def start(self) -> None:
        self._mark()

    def stop(self) -> None:
        self._mark()

    def seconds(self) -> float:
        """Return the sum; the device has done what was asked of it."""
        pairs = zip(self._marks[::2], self._marks[1::2], strict=True)
        if self._is_cuda:
            return float(sum(start.elapsed_time(stop) for start, stop in pairs)) / 1e3
        return float(sum(stop - start for start, stop in pairs))

    def _mark(self) -> None:
        if self._is_cuda:
            self._marks.append(torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]
            self._marks[-1].record()
        else:
            self._marks.append(perf_counter())
