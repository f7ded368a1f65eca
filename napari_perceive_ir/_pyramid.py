"""Coarser levels of a restored picture, for a result that is multiscale as its source is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perceive_ir.images import mean_of, starts_along

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
    edges = [starts_along(n, wanted) for n, wanted in zip(image.shape, shape, strict=True)]
    rows = max(1, AT_ONCE * shape[0] // image.size)
    for first in range(0, shape[0], rows):
        part = edges[0][first : first + rows + 1]
        out[first : first + rows] = mean_of(image[part[0] : part[-1]], [part - part[0], *edges[1:]])
    return out
