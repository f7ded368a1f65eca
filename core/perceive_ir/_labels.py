"""Painted labels: whether they fit a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from perceive_ir._recipe import Recipe
from perceive_ir.images import Layout

Array = NDArray[Any]


def check_labels(labels: Any, layout: Layout, recipe: Recipe) -> Array | None:
    """Return labels that fit the picture: (Y, X) for all planes, or one plane of labels for each."""
    if recipe.handling != "painted":
        return None
    if labels is None or not recipe.painted:
        raise ValueError(
            "handling 'painted' needs labels= (an array over the picture) and painted={label: (task, severity)}"
        )
    marks = np.asarray(labels)
    if marks.dtype.kind not in "iub":
        raise TypeError(f"expected labels of whole numbers, got {marks.dtype}")
    plane = (layout.height, layout.width)
    if marks.shape not in (plane, (*layout.stack_shape, *plane)):
        raise ValueError(f"expected labels of shape {plane} or {(*layout.stack_shape, *plane)}, got {marks.shape}")
    return marks
