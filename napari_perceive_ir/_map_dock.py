"""The Quality map dock: where a picture is good and where it is not; numbers and layers are made elsewhere."""

from typing import Any

from napari.layers import Image
from superqt.utils import QSignalDebouncer

from napari_perceive_ir._after import After
from napari_perceive_ir._commands import run_in_dock
from napari_perceive_ir._layer_dock import LayerDock, Target
from napari_perceive_ir._layers import plan_run, replaced
from napari_perceive_ir._map_layers import (
    Judged,
    is_usual,
    judge,
    named_after,
    remove_views,
    results_on,
    show_view,
    visible_view,
)
from napari_perceive_ir._map_panels import NOTHING, Findings, MapControls, Planes
from napari_perceive_ir._region import changes_of, region_weights
from napari_perceive_ir._run import MISTAKES, Event, Mapped, mapping
from napari_perceive_ir._statistics import measure, plane_scores, profile, table_rows, worst_plane
from napari_perceive_ir._words import AUTOMATIC
from perceive_ir import Recipe
from perceive_ir._windows import WINDOW

ONLY_LOW = {"low": 1.0, "medium": 0.0, "high": 0.0}
LOW_AND_MEDIUM = {"low": 1.0, "medium": 1.0, "high": 0.0}
"""Strength per tier."""
UNUSUAL = f"Restoring judges in windows of {WINDOW} px, so it may find other places than this map."
PAUSE = 150
"""Milliseconds without a change of the region before its numbers are taken anew."""


class QualityMapDock(LayerDock):
    """Judges an image layer place by place in the background, and shows what it found in layers and numbers.

    Parameters
    ----------
    napari_viewer
        The viewer whose layers are offered.
    """

    verb = "Map"
    looking = "Judging the picture …"
    doing = "Judging: {done} of {total} parts"

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self._maps: dict[Image, Judged] = {}
        self._region: Any = None
        self.controls = MapControls(napari_viewer)
        self.findings, self.planes = Findings(napari_viewer), Planes()
        self.after = After(self)
        self._pause = QSignalDebouncer(parent=self)
        self._pause.setTimeout(PAUSE)
        self.run_button.setToolTip("Judge the picture in the background; tiers, score and damage become layers on it.")
        heading = "Shows where a picture is good, where it is not, and why."
        self.lay_out(heading, (self.controls,), (self.findings, self.planes))
        self._connect()
        self.show_state()

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
            self.tell(error)
            return
        source = self.controls.layer.value
        self.begin_on([Target(source, plan)], f"Judging {source}", mapping, self.controls.window_size.pixels())

    def show_state(self) -> None:
        """Enable and show what fits the state of the job, and the findings of the chosen layer."""
        super().show_state()
        self.findings.setVisible(self.judged is not None)
        self.planes.setVisible(self.judged is not None and bool(self.judged.stack))

    def restore(self, tier_strength: dict[str, float]) -> None:
        """Restore the chosen layer region by region in the Restore dock."""
        if self.judged is not None:
            wanted = {"handling": "region", "tier_strength": tier_strength}
            run_in_dock(self._viewer, self.judged.source, AUTOMATIC, self.judged, **wanted)
            if not is_usual(self.judged.map):
                self.say(UNUSUAL)

    def go_to(self, place: tuple[int, ...]) -> None:
        """Show a plane of the stack."""
        judged, dims = self.judged, self._viewer.dims
        if judged is not None:
            for axis, point in judged.point_of(place).items():
                dims.set_point(dims.ndim - judged.source.ndim + axis, point)

    def _leave(self) -> None:
        super()._leave()
        self.after.follow(None, None)
        self._watch(None)

    def _receive(self, event: Event, target: Target) -> None:
        if isinstance(event, Mapped):
            self._add(event, target)

    def _add(self, mapped: Mapped, target: Target) -> None:
        source, plan = target.source, target.plan
        if replaced(source, plan):
            self.say("Nothing was added, because the layer's data were replaced meanwhile: map it again.")
            return
        old = self._maps.pop(source, None)
        if old is not None:
            remove_views(self._viewer, old)
        self._maps[source] = judge(self._viewer, source, plan, mapped)
        self.say(f"Mapped “{source.name}” after {self.seconds():.1f} s.")
        self._show_map()

    def _refresh(self, _: Any = None) -> None:
        self.controls.layer.reset_choices()
        self._show_map()

    def _forget(self, event: Any) -> None:
        for source, judged in list(self._maps.items()):
            if source == event.value or not any(layer in self._viewer.layers for layer in judged.views.values()):
                del self._maps[source]
        super()._forget(event)

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
        self.show_state()

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

    def _connect(self) -> None:
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
        self.after.failed.connect(self.tell)
        self._pause.triggered.connect(self._show_numbers)
        self._hear(self._viewer.dims.events.current_step, self._show_plane)
