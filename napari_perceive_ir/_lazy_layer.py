"""Layers that are restored where somebody looks: for pictures that are too big to wait for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_perceive_ir._layers import add_on, data_on, find_image, plan_run
from napari_perceive_ir._lazy_cells import Cell, Key
from napari_perceive_ir._lazy_picture import LazyPicture
from napari_perceive_ir._placement import level0
from napari_perceive_ir._run import Looked, RunPlan, looking
from napari_perceive_ir._visible import visible_box
from napari_perceive_ir._words import result_name
from perceive_ir._recipe import make_recipe

if TYPE_CHECKING:
    from napari.layers import Image

BIG = 50_000_000
"""From so many pixels on a picture counts as big, even if it is in memory and has one level only."""


def restore_layer_lazy(viewer: Any, layer: Image | str, **recipe_fields: Any) -> Image:
    """Add a layer exactly on an image layer that is restored where somebody looks at it, in the background.

    What is wrong with the picture is found now. The layer shows the source where it is not restored yet; reading its
    data restores what is read. At most as much stays in memory as the recipe's ``memory`` says, or 1 GiB.

    Parameters
    ----------
    viewer
        The napari viewer.
    layer
        An image layer of the viewer, or its name; for pictures of any size, with or without coarser levels.
    **recipe_fields
        Fields of the recipe, such as ``task="denoise"`` or ``strength=0.8``. Handling "painted" needs the whole
        picture: use ``restore_layer``.

    Returns
    -------
    Image
        The new layer, with the levels of the source; ``metadata["perceive_ir"]`` says how it is made.
    """
    source = find_image(viewer, layer)
    plan = plan_run(source, make_recipe(**recipe_fields))
    looked = next(event for event in looking(plan) if isinstance(event, Looked))
    added = add_lazy(viewer, source, plan, looked)
    if hasattr(viewer, "window"):
        from napari_perceive_ir._filling import Filling

        Filling(viewer, added, looked.picture)
    return added


def add_lazy(viewer: Any, source: Image, plan: RunPlan, looked: Looked) -> Image:
    """Add what is restored where somebody looks, exactly on its source and with the same look."""
    name = result_name(source.name, plan.recipe.tasks)
    return add_on(viewer, source, data_on(source, plan, looked.picture.levels, name, looked.about))


def is_big(layer: Image) -> bool:
    """Whether a picture may be too big to wait for: one with coarser levels, not in memory, or of many pixels."""
    data = level0(layer)
    return bool(layer.multiscale) or not isinstance(data, np.ndarray) or math.prod(data.shape[: layer.ndim]) >= BIG


def looked_at(viewer: Any, layer: Image, picture: LazyPicture) -> tuple[int, list[Cell]]:
    """Return which level of a lazy layer the canvas shows, and the cells in sight, those in the middle first.

    There are no more of them than can be kept.
    """
    level, axes = layer.data_level if layer.multiscale else 0, picture.layout.axes
    box = visible_box(viewer, layer, axes) if layer.visible else None
    key = None if box is None else key_of(picture, level, box, layer.world_to_data(viewer.dims.point))
    if box is None or key is None:
        return level, []
    sides, pairs = picture.grid.sides, zip("YX", box, strict=True)
    middle = [(axes.index(axis), (one.start + one.stop) / 2) for axis, one in pairs]

    def away(cell: Cell) -> float:
        return math.hypot(*((cell[axis] + 0.5) * sides[axis] - centre for axis, centre in middle))

    return level, sorted(picture.grid.cells(0, key), key=away)[: picture.room_for(level)]


def key_of(picture: LazyPicture, level: int, box: tuple[slice, slice], point: Sequence[float]) -> Key | None:
    """Return what a box of the plane at a point is in the finest level; None where the picture has no such plane."""
    rows, columns = (range(one.start, one.stop) for one in box)
    shape = picture.grid.shapes
    key: list[range | int] = []
    for axis, letter in enumerate(picture.layout.axes):
        if axis in picture.layout.stack_axes:
            if not 0 <= round(point[axis]) < shape[0][axis]:
                return None
            number = min(round(point[axis] * shape[level][axis] / shape[0][axis]), shape[level][axis] - 1)  # as napari
            key.append(int(picture.grid.starts[level][axis][number]))
        else:
            key.append({"Y": rows, "X": columns}.get(letter, range(shape[0][axis])))
    return tuple(key)
