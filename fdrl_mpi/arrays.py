"""Array types shared by every folder. A model is one C-contiguous float32 vector."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatVector: TypeAlias = NDArray[np.float32]
"""1-D float32: a flat model, an update."""

FloatMatrix: TypeAlias = NDArray[np.float32]
"""2-D float32: one row per agent, environment or sample."""

DoubleArray: TypeAlias = NDArray[np.float64]
"""Statistics and physical state."""

IntVector: TypeAlias = NDArray[np.int64]
BoolVector: TypeAlias = NDArray[np.bool_]

ActionArray: TypeAlias = NDArray[Any]
"""One action a row: int64 of shape (n,) for choices, int64 of shape (n, components) for several choices at
once, float32 of shape (n, size) for real numbers."""

State: TypeAlias = dict[str, Any]
"""What a component needs to go on after a restart: arrays, numbers, strings and nested dictionaries."""
