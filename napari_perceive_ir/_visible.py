"""Which part of a layer the canvas shows, in pixels of its finest level."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from napari.layers import Image
from numpy.typing import NDArray

from napari_perceive_ir._bounds import inside
from napari_perceive_ir._compare import camera_of
from napari_perceive_ir._placement import level0

Part = dict[int, slice]
"""For each axis of a layer that the canvas shows, the pixels that are on it."""


def view_changes(viewer: Any) -> list[Any]:
    """Return the events after which the canvas shows something else."""
    camera, dims = camera_of(viewer).events, viewer.dims.events
    changes = [camera.zoom, camera.center, dims.point, dims.order, dims.ndisplay]
    return [*changes, viewer.canvas.events.size] if hasattr(viewer, "canvas") else changes


def visible_box(viewer: Any, layer: Image, axes: str) -> tuple[slice, slice] | None:
    """Return which rows and columns of a layer are on the canvas; None where it shows no planes of Y and X."""
    if viewer.dims.ndisplay != 2 or {axes[a] for a in shown_axes(viewer, layer)} != {"Y", "X"}:
        return None
    part = visible_part(viewer, layer)
    return part[axes.index("Y")], part[axes.index("X")]


def visible_region(viewer: Any, layer: Image, axes: str) -> tuple[slice, slice]:
    """Return which rows and columns of a layer are on the canvas, or say why there are none."""
    box = visible_box(viewer, layer, axes)
    if box is None:
        raise ValueError("the canvas shows no plane of Y and X: go back to 2D and turn the axes back")
    return inside(box, f"{layer.name!r} is out of sight: move it into view")


def visible_part(viewer: Any, layer: Image) -> Part:
    """Return what of a layer is on the canvas; slices are empty where it is out of sight."""
    axes = shown_axes(viewer, layer)
    first, last = seen_by_camera(viewer, layer) if hasattr(viewer, "canvas") else kept_corners(layer)
    shape = level0(layer).shape
    starts, stops = np.floor(first + 0.5).astype(int), np.floor(last + 0.5).astype(int) + 1
    return {a: slice(*np.clip((starts[a], stops[a]), 0, shape[a]).tolist()) for a in axes}


def shown_axes(viewer: Any, layer: Image) -> list[int]:
    """Return the axes of a layer that the canvas shows, downwards and from left to right."""
    return [axis - (viewer.dims.ndim - layer.ndim) for axis in viewer.dims.displayed]


def seen_by_camera(viewer: Any, layer: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the first and last point of a layer, in pixels, between the corners of what the camera shows."""
    camera, displayed = camera_of(viewer), list(viewer.dims.displayed)
    half = np.array(viewer.canvas.viewbox_size(viewer.layers)) / 2 / camera.zoom
    corners = np.tile(np.array(viewer.dims.point, float), (4, 1))
    corners[:, displayed] = np.array(camera.center[-2:]) + [half * signs for signs in product((-1, 1), repeat=2)]
    points = np.array([layer.world_to_data(corner) for corner in corners])
    return points.min(axis=0), points.max(axis=0)


def kept_corners(layer: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the corners that napari noted when it last drew; before 0.9 the size of its canvas was not public."""
    first, last = np.array(layer.corner_pixels, float)
    factors = np.array(layer.downsample_factors[layer.data_level] if layer.multiscale else np.ones(layer.ndim))
    return first * factors, (last + 1) * factors - 1


def plane_index(viewer: Any, layer: Image) -> tuple[int, ...]:
    """Return which pixel of each axis of a layer the viewer's sliders stand on."""
    place = np.rint(layer.world_to_data(viewer.dims.point)).astype(int)
    return tuple(np.clip(place, 0, np.array(level0(layer).shape[: layer.ndim]) - 1).tolist())
