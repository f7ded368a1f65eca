"""Painted labels: which there are, and their array over the picture on which they lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_perceive_ir._placement import level0
from napari_perceive_ir._region import last_axes, world_matrix
from napari_perceive_ir._run import Found

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_perceive_ir._part import Part

ROWS = 1024
"""How many rows of labels are looked through at once."""
REMEDY = "select the image alone and press napari's button for a new labels layer"


def labels_index(labels: Labels, source: Image, axes: str, part: Part | None) -> tuple[tuple[slice, ...], list[int]]:
    """Return which part of the labels lies on a picture, and the order of their axes that the engine wants.

    Labels have the picture's axes, or only those of its plane: then they hold for all planes.
    """
    shape, ndim = level0(labels).shape, labels.ndim
    spatial, wanted = axes[: source.ndim][-ndim:], level0(source).shape[: source.ndim][-ndim:]
    if shape != wanted or (ndim != source.ndim and set(spatial) != {"X", "Y"}):
        raise ValueError(f"labels {labels.name!r} of shape {shape} do not fit {source.name!r} of {wanted}: {REMEDY}")
    if not np.allclose(last_axes(world_matrix(labels), ndim), last_axes(world_matrix(source), ndim)):
        raise ValueError(f"labels {labels.name!r} do not lie where {source.name!r} lies: {REMEDY}")
    index = tuple(slice(0, n) for n in shape) if part is None else part.index[: source.ndim][-ndim:]
    order = sorted(range(ndim), key=lambda n: ("YX".find(spatial[n]), n))  # the stack's axes, Y, X
    return index, order


def labels_on(labels: Labels, source: Image, axes: str, part: Part | None = None) -> Any:
    """Return the labels over a picture or a part of it, as the engine wants them; painting on does not change them."""
    index, order = labels_index(labels, source, axes, part)
    return level0(labels)[index].transpose(order).copy()


def listing(marks: Any) -> Iterator[Found]:
    """Say which labels there are, 0 apart, which is nowhere painted."""
    rows = marks.reshape(-1, marks.shape[-1]) if isinstance(marks, np.ndarray) else marks
    found: set[int] = set()
    for start in range(0, len(rows), ROWS):
        found.update(np.unique(np.asarray(rows[start : start + ROWS])).tolist())
        yield Found(tuple(sorted(found - {0})), all=start + ROWS >= len(rows))
