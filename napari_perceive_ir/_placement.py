"""Where a result lies in the world: exactly on its source. Pure functions from a layer to keyword arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_perceive_ir._part import Part

_PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
_LOOK = (
    "rgb", "colormap", "contrast_limits", "gamma", "blending", "opacity", "interpolation2d", "interpolation3d",
    "custom_interpolation_kernel_2d", "rendering", "depiction", "iso_threshold", "attenuation", "projection_mode",
)  # fmt: skip


def level0(layer: Image) -> Any:
    """Return a layer's data, of a multiscale layer the finest level; nothing is read."""
    return layer.data[0] if layer.multiscale else layer.data


def placement(layer: Image, part: Part | None = None) -> dict[str, Any]:
    """Return what puts another image on a layer, or on a part of it, and makes it look the same.

    The placement of a multiscale layer is that of its finest level.
    """
    state = layer.as_layer_data_tuple()[1]
    place = {name: state[name] for name in _PLACE + _LOOK if name in state} | {"multiscale": False}
    return place if part is None else place | {"translate": shifted(state, layer.ndim, part.start)}


def shifted(state: Mapping[str, Any], ndim: int, start: ArrayLike) -> Any:
    """Return the translation of an array that begins at ``start`` in the pixels of a layer."""
    from napari.utils.transforms import Affine

    pixels = Affine(**{name: state[name] for name in ("scale", "translate", "rotate", "shear")}, ndim=ndim)
    return pixels(np.asarray(start, float)[:ndim])


def cell_placement(layer: Image, steps: Mapping[int, int], corner: Sequence[float] = (0,)) -> dict[str, Any]:
    """Return what puts a coarser array on a layer, whose cells cover ``steps[axis]`` pixels from a corner on.

    The first cell's centre lies (step - 1) / 2 pixels from the corner's centre; scale, shear and rotation turn that way
    into the world.
    """
    state = layer.as_layer_data_tuple()[1]
    place = {name: state[name] for name in _PLACE if name in state}
    step = np.array([steps.get(axis, 1) for axis in range(layer.ndim)], float)
    translate = shifted(state, layer.ndim, np.add(corner, (step - 1) / 2))
    return place | {"scale": np.asarray(state["scale"]) * step, "translate": translate}
