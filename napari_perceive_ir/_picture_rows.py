"""The rows of the dock that say what is meant: the layer or all selected ones, their axes, planes and a region."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from magicgui.widgets import CheckBox, ComboBox
from napari.layers import Image, Shapes
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QFormLayout, QLineEdit

from napari_perceive_ir._axes import layer_axes, named_axes
from napari_perceive_ir._compare import camera_of, is_cover
from napari_perceive_ir._forms import add_row, show_row
from napari_perceive_ir._layers import is_map
from napari_perceive_ir._lazy_layer import BIG, is_big
from napari_perceive_ir._overlay import is_overlay
from napari_perceive_ir._part import stack_axes_of
from napari_perceive_ir._region import changes_of
from napari_perceive_ir._visible import visible_region
from napari_perceive_ir._words import AUTOMATIC
from perceive_ir import Recipe
from perceive_ir._recipe import make_recipe

STACK, PLANE = "stack", "plane"
WHOLE, VISIBLE = "whole", "visible"
NOW, LOOKED_AT = "now", "looked at"
REGION_HELP = (
    "What is restored: all of the picture, what the canvas shows of it, or the box around the selected shape of a "
    "shapes layer (around all shapes if none is selected). A region comes out as it would in the whole picture: the "
    "model looks at all of it, and at the pixels around the region."
)
RESULT_HELP = (
    "What a big picture becomes, such as a pyramid, a Zarr, or one of more than "
    f"{BIG // 10**6} megapixels: restored now, as a whole or a part of it; or a layer that is restored in the "
    "background where you look, and shows the picture as it was everywhere else."
)
AXES_HELP = (
    "What the axes mean, one letter each, such as ZYX or TCYX: Y and X are the plane, every other axis counts planes "
    "that are restored one by one."
)


class PictureRows(QObject):
    """Chooses images of a viewer and what of them is restored.

    Parameters
    ----------
    viewer
        The viewer whose layers are offered.
    form
        Where the rows stand.
    """

    changed = Signal()
    """Something else is chosen, or may be."""

    def __init__(self, viewer: Any, form: QFormLayout) -> None:
        super().__init__(form)
        self._viewer, self._form = viewer, form
        self.layer = ComboBox(choices=lambda _: pictures_in(viewer.layers))
        self.layer.tooltip = "The picture to restore; it stays as it is."
        self.several = CheckBox(tooltip="Restore all image layers that are selected, one after the other.")
        self.axes = QLineEdit()
        self.axes.setToolTip(AXES_HELP)
        planes = [("The whole stack", STACK), ("The plane that is shown", PLANE)]
        self.planes = ComboBox(choices=planes, tooltip="What of a stack is restored.")
        self.region = ComboBox(choices=self._regions, tooltip=REGION_HELP)
        results = [("Restored now", NOW), ("Restored where you look", LOOKED_AT)]
        self.result = ComboBox(choices=results, tooltip=RESULT_HELP)
        self.keep = CheckBox(text="If cancelled, keep finished planes")
        self.keep.tooltip = "Without it, a run that is cancelled adds nothing."
        self._watched: list[Any] = []
        """Events that tell of another region."""
        self._asked: tuple[Image | None, str] = (None, "")
        self._told: list[Image] = []
        """The layers that were chosen when a change was told of last."""
        self._lay_out()
        self.layer.changed.connect(lambda _: self._follow())
        for choice in (self.several, self.planes, self.result):
            choice.changed.connect(lambda _: self._tell())
        self.region.changed.connect(self._follow_region)
        self.axes.editingFinished.connect(self._tell)
        choose_likeliest(self.layer, viewer.layers)
        viewer.layers.selection.events.changed.connect(self.refresh)
        self._follow()

    @property
    def sources(self) -> list[Image]:
        """The chosen layers."""
        if self.several.value and len(self._selected()) > 1:
            return self._selected()
        return [] if self.layer.value is None else [self.layer.value]

    @property
    def lazy(self) -> bool:
        """Whether big pictures are restored where somebody looks."""
        return self.result.value == LOOKED_AT and any(map(is_big, self.sources))

    @property
    def point(self) -> Sequence[float] | None:
        """The place in the world whose plane is meant; None for the whole stack."""
        return self._viewer.dims.point if self.planes.value == PLANE and not self.lazy else None

    def region_of(self, source: Image, axes: str) -> Shapes | tuple[slice, slice] | None:
        """Return what is restored of a layer with these axes; None for all."""
        if self.region.value == VISIBLE and not self.lazy:
            return visible_region(self._viewer, source, axes)
        return None if self.region.value == WHOLE or self.lazy else self.region.value

    def axes_of(self, source: Image) -> str:
        """Return the axes of a layer: what was typed, else what its labels say."""
        typed = self.axes.text().strip().upper()
        if source.ndim == 2 or typed in ("", self._asked[1]):
            return layer_axes(source)
        return typed + "C" if source.rgb and len(typed) == source.ndim else typed

    def recipe_of(self, source: Image, recipe: Recipe) -> Recipe:
        """Return a recipe with the axes of a layer."""
        return make_recipe(recipe, axes=self.axes_of(source)) if recipe.axes == AUTOMATIC else recipe

    def choose_all_of(self, layer: Image) -> None:
        """Choose one layer, with all its planes."""
        self.layer.value, self.several.value, self.planes.value, self.region.value = layer, False, STACK, WHOLE

    def refresh(self, _: Any = None) -> None:
        """Offer the image layers that are there now; the chosen one stays chosen while it is there."""
        if len(self._selected()) < 2:
            self.several.value = False  # else it would mean the next two, selected to compare them
        self.layer.reset_choices()
        self.region.reset_choices()
        self._show()
        if self.sources != self._told:
            self._tell()

    def _follow(self, _: Any = None) -> None:
        """Fill in the axes of the layer where its labels say them; what was typed for it stays."""
        before, layer = self._asked[0], self.layer.value
        told = named_axes(layer) if layer is not None else ""
        if before is not layer:
            for one, connect in ((before, "disconnect"), (layer, "connect")):
                if one is not None:
                    getattr(one.events.axis_labels, connect)(self._follow)
                    getattr(one.events.data, connect)(self._follow)
        if self._asked != (layer, told):
            self._asked = (layer, told)
            self.axes.setText(told)
            if layer is not None:
                self.axes.setPlaceholderText(f"e.g. {'TZ'[-(layer.ndim - 2) :]}YX: what is the first axis?")
        self._tell()

    def _lay_out(self) -> None:
        form = self._form
        self.layer.native.setPlaceholderText("no image layer yet")
        add_row(form, "&Layer", self.layer.native)
        form.addRow("", self.several.native)
        add_row(form, "A&xes", self.axes)
        add_row(form, "Res&ult", self.result.native)
        add_row(form, "&Planes", self.planes.native)
        add_row(form, "Re&gion", self.region.native)
        form.addRow("", self.keep.native)
        for choice in (self.layer, self.planes, self.result, self.region):
            choice.native.setMinimumWidth(1)  # long entries do not widen the dock

    def _show(self) -> None:
        layer, count = self.layer.value, len(self._selected())
        self.several.text = f"All {count} selected images"
        self.several.native.setVisible(count > 1)
        self.layer.enabled = not (count > 1 and self.several.value)
        show_row(self._form, self.axes, layer is not None and layer.ndim > 2)
        show_row(self._form, self.result.native, any(map(is_big, self.sources)))
        show_row(self._form, self.region.native, not self.lazy)
        stack = not self.lazy and any(self._is_stack(source) for source in self.sources)
        show_row(self._form, self.planes.native, stack)
        self.keep.native.setVisible(stack and self.planes.value == STACK)

    def _tell(self) -> None:
        """Say that something else is chosen."""
        self._show()
        self._told = self.sources
        self.changed.emit()

    def _is_stack(self, source: Image) -> bool:
        try:
            return bool(stack_axes_of(source, self.axes_of(source)))
        except ValueError:  # axes that do not fit are refused when they are used
            return True

    def _regions(self, _: Any = None) -> list[tuple[str, Any]]:
        shapes = (layer for layer in self._viewer.layers if isinstance(layer, Shapes) and not is_overlay(layer))
        drawn = [(f"The box drawn in “{layer.name}”", layer) for layer in shapes]
        return [("The whole picture", WHOLE), ("What the canvas shows", VISIBLE), *drawn]

    def _follow_region(self, _: Any = None) -> None:
        """Follow what is drawn in the layer that is chosen, or where the canvas looks."""
        for event in self._watched:
            event.disconnect(self._region_moved)
        chosen, camera = self.region.value, camera_of(self._viewer).events
        drawn = changes_of(chosen) if isinstance(chosen, Shapes) else []
        self._watched = [camera.zoom, camera.center] if chosen == VISIBLE else drawn
        for event in self._watched:
            event.connect(self._region_moved)
        self.changed.emit()

    def _region_moved(self, _: Any = None) -> None:
        self.changed.emit()

    def _selected(self) -> list[Image]:
        selection = self._viewer.layers.selection
        return [layer for _, layer in pictures_in(self._viewer.layers) if layer in selection]


def pictures_in(layers: Iterable[Any]) -> list[tuple[str, Image]]:
    """Return the image layers that show pictures, not maps or comparisons, with their names."""
    images = (layer for layer in layers if isinstance(layer, Image))
    return [(layer.name, layer) for layer in images if not (is_map(layer) or is_cover(layer))]


def choose_likeliest(choice: ComboBox, layers: Any) -> None:
    """Choose the picture that is meant before anybody chooses: the active one, else the topmost that can be seen."""
    pictures = [layer for _, layer in pictures_in(layers)]
    likely = [layer for layer in pictures if layer.visible] + [layers.selection.active]
    likely = [layer for layer in likely if layer in pictures]
    if likely:
        choice.value = likely[-1]
