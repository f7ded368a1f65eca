"""The row of the dock that previews what the canvas shows, as the user pans, zooms, scrolls and moves controls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels
from qtpy.QtCore import QTimer, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_perceive_ir._background import Job
from napari_perceive_ir._dialogs import DialogWatch, dialog_open
from napari_perceive_ir._forms import show_words, wrapped
from napari_perceive_ir._overlay import Overlay
from napari_perceive_ir._preview import MOST_PIXELS, Known, NotPreviewed, PreviewPlan, plan_preview, previewing
from napari_perceive_ir._run import MISTAKES, Event, Failed, Previewed, Progress, Ready, Seen
from napari_perceive_ir._turn import take_turn
from napari_perceive_ir._visible import view_changes
from napari_perceive_ir._words import sentence

if TYPE_CHECKING:
    from napari_perceive_ir._controls import RecipeControls
    from perceive_ir import Recipe

PAUSE = 150
"""Milliseconds without a change before what is seen then is previewed."""
CROPPED = f" Only the middle is shown, {MOST_PIXELS / 1e6:g} megapixels: zoom in for the rest."


class PreviewRow(QWidget):
    """Keeps a layer over the chosen picture that shows it restored, where the canvas shows it.

    Parameters
    ----------
    viewer
        The napari viewer.
    controls
        What chooses the picture and the recipe.
    """

    failed = Signal(object)
    """An error, for the dock to tell."""
    seen = Signal(object)
    """The picture has been looked at: an event ``Seen``."""

    def __init__(self, viewer: Any, controls: RecipeControls) -> None:
        super().__init__()
        self._viewer, self._controls = viewer, controls
        self._job: Job | None = None
        self._plan: PreviewPlan | None = None
        self._overlay: Overlay | None = None
        self._watched: Image | None = None
        self._known: dict[Image, Known] = {}
        self._dialogs = DialogWatch(self)
        self._end_turn: Callable[[], None] = lambda: None
        self.box = QCheckBox("P&review")
        self.box.setToolTip(
            "Restore what the canvas shows, as you pan, zoom, paint and move the controls. It lies over the picture, "
            "which stays as it is, and is not saved."
        )
        self.status = wrapped()
        self.setFocusProxy(self.box)
        self._pause, self._soon = QTimer(self), QTimer(self)  # they end with the row
        for timer, wait, slot in ((self._pause, PAUSE, self._begin), (self._soon, 0, self._ask_anew)):
            timer.setSingleShot(True)
            timer.setInterval(wait)
            timer.timeout.connect(slot)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.box, self.status):
            column.addWidget(widget)
        self._say("")
        self._connect()

    @property
    def running(self) -> bool:
        """Whether something is being restored, or is still stopping."""
        return self._job is not None

    @property
    def layer(self) -> Image | None:
        """The layer that shows the preview."""
        return None if self._overlay is None else self._overlay.layer

    def stop(self) -> None:
        """Switch it off: its layer goes away."""
        self.box.setChecked(False)

    give_way = stop

    def _connect(self) -> None:
        for change in view_changes(self._viewer):
            change.connect(self._ask)
        self._controls.changed.connect(self._ask)
        self._viewer.layers.events.removed.connect(self._removed)
        self.box.toggled.connect(self._toggle)
        self._dialogs.opened.connect(self._make_way)
        self._dialogs.closed.connect(lambda: self._ask())

    def _toggle(self, on: bool) -> None:
        if on:
            self._end_turn = take_turn(self._viewer, self)
            self._begin()
            return
        self._end_turn()
        self._pause.stop()
        self._cancel()
        self._clear()
        self._watch(None)
        self._known.clear()
        self._say("")

    def _ask(self, _: Any = None) -> None:
        """Stop what is stale; begin anew when nothing changes any more."""
        if self.box.isChecked():
            self._cancel()
            self._pause.start()

    def _begin(self) -> None:
        if self._job is not None or dialog_open():
            return  # its end begins anew
        self._dialogs.watch()
        layer = self._controls.layer.value
        self._watch(layer)
        try:
            recipe, point = self._recipe(layer), self._controls.pictures.point
            plan = self._plan = plan_preview(self._viewer, layer, recipe, point, self._labels(recipe))
        except (NotPreviewed, *MISTAKES) as error:
            self._clear()
            self._refuse(error)
            return
        known = self._known.get(layer)
        if known is None or not known.fits(plan.run):
            known = self._known[layer] = Known(plan.run)
        if self._overlay is None or self._overlay.under is not layer:
            self._clear()
            self._overlay = Overlay(self._viewer, layer, f"{layer.name} preview")
        self._job = Job(self, "", previewing, plan, known, visible=False)
        self._job.happened.connect(self._happened)
        self._job.ended.connect(self._ended)
        self._job.start()

    def _make_way(self) -> None:
        """Leave the layers to what a dialog asks for, such as to save them all."""
        self._cancel()
        self._clear()

    def _recipe(self, layer: Image | None) -> Recipe:
        recipe = self._controls.recipe()
        return recipe if layer is None else self._controls.pictures.recipe_of(layer, recipe)

    def _labels(self, recipe: Recipe) -> Labels | None:
        """Return the painted labels that count, or say that there are none yet."""
        try:
            return self._controls.painted.chosen() if recipe.handling == "painted" else None
        except ValueError as error:
            raise NotPreviewed(sentence(str(error))) from None

    def _happened(self, event: Event) -> None:
        if isinstance(event, Ready):
            self._say("Looking at the picture …")
        elif isinstance(event, Seen):
            self._say("Restoring what is shown …")
            self.seen.emit(event)
        elif isinstance(event, Progress):
            self._say(f"Judging the plane: {event.done} of {event.total} parts")
        elif isinstance(event, Previewed):
            self._show(event)
        elif isinstance(event, Failed):
            self._clear()
            self._refuse(event.error)

    def _show(self, event: Previewed) -> None:
        assert self._overlay is not None and self._plan is not None
        self._overlay.show(event.pixels, event.corner)
        if not event.total:
            return
        going = f"Preview: {event.done} of {event.total} parts." if event.done < event.total else "Previewed."
        note = event.note and f" {event.note[0].upper()}{event.note[1:]}."
        self._say(going + note + (CROPPED if self._plan.cropped else ""))

    def _refuse(self, error: Exception) -> None:
        if isinstance(error, NotPreviewed):
            self._say(str(error))
            return
        self.box.setChecked(False)
        self.failed.emit(error)

    def _ended(self) -> None:
        assert self._job is not None
        stale, self._job = self._job.cancelled, None
        if stale and self.box.isChecked() and not self._pause.isActive():
            self._begin()

    def _removed(self, event: Any) -> None:
        self._known.pop(event.value, None)
        if self._overlay is None:
            return
        if event.value is self._overlay.layer:
            self.stop()
        elif event.value is self._overlay.under:
            self._cancel()
            self._soon.start()  # the list of layers is just being changed

    def _ask_anew(self) -> None:
        self._clear()
        self._ask()

    def _watch(self, layer: Image | None) -> None:
        """Follow the data of a layer."""
        if self._watched is not None:
            self._watched.events.data.disconnect(self._ask)
        if layer is not None:
            layer.events.data.connect(self._ask)
        self._watched = layer

    def _cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def _clear(self) -> None:
        overlay, self._overlay = self._overlay, None
        if overlay is not None:
            overlay.remove()

    def _say(self, status: str) -> None:
        show_words(self.status, status)
