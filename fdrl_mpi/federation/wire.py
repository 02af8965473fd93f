"""What travels: which part of a model, in which form, and what goes with it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fdrl_mpi.aggregation.server import UpdateKind
from fdrl_mpi.arrays import FloatVector

Company = Literal["nothing", "controls", "weights"]
"""What goes with a model: nothing, SCAFFOLD's control variate behind it, or a weight with each coordinate."""


@dataclass(frozen=True)
class Wire:
    """How the vector that travels is made of a model.

    What is published has the same length as what agents hand in, and always holds parameters; agents hand in
    what `kind` says.

    Attributes
    ----------
    columns : tuple of slices
        The federated coordinates of the model, in ascending order.
    num_params : int
        Of the whole model, d.
    kind : "parameters", "difference" or "gradient"
    company : "nothing", "controls" or "weights"
        Behind the model its control variate, or pairs (coordinate times weight, weight).
    acts : bool
        Whether what travels is enough to act.
    """

    columns: tuple[slice, ...]
    num_params: int
    kind: UpdateKind = "parameters"
    company: Company = "nothing"
    acts: bool = True

    @property
    def num_shared(self) -> int:
        """Number of federated coordinates."""
        return sum(columns.stop - columns.start for columns in self.columns)

    @property
    def length(self) -> int:
        """Length of what travels."""
        return self.num_shared * (1 if self.company == "nothing" else 2)

    @property
    def num_changes(self) -> int:
        """Length of what agents hand in at the start that is no parameter, but a change or a gradient."""
        return 0 if self.kind == "parameters" else self.num_shared

    @property
    def is_whole(self) -> bool:
        """Whether every coordinate is federated."""
        return self.num_shared == self.num_params

    @property
    def is_plain(self) -> bool:
        """Whether what travels is the model and nothing else, both ways."""
        return self.is_whole and self.kind == "parameters" and self.company == "nothing"

    def shared(self, params: FloatVector) -> FloatVector:
        """Pick the federated coordinates of a model, shape (num_shared,)."""
        return params if self.is_whole else np.concatenate([params[columns] for columns in self.columns])

    def parameters(self, published: FloatVector) -> FloatVector:
        """Pick the parameters out of what was published, shape (num_shared,)."""
        if self.company == "weights":
            return published[0::2]
        return published[: self.num_shared]

    def controls(self, published: FloatVector) -> FloatVector:
        """Pick the control variate out of what was published, shape (num_shared,)."""
        return published[self.num_shared :]

    def put(self, values: FloatVector, params: FloatVector) -> None:
        """Write federated coordinates to their places in a model."""
        start = 0
        for columns in self.columns:
            stop = start + columns.stop - columns.start
            params[columns] = values[start:stop]
            start = stop

    def model(self, published: FloatVector, rest: FloatVector) -> FloatVector:
        """Make a whole model of what was published; `rest` has the coordinates that do not travel."""
        if self.is_plain:
            return published
        params = rest.copy()
        self.put(self.parameters(published), params)
        return params

    def first(self, params: FloatVector) -> FloatVector:
        """Make what a run begins with as if it had been published."""
        shared = self.shared(params)
        if self.company == "nothing":
            return shared
        published: FloatVector = np.zeros(self.length, np.float32)
        self.parameters(published)[:] = shared
        return published


def whole(num_params: int) -> Wire:
    """Describe the plain case: models travel as they are."""
    return Wire((slice(0, num_params),), num_params)
