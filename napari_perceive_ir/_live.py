"""The strength sliders after a run: the result is blended anew in its layer, without running the network.

While a slider is dragged, only what the canvas shows is blended, at once; the whole picture follows on release.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]
from superqt.utils import QSignalDebouncer

from napari_perceive_ir._background import Job
from napari_perceive_ir._layers import show_anew
from napari_perceive_ir._moving import Moving
from napari_perceive_ir._placement import level0
from napari_perceive_ir._pyramid import shapes_of
from napari_perceive_ir._run import Blended, Event, Failed, blending, same_but_strength, strengths

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_perceive_ir._controls import RecipeControls
    from perceive_ir import Recipe, Result

PAUSE = 80
"""Milliseconds without a move of a slider before the result is blended anew."""


@dataclass(frozen=True)
class Shown:
    """A result in the viewer: the layer that it came from, the layer that it is in, and what it is."""

    source: Image
    layer: Image
    result: Result

    def follows(self, source: Image | None, recipe: Recipe, layers: Any) -> bool:
        """Whether the controls still speak of this result, and its layer is there and still holds it."""
        there = self.layer in layers and level0(self.layer) is self.result.image
        return there and source == self.source and same_but_strength(recipe, self.result.recipe)


class LiveStrength(QObject):
    """Keeps the last result at the strengths that the controls show."""

    failed = Signal(object)

    def __init__(self, controls: RecipeControls, viewer: Any) -> None:
        super().__init__(controls)
        self._controls, self._layers = controls, viewer.layers
        self._moving = Moving(viewer)
        self._shown: Shown | None = None
        self._blended: Shown | None = None
        """What the job blends anew; another result may have taken its place by the time that it is done."""
        self._job: Job | None = None
        self._pause = QSignalDebouncer(parent=self)
        self._pause.setTimeout(PAUSE)
        self._pause.triggered.connect(self._blend)
        self._sliders = (controls.strength, *controls.tiers.values())
        for slider in self._sliders:
            slider.valueChanged.connect(self._moved)
            slider.sliderReleased.connect(self._blend)

    def keep(self, shown: Shown) -> None:
        """Follow the sliders with another result."""
        self._shown = shown
        self._pause.throttle()  # they may have moved while it was made

    def release(self) -> None:
        """Leave the result as it is from now on."""
        self._shown = None
        self._moving.end()

    def forget(self, layer: Image) -> None:
        """Free the result that was in a layer that is gone."""
        if self._shown is not None and self._shown.layer == layer:
            self._shown = None
            QTimer.singleShot(0, self._moving.end)  # the list of layers is just being changed

    def _followed(self) -> Shown | None:
        shown = self._shown
        if shown is None or not shown.follows(self._controls.layer.value, self._controls.recipe(), self._layers):
            return None
        return shown

    def _moved(self, _: Any = None) -> None:
        shown = self._followed() if self._dragged() else None
        if shown is None or not self._moving.show(shown.layer, shown.result, self._controls.recipe()):
            self._pause.throttle()

    def _dragged(self) -> bool:
        return any(slider.isSliderDown() for slider in self._sliders)

    def _blend(self) -> None:
        shown, wanted = self._followed(), self._controls.recipe()
        if self._job is not None or (self._moving.on and self._dragged()):
            return  # the end of either blends anew
        if shown is None or strengths(wanted) == strengths(shown.result.recipe):
            self._moving.end()
            return
        self._blended = shown
        self._job = Job(self, "", blending, shown.result, wanted, shapes_of(shown.layer), visible=False)
        self._job.happened.connect(self._happened)
        self._job.ended.connect(self._ended)
        self._job.start()

    def _happened(self, event: Event) -> None:
        shown = self._followed()
        if isinstance(event, Blended) and shown is not None and shown is self._blended:
            show_anew(shown.layer, event.result, event.coarser)
            self._shown = Shown(shown.source, shown.layer, event.result)
        if isinstance(event, Failed):
            self._shown = None
            self.failed.emit(event.error)

    def _ended(self) -> None:
        self._job = None
        self._blend()
