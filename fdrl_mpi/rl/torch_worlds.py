"""Environments of many agents that step on a device, in torch's arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fdrl_mpi.arrays import DoubleArray, State
from fdrl_mpi.rl.torch_draws import DeviceDraws
from fdrl_mpi.steps import ActionSpec

Physics = Mapping[str, DoubleArray]


class System(Protocol):
    """An environment whose step is arithmetic on whole arrays; see `envs.classic_control`."""

    num_envs: int
    observation_size: int
    max_episode_steps: int
    num_drawn: int
    start_limits: tuple[float, float]
    num_variables: int
    action_spec: ActionSpec
    columns: Physics

    def starts(self, xp: Any, drawn: Any) -> Any: ...

    def advance(
        self, xp: Any, columns: Mapping[str, Any], physics: Any, actions: Any, noise: Any
    ) -> tuple[Any, Any, Any]: ...

    def observe(self, xp: Any, physics: Any) -> Any: ...


@dataclass(frozen=True)
class Experience:
    """What happened in T steps of the N environments of each of A members.

    Attributes
    ----------
    observations, following : float32 tensors, shape (T, A * N, observation_size)
        What the policy saw, and the true next observation, before any reset.
    actions : tensor, shape (T, A * N) or (T, A * N, size)
    rewards : float32 tensor, shape (T, A * N)
    terminated, truncated : bool tensors, shape (T, A * N)
    """

    observations: Tensor
    following: Tensor
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor


class TorchWorlds:
    """The environments of one squad on a device.

    Parameters
    ----------
    system : System
        Whose state is taken and given back by the caller.
    device : torch.device
    """

    def __init__(self, system: System, device: torch.device) -> None:
        self.system, self.device = system, device
        self._columns = {name: torch.from_numpy(column).to(device) for name, column in system.columns.items()}
        self._physics = torch.zeros((system.num_variables, system.num_envs), device=device).double()
        self._episode_steps = torch.zeros(system.num_envs, dtype=torch.int64, device=device)

    def is_of(self, environment: object) -> bool:
        """Whether these are the environments of that system."""
        return environment is self.system

    def set_state(self, state: State) -> None:
        """Go on from the state of the environments, as they give it themselves."""
        self._physics.copy_(torch.from_numpy(state["physics"]))
        self._episode_steps.copy_(torch.from_numpy(state["episode_steps"]))

    def get_state(self) -> State:
        """Return the state of the environments in host memory."""
        return {"physics": host_copy(self._physics), "episode_steps": host_copy(self._episode_steps)}

    def observe(self) -> Tensor:
        """Compute what is seen now, shape (A * N, observation_size), float32."""
        observed: Tensor = self.system.observe(torch, self._physics)
        return observed.T.float()

    def empty(self, steps: int, keeps_following: bool = True) -> Experience:
        """Allocate room for so many steps.

        Unless `keeps_following`, the true next observations of all steps share one row, which takes as good
        as no room.
        """
        spec, size, rows = (
            self.system.action_spec,
            self.system.observation_size,
            (steps, self.system.num_envs),
        )
        is_real = spec.kind == "box"

        def room(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
            return torch.empty(shape, dtype=dtype, device=self.device)

        following = room((*rows, size) if keeps_following else (1, rows[1], size), torch.float32)
        return Experience(
            room((*rows, size), torch.float32),
            following.expand(*rows, size),
            room((*rows, spec.size), torch.float32) if is_real else room(rows, torch.int64),
            room(rows, torch.float32),
            room(rows, torch.bool),
            room(rows, torch.bool),
        )

    def begin_episodes(self, draws: DeviceDraws) -> None:
        """Start an episode in every environment."""
        system = self.system
        self._physics = system.starts(torch, draws.first_starts(system.num_drawn, system.start_limits))
        self._episode_steps.zero_()

    def step(self, t: int, actions: Tensor, out: Experience, draws: DeviceDraws) -> None:
        """Step all environments, start episodes where one has ended, and write row t."""
        system = self.system
        physics, out.rewards[t], out.terminated[t] = system.advance(
            torch, self._columns, self._physics, actions, 0.0
        )
        out.actions[t] = actions
        out.following[t] = system.observe(torch, physics).T
        self._episode_steps += 1
        torch.ge(self._episode_steps, system.max_episode_steps, out=out.truncated[t])
        done = out.terminated[t] | out.truncated[t]
        starts = system.starts(torch, draws.starts(t, done, system.start_limits))
        self._physics = torch.where(done, starts, physics)
        self._episode_steps = torch.where(done, 0, self._episode_steps)


def host_copy(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Copy a tensor to host memory."""
    array: np.ndarray[Any, Any] = tensor.cpu().numpy()
    return array.copy()
