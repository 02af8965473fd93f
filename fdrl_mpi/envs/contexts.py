"""What a world can differ in: the named physical parameters of an environment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import TypeAlias

import numpy as np

from fdrl_mpi.arrays import DoubleArray
from fdrl_mpi.problem import UNLIKE, did_you_mean

Contexts: TypeAlias = Sequence[Mapping[str, float]]
"""One mapping per environment; names that are missing take their default."""


@dataclass(frozen=True)
class ContextParameter:
    """One physical parameter.

    Attributes
    ----------
    default : float
        Value in gymnasium's environment of the same name.
    units : str
        SI units, ``"-"`` where the environment has none.
    meaning : str
        One line for the user.
    low, high : float
        Smallest and largest value allowed.
    above : float
        Values must be strictly greater than this.
    """

    default: float
    units: str
    meaning: str
    low: float = -inf
    high: float = inf
    above: float = -inf

    def allows(self, value: float) -> bool:
        """Tell whether `value` is finite and in range."""
        return isfinite(value) and self.low <= value <= self.high and value > self.above

    @property
    def allowed_range(self) -> str:
        """The range in interval notation, for messages and manuals."""
        low = f"[{self.low:g}" if self.low > self.above else f"({self.above:g}"
        high = f"{self.high:g}]" if self.high < inf else "inf)"
        return f"{low}, {high}"


def context_columns(
    environment_id: str, table: Mapping[str, ContextParameter], contexts: Contexts
) -> dict[str, DoubleArray]:
    """Turn one mapping per environment into one array per parameter.

    Returns
    -------
    dict of float64 arrays, shape (num_envs,)
        Every name of `table`.

    Raises
    ------
    ValueError
        If there is no context, a name is not in `table`, or a value is out of its range.
    """
    if not contexts:
        raise ValueError(f"{environment_id} needs one context per environment, got none")
    for context in contexts:
        for name, value in context.items():
            if name not in table:
                raise ValueError(
                    f"{environment_id} has no context {name!r}: {did_you_mean(name, table, UNLIKE)} "
                    f"It has: {', '.join(table)}"
                )
            if not table[name].allows(value):
                parameter = table[name]
                raise ValueError(
                    f"{name} = {value} ({parameter.meaning}) of {environment_id} "
                    f"must be in {parameter.allowed_range} {parameter.units}"
                )
    return {
        name: np.array([context.get(name, parameter.default) for context in contexts], np.float64)
        for name, parameter in table.items()
    }
