"""Coarser levels of a restored picture, for a result that is multiscale as its source is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 8_000_000
"""Values that are averaged at once, to save memory."""

Array = NDArray[Any]
Shape = tuple[int, ...]


def shapes_of(layer: Any) -> tuple[Shape, ...]:
    """Return the shapes of the levels of a multiscale layer; nothing for any other."""
    return tuple(tuple(level.shape) for level in layer.data) if layer.multiscale else ()


def coarser(image: Array, levels: Sequence[Shape]) -> list[Array]:
    """Return the coarser levels of a picture, each averaged from the one before.

    Parameters
    ----------
    image
        The finest level, or a part of it.
    levels
        The shapes of all levels of the source; of a part, levels shrink as those of the source do.
    """
    made = [image]
    for level in levels[1:]:
        shape = [max(1, round(n * m / whole)) for n, m, whole in zip(image.shape, level, levels[0], strict=True)]
        if tuple(shape) != made[-1].shape:
            made.append(shrunk(made[-1], shape))
    return made[1:]


def shrunk(image: Array, shape: Sequence[int]) -> Array:
    """Return a picture of another, smaller shape, whose pixels are the means of those that they cover."""
    out = np.empty(shape, image.dtype)
    starts = starts_along(image.shape[0], shape[0])
    rows = max(1, AT_ONCE * shape[0] // image.size)
    for first in range(0, shape[0], rows):
        last = min(first + rows, shape[0])
        means = image[starts[first] : starts[last]]
        for axis, length in enumerate((last - first, *shape[1:])):
            means = mean_along(means, axis, length, starts[first : last + 1] - starts[first] if axis == 0 else None)
        out[first:last] = np.rint(means) if image.dtype.kind in "iu" else means
    return out


def mean_along(values: Array, axis: int, length: int, starts: NDArray[np.intp] | None) -> Array:
    """Shrink one axis; ``starts`` says where each of the new pixels begins, and where the last one ends."""
    if values.shape[axis] == length:
        return values
    edges = starts_along(values.shape[axis], length) if starts is None else starts
    work = np.result_type(values.dtype, np.float32)
    counts = np.diff(edges).astype(work).reshape([-1 if n == axis else 1 for n in range(values.ndim)])
    means: Array = np.add.reduceat(values, edges[:-1], axis=axis, dtype=work) / counts
    return means


def starts_along(length: int, wanted: int) -> NDArray[np.intp]:
    """Return where each of ``wanted`` pixels begins on an axis, and its end."""
    return np.arange(wanted + 1) * length // wanted
