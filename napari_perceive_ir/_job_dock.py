"""What the docks share: one job in the background, with its buttons, its progress, its words and its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import Any

from napari.layers import Image
from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QFrame, QHBoxLayout, QProgressBar, QPushButton, QScrollArea, QVBoxLayout, QWidget

from napari_perceive_ir._background import Job
from napari_perceive_ir._estimate import duration
from napari_perceive_ir._forms import show_words, wrapped
from napari_perceive_ir._run import MISTAKES, Event, Failed, Progress, Ready, RunPlan
from perceive_ir._trace import keep_trace


@dataclass(frozen=True)
class Target:
    """A layer and what is to be done with it."""

    source: Image
    plan: RunPlan


class JobDock(QWidget):
    """Runs one job at a time on a layer.

    A dock over it has controls that choose a layer, and says what to run (`run`) and what comes of it (`_take`).

    Parameters
    ----------
    viewer
        The viewer whose layers are offered.
    """

    verb = "Run"
    """What the button says that begins."""
    looking = "Looking at the picture …"
    """What is said once the model is loaded."""
    doing = "Restoring: {done} of {total} tiles"
    """What is said of each step."""

    controls: Any

    _job: Job | None = None  # of the class, because Qt sends events to a widget before it is made

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._targets: list[Target] = []
        self._count = 0
        self._step = Progress(0, 0)
        self._pace: list[tuple[float, int]] = []
        """When how much was done."""
        self._began = 0.0
        self.run_button, self.cancel_button = QPushButton(self.verb), QPushButton("Cancel")
        self.progress, self.status = QProgressBar(), wrapped()
        self.cancel_button.setToolTip("Stop at once and add nothing.")
        self.progress.setTextVisible(False)
        self.run_button.clicked.connect(lambda: self.run())
        self.cancel_button.clicked.connect(lambda: self.give_up())
        events = viewer.layers.events
        for changed in (events.inserted, events.reordered, events.renamed):
            changed.connect(self._refresh)
        events.removed.connect(self._forget)
        self.say("")

    @property
    def running(self) -> bool:
        """Whether a job is on, or is still stopping."""
        return self._job is not None

    def run(self) -> None:
        """Begin with what is chosen."""
        raise NotImplementedError

    def give_up(self) -> None:
        """Cancel because the user wants it."""
        self.cancel()

    def cancel(self, why: str = "Cancelled") -> None:
        """Stop after the step that is being computed; nothing more is added."""
        if self._job is not None and not self._job.cancelled:
            self._job.cancel()
            self.say(f"{why}: {self._added()}.")
            self.show_state()

    def event(self, event: QEvent | None) -> bool:
        """Stop when the dock is closed, which napari does by taking it out of the window."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.cancel()
            self._leave()
        return bool(super().event(event))

    def begin(self, title: str, targets: Sequence[Target], events: Callable[..., Iterator[Event]], *args: Any) -> None:
        """Run a generator of events in the background, which goes through the targets one after the other."""
        self._targets, self._count, self._began = list(targets), len(targets), perf_counter()
        self._step, self._pace = Progress(0, 0), []
        self._job = Job(self, title, events, *(target.plan for target in targets), *args)
        self._job.happened.connect(self._happened)
        self._job.ended.connect(self._ended)
        self.say("Loading the model …")
        self._job.start()
        self.show_state()

    def say(self, status: str) -> None:
        """Say where the job is."""
        show_words(self.status, status)

    def tell(self, error: Exception) -> None:
        """Tell the user of a mistake; everything else is a bug."""
        if not isinstance(error, MISTAKES):
            raise error
        keep_trace(error)
        show_error(str(error))

    def seconds(self) -> float:
        """Return how long the job has been on."""
        return perf_counter() - self._began

    def show_state(self) -> None:
        """Enable and show what fits the state of the job."""
        stopping = self._job is not None and self._job.cancelled
        self.run_button.setEnabled(not self.running and self.controls.layer.value is not None)
        self.cancel_button.setEnabled(self.running and not stopping)
        self.progress.setVisible(self.running)
        if not self.running:
            self.progress.setRange(0, 0)

    def lay_out(self, heading: str, above: Sequence[QWidget], below: Sequence[QWidget]) -> None:
        """Put parts above the buttons and the rest below them, in an area that scrolls."""
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button, 2)
        buttons.addWidget(self.cancel_button, 1)
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.setSpacing(8)
        layout.addWidget(wrapped(heading))
        for part in above:
            layout.addWidget(part)
        layout.addLayout(buttons)
        for part in (self.progress, self.status, *below):
            layout.addWidget(part)
        layout.addStretch()
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.addWidget(scrolled(inside))
        for before, after in pairwise((*above, self.run_button, self.cancel_button)):
            self.setTabOrder(before, after)

    def _take(self, event: Event, target: Target) -> None:
        """Do something with an event of the job that is not the same for all docks; forget a target that is done."""
        raise NotImplementedError

    def _leave(self) -> None:
        """End what else goes on when the dock is closed."""

    def _happened(self, event: Event) -> None:
        if isinstance(event, Ready):
            self.say(self.looking)
        elif isinstance(event, Progress):
            self.progress.setRange(0, event.total)
            self.progress.setValue(event.done)
            self._pace.append((perf_counter(), event.done))
            self._step = event
            self.say(self._place() + self.doing.format(done=event.done, total=event.total) + self._left(event))
        elif isinstance(event, Failed):
            self.say(f"Failed: {self._added()}.")
            self.tell(event.error)
        else:
            self._take(event, self._targets[0])

    def _place(self) -> str:
        number = self._count - len(self._targets) + 1
        return f"Layer {number} of {self._count} · " if self._count > 1 and self._targets else ""

    def _left(self, step: Progress) -> str:
        """Say how long it will go on, measured since the first step."""
        (first, begun), (now, done) = self._pace[0], self._pace[-1]
        if done <= begun or done >= step.total:
            return ""
        return f" · about {duration((now - first) * (step.total - done) / (done - begun))} left"

    def _added(self) -> str:
        done = self._count - len(self._targets)
        return f"{done} of {self._count} layers are done and stay" if done else "nothing was added"

    def _ended(self) -> None:
        self._job, self._targets, self._step = None, [], Progress(0, 0)
        self.show_state()

    def _refresh(self, _: Any = None) -> None:
        """Follow the layers that are there now."""
        raise NotImplementedError

    def _forget(self, event: Any) -> None:
        if any(target.source == event.value for target in self._targets):
            self.cancel("Stopped, because the layer was removed")
        self._refresh()


def scrolled(inside: QWidget) -> QScrollArea:
    """Make a widget scroll where the window is low, rather than make the window high."""
    area = QScrollArea()
    area.setWidget(inside)
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return area
