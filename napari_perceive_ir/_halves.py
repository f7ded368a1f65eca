"""One array out of two: the first up to a place along an axis, from there on the second; making it copies nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Halves:
    """What napari needs of an array, over two arrays of the same shape; only what is looked at is read.

    Parameters
    ----------
    before, after : array-like
        numpy, dask, zarr, … of the same shape.
    axis : int
        The axis along which one gives way to the other.
    at : float
        Where, from 0 (all is after) to 1 (all is before).
    """

    def __init__(self, before: Any, after: Any, axis: int, at: float) -> None:
        self.before, self.after, self.axis, self.at = before, after, axis, at
        self.shape: tuple[int, ...] = tuple(before.shape)
        self.dtype: np.dtype[Any] = np.result_type(before.dtype, after.dtype)
        self.ndim = len(self.shape)
        self.size = math.prod(self.shape)

    @property
    def edge(self) -> int:
        """The first index along the axis that shows what is after."""
        return round(self.at * self.shape[self.axis])

    def __getitem__(self, key: Any) -> NDArray[Any]:
        key = spelled_out(key, self.ndim)
        along = key[self.axis]
        if not isinstance(along, slice):
            return np.asarray((self.before if along < self.edge else self.after)[key])
        parts = [
            np.asarray(array[(*key[: self.axis], part, *key[self.axis + 1 :])], self.dtype)
            for array, part in zip((self.before, self.after), self._parted(along), strict=True)
        ]
        return np.concatenate(parts, axis=sum(isinstance(k, slice) for k in key[: self.axis]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[...].astype(dtype or self.dtype, copy=False)

    def _parted(self, along: slice) -> tuple[slice, slice]:
        """Part a slice along the axis at the edge."""
        start, stop, step = along.indices(self.shape[self.axis])
        if step < 0:
            raise ValueError(f"expected a slice with a positive step, got {along}")
        middle = max(start, start + math.ceil((self.edge - start) / step) * step)
        return slice(start, min(self.edge, stop), step), slice(middle, stop, step)


def spelled_out(key: Any, ndim: int) -> tuple[Any, ...]:
    """Return a key with an integer or a slice for every axis."""
    key = key if isinstance(key, tuple) else (key,)
    where = key.index(...) if ... in key else len(key)
    given, last = key[:where], key[where + 1 :]
    return (*given, *[slice(None)] * (ndim - len(given) - len(last)), *last)
