"""The Quality map dock: where a picture is good and where it is not; numbers and layers are made elsewhere."""

from time import perf_counter
from typing import Any

from napari.layers import Image
from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget
from superqt.utils import QSignalDebouncer

from napari_perceive_ir._after import After
from napari_perceive_ir._background import Job
from napari_perceive_ir._commands import run_in_dock
from napari_perceive_ir._dock import scrolled, wrapped
from napari_perceive_ir._layers import plan_run, replaced
from napari_perceive_ir._map_layers import Judged, judge, named_after, remove_views, results_on, show_view, visible_view
from napari_perceive_ir._map_panels import NOTHING, Findings, MapControls, Planes
from napari_perceive_ir._region import region_weights
from napari_perceive_ir._run import MISTAKES, Event, Failed, Mapped, Progress, Ready, RunPlan, mapping
from napari_perceive_ir._statistics import measure, plane_scores, profile, table_rows, worst_plane
from napari_perceive_ir._words import AUTOMATIC
from perceive_ir import Recipe
from perceive_ir._trace import keep_trace

ONLY_LOW = {"low": 1.0, "medium": 0.0, "high": 0.0}
LOW_AND_MEDIUM = {"low": 1.0, "medium": 1.0, "high": 0.0}
"""Strength per tier."""
PAUSE = 150
"""Milliseconds without a change of the region before its numbers are taken anew."""


class QualityMapDock(QWidget):
    """Judges an image layer place by place in the background, and shows what it found in layers and numbers.

    Parameters
    ----------
    napari_viewer
        The viewer whose layers are offered.
    """

    _job: Job | None = None  # of the class, because Qt sends events to a widget before it is made

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._source: Image | None = None
        self._plan: RunPlan | None = None
        self._began = 0.0
        self._maps: dict[Image, Judged] = {}
        self._region: Any = None
        self.controls = MapControls(napari_viewer)
        self.run_button, self.cancel_button = QPushButton("Map"), QPushButton("Cancel")
        self.progress, self.status = QProgressBar(), wrapped()
        self.findings, self.planes = Findings(napari_viewer), Planes()
        self.after = After(self)
        self._pause = QSignalDebouncer(parent=self)
        self._pause.setTimeout(PAUSE)
        self._lay_out()
        self._connect()
        self._show_state()

    @property
    def running(self) -> bool:
        """Whether a layer is being judged, or that is still stopping."""
        return self._job is not None

    @property
    def judged(self) -> Judged | None:
        """The map of the chosen layer."""
        return self._maps.get(self.controls.layer.value)

    def run(self) -> None:
        """Judge the chosen layer in the background."""
        if self.running:
            return
        try:
            plan = plan_run(self.controls.layer.value, Recipe())
        except MISTAKES as error:
            self._tell(error)
            return
        self._source, self._plan, self._began = self.controls.layer.value, plan, perf_counter()
        self._job = Job(self, f"Judging {self._source}", mapping, plan, self.controls.window_size.pixels())
        self._job.happened.connect(self._happened)
        self._job.ended.connect(self._ended)
        self._say("Loading the model …")
        self._job.start()
        self._show_state()

    def cancel(self, why: str = "Cancelled: nothing was added.") -> None:
        """Stop after the part that is being judged; nothing is added."""
        if self._job is not None and not self._job.cancelled:
            self._job.cancel()
            self._say(why)
            self._show_state()

    def restore(self, tier_strength: dict[str, float]) -> None:
        """Restore the chosen layer region by region in the Restore dock."""
        if self.judged is not None:
            run_in_dock(self._viewer, self.judged.source, AUTOMATIC, handling="region", tier_strength=tier_strength)

    def go_to(self, place: tuple[int, ...]) -> None:
        """Show a plane of the stack."""
        judged, dims = self.judged, self._viewer.dims
        if judged is not None:
            for axis, point in judged.point_of(place).items():
                dims.set_point(dims.ndim - judged.source.ndim + axis, point)

    def event(self, event: QEvent | None) -> bool:
        """Stop when the dock is closed, which napari does by taking it out of the window."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.cancel()
            self.after.stop()
        return bool(super().event(event))

    def _happened(self, event: Event) -> None:
        if isinstance(event, Ready):
            self._say("Judging the picture …")
        elif isinstance(event, Progress):
            self.progress.setRange(0, event.total)
            self.progress.setValue(event.done)
            self._say(f"Judging: {event.done} of {event.total} parts")
        elif isinstance(event, Mapped):
            self._add(event)
        elif isinstance(event, Failed):
            self._say("Failed: nothing was added.")
            self._tell(event.error)

    def _add(self, event: Mapped) -> None:
        source, plan = self._source, self._plan
        assert source is not None and plan is not None
        if replaced(source, plan):
            self._say("Nothing was added, because the layer's data were replaced meanwhile: map it again.")
            return
        old = self._maps.pop(source, None)
        if old is not None:
            remove_views(self._viewer, old)
        self._maps[source] = judge(self._viewer, source, plan, event)
        self._say(f"Mapped “{source.name}” after {perf_counter() - self._began:.1f} s.")
        self._show_map()

    def _ended(self) -> None:
        self._job = self._source = self._plan = None
        self._show_state()

    def _refresh(self, _: Any = None) -> None:
        self.controls.layer.reset_choices()
        self._show_map()

    def _forget(self, event: Any) -> None:
        if self._source is not None and self._source == event.value:
            self.cancel("Stopped, because the layer was removed.")
        for source, judged in list(self._maps.items()):
            if source == event.value or not any(layer in self._viewer.layers for layer in judged.views.values()):
                del self._maps[source]
        self._refresh()

    def _show_map(self, _: Any = None) -> None:
        judged, results = self.judged, []
        if judged is not None:
            self.findings.choose_view(visible_view(judged) or NOTHING)
            self.planes.offer([(judged.axis_title(axis), n) for n, axis in enumerate(judged.stack)])
            results = results_on(judged.source, self._viewer.layers)
        known = set(self.findings.after.choices)
        self.findings.offer(results)
        fresh = named_after(judged.source, results) if judged else None
        if fresh is not None and fresh not in known:
            self.findings.after.value = fresh
        self._follow_choices()
        self._show_state()

    def _choose_view(self, view: str) -> None:
        if self.judged is not None:
            show_view(self._viewer, self.judged, view or None)

    def _follow_choices(self, _: Any = None) -> None:
        self._watch(self.findings.region.value or None)
        self.after.follow(self.judged, self.findings.after.value or None)
        self._show_numbers()
        self._show_plane()

    def _watch(self, region: Any) -> None:
        if region is self._region:
            return
        for event in changes_of(self._region):
            event.disconnect(self._region_changed)
        for event in changes_of(region):
            event.connect(self._region_changed)
        self._region = region

    def _region_changed(self, _: Any = None) -> None:
        self._pause.throttle()

    def _show_numbers(self) -> None:
        judged = self.judged
        if judged is None:
            return
        weights = None
        if self._region is not None:
            weights = region_weights(self._region, judged.source, judged.map, judged.plan.recipe.axes)
        after = measure(self.after.map, weights) if self.after.map is not None else None
        self.findings.table.show_rows(table_rows(measure(judged.map, weights), after, self.after.running))

    def _show_plane(self, _: Any = None) -> None:
        judged = self.judged
        if judged is None or not judged.stack:
            return
        along, at = self.planes.axis.value, judged.plane_at(self._viewer.dims.point)
        title = judged.axis_title(judged.stack[along])
        self.planes.plot.show_scores(profile(plane_scores(judged.map), along, at), at[along], title)

    def _pick_plane(self, number: int) -> None:
        if self.judged is not None:
            at, along = self.judged.plane_at(self._viewer.dims.point), self.planes.axis.value
            self.go_to((*at[:along], number, *at[along + 1 :]))

    def _go_to_worst(self) -> None:
        if self.judged is not None:
            self.go_to(worst_plane(plane_scores(self.judged.map)))

    def _show_state(self) -> None:
        stopping = self._job is not None and self._job.cancelled
        self.run_button.setEnabled(not self.running and self.controls.layer.value is not None)
        self.cancel_button.setEnabled(self.running and not stopping)
        self.progress.setVisible(self.running)
        self.findings.setVisible(self.judged is not None)
        self.planes.setVisible(self.judged is not None and bool(self.judged.stack))
        if not self.running:
            self.progress.setRange(0, 0)

    def _say(self, status: str) -> None:
        self.status.setText(status)
        self.status.setVisible(bool(status))

    def _tell(self, error: Exception) -> None:
        if not isinstance(error, MISTAKES):
            raise error
        keep_trace(error)
        show_error(str(error))

    def _connect(self) -> None:
        self.run_button.clicked.connect(lambda: self.run())
        self.cancel_button.clicked.connect(lambda: self.cancel())
        self.controls.layer.changed.connect(self._show_map)
        self.findings.view.changed.connect(self._choose_view)
        self.findings.region.changed.connect(self._follow_choices)
        self.findings.after.changed.connect(self._follow_choices)
        self.findings.low_button.clicked.connect(lambda: self.restore(ONLY_LOW))
        self.findings.both_button.clicked.connect(lambda: self.restore(LOW_AND_MEDIUM))
        self.planes.axis_chosen.connect(self._show_plane)
        self.planes.plot.picked.connect(self._pick_plane)
        self.planes.worst_button.clicked.connect(lambda: self._go_to_worst())
        self.after.changed.connect(self._show_numbers)
        self.after.failed.connect(self._tell)
        self._pause.triggered.connect(self._show_numbers)
        events = self._viewer.layers.events
        for changed in (events.inserted, events.reordered, events.renamed):
            changed.connect(self._refresh)
        events.removed.connect(self._forget)
        self._viewer.dims.events.current_step.connect(self._show_plane)

    def _lay_out(self) -> None:
        self.run_button.setToolTip("Judge the picture in the background; tiers, score and damage become layers on it.")
        self.cancel_button.setToolTip("Stop at once and add nothing.")
        self.progress.setTextVisible(False)
        self._say("")
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button, 2)
        buttons.addWidget(self.cancel_button, 1)
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.setSpacing(8)
        layout.addWidget(wrapped("Shows where a picture is good, where it is not, and why."))
        layout.addWidget(self.controls)
        layout.addLayout(buttons)
        for part in (self.progress, self.status, self.findings, self.planes):
            layout.addWidget(part)
        layout.addStretch()
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.addWidget(scrolled(inside))


def changes_of(region: Any) -> list[Any]:
    """Return the events that tell that a region may have changed: its data, or what is painted into them."""
    names = ("set_data", "labels_update") if region is not None else ()
    return [getattr(region.events, name) for name in names if hasattr(region.events, name)]
