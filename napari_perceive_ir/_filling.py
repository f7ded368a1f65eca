"""Restoring what the canvas shows of a lazy layer, in the background, as the user pans, zooms and scrolls."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QCoreApplication, QObject, QTimer

from napari_perceive_ir._background import Job, tell
from napari_perceive_ir._lazy_layer import looked_at
from napari_perceive_ir._run import Event, Failed, Progress
from napari_perceive_ir._visible import view_changes

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_perceive_ir._lazy_cells import Cell
    from napari_perceive_ir._lazy_picture import LazyPicture

PAUSE = 150
"""Milliseconds after a change of the view until what is seen by then is restored, and nothing else any more."""
SHARE = 5
"""Drawing what was filled in takes at most one part in so many of the time."""


class Wanted:
    """The cells that are still to be restored, which change while the first ones are."""

    def __init__(self) -> None:
        self.level = 0
        self._cells: deque[Cell] = deque()
        self._lock = Lock()
        self._done = 0

    def __len__(self) -> int:
        return len(self._cells)

    def want(self, level: int, cells: Sequence[Cell]) -> None:
        """Want these, in this order, and no others any more."""
        with self._lock:
            self.level, self._cells, self._done = level, deque(cells), 0

    def take(self) -> tuple[int, Cell] | None:
        """Return the next one, which is no longer wanted then."""
        with self._lock:
            self._done += bool(self._cells)
            return (self.level, self._cells.popleft()) if self._cells else None

    def progress(self) -> Progress:
        """Say how many are restored; one that is being computed counts as restored when the next one is taken."""
        with self._lock:
            return Progress(self._done, self._done + len(self._cells))


def filling(picture: LazyPicture, wanted: Wanted) -> Iterator[Event]:
    """Restore what is wanted, with an event after every cell; close the iterator to cancel."""
    while (cell := wanted.take()) is not None:
        picture.restore(*cell)
        yield wanted.progress()


class Filling(QObject):
    """Restores a lazy layer where it is seen, until it is removed.

    Parameters
    ----------
    viewer
        The napari viewer.
    layer
        The lazy layer.
    picture
        What it shows.
    """

    def __init__(self, viewer: Any, layer: Image, picture: LazyPicture) -> None:
        app = QCoreApplication.instance()
        assert app is not None
        super().__init__(app)
        self._viewer, self._layer, self._picture = viewer, layer, picture
        self._wanted = Wanted()
        self._job: Job | None = None
        self._heard = ExitStack()
        self._pause = self._timer(self._look)
        self._soon = self._timer(self._draw)
        self._pause.setInterval(PAUSE)
        for change in (*view_changes(viewer), layer.events.visible):
            self._hear(change, self._ask)
        self._hear(viewer.layers.events.removed, self._removed)
        app.aboutToQuit.connect(self.stop)
        self._ask()

    @property
    def running(self) -> bool:
        """Whether something is being restored, or soon will be."""
        return self._job is not None or self._pause.isActive()

    def stop(self) -> None:
        """Restore nothing more and free what is kept."""
        self._leave()
        self._picture.forget()
        self.deleteLater()

    def _leave(self) -> None:
        """Restore nothing more."""
        self._heard.close()
        self._pause.stop()
        self._soon.stop()
        self._wanted.want(0, ())
        if self._job is not None:
            self._job.cancel()

    def _timer(self, slot: Any) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.timeout.connect(slot)
        return timer

    def _hear(self, event: Any, slot: Any) -> None:
        event.connect(slot)
        self._heard.callback(event.disconnect, slot)

    def _removed(self, event: Any) -> None:
        if event.value is self._layer:
            self.stop()

    def _ask(self, _: Any = None) -> None:
        """Look soon what is seen by then."""
        if not self._pause.isActive():
            self._pause.start()

    def _look(self) -> None:
        level, cells = looked_at(self._viewer, self._layer, self._picture)
        self._wanted.want(level, self._picture.missing(level, cells))
        self._begin()

    def _begin(self) -> None:
        if self._job is None and len(self._wanted):
            self._job = Job(self, f"Restoring what is seen of {self._layer.name}", filling, self._picture, self._wanted)
            self._job.happened.connect(self._happened)
            self._job.ended.connect(self._ended)
            self._job.start()

    def _happened(self, event: Event) -> None:
        if isinstance(event, Failed):
            self._leave()
            tell(event.error)
        elif not self._soon.isActive():
            self._soon.start()

    def _draw(self) -> None:
        began = perf_counter()
        self._layer.refresh(thumbnail=not self.running, highlight=False, extent=False)
        self._soon.setInterval(int(1000 * SHARE * (perf_counter() - began)))

    def _ended(self) -> None:
        self._job = None
        self._begin()
        if self._job is None:
            self._soon.start()
