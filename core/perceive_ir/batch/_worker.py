"""What a worker of a cluster does: it is a crew by itself, for a group of pictures at a time.

It never opens the journal, only the folders of the run, which it finds under the same paths.
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perceive_ir._errors import ClusterError
from perceive_ir._recipe import Recipe
from perceive_ir.batch._batch import Entry
from perceive_ir.batch._crew import Means, News, Order
from perceive_ir.batch._here import Here
from perceive_ir.batch._journal import Row

if TYPE_CHECKING:
    from perceive_ir._engine import Restorer

ONE_AT_A_TIME = threading.Lock()
"""The model is there once, whatever number of threads a worker has: they are the threads of its network."""


@dataclass(frozen=True)
class Job:
    """A group of pictures."""

    order: Order
    means: Means
    """What has to be computed with."""
    model: str
    entries: tuple[Entry, ...]
    known: Mapping[str, Row]
    """What the journal knows of them."""
    ticket: Path
    """A file that is there as long as the run wants to have this done."""


def describe(model: str, recipe: Recipe) -> Means:
    """Load the model; say what this worker computes with."""
    with ONE_AT_A_TIME:
        return Means.of(loaded_here(model, recipe), recipe)


@dataclass(frozen=True)
class Done:
    """What became of the pictures of a group, as far as the ticket was there."""

    machine: str
    news: list[News]


def do(job: Job) -> Done:
    """Work on a group."""
    with ONE_AT_A_TIME:
        if not is_there(job.ticket):
            return Done(platform.node(), [])
        restorer = loaded_here(job.model, job.order.recipe)
        check_alike(Means.of(restorer, job.order.recipe), job.means)
        here, told = Here(job.order.batch, restorer), list[News]()
        try:
            with closing(here.work(job.order, job.entries, job.known.get)) as news:
                for one in news:
                    told.append(one)
                    if not is_there(job.ticket):
                        here.drop()
                        break
        finally:
            told.extend(here.stop())
        return Done(platform.node(), [one for one in told if one.row is not None or one.full])


def loaded_here(model: str, recipe: Recipe) -> Restorer:
    """Return the model, which is loaded once and computes with all threads of this worker."""
    import torch
    from distributed import get_worker

    from perceive_ir._catalogue import find, loaded

    torch.set_num_threads(get_worker().state.nthreads)
    return loaded(find(model), recipe.device, recipe.precision)


def check_alike(mine: Means, expected: Means) -> None:
    """Refuse a worker whose results would differ from those of the others."""
    if differs := mine.differs(expected):
        raise ClusterError(
            f"{platform.node()} has {differs}, so its results would differ from those of the other workers; install "
            "the same on all, and give --device and --precision"
        )


def is_there(ticket: Path) -> bool:
    """Whether a file is there now; to open it is to ask, where a network drive would answer from memory."""
    try:
        open(ticket, "rb").close()
    except OSError:
        return False
    return True
