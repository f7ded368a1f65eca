"""The cells that a big picture is restored in: where they lie in each of its levels, and those that are kept."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perceive_ir.images import mean_of, starts_along

Array = NDArray[Any]
Cell = tuple[int, ...]
"""The number of a cell along each axis."""
Key = tuple[range | int, ...]
"""What is meant of an array along each of its axes; steps are positive."""


@dataclass(frozen=True)
class Grid:
    """Cells of equal sides that cover all levels of a picture.

    A pixel of a coarser level belongs to the cell in which it begins.
    """

    sides: tuple[int, ...]
    """How long a cell is along each axis, in pixels of the finest level."""
    shapes: tuple[tuple[int, ...], ...]
    """Of each level, the finest first."""

    @cached_property
    def starts(self) -> list[list[NDArray[np.intp]]]:
        """Where the pixels of each level begin on each axis of the finest one, and where the last one ends."""
        finest = self.shapes[0]
        return [[starts_along(n, wanted) for n, wanted in zip(finest, shape, strict=True)] for shape in self.shapes]

    def cells(self, level: int, key: Key) -> list[Cell]:
        """Return the cells that a part of a level belongs to."""
        numbers = []
        for places, starts, side in zip(key, self.starts[level], self.sides, strict=True):
            ends = (places, places) if isinstance(places, int) else (places[0], places[-1]) if places else ()
            first, last = (int(starts[place]) // side for place in ends) if ends else (0, -1)
            numbers.append(range(first, last + 1))
        return list(product(*numbers))

    def span(self, cell: Cell) -> list[range]:
        """Return what a cell covers of the finest level."""
        return [
            range(number * side, min((number + 1) * side, n))
            for number, side, n in zip(cell, self.sides, self.shapes[0], strict=True)
        ]

    def place(self, level: int, cell: Cell) -> list[range]:
        """Return what of a level belongs to a cell."""
        return [
            range(*np.searchsorted(starts[:-1], (one.start, one.stop)).tolist())
            for one, starts in zip(self.span(cell), self.starts[level], strict=True)
        ]

    def shrunk(self, level: int, cell: Cell, finest: Array) -> Array:
        """Return the pixels of a cell at a level: each is the mean of what it covers in the cell."""
        if level == 0:
            return finest
        axes = zip(self.span(cell), self.place(level, cell), self.starts[level], strict=True)
        edges = [np.minimum(starts[one.start : one.stop + 1], span.stop) - span.start for span, one, starts in axes]
        part = finest[tuple(slice(one[0], one[-1]) for one in edges)]
        return mean_of(part, [one - one[0] for one in edges])


class Kept:
    """Restored cells; those that were not looked at for the longest time are forgotten when there is no more room.

    Parameters
    ----------
    room
        How many bytes they may take.
    """

    def __init__(self, room: int) -> None:
        self.room, self.size = room, 0
        self._pixels: OrderedDict[tuple[int, Cell], Array] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pixels)

    def look_at(self, level: int, cell: Cell) -> Array | None:
        """Return the pixels of a cell at a level, if they are kept."""
        if (level, cell) in self._pixels:
            self._pixels.move_to_end((level, cell))
        return self._pixels.get((level, cell))

    def keep(self, level: int, cell: Cell, pixels: Array, *, seen: bool) -> None:
        """Keep the pixels of a cell at a level; those that are not seen are the next to be forgotten."""
        if (level, cell) not in self._pixels:
            self._pixels[level, cell] = pixels
            self._pixels.move_to_end((level, cell), last=seen)
            self.size += pixels.nbytes
        while self.size > self.room:
            self.size -= self._pixels.popitem(last=False)[1].nbytes

    def close(self) -> None:
        """Forget all, for good."""
        self._pixels.clear()
        self.room = self.size = 0


def paste(pixels: Array, key: Key, part: Array, place: Sequence[range]) -> None:
    """Write into the pixels of a key what a part of the array, which lies at a place, has of them."""
    there: list[slice] = []
    here: list[int | slice] = []
    for wanted, given in zip(key, place, strict=True):
        if isinstance(wanted, int):
            if wanted not in given:
                return
            here.append(wanted - given.start)
            continue
        first, last = (math.ceil((end - wanted.start) / wanted.step) for end in (given.start, given.stop))
        hits = slice(max(0, first), min(len(wanted), last))
        if hits.start >= hits.stop:
            return
        there.append(hits)
        here.append(slice(wanted[hits.start] - given.start, wanted[hits.stop - 1] + 1 - given.start, wanted.step))
    pixels[tuple(there)] = part[tuple(here)]


def shape_of(key: Key) -> tuple[int, ...]:
    """Return the shape of what a key means."""
    return tuple(len(one) for one in key if isinstance(one, range))


def index_of(key: Key) -> tuple[int | slice, ...]:
    """Return the index that a key stands for."""
    return tuple(one if isinstance(one, int) else slice(one.start, one.stop, one.step) for one in key)
