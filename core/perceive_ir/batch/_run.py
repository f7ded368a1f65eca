"""A run over a folder: reading, computing and writing overlap, and events say what happens.

Threads read ahead and write behind; the network runs in the thread that asks for the events. Whoever stops asking
pauses the run, whoever closes the iterator cancels it: what is being written is finished, the rest waits for the next
run.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from perceive_ir._advice import EXPECTED, advice
from perceive_ir._errors import FolderError, ImageFileError
from perceive_ir._recipe import Recipe, make_recipe
from perceive_ir._trace import keep_trace
from perceive_ir.batch import _stages as stages
from perceive_ir.batch._batch import Batch, Entry, entries, sweep
from perceive_ir.batch._journal import HIDDEN, NOTHING, Journal, Key, Row
from perceive_ir.batch._stages import Failed, Large, Loaded, Restored, Settled

if TYPE_CHECKING:
    from perceive_ir._engine import Restorer
    from perceive_ir._perception import Perception
    from perceive_ir._result import Result

T = TypeVar("T")

AHEAD = 64
"""Pictures that are read ahead, at most."""
BYTES_AHEAD = 2**28
"""Bytes of pictures that are read ahead, at most, unless a single one is larger."""
UNPACKED = 16
"""Bytes of pixels for each byte of a file, until one was read."""
BYTES_BEHIND = 2**29
"""Bytes of pictures that wait to be written, at most."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Faults of the disk, not of a picture: they stop the run."""


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
    """Path of the picture below the input folder; "" for the first event, when the pictures are counted."""
    progress: Progress
    words: str = ""
    """What was seen, or why it failed or was skipped."""
    fraction: float = 0.0
    earlier: bool = False
    """Whether an earlier run did this."""
    target: str = ""


def run(batch: Batch, restorer: Restorer) -> Generator[Event, None, None]:
    """Restore the pictures of a folder that are not done yet; close the iterator to cancel.

    Raises
    ------
    FolderError
        Another run is at work in the folder, the disk is full, or the journal cannot be used.
    ImageFileError, ValueError
        The input folder holds no pictures, or results would replace them.
    """
    if not (batch.output / HIDDEN).is_dir():
        entries(batch, {})  # what cannot begin leaves nothing behind
    with Journal(batch.output) as journal:
        sweep(batch.output)
        current = Run(batch, restorer, journal)
        with closing(current.events()) as events:
            for event in events:
                paused = time.perf_counter()
                yield event
                current.start += time.perf_counter() - paused


def overview(batch: Batch) -> list[tuple[Entry, Row]]:
    """List the pictures of a folder with what is known of them; none is read."""
    if not (batch.output / HIDDEN).is_dir():
        return [(entry, known(entry, batch, None)) for entry in entries(batch, {})]
    with Journal(batch.output) as journal:
        found = entries(batch, journal.outputs())
        return [(entry, known(entry, batch, journal.row(entry.name))) for entry in found]


def known(entry: Entry, batch: Batch, row: Row | None) -> Row:
    """Return what is known of a picture, in words, as far as it can be told without reading it."""
    target = stages.place(entry, batch)
    if entry.problem:
        return Row(entry.name, target, "failed", reason=entry.problem)
    if row is None or row.target != target or (row.state == "done" and not stages.is_there(row, entry)):
        return Row(entry.name, target)
    return Row(entry.name, target, row.state, row.key, row.words, row.size)  # a folder may hold very many


def preview(batch: Batch, restorer: Restorer) -> Iterator[tuple[Entry, str]]:
    """Say of each picture what a run would do: ``new``, ``changed``, ``again``, ``done``, ``skipped`` or ``failed``.

    Nothing is written.
    """
    if not (batch.output / HIDDEN).is_dir():
        yield from ((entry, "failed" if entry.problem else "new") for entry in entries(batch, {}))
        return
    with Journal(batch.output) as journal:
        recipe = stages.recipe_hash(batch.recipe)
        for entry in entries(batch, journal.outputs()):
            yield entry, foreseen(entry, batch, journal.row(entry.name), recipe, restorer.card.digest)


def foreseen(entry: Entry, batch: Batch, row: Row | None, recipe: str, weights: str) -> str:
    """Say what a run would do with one picture."""
    if entry.problem:
        return "failed"
    if row is None or row.state == "waiting":
        return "new"
    try:
        key = Key(stages.content_hash(entry.source), recipe, weights)
    except (OSError, ImageFileError):
        return "failed"
    if stages.is_settled(row, key, entry, batch):
        return row.state
    return "changed" if row.key.content != key.content else "again"


class Run:
    """One run, with its threads.

    Parameters
    ----------
    batch
        What is to be done.
    restorer
        The loaded model.
    journal
        The journal of the output folder, open.
    """

    def __init__(self, batch: Batch, restorer: Restorer, journal: Journal) -> None:
        self.batch, self.restorer, self.journal = batch, restorer, journal
        self.ours = journal.outputs()
        self.entries = entries(batch, self.ours)
        self.recipe_hash = stages.recipe_hash(batch.recipe)
        self.recipe = self.settled_recipe()
        self.counts = dict.fromkeys(("done", "failed", "skipped"), 0)
        self.before = 0
        self.bytes_left = sum(entry.size for entry in self.entries)
        self.bytes_done = 0
        self.unpacked: float = UNPACKED
        self.start = time.perf_counter()
        self.readers = ThreadPoolExecutor(batch.workers, "perceive-ir reads")
        self.writers = ThreadPoolExecutor(batch.workers, "perceive-ir writes")
        self.waiting = deque(entry for entry in self.entries if not entry.problem)
        self.reading: deque[tuple[Entry, Future[Loaded | Large | Settled | Failed]]] = deque()
        self.writing: deque[tuple[Restored, Future[Row]]] = deque()

    def events(self) -> Generator[Event, None, None]:
        """Do the work; yield what happens."""
        self.begin()
        try:
            yield Event("started", "", self.progress)
            for entry in self.entries:
                if entry.problem:
                    yield self.fail(entry, entry.problem)
            while self.read_ahead():
                group: list[Loaded] = []
                for entry, found in self.taken():
                    if isinstance(found, Loaded):
                        group.append(found)
                        yield Event("started", entry.name, self.progress)
                    elif isinstance(found, Large):
                        yield from self.chunk_by_chunk(entry, found.key)
                    else:
                        yield self.told(entry, found)
                yield from self.restored(group)
                yield from self.written(most=BYTES_BEHIND)
            yield from self.written(most=0)
        finally:
            self.stop()

    def settled_recipe(self) -> Recipe:
        """Return the recipe with the memory that the folder's first run found: so tiles are the same in every run."""
        if self.batch.recipe.memory != "auto":
            return self.batch.recipe
        name = f"memory on {self.restorer.device.type}"
        memory = self.journal.settle(name, lambda: str(self.restorer.memory(self.batch.recipe)))
        return make_recipe(self.batch.recipe, memory=float(memory))

    def begin(self) -> None:
        """Enter the pictures into the journal, and what the report says of the run."""
        rows = [
            Row(entry.name, stages.place(entry, self.batch), "failed" if entry.problem else "waiting")
            for entry in self.entries
        ]
        self.journal.begin(rows, self.batch.source)
        self.journal.note("recipe", self.batch.recipe.model_dump_json())
        self.journal.note("recipe hash", self.recipe_hash)
        card = self.restorer.card
        self.journal.note("weights", card.digest)
        self.journal.note("model", f"{card.name} {card.version} ({card.digest[:12]})")
        self.journal.note("source", str(self.batch.source))
        self.journal.note("device", f"{self.restorer.device}, {str(self.restorer.precision).removeprefix('torch.')}")

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        elapsed = time.perf_counter() - self.start
        left = elapsed * self.bytes_left / self.bytes_done if self.bytes_done else None
        return Progress(len(self.entries), **self.counts, before=self.before, seconds_left=left)

    def read_ahead(self) -> bool:
        """Let the threads read what comes next, as far as memory allows; return whether anything is left."""
        under_way = sum(entry.size for entry, _ in self.reading) * self.unpacked
        while self.waiting and len(self.reading) < AHEAD:
            under_way += self.waiting[0].size * self.unpacked
            if self.reading and under_way > BYTES_AHEAD:
                break
            entry = self.waiting.popleft()
            before, weights = self.journal.row(entry.name), self.restorer.card.digest
            job = self.readers.submit(stages.read, entry, self.batch, self.recipe_hash, weights, before)
            self.reading.append((entry, job))
        return bool(self.reading)

    def taken(self) -> Iterator[tuple[Entry, Loaded | Large | Settled | Failed | Exception]]:
        """Take the next picture, and what else is read by now, up to one batch of the network."""
        pixels = 0
        while self.reading and (not pixels or (self.reading[0][1].done() and pixels < self.restorer.pixels_at_once)):
            entry, job = self.reading.popleft()
            self.read_ahead()
            found = outcome(job)
            if isinstance(found, Loaded):
                pixels += found.pixels
                self.unpacked = found.picture.data.nbytes / max(1, entry.size)
            yield entry, found

    def restored(self, group: Sequence[Loaded]) -> Iterator[Event]:
        """Perceive and restore pictures, and have the results written."""
        start = time.perf_counter()
        chosen: list[tuple[Loaded, Perception]] = []
        for loaded, seen in zip(group, stages.look(self.restorer, group), strict=True):
            if isinstance(seen, Exception):
                yield self.told(loaded.entry, seen, loaded.key)
            elif self.batch.only_low and seen.tier != "low":
                yield self.settled(loaded.entry, stages.skipped(loaded, seen, self.batch))
            else:
                chosen.append((loaded, seen))
        if len(chosen) == 1:
            results: list[Result | Exception] = yield from self.step_by_step(*chosen[0])
        else:
            results = stages.restore(self.restorer, [one for one, _ in chosen], [s for _, s in chosen], self.recipe)
        done = []
        for (loaded, _), result in zip(chosen, results, strict=True):
            if isinstance(result, Exception):
                yield self.told(loaded.entry, result, loaded.key)
            else:
                done.append((loaded, result))
        after = stages.look_again(self.restorer, done) if self.batch.look_again else [None] * len(done)
        share = (time.perf_counter() - start) / max(1, len(group))
        for (loaded, result), again in zip(done, after, strict=True):
            self.write(Restored(loaded, result, again, share))

    def step_by_step(self, loaded: Loaded, seen: Perception) -> Generator[Event, None, list[Result | Exception]]:
        """Restore a single picture; it may be large, so every batch of tiles is told."""
        results: list[Result | Exception] = []
        steps = stages.steps(self.restorer, loaded, seen, self.recipe)
        while not results:
            try:
                step = next(steps)
            except Exception as error:
                results.append(error)
                break
            if step.result is not None:
                results.append(step.result)
            else:
                yield Event("working", loaded.entry.name, self.progress, fraction=step.done / step.total)
        return results

    def chunk_by_chunk(self, entry: Entry, key: Key) -> Iterator[Event]:
        """Restore an OME-Zarr, which is read and written as it is computed."""
        yield Event("started", entry.name, self.progress)
        ours = stages.place(entry, self.batch) in self.ours
        with closing(stages.by_chunks(self.restorer, entry, self.batch, key, ours=ours)) as parts:
            while True:
                try:
                    done = next(parts)
                except Exception as error:
                    yield self.told(entry, error, key)
                    return
                if isinstance(done, Row):
                    yield self.told(entry, done)
                    return
                yield Event("working", entry.name, self.progress, fraction=done)

    def write(self, done: Restored) -> None:
        """Have a result written."""
        ours = stages.place(done.loaded.entry, self.batch) in self.ours
        self.writing.append((done, self.writers.submit(stages.write, done, self.batch, ours=ours)))

    def written(self, most: int) -> Iterator[Event]:
        """Enter what is safely in place; wait while more than ``most`` bytes are on the way."""
        behind = sum(done.bytes for done, _ in self.writing)
        while self.writing and (behind > most or self.writing[0][1].done()):
            done, job = self.writing.popleft()
            behind -= done.bytes
            row = outcome(job)
            yield self.told(done.loaded.entry, row)

    def told(self, entry: Entry, found: Settled | Failed | Row | Exception, key: Key = NOTHING) -> Event:
        """Say what became of a picture, and enter it if it is news."""
        if isinstance(found, Settled):
            return self.count(entry, found.row, earlier=True)
        if isinstance(found, Row):
            return self.settled(entry, found)
        if isinstance(found, Failed):
            return self.told(entry, found.error, found.key)
        if is_full(found):
            left = len(self.entries) - self.progress.settled
            raise FolderError(
                f"{self.batch.output} takes no more ({advice(found, entry.source)}); {left} pictures are left, "
                "and the same command goes on with them"
            ) from found
        keep_trace(found)
        return self.fail(entry, why(found, entry), key)

    def fail(self, entry: Entry, reason: str, key: Key = NOTHING) -> Event:
        """Enter a picture as failed."""
        return self.settled(entry, Row(entry.name, stages.place(entry, self.batch), "failed", key, reason))

    def settled(self, entry: Entry, row: Row) -> Event:
        """Enter what became of a picture."""
        self.journal.put(row)
        self.bytes_done += entry.size
        return self.count(entry, row)

    def count(self, entry: Entry, row: Row, *, earlier: bool = False) -> Event:
        """Count a picture that nothing is left to do for."""
        self.counts[row.state] += 1
        self.before += earlier
        self.bytes_left -= entry.size
        return Event(row.state, entry.name, self.progress, row.words, earlier=earlier, target=row.target)

    def stop(self) -> None:
        """End the threads; what is being written is finished and entered."""
        self.readers.shutdown(cancel_futures=True)
        self.writers.shutdown()
        for done, job in self.writing:
            row = outcome(job)
            with suppress(FolderError):  # the disk is full: what could not be written waits for the next run
                self.told(done.loaded.entry, row)


def outcome(job: Future[T]) -> T | Exception:
    """Wait for a thread; return what it returned, or what it raised."""
    try:
        return job.result()
    except Exception as error:
        return error


def why(error: Exception, entry: Entry) -> str:
    """Say in one line why a picture failed; a bug says its type, as the words alone may say little."""
    words = advice(error, entry.source)
    return words if isinstance(error, EXPECTED) else f"{type(error).__name__}: {words}"


def is_full(error: BaseException | None) -> bool:
    """Whether the disk is at fault, not the picture."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__
    return False
