"""One flat float32 buffer for a model, and named views into it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from fdrl_mpi.arrays import FloatMatrix, FloatVector


@dataclass(frozen=True)
class Layout:
    """Where each named parameter lies in a flat model; fixed for the life of a run."""

    shapes: Mapping[str, tuple[int, ...]]

    @property
    def size(self) -> int:
        """Number of parameters, d."""
        return sum(prod(shape) for shape in self.shapes.values())

    def views(self, flat: FloatVector) -> dict[str, FloatMatrix]:
        """Cut a flat model into its parameters, without a copy.

        Parameters
        ----------
        flat : float32 array, shape (d,)

        Raises
        ------
        ValueError
            If `flat` does not hold exactly d values.
        """
        if flat.shape != (self.size,):
            raise ValueError(f"a flat model of this layout has shape ({self.size},), not {flat.shape}")
        views, start = {}, 0
        for name, shape in self.shapes.items():
            views[name] = flat[start : start + prod(shape)].reshape(shape)
            start += prod(shape)
        return views

    def stacked_views(self, flat: Any) -> dict[str, Any]:
        """Cut models that lie below each other into their parameters, without a copy.

        Parameters
        ----------
        flat : float32 array or tensor, shape (A, d)

        Returns
        -------
        dict of float32 arrays or tensors, shape (A, ...)
        """
        views, start = {}, 0
        for name, shape in self.shapes.items():
            views[name] = flat[:, start : start + prod(shape)].reshape(len(flat), *shape)
            start += prod(shape)
        return views
