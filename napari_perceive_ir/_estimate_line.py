"""The line under the Run button that says what a run will cost; it is found in the background."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qtpy.QtWidgets import QLabel
from superqt.utils import QSignalDebouncer

from napari_perceive_ir._background import Job
from napari_perceive_ir._estimate import estimating
from napari_perceive_ir._forms import show_words
from napari_perceive_ir._run import MISTAKES, Estimated, Event, Failed, RunPlan

PAUSE = 300
"""Milliseconds without a change of what is chosen before the cost is found anew."""


class EstimateLine(QLabel):
    """Says what the chosen run will cost.

    Parameters
    ----------
    plans
        Returns what is chosen; may say that it cannot be run.
    """

    def __init__(self, plans: Callable[[], Sequence[RunPlan]]) -> None:
        super().__init__()
        self._plans = plans
        self._job: Job | None = None
        self.setWordWrap(True)
        self.setToolTip("What a run will cost: time, tiles, and memory for tiles and results.")
        self._pause = QSignalDebouncer(parent=self)
        self._pause.setTimeout(PAUSE)
        self._pause.triggered.connect(self._find)
        show_words(self, "")

    def ask(self) -> None:
        """Find the cost soon, because something else is chosen."""
        self._pause.throttle()

    def stop(self) -> None:
        """Say nothing, because a run is on or nobody looks."""
        self._pause.cancel()
        if self._job is not None:
            self._job.cancel()
            self._job = None
        show_words(self, "")

    def _find(self) -> None:
        self.stop()
        around = self.parentWidget()
        if around is None or not around.isVisible():
            return
        try:
            plans = self._plans()
        except MISTAKES:  # Run says what is wrong
            return
        if plans:
            job = self._job = Job(self, "", estimating, *plans, visible=False)
            job.happened.connect(self._happened)
            job.ended.connect(lambda: self._ended(job))
            job.start()

    def _happened(self, event: Event) -> None:
        if isinstance(event, Estimated):
            show_words(self, f"A run takes {event.estimate.words()}")
        elif isinstance(event, Failed) and not isinstance(event.error, MISTAKES):
            raise event.error

    def _ended(self, job: Job) -> None:
        if job is self._job:
            self._job = None
