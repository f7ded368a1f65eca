"""Work in a thread of napari: events come back one by one in the main thread, and stop at once when cancelled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from napari.qt.threading import GeneratorWorker, create_worker
from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, QThreadPool, Signal  # type: ignore[attr-defined]

from napari_perceive_ir import _indicator
from napari_perceive_ir._run import MISTAKES, Event, Failed, Progress, guarded, loading
from perceive_ir import Recipe
from perceive_ir._advice import advice
from perceive_ir._trace import keep_trace

AT_ONCE = 8
"""Jobs that do not wait for each other, such as a blend for a run; napari's pool has a thread for each core only."""


class ClosingWorker(GeneratorWorker):  # type: ignore[misc]
    """Closes its generator in its own thread when it is told to quit, so that files and locks are let go of at once."""

    def work(self) -> Any:
        """Go through the generator."""
        try:
            return super().work()
        finally:
            self._gen.close()


class Job(QObject):
    """One generator of events that runs in the background; dies with its parent."""

    happened = Signal(object)
    """An event; none comes after a cancel."""
    ended = Signal()
    """The thread is done, cancelled or not."""

    def __init__(
        self, parent: QObject, title: str, events: Callable[..., Iterator[Any]], *args: Any, visible: bool = True
    ) -> None:
        super().__init__(parent)
        self.cancelled = False
        progress = {"desc": title} if visible else None
        self._worker = create_worker(
            guarded, events, *args, _start_thread=False, _progress=progress, _worker_class=ClosingWorker
        )
        if visible:
            self._worker.started.connect(_indicator.turn)
            self._worker.finished.connect(_indicator.let_go)  # another job stops it again at its next step
        self._worker.yielded.connect(self._pass_on)
        self._worker.finished.connect(self._end)
        self.destroyed.connect(self._worker.quit)

    def start(self) -> None:
        """Begin."""
        pool: Any = QThreadPool.globalInstance()
        pool.setMaxThreadCount(max(pool.maxThreadCount(), AT_ONCE))
        self._worker.start()

    def cancel(self) -> None:
        """Stop after the batch of tiles that is being computed; what was done so far is thrown away."""
        self.cancelled = True
        self._worker.quit()

    def _pass_on(self, event: Event) -> None:
        if self.cancelled:
            return
        self.happened.emit(event)
        if isinstance(event, Progress) and self._worker.pbar is not None:  # last: napari lets the next event in here
            _indicator.turn()
            self._worker.pbar.total = event.total
            self._worker.pbar.update(event.done - self._worker.pbar.n)

    def _end(self) -> None:
        self.ended.emit()
        self.deleteLater()


def load_early(parent: QObject, recipe: Recipe) -> None:
    """Load the model that a recipe names; that it cannot be loaded is told when it is needed."""
    job = Job(parent, "", loading, recipe, visible=False)
    job.happened.connect(raise_bug)
    job.start()


def tell(error: Exception) -> None:
    """Tell the user of a mistake; everything else is a bug."""
    if not isinstance(error, MISTAKES):
        raise error
    keep_trace(error)
    show_error(advice(error))


def raise_bug(event: Event) -> None:
    """Raise an error that is no mistake of the user's or the world's."""
    if isinstance(event, Failed) and not isinstance(event.error, MISTAKES):
        raise event.error
