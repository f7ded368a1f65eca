"""Coarser pictures: every pixel is the mean of those that it covers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Edges = NDArray[np.intp]
"""Where each new pixel begins on an axis, and where the last one ends."""


def starts_along(length: int, wanted: int) -> Edges:
    """Return where each of ``wanted`` pixels begins on an axis, and its end."""
    return np.arange(wanted + 1) * length // wanted


def mean_along(values: NDArray[Any], axis: int, edges: Edges) -> NDArray[Any]:
    """Shrink one axis."""
    if values.shape[axis] == len(edges) - 1:
        return values
    work = np.result_type(values.dtype, np.float32)
    counts = np.diff(edges).astype(work).reshape([-1 if n == axis else 1 for n in range(values.ndim)])
    means: NDArray[Any] = np.add.reduceat(values, edges[:-1], axis=axis, dtype=work) / counts
    return means


def mean_of(values: NDArray[Any], edges: Sequence[Edges]) -> NDArray[Any]:
    """Shrink every axis; whole numbers stay whole."""
    means = values
    for axis, one in enumerate(edges):
        means = mean_along(means, axis, one)
    rounded = np.rint(means) if values.dtype.kind in "iu" else means
    return rounded.astype(values.dtype, copy=False)
