"""How agents' worlds differ: each context value is drawn from a named distribution.

Only msgspec and the standard library are imported, so that a configuration can be read and refused before
anything heavy is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

if TYPE_CHECKING:
    from numpy.random import Generator


class _Distribution(Struct, frozen=True, forbid_unknown_fields=True, tag_field="distribution"):
    """One way to draw a context value; `distribution` names it in TOML."""


class Uniform(_Distribution, frozen=True, kw_only=True, tag="uniform"):
    """Uniform on [low, high)."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)

    def draw(self, generator: Generator, agent: int, num_agents: int) -> float:
        return float(generator.uniform(self.low, self.high))


class LogUniform(_Distribution, frozen=True, kw_only=True, tag="log_uniform"):
    """Log-uniform on [low, high): equal chances for equal ratios."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)
        if self.low <= 0.0:
            raise ValueError(f"low = {self.low} must be above 0 for log_uniform")

    def draw(self, generator: Generator, agent: int, num_agents: int) -> float:
        return float(self.low * (self.high / self.low) ** generator.random())


class Normal(_Distribution, frozen=True, kw_only=True, tag="normal"):
    """Normal with `mean` and standard deviation `std`, clipped to [low, high]."""

    mean: float
    std: float
    low: float = float("-inf")
    high: float = float("inf")

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)
        if self.std < 0.0:
            raise ValueError(f"std = {self.std} must not be negative")

    def draw(self, generator: Generator, agent: int, num_agents: int) -> float:
        return min(max(float(generator.normal(self.mean, self.std)), self.low), self.high)


class Choice(_Distribution, frozen=True, kw_only=True, tag="choice"):
    """One of `values`, all equally likely."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("values must hold at least one number")

    def draw(self, generator: Generator, agent: int, num_agents: int) -> float:
        return self.values[int(generator.integers(len(self.values)))]


class Evenly(_Distribution, frozen=True, kw_only=True, tag="evenly"):
    """Agent 1 at `low`, agent K at `high`, the others evenly between; worlds beyond K are drawn uniformly."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)

    def draw(self, generator: Generator, agent: int, num_agents: int) -> float:
        if agent > num_agents:
            return float(generator.uniform(self.low, self.high))
        share = (agent - 1) / (num_agents - 1) if num_agents > 1 else 0.5
        return self.low + (self.high - self.low) * share


class Listed(_Distribution, frozen=True, kw_only=True, tag="listed"):
    """Agent k has the k-th of `values`; behind the last one the list begins again."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("values must hold at least one number")

    def draw(self, generator: Generator, agent: int, num_agents: int) -> float:
        return self.values[(agent - 1) % len(self.values)]


Distribution: TypeAlias = Uniform | LogUniform | Normal | Choice | Evenly | Listed


def draw_context(
    heterogeneity: Mapping[str, Distribution], seed: int, agent: int, num_agents: int
) -> dict[str, float]:
    """Draw the context of one agent's world.

    Each name has a stream of its own, so adding a name leaves the values of the others as they were.

    Parameters
    ----------
    heterogeneity : mapping from context names to distributions
    seed : int
        Seed of the run.
    agent : int
        Agent id (1..K; ids above K are worlds that no agent trains on).
    num_agents : int
        K.

    Returns
    -------
    dict from context names, sorted, to values
    """
    from fdrl_mpi.streams import stream  # imports numpy

    return {
        name: heterogeneity[name].draw(stream(seed, f"world/{name}", agent), agent, num_agents)
        for name in sorted(heterogeneity)
    }


def _check_order(low: float, high: float) -> None:
    if not low <= high:
        raise ValueError(f"low = {low} must not be above high = {high}")
