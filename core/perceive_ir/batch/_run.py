"""A run over a folder: it keeps the journal, and says in events what becomes of the pictures.

Whoever stops asking pauses the run, whoever closes the iterator cancels it: what is being written is finished, the rest
waits for the next run.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perceive_ir._errors import FolderError
from perceive_ir._recipe import Recipe, make_recipe
from perceive_ir.batch import _stages as stages
from perceive_ir.batch._batch import Batch, Entry, entries, sweep
from perceive_ir.batch._crew import Crew, News, Order
from perceive_ir.batch._here import Here
from perceive_ir.batch._journal import HIDDEN, Journal, Row
from perceive_ir.files._zarr import SUFFIX

if TYPE_CHECKING:
    from distributed import Client

    from perceive_ir._engine import Restorer


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    total: int
    done: int = 0
    failed: int = 0
    skipped: int = 0
    before: int = 0
    """How many of these were settled by earlier runs."""
    seconds_left: float | None = None
    """Estimated from what this run did; None while nothing is known."""

    @property
    def settled(self) -> int:
        """How many pictures nothing is left to do for."""
        return self.done + self.failed + self.skipped

    def words(self) -> str:
        """Say it: "12 pictures: 10 done, 2 failed (5 of them before)"."""
        counts = {"done": self.done, "skipped": self.skipped, "failed": self.failed}
        parts = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        return f"{self.total} pictures: {parts}" + (f" ({self.before} of them before)" if self.before else "")


@dataclass(frozen=True)
class Event:
    """Something that happened to a picture."""

    state: str
    """``started``, ``working`` (a large picture, see `fraction`), ``done``, ``failed`` or ``skipped``."""
    name: str
    """Path of the picture below the input folder; "" for what is about all, such as the first event."""
    progress: Progress
    words: str = ""
    """What was seen, why it failed or was skipped, or who is at work."""
    fraction: float = 0.0
    earlier: bool = False
    """Whether an earlier run did this."""
    target: str = ""
    notes: tuple[str, ...] = ()
    """What was left out in reading or writing it, and why it was left unchanged."""


def run(
    batch: Batch, restorer: Restorer | None = None, *, client: Client | None = None
) -> Generator[Event, None, None]:
    """Restore the pictures of a folder that are not done yet; close the iterator to cancel.

    Parameters
    ----------
    batch
        What is to be done.
    restorer
        A loaded model, to do it in this process.
    client
        Instead, a client of dask.distributed, to have it done by the workers of its cluster. They need the same version
        of this package, and the folders under the same paths.

    Raises
    ------
    ClusterError
        The cluster is out of reach, or its workers do not fit.
    FolderError
        Another run is at work in the folder, the disk is full, or the journal cannot be used.
    ImageFileError, ValueError
        The input folder holds no pictures, or results would replace them.
    """
    if not (batch.output / HIDDEN).is_dir():
        entries(batch, {})  # what cannot begin leaves nothing behind
    crew = crew_of(batch, restorer, client)
    with Journal(batch.output) as journal:
        sweep(batch.output)
        current = Run(batch, crew, journal)
        missing = missing_folders(batch, current.entries)
        try:
            with closing(current.events()) as events:
                for event in events:
                    paused = time.perf_counter()
                    yield event
                    current.start += time.perf_counter() - paused
            clear(batch, journal)
        finally:
            prune(missing)


def clear(batch: Batch, journal: Journal) -> None:
    """Delete OME-Zarrs that were begun: nothing is left to do, so nobody goes on with them."""
    begun = [batch.output / place for place in journal.outputs() if place.lower().endswith(SUFFIX)]
    if begun:
        from perceive_ir._ome_zarr import forget

        for target in begun:
            forget(target)


def missing_folders(batch: Batch, found: Sequence[Entry]) -> set[Path]:
    """Return the folders that have to be made for results."""
    folders = {folder for entry in found for folder in entry.target.parents if folder.is_relative_to(batch.output)}
    return {folder for folder in folders - {batch.output} if not os.path.lexists(folder)}


def prune(made: Iterable[Path]) -> None:
    """Delete the folders that were made for results and hold none."""
    for folder in sorted(made, reverse=True):
        with suppress(OSError):  # it holds something, or was never made
            folder.rmdir()


def crew_of(batch: Batch, restorer: Restorer | None, client: Client | None) -> Crew:
    """Return who does the work."""
    if restorer is not None and client is None:
        return Here(batch, restorer)
    if client is not None and restorer is None:
        from perceive_ir.batch._cluster import Cluster

        return Cluster(batch, client)
    raise TypeError("expected a loaded model or a client, one of the two")


class Run:
    """One run: what its crew tells is entered into the journal and counted.

    Parameters
    ----------
    batch
        What is to be done.
    crew
        Who does it.
    journal
        The journal of the output folder, open.
    """

    def __init__(self, batch: Batch, crew: Crew, journal: Journal) -> None:
        self.batch, self.crew, self.journal = batch, crew, journal
        ours = journal.outputs()
        self.entries = entries(batch, ours)
        self.means = crew.means()
        self.order = Order(
            batch, self.settled_recipe(), stages.recipe_hash(batch.recipe), self.means.weights, frozenset(ours)
        )
        self.counts = dict.fromkeys(("done", "failed", "skipped"), 0)
        self.before = 0
        self.bytes_left = sum(entry.size for entry in self.entries)
        self.bytes_done = 0
        self.start = time.perf_counter()

    def events(self) -> Generator[Event, None, None]:
        """Have the work done; yield what happens."""
        self.begin()
        try:
            yield Event("started", "", self.progress)
            for entry in self.entries:
                if entry.problem:
                    yield self.ended(entry, stages.failed(entry, self.batch, entry.problem))
            waiting = [entry for entry in self.entries if not entry.problem]
            for news in self.crew.work(self.order, waiting, self.journal.row):
                yield self.told(news)
        finally:
            for news in self.crew.stop():
                if not news.full:  # what could not be written waits for the next run
                    self.told(news)

    def settled_recipe(self) -> Recipe:
        """Return the recipe with the memory that the folder's first run found: so tiles are the same in every run."""
        if self.batch.recipe.memory != "auto":
            return self.batch.recipe
        memory = self.journal.settle(f"memory on {self.means.device}", lambda: str(self.means.memory))
        return make_recipe(self.batch.recipe, memory=float(memory))

    def begin(self) -> None:
        """Enter the pictures into the journal, and what the report says of the run."""
        rows = [
            Row(entry.name, stages.place(entry, self.batch), "failed" if entry.problem else "waiting")
            for entry in self.entries
        ]
        self.journal.begin(rows, self.batch.source)
        many = f"{self.means.count} x " if self.means.count > 1 else ""
        notes = {
            "recipe": self.batch.recipe.model_dump_json(),
            "options": shlex.join(self.batch.options),
            "recipe hash": self.order.recipe_hash,
            "weights": self.means.weights,
            "model": self.means.model,
            "source": str(self.batch.source),
            "device": f"{many}{self.means.device}, {self.means.precision}",
        }
        for name, value in notes.items():
            self.journal.note(name, value)

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        elapsed = time.perf_counter() - self.start
        left = elapsed * self.bytes_left / self.bytes_done if self.bytes_done else None
        return Progress(len(self.entries), **self.counts, before=self.before, seconds_left=left)

    def told(self, news: News) -> Event:
        """Enter what the crew told, and pass it on."""
        if news.full:
            left = len(self.entries) - self.progress.settled
            raise FolderError(
                f"{self.batch.output} takes no more ({news.full}); {left} pictures are left, "
                "and the same command goes on with them"
            )
        if news.row is not None and news.entry is not None:
            return self.ended(news.entry, news.row, earlier=news.earlier)
        name, state = news.entry.name if news.entry else "", "started" if news.fraction is None else "working"
        return Event(state, name, self.progress, news.words, fraction=news.fraction or 0.0)

    def ended(self, entry: Entry, row: Row, *, earlier: bool = False) -> Event:
        """Count a picture that nothing is left to do for, and enter it if it is news."""
        if not earlier:
            self.journal.put(row)
            self.bytes_done += entry.size
        self.counts[row.state] += 1
        self.before += earlier
        self.bytes_left -= entry.size
        notes = () if earlier else tuple(row.about.get("notes", ()))
        return Event(row.state, entry.name, self.progress, row.words, earlier=earlier, target=row.target, notes=notes)
