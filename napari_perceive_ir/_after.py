"""The quality map of a restored result, in the same windows and with the same black and white as its source's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]
from superqt.utils import QSignalDebouncer

from napari_perceive_ir._background import Job
from napari_perceive_ir._layers import plan_run
from napari_perceive_ir._run import Event, Failed, Mapped, mapping
from perceive_ir._recipe import make_recipe

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_perceive_ir._map_layers import Judged
    from perceive_ir import QualityMap

PAUSE = 400
"""Milliseconds without a change of the result before it is judged anew."""


class After(QObject):
    """Judges a result in the background, and again when its data change."""

    changed = Signal()
    """There is a map, or it is gone."""
    failed = Signal(object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.map: QualityMap | None = None
        self._before: Judged | None = None
        self._result: Image | None = None
        self._job: Job | None = None
        self._pause = QSignalDebouncer(parent=self)
        self._pause.setTimeout(PAUSE)
        self._pause.triggered.connect(self._judge)

    @property
    def running(self) -> bool:
        """Whether a result is being judged."""
        return self._job is not None

    def follow(self, before: Judged | None, result: Image | None) -> None:
        """Judge a result as its source was judged, and keep up with it; None for neither."""
        if before is self._before and result is self._result:
            return
        if self._result is not None:
            self._result.events.data.disconnect(self._data_changed)
        if result is not None:
            result.events.data.connect(self._data_changed)
        self._before, self._result = before, result
        self._judge()

    def stop(self) -> None:
        """Stop judging."""
        if self._job is not None:
            self._job.cancel()

    def _data_changed(self, _: object = None) -> None:
        self._pause.throttle()

    def _judge(self) -> None:
        self.stop()
        self.map, self._job = None, None
        if self._before is not None and self._result is not None:
            self._job = self._make_job(self._before, self._result)
            self._job.start()
        self.changed.emit()

    def _make_job(self, before: Judged, result: Image) -> Job:
        recipe = make_recipe(before.plan.recipe, value_range=before.mapped.value_range)
        job = Job(self, f"Judging {result}", mapping, plan_run(result, recipe), before.map.window, before.map.stride)
        job.happened.connect(self._happened)
        job.ended.connect(lambda: self._ended(job))
        return job

    def _happened(self, event: Event) -> None:
        if isinstance(event, Mapped):
            self.map = event.map
            self.changed.emit()
        elif isinstance(event, Failed):
            self.failed.emit(event.error)

    def _ended(self, job: Job) -> None:
        if job is self._job:
            self._job = None
            self.changed.emit()
