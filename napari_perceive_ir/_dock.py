"""The Restore dock: the recipe's controls over a run in the background; what is decided is decided elsewhere."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from numpy.typing import NDArray
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QLabel

from napari_perceive_ir._background import load_early
from napari_perceive_ir._compare_row import CompareRow
from napari_perceive_ir._controls import PAINTED, RecipeControls
from napari_perceive_ir._copy import Copied, as_command, as_python
from napari_perceive_ir._copy_row import CopyRow
from napari_perceive_ir._estimate_line import EstimateLine
from napari_perceive_ir._filling import Filling
from napari_perceive_ir._forms import show_words, wrapped
from napari_perceive_ir._layer_dock import LayerDock, Target
from napari_perceive_ir._layers import add_result, hide_under, plan_run, replaced
from napari_perceive_ir._lazy_layer import add_lazy
from napari_perceive_ir._live import LiveStrength, Shown
from napari_perceive_ir._map_layers import Judged, with_map
from napari_perceive_ir._preview_row import PreviewRow
from napari_perceive_ir._pyramid import coarser
from napari_perceive_ir._reapply import recipe_of
from napari_perceive_ir._run import MISTAKES, Event, Finished, Looked, RunPlan, Seen, looking, restoring, shown_severity
from napari_perceive_ir._seen_bars import Reading, SeenBars, seen_types
from napari_perceive_ir._words import sentence
from perceive_ir import Recipe
from perceive_ir._recipe import make_recipe

if TYPE_CHECKING:
    from perceive_ir import Perception, Result

HIDDEN = "The original is hidden: it would shine through."
ALL_HIDDEN = "The originals are hidden: they would shine through."
EDITED = " The picture was edited meanwhile: parts of the result may show it as it was before. Run again."
REPLACED = " The layer's data were replaced meanwhile: the result shows what was there before."


class RestoreDock(LayerDock):
    """Restores an image layer in the background; the result is a new layer exactly on its source.

    Parameters
    ----------
    napari_viewer
        The viewer whose layers are offered.
    """

    compare: CompareRow | None = None  # of the class, because Qt sends events to a widget before it is made

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.controls = RecipeControls(napari_viewer)
        load_early(self, self.controls.recipe())
        self.live = LiveStrength(self.controls, napari_viewer)
        self.live.failed.connect(self.tell)
        self.preview = PreviewRow(napari_viewer, self.controls)
        self.preview.failed.connect(self.tell)
        self.preview.seen.connect(self._previewed)
        self.compare = CompareRow(napari_viewer, self)
        self.seen, self.whose, self.note = wrapped(), wrapped(), wrapped()
        self.bars = SeenBars()
        self._readings: dict[Image, Reading] = {}
        self.run_button.setToolTip("Restore in the background; the result is a new layer exactly on the picture.")
        self.copy = CopyRow()
        self.copy.python_button.clicked.connect(lambda: self._copy(as_python))
        self.copy.command_button.clicked.connect(lambda: self._copy(as_command))
        self.estimate = EstimateLine(self._costly)
        self.copy.recipe_button.clicked.connect(lambda: self.take_recipe())
        below = (self.estimate, self.seen, self.whose, self.bars, self.note, self.compare, self.copy)
        self.lay_out("Sees what is wrong with a picture and mends it.", (self.controls, self.preview), below)
        self.controls.layer.changed.connect(lambda _: self.show_state())
        self.controls.cost_changed.connect(self.estimate.ask)
        self._hear(napari_viewer.layers.selection.events.active, self._follow_active)
        self._clear()
        self.show_state()

    def run(
        self, layer: Image | None = None, task: str | None = None, judged: Judged | None = None, **recipe_fields: Any
    ) -> None:
        """Restore the chosen layer in the background.

        A layer and fields of the recipe that are given are chosen in the controls first; a task that is given
        begins from automatic settings. What has no control holds for this run. A quality map that is given is not made
        again.
        """
        if self.running:
            return
        if layer is not None:
            self.controls.pictures.choose_all_of(layer)
        if task is not None:
            start = Recipe()
            recipe_fields = {"task": task, "severity": start.severity, "handling": start.handling} | recipe_fields
        try:
            self._choose(recipe_fields)
            targets = self._plan(make_recipe(self.controls.recipe(), **recipe_fields))
        except MISTAKES as error:
            self.tell(error)
            return
        if judged is not None:
            targets = [replace(one, plan=with_map(one.plan, judged)) for one in targets]
        self._clear()
        self.estimate.stop()
        if len(targets) > 1:
            self.live.release()
        events = looking if self.controls.pictures.lazy else restoring
        self.begin_on(targets, f"Restoring {' and '.join(str(one.source) for one in targets)}", events)

    def give_up(self) -> None:
        """Cancel, but keep the planes of a stack that are finished where that is chosen."""
        wanted = self.running and self.controls.pictures.keep.value
        kept, targets = self._step.finished() if wanted else None, list(self._targets)
        super().give_up()
        if kept is not None:
            layer = self._add(kept, targets[0], coarser(kept.image, targets[0].plan.levels))
            layer.name += " (stopped)"
            self.say(f"Cancelled: “{layer.name}” holds the finished planes.")

    def take_recipe(self) -> None:
        """Put the recipe of the layer that is selected into the controls."""
        layer = self._viewer.layers.selection.active
        try:
            recipe = recipe_of(layer)
        except MISTAKES as error:
            self.tell(error)
            return
        self.live.release()  # the sliders are about to move for another result
        self.controls.take_recipe(recipe)
        self.say(f"The settings of “{layer.name}” are in the controls: choose a picture and press Run.")

    def _copy(self, written: Callable[..., Copied]) -> None:
        """Put what is chosen on the clipboard; of several layers, one text after the other."""
        try:
            targets = self._plan(self.controls.recipe())
        except MISTAKES as error:
            self.tell(error)
            return
        labels = self.controls.painted.layer.value if self.controls.handling.value == PAINTED else None
        copied = [written(target.source, target.plan, labels) for target in targets]
        self.copy.put("\n".join(one.text for one in copied))
        self.say(" ".join(["Copied.", *dict.fromkeys(filter(None, (one.first for one in copied)))]))

    def showEvent(self, event: QShowEvent | None) -> None:
        """Say what a run will cost as soon as somebody looks."""
        super().showEvent(event)
        self.estimate.ask()

    def _ended(self) -> None:
        all_added = not self._targets
        super()._ended()
        self.estimate.stop()
        if not all_added:  # else what it took is said, and a guess beside it only puzzles
            self.estimate.ask()

    def _plan(self, recipe: Recipe, painted: bool = True) -> list[Target]:
        pictures, point = self.controls.pictures, self.controls.pictures.point
        if not pictures.sources:
            plan_run(None, recipe)
        labels = self.controls.painted.chosen() if painted and recipe.handling == PAINTED else None
        recipes = [(source, pictures.recipe_of(source, recipe)) for source in pictures.sources]
        return [
            Target(source, plan_run(source, made, labels, point, pictures.region_of(source, made.axes)))
            for source, made in recipes
        ]

    def _costly(self) -> list[RunPlan]:
        """Return what a run will take time for."""
        lazy = self.controls.pictures.lazy
        return [] if lazy else [one.plan for one in self._plan(self.controls.recipe(), painted=False)]

    def _choose(self, recipe_fields: dict[str, Any]) -> None:
        if recipe_fields:
            self.live.release()  # the sliders are about to move for another result
            self.controls.show_recipe(make_recipe(self.controls.recipe(), **recipe_fields))

    def _receive(self, event: Event, target: Target) -> None:
        if isinstance(event, Seen):
            self._see(event, target)
        elif isinstance(event, Finished):
            self._targets.remove(target)
            layer = self._add(event.result, target, event.coarser, event.edited)
            self._say_added(layer, f" after {self.seconds():.1f} s")
        elif isinstance(event, Looked):
            self._targets.remove(target)
            self._say_added(self._add_lazy(event, target), ", restored where you look")

    def _say_added(self, layer: Image, how: str) -> None:
        added = f"“{layer.name}”" if self._count == 1 else f"{self._count - len(self._targets)} layers"
        self.say(f"Added {added}{how}.")

    def _see(self, event: Seen, target: Target) -> None:
        self.say(f"{self._place()}Restoring …")
        words, several = event.perception.words(), self._count > 1
        self._write(self.seen, target, words if several else f"The model sees {words}.")
        self._show_seen(target.source, event.perception, target.plan.recipe, several)

    def _previewed(self, event: Seen) -> None:
        """Say what the model sees for the preview, unless that of a run is said."""
        if not self.running:
            show_words(self.seen, f"The model sees {event.perception.words()}.")
            self._readings.clear()
            self._show_seen(self.controls.layer.value, event.perception, self.controls.recipe(), several=False)

    def _show_seen(self, source: Image, seen: "Perception", recipe: Recipe, several: bool) -> None:
        """Show what was seen; of several pictures none has the severity of all."""
        self._readings[source] = Reading(source.name if several else "", seen)
        self._show_reading(source)
        self.controls.show_seen(None if several else shown_severity(recipe, seen))

    def _show_reading(self, layer: Image) -> None:
        reading = self._readings[layer]
        show_words(self.whose, reading.whose and f"Seen in “{reading.whose}”:")
        self.bars.show_types(seen_types(reading.seen))

    def _follow_active(self, _: Any = None) -> None:
        """Show what was seen of the picture that is active, as it was or restored."""
        active = self._viewer.layers.selection.active
        if active in self._readings:
            self._show_reading(active)

    def _add(self, result: "Result", target: Target, levels: Sequence[NDArray[Any]], edited: bool = False) -> Image:
        layer = add_result(self._viewer, target.source, target.plan, result, levels)
        if self._count == 1:
            self.live.keep(Shown(target.source, layer, result))
        self._show_added(layer, target, result.note, edited)
        return layer

    def _add_lazy(self, looked: Looked, target: Target) -> Image:
        layer = add_lazy(self._viewer, target.source, target.plan, looked)
        self.live.release()
        self._show_added(layer, target, looked.about["note"])
        Filling(self._viewer, layer, looked.picture)
        return layer

    def _show_added(self, layer: Image, target: Target, note: str, edited: bool = False) -> None:
        assert self.compare is not None
        self._readings[layer] = self._readings[target.source]
        self._follow_active()
        self.compare.offer(target.source, layer)
        late = REPLACED if replaced(target.source, target.plan) else EDITED if edited else ""
        self._write(self.note, target, f"{sentence(note)}{late}".strip())
        if hide_under(self._viewer, target.source, layer, target.plan):
            self._say_hidden()

    def _say_hidden(self) -> None:
        """Say once what was hidden."""
        lines = self.note.text().splitlines()
        words = HIDDEN if self._count == 1 else ALL_HIDDEN
        show_words(self.note, "\n".join([*(line for line in lines if line != words), words]))

    def _write(self, label: QLabel, target: Target, text: str) -> None:
        """Add a line; of several layers each has its own."""
        line = f"“{target.source.name}”: {text}" if text and self._count > 1 else text
        show_words(label, "\n".join(filter(None, [label.text(), line])))

    def _clear(self) -> None:
        """Forget what the last run saw."""
        show_words(self.seen, "")
        show_words(self.note, "")
        show_words(self.whose, "")
        self.bars.show_types(())
        self._readings.clear()

    def _refresh(self, _: Any = None) -> None:
        self.controls.refresh_layers()
        self.show_state()

    def _forget(self, event: Any) -> None:
        self.live.forget(event.value)
        self._readings.pop(event.value, None)
        super()._forget(event)

    def _leave(self) -> None:
        super()._leave()
        self.estimate.stop()
        if self.compare is not None:
            self.compare.leave()
            self.preview.stop()
