"""What the docks share: one job in the background, with its buttons, its progress, its words and its end."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from time import perf_counter
from typing import Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QFrame, QHBoxLayout, QProgressBar, QPushButton, QScrollArea, QVBoxLayout, QWidget

from napari_perceive_ir._background import Job, tell
from napari_perceive_ir._forms import show_words, spare_from_wheel, wrapped
from napari_perceive_ir._run import Failed, Ready


class JobDock(QWidget):
    """Runs one job at a time.

    A dock over it has controls, and says what to run (`run`) and what comes of it (`_take`).

    Parameters
    ----------
    viewer
        The viewer that the dock belongs to.
    """

    verb = "Run"
    """What the button says that begins."""
    looking = "Looking at the picture …"
    """What is said once the model is loaded."""

    _job: Job | None = None  # of the class, because Qt sends events to a widget before it is made

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._began = 0.0
        self.run_button, self.cancel_button = QPushButton(self.verb), QPushButton("Cancel")
        self.buttons = [self.run_button, self.cancel_button]
        """The buttons of the job, from left to right; the first is the widest."""
        self.progress, self.status = QProgressBar(), wrapped()
        self.cancel_button.setToolTip("Stop at once and add nothing.")
        self.progress.setTextVisible(False)
        self.run_button.clicked.connect(lambda: self.run())
        self.cancel_button.clicked.connect(lambda: self.give_up())
        self.say("")

    @property
    def running(self) -> bool:
        """Whether a job is on, or is still stopping."""
        return self._job is not None

    @property
    def stopping(self) -> bool:
        """Whether a job was cancelled and is not at its end yet."""
        return self._job is not None and self._job.cancelled

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether what is chosen can be run."""

    @abstractmethod
    def run(self) -> None:
        """Begin with what is chosen."""

    def give_up(self) -> None:
        """Cancel because the user wants it."""
        self.cancel()

    def cancel(self, why: str = "Cancelled") -> None:
        """Stop after the step that is being computed; nothing more is added."""
        if self._job is not None and not self._job.cancelled:
            self._job.cancel()
            self.say(f"{why}: {self._kept()}.")
            self.show_state()

    def event(self, event: QEvent | None) -> bool:
        """Stop when the dock is closed, which napari does by taking it out of the window."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.cancel()
            self._leave()
        return bool(super().event(event))

    def begin(self, title: str, events: Callable[..., Iterator[Any]], *args: Any) -> None:
        """Run a generator of events in the background."""
        self._began = perf_counter()
        self._job = Job(self, title, events, *args)
        self._job.happened.connect(self._happened)
        self._job.ended.connect(self._ended)
        self.say("Loading the model …")
        self._job.start()
        self.show_state()

    def say(self, status: str) -> None:
        """Say where the job is."""
        show_words(self.status, status)

    def tell(self, error: Exception) -> None:
        """Tell the user of a mistake."""
        tell(error)

    def seconds(self) -> float:
        """Return how long the job has been on."""
        return perf_counter() - self._began

    def show_state(self) -> None:
        """Enable and show what fits the state of the job."""
        self.run_button.setEnabled(not self.running and self.ready)
        self.cancel_button.setEnabled(self.running and not self.stopping)
        self.progress.setVisible(self.running)
        if not self.running:
            self.progress.setRange(0, 1)  # never 0: a bar that runs to and fro redraws the window all the time
            self.progress.setValue(0)

    def lay_out(
        self, heading: str, above: Sequence[QWidget], below: Sequence[QWidget], tall: QWidget | None = None
    ) -> None:
        """Put parts above the buttons and the rest below them, in an area that scrolls; one may take what is left."""
        buttons = QHBoxLayout()
        for button in self.buttons:
            buttons.addWidget(button, 2 if button is self.run_button else 1)
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.setSpacing(8)
        layout.addWidget(wrapped(heading))
        for part in above:
            layout.addWidget(part)
        layout.addLayout(buttons)
        for part in (self.progress, self.status, *below):
            layout.addWidget(part, int(part is tall))
        if tall is None:
            layout.addStretch()
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.addWidget(scrolled(inside))
        for before, after in pairwise((*above, *self.buttons)):
            self.setTabOrder(before, after)

    @abstractmethod
    def _take(self, event: Any) -> None:
        """Do something with an event of the job that is not the same for all docks."""

    @abstractmethod
    def _kept(self) -> str:
        """Say what is there of a job that stops."""

    def _leave(self) -> None:
        """End what else goes on when the dock is closed."""

    def _happened(self, event: Any) -> None:
        if isinstance(event, Ready):
            self.say(self.looking)
        elif isinstance(event, Failed):
            self.say(f"Failed: {self._kept()}.")
            self.tell(event.error)
        else:
            self._take(event)

    def _ended(self) -> None:
        self._job = None
        self.show_state()


def scrolled(inside: QWidget) -> QScrollArea:
    """Make a widget scroll where the window is low, rather than make the window high."""
    spare_from_wheel(inside)
    area = QScrollArea()
    area.setWidget(inside)
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return area
