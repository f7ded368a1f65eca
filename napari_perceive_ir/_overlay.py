"""A passing layer over a part of a picture, exactly in place and with the same look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from napari.layers import Image, Layer
from numpy.typing import NDArray

from napari_perceive_ir._layer_list import hide_in_list
from napari_perceive_ir._layers import KEY, picture_of, same_picture
from napari_perceive_ir._placement import cell_placement, placement

MARK = "passing"
PASSING = {KEY: {MARK: True}}
"""Metadata of a layer that goes away again."""
LOOK = ("contrast_limits", "gamma", "colormap", "interpolation2d")
"""What an overlay takes over from the picture whenever it changes."""
PLACE = ("scale", "translate", "rotate", "shear", "affine")
COVERING = ("translucent", "translucent_no_depth", "opaque")
"""Blendings with which an overlay hides what is below it."""


def is_overlay(layer: Layer) -> bool:
    """Whether a layer is there for the time being only, over another one."""
    return MARK in layer.metadata.get(KEY, {})


def hides_below(layer: Image) -> bool:
    """Whether a layer like this one lets nothing shine through that lies below it."""
    return layer.blending in COVERING and layer.opacity == 1


def insert_quietly(viewer: Any, place: int, layer: Layer) -> None:
    """Add a layer and leave selected what is selected."""
    selection = viewer.layers.selection
    chosen, active = list(selection), selection.active
    viewer.layers.insert(place, layer)
    selection.clear()
    for one in chosen:
        selection.add(one)
    selection.active = active


def put_into(layer: Image, pixels: NDArray[Any]) -> None:
    """Show other pixels in a layer whose array is its own."""
    if (layer.data.shape, layer.data.dtype) != (pixels.shape, pixels.dtype):
        layer.data = pixels
        return
    layer.data[...] = pixels  # of another array napari would also ask what it is to all other layers
    layer.refresh(thumbnail=False, highlight=False, extent=False)


class Overlay:
    """Shows pixels over a part of a picture in one layer, which is added once and then changed in place.

    The layer does not stand in napari's list: it is none of the user's.

    Parameters
    ----------
    viewer
        The napari viewer.
    under
        The picture. Where the overlay lets light through, all that shows the same picture is hidden meanwhile.
    name
        What the layer is called.
    """

    def __init__(self, viewer: Any, under: Image, name: str) -> None:
        self.layer: Image | None = None
        self.under = under
        self._viewer, self._name = viewer, name
        self._undo = ExitStack()
        self._corner: Sequence[float] = ()
        self._steps: Mapping[int, int] = {}

    def show(self, pixels: NDArray[Any], corner: Sequence[float], steps: Mapping[int, int] | None = None) -> None:
        """Show pixels of the picture from a corner on; each stands for as many along an axis as ``steps`` says."""
        moved = (tuple(self._corner), self._steps) != (tuple(corner), steps or {})
        self._corner, self._steps = corner, steps or {}
        if self.layer is None:
            self._add(pixels)
            return
        put_into(self.layer, pixels)
        if moved:
            self._place()

    def remove(self) -> None:
        """Take the layer away; a second time does nothing."""
        self._undo.close()
        layer, self.layer = self.layer, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _add(self, pixels: NDArray[Any]) -> None:
        under = self.under
        place = placement(under) | cell_placement(under, self._steps, self._corner)
        about = {KEY: {MARK: True, "picture": picture_of(under)}}
        self.layer = Image(pixels, name=self._name, metadata=about, **place)
        self.layer.contrast_limits_range = under.contrast_limits_range
        self.layer.contrast_limits = under.contrast_limits
        for name in LOOK:
            self._connect(getattr(under.events, name), self._look_alike)
        for name in PLACE:
            self._connect(getattr(under.events, name), self._place)
        self._connect(self._viewer.layers.events.removed, self._removed)
        insert_quietly(self._viewer, self._height(), self.layer)
        hide_in_list(self.layer)
        for one in [] if hides_below(under) else [under, *same_picture(self.layer, self._viewer.layers)]:
            self._undo.callback(setattr, one, "visible", one.visible)
            one.visible = False

    def _height(self) -> int:
        """Return the place over the picture and all that hides it; what adds light or is painted stays over it."""
        layers = list(self._viewer.layers)
        hiding = [one for one in layers if isinstance(one, Image) and one.visible and hides_below(one)]
        return 1 + max(layers.index(one) for one in (self.under, *hiding))

    def _connect(self, event: Any, slot: Any) -> None:
        event.connect(slot)
        self._undo.callback(event.disconnect, slot)

    def _removed(self, event: Any) -> None:
        """Bring back what was hidden, whoever took the layer away."""
        if event.value is self.layer:
            self._undo.close()

    def _look_alike(self, _: Any = None) -> None:
        for name in LOOK:
            setattr(self.layer, name, getattr(self.under, name))

    def _place(self, _: Any = None) -> None:
        place = cell_placement(self.under, self._steps, self._corner)
        for name in PLACE:
            if not np.array_equal(getattr(self.layer, name), place[name]):  # each of them draws anew
                setattr(self.layer, name, place[name])
