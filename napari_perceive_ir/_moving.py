"""A result with other strengths, where the canvas shows it, as fast as a slider is dragged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_perceive_ir._compare import grid_of
from napari_perceive_ir._overlay import Overlay
from napari_perceive_ir._preview import lifted, plane_number
from napari_perceive_ir._visible import plane_index, shown_axes, visible_part

if TYPE_CHECKING:
    from napari.layers import Image

    from perceive_ir import Recipe, Result

MOST_PIXELS = 400_000
"""What is larger is blended in every second pixel, or every third, …: a frame is due after 33 ms."""


class Moving:
    """Covers what is on the canvas of a result with another blend of it.

    Parameters
    ----------
    viewer
        The napari viewer.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._overlay: Overlay | None = None

    @property
    def on(self) -> bool:
        """Whether it covers something."""
        return self._overlay is not None

    def show(self, layer: Image, result: Result, recipe: Recipe) -> bool:
        """Blend with the strengths of a recipe what is seen of a result; return whether that is possible at once."""
        if not self._at_once(layer, result):
            return False
        assert result.layout is not None
        axes, part = result.layout.axes, visible_part(self._viewer, layer)
        box = (part[axes.index("Y")], part[axes.index("X")])
        step = math.ceil(math.sqrt(math.prod(one.stop - one.start for one in box) / MOST_PIXELS))
        if not step:
            return False
        rows, columns = (slice(one.start + (step - 1) // 2, one.stop, step) for one in box)
        index = plane_index(self._viewer, layer)
        pixels = result.part(recipe, plane_number(axes, result.layout.stack_shape, index), rows, columns)
        starts = dict(zip("YX", (one.start for one in box), strict=True))
        corner = [starts.get(axis, n) for axis, n in zip(axes, index, strict=False)]
        if self._overlay is None or self._overlay.under is not layer:
            self.end()
            self._overlay = Overlay(self._viewer, layer, f"{layer.name} at another strength")
        steps = {n: step for n, axis in enumerate(axes) if axis in "YX"}
        self._overlay.show(lifted(pixels, axes, index), corner, steps)
        return True

    def end(self) -> None:
        """Show the result itself."""
        overlay, self._overlay = self._overlay, None
        if overlay is not None:
            overlay.remove()

    def _at_once(self, layer: Image, result: Result) -> bool:
        """Whether a result is in memory, and its planes are what is seen of the viewer."""
        viewer, covered = self._viewer, self._overlay is not None and self._overlay.under is layer
        if result.layout is None or not isinstance(result.source, np.ndarray):
            return False
        if viewer.dims.ndisplay != 2 or grid_of(viewer).enabled or not (layer.visible or covered):
            return False
        return {result.layout.axes[axis] for axis in shown_axes(viewer, layer)} == {"Y", "X"}
