"""The crew that is this process: threads read ahead and write behind, the network runs in the thread that asks."""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

from perceive_ir._advice import EXPECTED, advice
from perceive_ir._trace import keep_trace
from perceive_ir.batch import _stages as stages
from perceive_ir.batch._batch import Batch, Entry
from perceive_ir.batch._crew import Known, Means, News, Order
from perceive_ir.batch._journal import NOTHING, Key, Row
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


class Here:
    """This process, with its threads.

    Parameters
    ----------
    batch
        What is to be done.
    restorer
        The loaded model.
    """

    def __init__(self, batch: Batch, restorer: Restorer) -> None:
        self.batch, self.restorer = batch, restorer
        self.unpacked: float = UNPACKED
        self.readers = ThreadPoolExecutor(batch.workers, "perceive-ir reads")
        self.writers = ThreadPoolExecutor(batch.workers, "perceive-ir writes")
        self.waiting: deque[Entry] = deque()
        self.reading: deque[tuple[Entry, Future[Loaded | Large | Settled | Failed]]] = deque()
        self.writing: deque[tuple[Restored, Future[Row]]] = deque()

    def means(self) -> Means:
        """Say what this process computes with."""
        return Means.of(self.restorer, self.batch.recipe)

    def work(self, order: Order, entries: Sequence[Entry], known: Known) -> Generator[News, None, None]:
        """Do the work; what is under way when nobody asks any more is for `stop`."""
        self.order, self.known = order, known
        self.waiting.extend(entries)
        while self.read_ahead():
            group: list[Loaded] = []
            for entry, found in self.taken():
                if isinstance(found, Loaded):
                    group.append(found)
                    yield News(entry)
                elif isinstance(found, Large):
                    yield from self.chunk_by_chunk(entry, found.key)
                else:
                    yield self.ended(entry, found)
            yield from self.restored(group)
            yield from self.written(most=BYTES_BEHIND)
        yield from self.written(most=0)

    def drop(self) -> None:
        """Leave unwritten what nobody wants any more, but for what is being written now."""
        self.writing = deque((done, job) for done, job in self.writing if not job.cancel())

    def stop(self) -> Iterator[News]:
        """End the threads; what is being written is finished."""
        self.readers.shutdown(cancel_futures=True)
        self.writers.shutdown()
        yield from self.written(most=0)

    def read_ahead(self) -> bool:
        """Let the threads read what comes next, as far as memory allows; return whether anything is left."""
        under_way = sum(entry.size for entry, _ in self.reading) * self.unpacked
        while self.waiting and len(self.reading) < AHEAD:
            under_way += self.waiting[0].size * self.unpacked
            if self.reading and under_way > BYTES_AHEAD:
                break
            entry = self.waiting.popleft()
            self.reading.append((entry, self.readers.submit(stages.read, entry, self.order, self.known(entry.name))))
        return bool(self.reading)

    def taken(self) -> Iterator[tuple[Entry, Loaded | Large | Settled | Failed | Exception]]:
        """Take the next picture, and what else is read by now, up to one batch of the network."""
        pixels = 0
        while self.reading and (not pixels or self.reading[0][1].done()):
            entry, job = self.reading[0]
            found = outcome(job)
            more = found.pixels if isinstance(found, Loaded) else 0
            if pixels and pixels + more > self.restorer.pixels_at_once:
                return
            self.reading.popleft()
            self.read_ahead()
            pixels += more
            if isinstance(found, Loaded):
                self.unpacked = found.picture.data.nbytes / max(1, entry.size)
            yield entry, found

    def restored(self, group: Sequence[Loaded]) -> Iterator[News]:
        """Perceive and restore pictures, and have the results written."""
        start = time.perf_counter()
        chosen: list[tuple[Loaded, Perception]] = []
        for loaded, seen in zip(group, stages.look(self.restorer, group), strict=True):
            if isinstance(seen, Exception):
                yield self.ended(loaded.entry, seen, loaded.key)
            elif self.batch.only_low and seen.tier != "low":
                yield News(loaded.entry, stages.skipped(loaded, seen, self.batch))
            else:
                chosen.append((loaded, seen))
        if len(chosen) == 1:
            results: list[Result | Exception] = yield from self.step_by_step(*chosen[0])
        else:
            loaded_ones, seen_ones = [one for one, _ in chosen], [seen for _, seen in chosen]
            results = stages.restore(self.restorer, loaded_ones, seen_ones, self.order.recipe)
        done = []
        for (loaded, _), result in zip(chosen, results, strict=True):
            if isinstance(result, Exception):
                yield self.ended(loaded.entry, result, loaded.key)
            else:
                done.append((loaded, result))
        after = stages.look_again(self.restorer, done) if self.batch.look_again else [None] * len(done)
        share = (time.perf_counter() - start) / max(1, len(group))
        for (loaded, result), again in zip(done, after, strict=True):
            self.write(Restored(loaded, result, again, share))

    def step_by_step(self, loaded: Loaded, seen: Perception) -> Generator[News, None, list[Result | Exception]]:
        """Restore a single picture; it may be large, so every batch of tiles is told."""
        results: list[Result | Exception] = []
        steps = stages.steps(self.restorer, loaded, seen, self.order.recipe)
        while not results:
            try:
                step = next(steps)
            except Exception as error:
                results.append(error)
                break
            if step.result is not None:
                results.append(step.result)
            else:
                yield News(loaded.entry, fraction=step.done / step.total)
        return results

    def chunk_by_chunk(self, entry: Entry, key: Key) -> Iterator[News]:
        """Restore an OME-Zarr, which is read and written as it is computed."""
        yield News(entry)
        ours = stages.place(entry, self.batch) in self.order.ours
        with closing(stages.by_chunks(self.restorer, entry, self.batch, key, ours=ours)) as parts:
            while True:
                try:
                    done = next(parts)
                except Exception as error:
                    yield self.ended(entry, error, key)
                    return
                if isinstance(done, Row):
                    yield self.ended(entry, done)
                    return
                yield News(entry, fraction=done)

    def write(self, done: Restored) -> None:
        """Have a result written."""
        ours = stages.place(done.loaded.entry, self.batch) in self.order.ours
        self.writing.append((done, self.writers.submit(stages.write, done, self.batch, ours=ours)))

    def written(self, most: int) -> Iterator[News]:
        """Tell what is safely in place; wait while more than ``most`` bytes are on the way."""
        behind = sum(done.bytes for done, _ in self.writing)
        while self.writing and (behind > most or self.writing[0][1].done()):
            done, job = self.writing.popleft()
            behind -= done.bytes
            row = outcome(job)
            yield self.ended(done.loaded.entry, row)

    def ended(self, entry: Entry, found: Settled | Failed | Row | Exception, key: Key = NOTHING) -> News:
        """Say what became of a picture."""
        if isinstance(found, Settled):
            return News(entry, found.row, earlier=True)
        if isinstance(found, Row):
            return News(entry, found)
        if isinstance(found, Failed):
            return self.ended(entry, found.error, found.key)
        keep_trace(found)
        if is_full(found):
            return News(entry, full=advice(found, entry.source))
        return News(entry, stages.failed(entry, self.batch, why(found, entry), key))


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
