"""The Restore dock: the recipe's controls over a run in the background; what is decided is decided elsewhere."""

from typing import Any

from napari.layers import Image

from napari_perceive_ir._compare_row import CompareRow
from napari_perceive_ir._controls import RecipeControls
from napari_perceive_ir._job_dock import JobDock, Target, show_words, wrapped
from napari_perceive_ir._layers import add_result, plan_run, replaced
from napari_perceive_ir._live import LiveStrength, Shown
from napari_perceive_ir._run import MISTAKES, Event, Finished, Seen, restoring, shown_severity
from napari_perceive_ir._seen_bars import SeenBars, seen_types
from perceive_ir import Recipe
from perceive_ir._recipe import make_recipe

REPLACED = " The layer's data were replaced meanwhile: the result shows what was there before."


class RestoreDock(JobDock):
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
        self.live = LiveStrength(self.controls, napari_viewer.layers)
        self.live.failed.connect(self.tell)
        self.compare = CompareRow(napari_viewer, self)
        self.seen, self.note = wrapped(), wrapped()
        self.bars = SeenBars()
        self.run_button.setToolTip("Restore in the background; the result is a new layer exactly on the picture.")
        below = (self.seen, self.bars, self.note, self.compare)
        self.lay_out("Sees what is wrong with a picture and mends it.", self.controls, below)
        self.controls.layer.changed.connect(lambda _: self.show_state())
        self._clear()
        self.show_state()

    def run(self, layer: Image | None = None, task: str | None = None, **recipe_fields: Any) -> None:
        """Restore the chosen layer in the background.

        A layer and fields of the recipe that are given are chosen in the controls first; a task that is given
        begins from automatic settings. What has no control holds for this run.
        """
        if self.running:
            return
        if layer is not None:
            self.controls.layer.value = layer
        if task is not None:
            start = Recipe()
            recipe_fields = {"task": task, "severity": start.severity, "handling": start.handling} | recipe_fields
        try:
            self._choose(recipe_fields)
            plan = plan_run(self.controls.layer.value, make_recipe(self.controls.recipe(), **recipe_fields))
        except MISTAKES as error:
            self.tell(error)
            return
        source = self.controls.layer.value
        self._clear()
        self.begin(f"Restoring {source}", Target(source, plan), restoring)

    def _choose(self, recipe_fields: dict[str, Any]) -> None:
        if recipe_fields:
            self.live.release()  # the sliders are about to move for another result
            self.controls.show_recipe(make_recipe(self.controls.recipe(), **recipe_fields))

    def _take(self, event: Event, target: Target) -> None:
        if isinstance(event, Seen):
            self._see(event, target)
        elif isinstance(event, Finished):
            self._add(event, target)

    def _see(self, event: Seen, target: Target) -> None:
        self.say("Restoring …")
        show_words(self.seen, f"The model sees {event.perception.words()}.")
        self.bars.show_types(seen_types(event.perception))
        self.controls.show_seen(shown_severity(target.plan.recipe, event.perception))

    def _add(self, event: Finished, target: Target) -> None:
        source, plan, result = target.source, target.plan, event.result
        layer = add_result(self._viewer, source, plan, result)
        self.live.keep(Shown(source, layer, result))
        assert self.compare is not None
        self.compare.offer(source, layer)
        self.say(f"Added “{layer.name}” after {self.seconds():.1f} s.")
        show_words(self.note, sentence(result.note) + (REPLACED if replaced(source, plan) else ""))

    def _clear(self) -> None:
        """Forget what the last run saw."""
        show_words(self.seen, "")
        show_words(self.note, "")
        self.bars.show_types(())

    def _refresh(self, _: Any = None) -> None:
        self.controls.refresh_layers()
        self.show_state()

    def _forget(self, event: Any) -> None:
        self.live.forget(event.value)
        super()._forget(event)

    def _leave(self) -> None:
        if self.compare is not None:
            self.compare.leave()


def sentence(note: str) -> str:
    """Make a sentence of a note."""
    return note and f"{note[0].upper()}{note[1:]}."
