"""A region of interest: a Shapes or Labels layer, anywhere in the world, as weights of the cells of a quality map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_perceive_ir._axes import stack_axes
from napari_perceive_ir._placement import level0

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Shapes

    from perceive_ir import QualityMap

FINE = 4
"""Each cell is looked at in this many places down and across."""

Array = NDArray[np.float64]


def region_weights(region: Shapes | Labels, source: Image, qmap: QualityMap, axes: str) -> Array:
    """Return which part of each cell (..., h, w) lies in a region.

    A region of fewer axes than the picture holds for all its planes.
    """
    from napari.layers import Shapes

    spatial = axes[: source.ndim]
    sizes = dict(zip("YX", qmap.score.shape[-2:], strict=True))
    shape = tuple(FINE * sizes[a] if a in "YX" else n for a, n in zip(spatial, level0(source).shape, strict=False))
    ndim = min(region.ndim, source.ndim)
    world = world_matrix(source) @ points_to_pixels(spatial, qmap)
    to_region = np.linalg.inv(last_axes(world_matrix(region), ndim)) @ last_axes(world, ndim)
    inside = drawn if isinstance(region, Shapes) else painted
    mask = np.broadcast_to(inside(region, to_region, shape[-ndim:]), shape)
    return cell_shares(mask, spatial, qmap)


def points_to_pixels(spatial: str, qmap: QualityMap) -> Array:
    """Return the matrix from the points that are looked at to the pixels of the picture."""
    step, starts = qmap.stride / FINE, dict(zip("YX", first_points(qmap), strict=True))
    matrix = np.diag([*(step if a in "YX" else 1.0 for a in spatial), 1.0])
    matrix[:-1, -1] = [starts.get(a, 0) for a in spatial]
    return matrix


def first_points(qmap: QualityMap) -> list[float]:
    """Row and column of the first point: the middle of its patch, or less where the last cell has few pixels."""
    return [min((qmap.stride / FINE - 1) / 2, (n - 1) % qmap.stride) for n in qmap.shape]


def last_axes(matrix: Array, ndim: int) -> Array:
    """Cut a matrix down to what it does to the last axes."""
    return matrix[-ndim - 1 :, -ndim - 1 :]


def world_matrix(layer: Any) -> Array:
    """Return the affine matrix from a layer's data to the world."""
    origin = np.asarray(layer.data_to_world(np.zeros(layer.ndim)))
    matrix = np.eye(layer.ndim + 1)
    matrix[:-1, :-1] = np.transpose([layer.data_to_world(step) - origin for step in np.eye(layer.ndim)])
    matrix[:-1, -1] = origin
    return matrix


def drawn(region: Shapes, to_region: Array, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether points lie in one of the shapes."""
    from napari.layers import Shapes

    if not region.nshapes:
        return np.zeros(shape, bool)
    to_points = np.linalg.inv(to_region)
    ndim = len(shape)
    corners = [one[:, -ndim:] @ to_points[:-1, :-1].T + to_points[:-1, -1] for one in region.data]
    on_points = Shapes(corners, shape_type=list(region.shape_type), ndim=ndim)
    mask: NDArray[np.bool_] = on_points.to_masks(shape).any(axis=0)
    return mask


def painted(region: Labels, to_region: Array, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether points lie on a label."""
    labels = level0(region)
    places = np.indices(shape).reshape(len(shape), -1)
    found = np.rint(to_region[:-1, :-1] @ places + to_region[:-1, -1:]).astype(int)
    lengths = np.array(labels.shape[-len(shape) :])[:, None]
    there = ((found >= 0) & (found < lengths)).all(axis=0)
    marks = np.asarray(labels[(0,) * (labels.ndim - len(shape))])
    mask = np.zeros(places.shape[1], bool)
    mask[there] = marks[tuple(found[:, there])] != 0
    return mask.reshape(shape)


def cell_shares(mask: NDArray[np.bool_], spatial: str, qmap: QualityMap) -> Array:
    """Return which share of the points of each cell is in a mask, in the map's order of axes."""
    order = [*stack_axes(spatial, qmap.score.ndim - 2), "Y", "X"]
    unseen = [a for a in spatial if a not in order]  # colour that napari shows plane by plane
    ordered = mask.transpose([spatial.index(a) for a in unseen + order])[(0,) * len(unseen)]
    covered, there = (points_per_cell(points) for points in (ordered & on_picture(qmap), on_picture(qmap)))
    shares: Array = covered / there
    return shares


def on_picture(qmap: QualityMap) -> NDArray[np.bool_]:
    """Whether points lie on pixels: the last cells may reach beyond the edge of the picture."""
    cells, step = qmap.score.shape[-2:], qmap.stride / FINE
    axes = zip(cells, first_points(qmap), qmap.shape, strict=True)
    down, across = (first + step * np.arange(FINE * count) < n for count, first, n in axes)
    return np.logical_and.outer(down, across)


def points_per_cell(points: NDArray[np.bool_]) -> Array:
    """Count the points of each cell."""
    *stack, height, width = points.shape
    counts: Array = points.reshape(*stack, height // FINE, FINE, width // FINE, FINE).sum(axis=(-3, -1), dtype=float)
    return counts


def changes_of(region: Any) -> list[Any]:
    """Return the events that tell that a region may have changed: its data, or what is painted into them."""
    names = ("set_data", "labels_update") if region is not None else ()
    return [getattr(region.events, name) for name in names if hasattr(region.events, name)]
