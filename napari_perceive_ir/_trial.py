"""One file of a folder restored without writing: before and after become layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.layers import Image
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_perceive_ir._background import Job
from napari_perceive_ir._batch_run import Opened, trying
from napari_perceive_ir._layers import add_result
from napari_perceive_ir._run import Failed, Finished, Progress, RunPlan
from perceive_ir import Recipe
from perceive_ir._advice import one_line


class Trial(QObject):
    """Shows what a run would do to a file; the layers of the last one go away.

    Parameters
    ----------
    parent
        What it dies with.
    viewer
        The viewer that shows it.
    """

    said = Signal(str)
    """Where it is, for the user."""
    failed = Signal(object)
    """An error."""
    ended = Signal()
    """It is done, or was stopped."""

    def __init__(self, parent: QObject, viewer: Any) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._job: Job | None = None
        self._plan: RunPlan | None = None
        self._name = ""
        self._layers: list[Image] = []

    @property
    def running(self) -> bool:
        """Whether a file is being restored, or the work is still stopping."""
        return self._job is not None

    def show(self, name: str, source: Path, recipe: Recipe) -> None:
        """Restore a file in the background."""
        self._name = name = one_line(name)
        self._job = Job(self, f"Previewing {name}", trying, source, recipe)
        self._job.happened.connect(self._happened)
        self._job.ended.connect(self._ended)
        self.said.emit(f"Reading {name} …")
        self._job.start()

    def stop(self) -> None:
        """Stop; what is shown stays."""
        if self._job is not None:
            self._job.cancel()

    def _happened(self, event: Any) -> None:
        if isinstance(event, Opened):
            self._open(event)
        elif isinstance(event, Progress):
            self.said.emit(f"Previewing {self._name}: {event.done} of {event.total} tiles")
        elif isinstance(event, Finished):
            self._finish(event)
        elif isinstance(event, Failed):
            self.said.emit("")
            self.failed.emit(event.error)

    def _open(self, event: Opened) -> None:
        for layer in self._layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        picture, self._plan = event.picture, event.plan
        colour = picture.axes.endswith("C") and picture.data.shape[-1] in (3, 4)
        self._layers = [self._viewer.add_image(picture.data, name=self._name, rgb=colour)]

    def _finish(self, event: Finished) -> None:
        (before,), plan = self._layers, self._plan
        assert plan is not None
        if before in self._viewer.layers:
            self._layers.append(add_result(self._viewer, before, plan, event.result))
        seen = event.result.perception.words()
        self.said.emit(f"Previewed {self._name}: the model sees {seen}. Nothing was written.")

    def _ended(self) -> None:
        self._job = None
        self.ended.emit()
