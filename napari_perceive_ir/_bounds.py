"""Which rows and columns of a picture are meant by a region, such as the box around a shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_perceive_ir._placement import level0
from napari_perceive_ir._region import last_axes, world_matrix

if TYPE_CHECKING:
    from napari.layers import Image, Shapes

    from perceive_ir._part import Box

NOISE = 6
"""Decimals of a pixel beyond which corners are not told apart."""


def region_on(region: Shapes | Sequence[slice] | None, source: Image, axes: str) -> Box | None:
    """Return the rows and columns that are meant by a Shapes layer, by slices, or by None for all."""
    from napari.layers import Shapes

    if isinstance(region, Shapes):
        return box_around(region, source, axes)
    return None if region is None else checked(region, source, axes)


def box_around(shapes: Shapes, source: Image, axes: str) -> Box:
    """Return every row and column that the selected shapes touch; all shapes, where none is selected."""
    if not shapes.nshapes:
        raise ValueError(f"nothing is drawn in {shapes.name!r}: draw a rectangle around what is to be restored")
    ndim = min(shapes.ndim, source.ndim)
    spatial = axes[: source.ndim][-ndim:]
    if not {"Y", "X"} <= set(spatial):
        raise ValueError(f"{shapes.name!r} has no axes Y and X of {source.name!r}: draw in a new shapes layer")
    to_pixels = np.linalg.inv(last_axes(world_matrix(source), ndim)) @ last_axes(world_matrix(shapes), ndim)
    chosen = sorted(shapes.selected_data) or range(shapes.nshapes)
    corners = np.concatenate([shapes.data[n] for n in chosen])[:, -ndim:] @ to_pixels[:-1, :-1].T + to_pixels[:-1, -1]
    low, high = corners.min(axis=0).round(NOISE), corners.max(axis=0).round(NOISE)
    lengths = level0(source).shape[: source.ndim][-ndim:]
    touched = [
        slice(*np.clip((np.floor(first + 0.5), np.ceil(last + 0.5)), 0, n).astype(int).tolist())
        for first, last, n in zip(low, high, lengths, strict=True)
    ]
    box = (touched[spatial.index("Y")], touched[spatial.index("X")])
    return inside(box, f"what is drawn in {shapes.name!r} lies beside {source.name!r}: draw on the picture")


def checked(region: Sequence[slice], source: Image, axes: str) -> Box:
    """Return slices with both ends."""
    from perceive_ir._part import check_region
    from perceive_ir.images import parse_layout

    return check_region(region, parse_layout(level0(source).shape, axes))


def inside(box: Box, otherwise: str) -> Box:
    """Return a box that has pixels."""
    if not all(one.stop > one.start for one in box):
        raise ValueError(otherwise)
    return box
