"""Before and after in one view: a swipe with a line to drag, a flip, side by side; all end without a trace.

No layer is touched but for its visibility, which comes back: a swipe is a layer of its own over both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
from napari.layers import Image, Layer, Shapes
from numpy.typing import NDArray

from napari_perceive_ir._halves import Halves
from napari_perceive_ir._overlay import PASSING, hides_below, insert_quietly, is_overlay
from napari_perceive_ir._placement import cell_placement, level0, placement
from napari_perceive_ir._turn import take_turn

LINE_WIDTHS = (5.0, 2.0)
"""Of the outline and the line, in pixels of the screen."""
LINE_COLOURS = ("#00000080", "white")
GRASP = 8
"""Pixels of the screen from which the line can be grasped."""
CLOSE = 2.5
"""Times the whole picture's zoom from which on a detail is looked at, which side by side keeps in sight."""
LOOK = ("contrast_limits", "gamma", "colormap")
"""What a cover takes over from the layer after."""


def share_place(before: Image, after: Image) -> bool:
    """Whether all pixels of an image layer lie on pixels of another one."""
    return part_under(before, after) is not None


def part_under(before: Image, after: Image) -> tuple[slice, ...] | None:
    """Return the part of an image layer whose pixels lie where those of another one lie; None where there is none."""
    if (before.ndim, before.rgb, before.units) != (after.ndim, after.rgb, after.units):
        return None
    start = np.rint(before.world_to_data(after.data_to_world(np.zeros(after.ndim)))).astype(int)
    corners = np.vstack([np.zeros(after.ndim), np.eye(after.ndim)])
    if not all(np.allclose(before.data_to_world(start + c), after.data_to_world(c)) for c in corners):
        return None
    shape = level0(after).shape
    part = [slice(first, first + n) for first, n in zip((*start.tolist(), 0), shape, strict=False)]
    there = level0(before).shape
    fits = len(there) == len(shape) and all(0 <= p.start and p.stop <= n for p, n in zip(part, there, strict=True))
    return tuple(part) if fits else None


def is_cover(layer: Layer) -> bool:
    """Whether a layer only shows others and goes away again."""
    return isinstance(layer, Image) and (is_overlay(layer) or isinstance(level0(layer), Halves))


class Comparison:
    """A passing view of two layers; whatever it changes it changes back.

    Parameters
    ----------
    viewer
        The napari viewer, with or without a window.
    before, after
        Image layers that share their place.
    lost
        Called when something else than `stop` ends it, such as that one of its layers was removed. All is as it was by
        then, but for the layers of its own: these `stop` has to take away a little later, because the list of layers is
        just being changed.
    """

    def __init__(self, viewer: Any, before: Image, after: Image, *, lost: Callable[[], None] = lambda: None) -> None:
        if not share_place(before, after):
            raise ValueError(f"expected two pictures in the same place, got {before.name!r} and {after.name!r}")
        self._undo = ExitStack()
        self._undo.callback(take_turn(viewer, self))
        for layer in [one for one in viewer.layers if is_cover(one)]:
            viewer.layers.remove(layer)
        self.viewer, self.before, self.after = viewer, before, after
        self._lost = lost
        self._own: list[Layer] = []
        self._connect(viewer.layers.events.removed, self._removed)

    def stop(self) -> None:
        """End; a second time does nothing."""
        self._undo.close()
        for layer in self._own:
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)

    def give_way(self) -> None:
        """End because something else is to be shown."""
        self._give_up()
        self.stop()

    def _set(self, thing: Any, name: str, value: Any) -> None:
        """Give an attribute another value until the end."""
        self._undo.callback(setattr, thing, name, getattr(thing, name))
        setattr(thing, name, value)

    def _connect(self, event: Any, slot: Callable[..., None]) -> None:
        """Listen until the end."""
        event.connect(slot)
        self._undo.callback(event.disconnect, slot)

    def _add(self, layer: Layer, place: int) -> None:
        """Add a layer of its own, and leave selected what is selected."""
        self._own.append(layer)
        insert_quietly(self.viewer, place, layer)
        self._undo.callback(setattr, layer, "visible", False)

    def _removed(self, event: Any) -> None:
        if event.value in (self.before, self.after, *self._own):
            self._give_up()

    def _give_up(self, event: Any = None) -> None:
        self._undo.close()
        self._lost()


class Cover(Comparison):
    """A layer over both: before on the left of an edge, after on its right.

    It looks as `after` does, so that both sides have the same contrast, and follows when `after` is given another
    contrast or one of them other data.

    Parameters
    ----------
    viewer, before, after, lost
        See `Comparison`.
    at
        Where the edge is, from 0 (the left border) to 1 (the right one).
    """

    def __init__(self, viewer: Any, before: Image, after: Image, at: float = 0.5, **lost: Any) -> None:
        super().__init__(viewer, before, after, **lost)
        self._halves = [Halves(*pair, displayed_axis(viewer, after, -1), at) for pair in levels(before, after)]
        self.layer = self._image()
        self._add(self.layer, 1 + max(viewer.layers.index(one) for one in (before, after)))
        for one in (before, after):
            self._connect(one.events.data, self._take_data)
        self._set(after, "visible", False)
        if not (
            hides_below(after) and level0(before).shape != level0(after).shape
        ):  # else what is around stays in sight
            self._set(before, "visible", False)
        for name in LOOK:
            self._connect(getattr(after.events, name), self._look_alike)
        self._connect(viewer.dims.events.order, self._turn)

    @property
    def at(self) -> float:
        """Where the edge is."""
        return self._halves[0].at

    def move(self, at: float) -> None:
        """Move the edge."""
        for halves in self._halves:
            halves.at = min(max(at, 0.0), 1.0)
        self.layer.refresh(thumbnail=False, highlight=False, extent=False)

    def _image(self) -> Image:
        pyramid = len(self._halves) > 1
        look = placement(self.after) | {"multiscale": pyramid, "visible": True}
        name = f"{self.before.name} | {self.after.name}"
        layer = Image(self._halves if pyramid else self._halves[0], name=name, **look)
        layer.contrast_limits_range = self.after.contrast_limits_range
        layer.contrast_limits = self.after.contrast_limits
        return layer

    def _look_alike(self, event: Any) -> None:
        for name in LOOK:
            setattr(self.layer, name, getattr(self.after, name))

    def _take_data(self, event: Any) -> None:
        pairs = levels(self.before, self.after)
        if not share_place(self.before, self.after) or len(pairs) != len(self._halves):
            self._give_up()
            return
        for halves, (before, after) in zip(self._halves, pairs, strict=True):
            halves.before, halves.after = before, after
        self.move(self.at)

    def _turn(self, event: Any) -> None:
        for halves in self._halves:
            halves.axis = displayed_axis(self.viewer, self.after, -1)
        self.move(self.at)


class Swipe(Cover):
    """A cover whose edge is a line that the mouse can drag; it follows the columns of the picture.

    Parameters
    ----------
    viewer, before, after, at, lost
        See `Cover`.
    """

    def __init__(self, viewer: Any, before: Image, after: Image, at: float = 0.5, **lost: Any) -> None:
        super().__init__(viewer, before, after, at, **lost)
        place = cell_placement(after, {})
        look = {"shape_type": "line", "edge_color": list(LINE_COLOURS), "name": "swipe line", "metadata": PASSING}
        self.line = Shapes(self._ends(), **look, **place)
        self._add(self.line, len(viewer.layers))
        self._draw()
        for changed in (viewer.dims.events.point, viewer.dims.events.order, camera_of(viewer).events.zoom):
            self._connect(changed, self._draw)
        for callbacks, ours in (
            (viewer.mouse_drag_callbacks, self._drag),
            (viewer.mouse_move_callbacks, self._point),
        ):
            callbacks.append(ours)
            self._undo.callback(callbacks.remove, ours)

    def move(self, at: float) -> None:
        """Move the edge and its line."""
        super().move(at)
        self._draw()

    def _draw(self, event: Any = None) -> None:
        self.line.edge_width = [width / self._magnification() for width in LINE_WIDTHS]
        with self.line.events.data.blocker():  # napari would look at all layers anew
            self.line.data = self._ends()

    def _ends(self) -> list[NDArray[np.float64]]:
        """Return the ends of the line, and of its outline, in pixels of the picture, in the plane that is shown."""
        halves, down = self._halves[0], displayed_axis(self.viewer, self.after, -2)
        ends = np.tile(np.round(self.layer.world_to_data(self.viewer.dims.point)), (2, 1))
        ends[:, halves.axis] = halves.edge - 0.5
        ends[:, down] = (-0.5, halves.shape[down] - 0.5)
        return [ends, ends]

    def _magnification(self) -> float:
        """Return how many pixels of the screen a column of the picture takes."""
        column = np.eye(self.layer.ndim)[self._halves[0].axis]
        step = np.subtract(self.layer.data_to_world(column), self.layer.data_to_world(0 * column))
        return float(camera_of(self.viewer).zoom * np.linalg.norm(step))

    def _column(self, event: Any) -> float:
        """Return where the mouse is, in columns from the left border of the picture."""
        return float(self.layer.world_to_data(event.position)[self._halves[0].axis]) + 0.5

    def _in_reach(self, event: Any) -> bool:
        away = abs(self._column(event) - self._halves[0].edge)
        return self.viewer.dims.ndisplay == 2 and away * self._magnification() <= GRASP

    def _drag(self, viewer: Any, event: Any) -> Iterator[None]:
        if not self._in_reach(event):
            return
        camera, halves = camera_of(self.viewer), self._halves[0]
        pans, camera.mouse_pan = camera.mouse_pan, False
        yield
        while event.type == "mouse_move":
            self.move(self._column(event) / halves.shape[halves.axis])
            yield
        camera.mouse_pan = pans

    def _point(self, viewer: Any, event: Any) -> None:
        """Show by the cursor that the line can be grasped."""
        active = self.viewer.layers.selection.active
        usual = "standard" if active is None else active.cursor
        self.viewer.cursor.style = "pointing" if self._in_reach(event) else usual


class Flip(Comparison):
    """Before in the place of after: what lies over it, as far as after, is hidden.

    Parameters
    ----------
    viewer, before, after, lost
        See `Comparison`.
    """

    def __init__(self, viewer: Any, before: Image, after: Image, **lost: Any) -> None:
        super().__init__(viewer, before, after, **lost)
        low, high = sorted(viewer.layers.index(one) for one in (before, after))
        for layer in list(viewer.layers)[low : high + 1]:
            self._set(layer, "visible", layer == before)


class SideBySide(Comparison):
    """Both in napari's grid, before on the left; every other layer is hidden meanwhile.

    Parameters
    ----------
    viewer, before, after, lost
        See `Comparison`.
    """

    def __init__(self, viewer: Any, before: Image, after: Image, **lost: Any) -> None:
        super().__init__(viewer, before, after, **lost)
        for layer in viewer.layers:
            self._set(layer, "visible", layer in (before, after))
        grid, apart = grid_of(viewer), viewer.layers.index(after) - viewer.layers.index(before)
        camera = camera_of(viewer)
        center, zoom = camera.center, camera.zoom
        self._set(camera, "zoom", zoom)
        self._set(camera, "center", center)
        self._set(grid, "shape", (1, 2))
        self._set(grid, "stride", int(np.clip(apart, -50, 50)))
        self._set(grid, "enabled", True)
        self._connect(grid.events.enabled, self._give_up)
        viewer.fit_to_view()
        if zoom > CLOSE * camera.zoom:
            camera.zoom, camera.center = zoom, center


def levels(before: Image, after: Image) -> list[tuple[Any, Any]]:
    """Return the pairs of arrays to show: of two equal pyramids all levels, else the finest, where both have pixels."""
    if before.multiscale and after.multiscale:
        pairs = list(zip(before.data, after.data, strict=False))
        if all(one.shape == other.shape for one, other in pairs):
            return pairs
    finest, part = level0(before), part_under(before, after)
    return [(finest if part is None or finest.shape == level0(after).shape else finest[part], level0(after))]


def displayed_axis(viewer: Any, layer: Layer, place: int) -> int:
    """Return a layer's axis that the canvas shows, -1 from left to right and -2 downwards."""
    axis: int = viewer.dims.displayed[place] - (viewer.dims.ndim - layer.ndim)
    return axis if axis >= 0 else layer.ndim + place


def camera_of(viewer: Any) -> Any:
    """Return the camera, which moved in napari 0.9."""
    return getattr(viewer, "scene", viewer).camera


def grid_of(viewer: Any) -> Any:
    """Return the grid, which moved in napari 0.9."""
    return getattr(viewer, "canvas", viewer).grid
