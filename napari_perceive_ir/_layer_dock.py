"""What the docks share whose job is done on layers, one after the other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from napari.layers import Image

from napari_perceive_ir._estimate import duration
from napari_perceive_ir._job_dock import JobDock
from napari_perceive_ir._run import Event, Progress, RunPlan


@dataclass(frozen=True)
class Target:
    """A layer and what is to be done with it."""

    source: Image
    plan: RunPlan


class LayerDock(JobDock):
    """Runs one job at a time on layers of the viewer.

    Parameters
    ----------
    viewer
        The viewer whose layers are offered.
    """

    doing = "Restoring: {done} of {total} tiles"
    """What is said of each step."""

    controls: Any
    """What chooses a layer."""

    def __init__(self, viewer: Any) -> None:
        super().__init__(viewer)
        self._targets: list[Target] = []
        self._count = 0
        self._step = Progress(0, 0)
        self._pace: list[tuple[float, int]] = []
        """When how much was done."""
        self._heard = ExitStack()
        events = viewer.layers.events
        for changed in (events.inserted, events.reordered, events.renamed):
            self._hear(changed, self._refresh)
        self._hear(events.removed, self._forget)

    @property
    def ready(self) -> bool:
        """Whether a layer is chosen."""
        return self.controls.layer.value is not None

    def begin_on(
        self, targets: Sequence[Target], title: str, events: Callable[..., Iterator[Event]], *args: Any
    ) -> None:
        """Run a generator of events in the background, which goes through the targets one after the other."""
        self._targets, self._count = list(targets), len(targets)
        self._step, self._pace = Progress(0, 0), []
        self.begin(title, events, *(target.plan for target in targets), *args)

    @abstractmethod
    def _receive(self, event: Event, target: Target) -> None:
        """Do something with an event of the job that is not the same for all docks; forget a target that is done."""

    @abstractmethod
    def _refresh(self, _: Any = None) -> None:
        """Follow the layers that are there now."""

    def _hear(self, event: Any, slot: Callable[..., None]) -> None:
        """Listen to the viewer until the dock is closed."""
        event.connect(slot)
        self._heard.callback(event.disconnect, slot)

    def _leave(self) -> None:
        self._heard.close()

    def _take(self, event: Event) -> None:
        if not isinstance(event, Progress):
            self._receive(event, self._targets[0])
            return
        self.progress.setRange(0, event.total)
        self.progress.setValue(event.done)
        self._pace.append((perf_counter(), event.done))
        self._step = event
        self.say(self._place() + self.doing.format(done=event.done, total=event.total) + self._left(event))

    def _place(self) -> str:
        number = self._count - len(self._targets) + 1
        return f"Layer {number} of {self._count} · " if self._count > 1 and self._targets else ""

    def _left(self, step: Progress) -> str:
        """Say how long it will go on, measured since the first step."""
        (first, begun), (now, done) = self._pace[0], self._pace[-1]
        if done <= begun or done >= step.total:
            return ""
        return f" · about {duration((now - first) * (step.total - done) / (done - begun))} left"

    def _kept(self) -> str:
        done = self._count - len(self._targets)
        return f"{done} of {self._count} layers are done and stay" if done else "nothing was added"

    def _ended(self) -> None:
        self._targets, self._step = [], Progress(0, 0)
        super()._ended()

    def _forget(self, event: Any) -> None:
        if any(target.source == event.value for target in self._targets):
            self.cancel("Stopped, because the layer was removed")
        self._refresh()
