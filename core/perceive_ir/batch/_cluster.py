"""The crew that is a cluster: groups of pictures go to the workers of dask.distributed, each of which is a crew itself.

A group whose worker dies is done again by another one: results are put in their places whole, and are the same whoever
makes them. Only this process knows the journal. Its ticket, a file in the hidden folder, tells the workers to go on.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from perceive_ir._advice import reason
from perceive_ir._catalogue import SUFFIX
from perceive_ir._errors import ClusterError, PerceiveIRError
from perceive_ir._version import VERSION
from perceive_ir.batch import _stages as stages
from perceive_ir.batch._batch import Batch, Entry, sweep
from perceive_ir.batch._crew import Known, Means, News, Order
from perceive_ir.batch._journal import HIDDEN
from perceive_ir.batch._worker import Done, Job, check_alike, describe, do
from perceive_ir.files import PARTIAL_SUFFIX

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")

EACH = 2
"""Groups that a worker has at a time: one that it works on, and the next."""
MOST = 64
"""Pictures of a group, at most."""
MOST_BYTES = 2**26
"""Bytes of the files of a group, at most, unless a single one is larger."""
SHARES = 3
"""Groups for each worker that what is left is split into: they get smaller, so that all workers end together."""
BEAT = 0.5
"""Seconds after which a run says that it waits."""
PATIENCE = 30.0
"""Seconds that a cancelled run waits for what is being written."""
GONE = "the scheduler is out of reach; start it and its workers again, and the same command goes on"
KILLED = "the workers that took it were killed, one after the other; is there enough memory?"


class Cluster:
    """The workers of a cluster.

    Parameters
    ----------
    batch
        What is to be done.
    client
        A client of dask.distributed, not an asynchronous one.
    """

    def __init__(self, batch: Batch, client: Client) -> None:
        if client.asynchronous:
            raise TypeError("expected a client of dask.distributed that is not asynchronous")
        self.client, model = client, batch.recipe.model
        self.batch = replace(batch, source=absolute(batch.source), output=absolute(batch.output))
        self.model = str(absolute(model)) if model.endswith(SUFFIX) or Path(model).name != model else model
        self.ticket = self.batch.output / HIDDEN / f"{secrets.token_hex(8)}{PARTIAL_SUFFIX}"
        self.pending: dict[object, tuple[Future[Done], list[Entry]]] = {}
        self.finished: SimpleQueue[Future[Done]] = SimpleQueue()
        self.told: deque[News] = deque()

    def means(self) -> Means:
        """Have all workers load the model; say what they compute with, which must be the same."""
        with in_reach():
            self.client.wait_for_workers(1)
            asked = [
                self.client.submit(
                    describe, self.model, self.batch.recipe, workers=[one], allow_other_workers=True, pure=False
                )
                for one in self.client.nthreads()
            ]
        found = [result_of(one) for one in asked]
        for one in found:
            check_alike(one, found[0])
        self.alike = found[0]
        return replace(found[0], memory=min(one.memory for one in found), count=len(found))

    def work(self, order: Order, entries: Sequence[Entry], known: Known) -> Iterator[News]:
        """Hand groups of pictures out as workers get free, and tell what comes back."""
        self.order, self.known, self.ours = replace(order, batch=self.batch), known, set(order.ours)
        self.ticket.touch()
        waiting = deque(entries)
        while waiting or self.pending:
            with in_reach():
                count = len(self.client.nthreads())
            while waiting and len(self.pending) < EACH * count:
                group = taken(waiting, count)
                self.hand_out(group)
                yield from map(News, group)
            left = self.listen()
            if not self.told:
                yield News(fraction=0.0, words=f"workers: {count}" if count else "waiting for workers")
            yield from self.news()
            for group in left:
                self.hand_out(group)

    def stop(self) -> Iterator[News]:
        """Take the ticket away, and wait for what is being written."""
        self.ticket.unlink(missing_ok=True)
        yield from self.news()
        end = time.monotonic() + PATIENCE
        while self.pending and time.monotonic() < end and self.client.status == "running":
            with suppress(Exception):  # what did not end well waits for the next run
                self.listen()
            yield from self.news()
        with suppress(Exception):
            self.client.cancel([future for future, _ in self.pending.values()])
        sweep(self.batch.output)

    def news(self) -> Iterator[News]:
        """Pass on what was told; each once, wherever the iterator is left."""
        while self.told:
            yield self.told.popleft()

    def hand_out(self, group: list[Entry]) -> None:
        """Give pictures to the cluster; from now on a file in the place of a result is ours, whoever made it."""
        there = [replace(one, source=absolute(one.source), target=absolute(one.target)) for one in group]
        places = {stages.place(one, self.batch): one for one in there}
        self.ours |= {place for place, one in places.items() if not os.path.lexists(one.target)}
        order = replace(self.order, ours=frozenset(self.ours.intersection(places)))
        known = {one.name: row for one in group if (row := self.known(one.name)) is not None}
        job = Job(order, self.alike, self.model, tuple(there), known, self.ticket)
        with in_reach():
            future = self.client.submit(do, job, pure=False)
        self.pending[future.key] = future, group
        future.add_done_callback(self.finished.put)

    def listen(self) -> list[list[Entry]]:
        """Wait a moment for a group to end, and note what is told of it; return in groups what it did not get to."""
        from distributed import KilledWorker

        try:
            future, group = self.pending.pop(self.finished.get(timeout=BEAT).key)
        except Empty:
            return []
        try:
            done = result_of(future)
        except KilledWorker:
            if len(group) > 1:
                return [[one] for one in group]
            self.told.append(News(group[0], stages.failed(group[0], self.batch, KILLED)))
            return []
        left = {one.name: one for one in group}
        self.told.extend(replace(one, entry=left.pop(one.entry.name)) for one in done.news if one.entry)
        if not done.news:
            raise ClusterError(
                f"{done.machine} does not find what this machine has in {self.batch.output}; share the folders among "
                "all of them, under the same paths"
            )
        return [list(left.values())] if left else []


def absolute(path: str | Path) -> Path:
    """Return a path as it is on every machine of a cluster; links stay links."""
    return Path(os.path.abspath(path))


def taken(waiting: deque[Entry], workers: int) -> list[Entry]:
    """Take a group of pictures."""
    most, size = min(MOST, -(-len(waiting) // (SHARES * workers))), 0
    group: list[Entry] = []
    while waiting and len(group) < most and (not group or size + waiting[0].size <= MOST_BYTES):
        group.append(waiting.popleft())
        size += group[-1].size
    return group


def result_of(future: Future[T]) -> T:
    """Return what a worker returned, or raise what it raised."""
    from distributed import CancelledError, KilledWorker

    try:
        return future.result()
    except (KilledWorker, PerceiveIRError, ValueError, TypeError):
        raise
    except (OSError, CancelledError) as error:
        raise ClusterError(GONE) from error
    except Exception as error:
        raise ClusterError(
            f"a worker failed ({type(error).__name__}: {reason(error)}); install version {VERSION} of "
            "napari-perceive-ir[cluster] on the machines of scheduler and workers"
        ) from error


@contextmanager
def in_reach() -> Iterator[None]:
    """Say in one line that the scheduler is gone; a client says so with all kinds of errors."""
    try:
        yield
    except Exception as error:
        raise ClusterError(GONE) from error
