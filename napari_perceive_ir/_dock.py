"""The Restore dock: the recipe's controls over a run in the background; what is decided is decided elsewhere."""

from time import perf_counter
from typing import Any

from napari.layers import Image
from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_perceive_ir._background import Job
from napari_perceive_ir._compare_row import CompareRow
from napari_perceive_ir._controls import RecipeControls
from napari_perceive_ir._layers import add_result, plan_run, replaced
from napari_perceive_ir._live import LiveStrength, Shown
from napari_perceive_ir._run import (
    MISTAKES,
    Event,
    Failed,
    Finished,
    Progress,
    Ready,
    RunPlan,
    Seen,
    restoring,
    shown_severity,
)
from napari_perceive_ir._seen_bars import SeenBars, seen_types
from perceive_ir import Recipe
from perceive_ir._recipe import make_recipe
from perceive_ir._trace import keep_trace

REPLACED = " The layer's data were replaced meanwhile: the result shows what was there before."


class RestoreDock(QWidget):
    """Restores an image layer in the background; the result is a new layer exactly on its source.

    Parameters
    ----------
    napari_viewer
        The viewer whose layers are offered.
    """

    _job: Job | None = None  # of the class, because Qt sends events to a widget before it is made
    compare: CompareRow | None = None

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._source: Image | None = None
        self._plan: RunPlan | None = None
        self._began = 0.0
        self.controls = RecipeControls(napari_viewer)
        self.live = LiveStrength(self.controls, napari_viewer.layers)
        self.live.failed.connect(self._tell)
        self.run_button = QPushButton("Run")
        self.cancel_button = QPushButton("Cancel")
        self.progress = QProgressBar()
        self.compare = CompareRow(napari_viewer, self)
        self.status, self.seen, self.note = wrapped(), wrapped(), wrapped()
        self.bars = SeenBars()
        self._lay_out()
        self.run_button.clicked.connect(lambda: self.run())
        self.cancel_button.clicked.connect(lambda: self.cancel())
        self.controls.layer.changed.connect(lambda _: self._show_state())
        events = napari_viewer.layers.events
        for changed in (events.inserted, events.removed, events.reordered, events.renamed):
            changed.connect(self._refresh)
        events.removed.connect(self._forget)
        self._show_state()

    @property
    def running(self) -> bool:
        """Whether a run is on, or is still stopping."""
        return self._job is not None

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
            self._tell(error)
            return
        self._source, self._plan, self._began = self.controls.layer.value, plan, perf_counter()
        self._job = Job(self, f"Restoring {self._source}", restoring, plan)
        self._job.happened.connect(self._happened)
        self._job.ended.connect(self._ended)
        self._say("Loading the model …", seen="", note="")
        self.bars.show_types(())
        self._job.start()
        self._show_state()

    def cancel(self, why: str = "Cancelled: nothing was added.") -> None:
        """Stop within one batch of tiles; nothing is added."""
        if self._job is not None and not self._job.cancelled:
            self._job.cancel()
            self._say(why)
            self._show_state()

    def event(self, event: QEvent | None) -> bool:
        """Stop when the dock is closed, which napari does by taking it out of the window."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.cancel()
            if self.compare is not None:
                self.compare.leave()
        return bool(super().event(event))

    def _choose(self, recipe_fields: dict[str, Any]) -> None:
        if recipe_fields:
            self.live.release()  # the sliders are about to move for another result
            self.controls.show_recipe(make_recipe(self.controls.recipe(), **recipe_fields))

    def _happened(self, event: Event) -> None:
        if isinstance(event, Ready):
            self._say("Looking at the picture …")
        elif isinstance(event, Seen):
            self._see(event)
        elif isinstance(event, Progress):
            self.progress.setRange(0, event.total)
            self.progress.setValue(event.done)
            self._say(f"Restoring: {event.done} of {event.total} tiles")
        elif isinstance(event, Finished):
            self._add(event)
        elif isinstance(event, Failed):
            self._say("Failed: nothing was added.")
            self._tell(event.error)

    def _see(self, event: Seen) -> None:
        assert self._plan is not None
        self._say("Restoring …", seen=f"The model sees {event.perception.words()}.")
        self.bars.show_types(seen_types(event.perception))
        self.controls.show_seen(shown_severity(self._plan.recipe, event.perception))

    def _add(self, event: Finished) -> None:
        source, plan, result = self._source, self._plan, event.result
        assert source is not None and plan is not None
        layer = add_result(self._viewer, source, plan, result)
        self.live.keep(Shown(source, layer, result))
        assert self.compare is not None
        self.compare.offer(source, layer)
        late = REPLACED if replaced(source, plan) else ""
        seconds = perf_counter() - self._began
        self._say(f"Added “{layer.name}” after {seconds:.1f} s.", note=sentence(result.note) + late)

    def _ended(self) -> None:
        self._job = self._source = self._plan = None
        self._show_state()

    def _refresh(self, event: Any = None) -> None:
        self.controls.refresh_layers()
        self._show_state()

    def _forget(self, event: Any) -> None:
        self.live.forget(event.value)
        if self._source is not None and self._source == event.value:
            self.cancel("Stopped, because the layer was removed.")

    def _show_state(self) -> None:
        stopping = self._job is not None and self._job.cancelled
        self.run_button.setEnabled(not self.running and self.controls.layer.value is not None)
        self.cancel_button.setEnabled(self.running and not stopping)
        self.progress.setVisible(self.running)
        if not self.running:
            self.progress.setRange(0, 0)

    def _say(self, status: str, seen: str | None = None, note: str | None = None) -> None:
        for label, text in ((self.status, status), (self.seen, seen), (self.note, note)):
            if text is not None:
                label.setText(text)
                label.setVisible(bool(text))

    def _tell(self, error: Exception) -> None:
        if not isinstance(error, MISTAKES):
            raise error
        keep_trace(error)
        show_error(str(error))

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button, 2)
        buttons.addWidget(self.cancel_button, 1)
        heading = wrapped("Sees what is wrong with a picture and mends it.")
        self.run_button.setToolTip("Restore in the background; the result is a new layer exactly on the picture.")
        self.cancel_button.setToolTip("Stop at once and add nothing.")
        self.progress.setTextVisible(False)
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.setSpacing(8)
        layout.addWidget(heading)
        layout.addWidget(self.controls)
        layout.addLayout(buttons)
        for part in (self.progress, self.status, self.seen, self.bars, self.note, self.compare):
            layout.addWidget(part)
        layout.addStretch()
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.addWidget(scrolled(inside))
        self._say("", seen="", note="")
        self.setTabOrder(self.controls, self.run_button)
        self.setTabOrder(self.run_button, self.cancel_button)


def wrapped(text: str = "") -> QLabel:
    """Make a label that breaks lines rather than widen the dock."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setMinimumWidth(0)
    return label


def scrolled(inside: QWidget) -> QScrollArea:
    """Make a widget scroll where the window is low, rather than make the window high."""
    area = QScrollArea()
    area.setWidget(inside)
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return area


def sentence(note: str) -> str:
    """Make a sentence of a note."""
    return note and f"{note[0].upper()}{note[1:]}."
