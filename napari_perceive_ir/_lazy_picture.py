"""A picture that is restored where somebody looks, as arrays for napari; knows no Qt.

napari must not wait: what it draws is given to it as far as it is restored by now, with pixels of the source in
between, and filled in later. Everybody else who reads the arrays waits for restored pixels, and gets no others.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from threading import RLock
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from napari_perceive_ir._halves import spelled_out
from napari_perceive_ir._lazy_cells import Cell, Grid, Kept, Key, index_of, paste, shape_of

if TYPE_CHECKING:
    from perceive_ir._lazy import Chunks

SIDE = 1024
"""Cells are not longer and wider than this, so that the first one is soon there."""
ROOM = 1.0
"""GiB of restored pixels that are kept, where the recipe names no memory."""
DRAWING = ("napari.layers.", "napari.components.")
"""Modules of napari that draw layers, or sum up what is drawn."""
PASSING_ON = ("napari_perceive_ir.", "numpy")
"""Modules that ask because somebody asked them."""

Array = NDArray[Any]


class LazyPicture:
    """Restores cells of a picture, and keeps as many of them as there is room for.

    Parameters
    ----------
    arrays
        The levels of the source, the finest first.
    chunks
        What restores parts of the finest level.
    """

    def __init__(self, arrays: Sequence[Any], chunks: Chunks) -> None:
        self.layout, self.seen, memory = chunks.layout, chunks.seen, chunks.recipe.memory
        sides = [1 if n in self.layout.stack_axes else min(side, SIDE) for n, side in enumerate(chunks.sides)]
        self.grid = Grid(tuple(sides), tuple(tuple(array.shape) for array in arrays))
        self.kept = Kept(int((ROOM if isinstance(memory, str) else memory) * 2**30))
        self.levels = [LazyLevel(self, number, array) for number, array in enumerate(arrays)]
        self._chunks = replace(chunks, sides=self.grid.sides)
        self._given: list[Given] = []
        self._lock = RLock()

    def missing(self, level: int, cells: Iterable[Cell]) -> list[Cell]:
        """Return the cells of a level that are not kept; the others count as looked at just now."""
        with self._lock:
            return [cell for cell in cells if self.kept.look_at(level, cell) is None]

    def room_for(self, level: int) -> int:
        """Return how many cells of a level can be kept."""
        finest, coarse = math.prod(self.grid.shapes[0]), math.prod(self.grid.shapes[level])
        return max(
            1, int(self.kept.room / (math.prod(self.grid.sides) * self.levels[0].dtype.itemsize) * finest / coarse)
        )

    def restore(self, level: int, cell: Cell) -> Array:
        """Return the restored pixels of a cell at a level, and fill them in wherever they are seen."""
        with self._lock:
            known = self.kept.look_at(level, cell)
        if known is not None:
            return known
        finest = self._chunks(block_id=cell)
        shrunk = [self.grid.shrunk(number, cell, finest) for number in range(len(self.levels))]
        with self._lock:
            for number, pixels in enumerate(shrunk):
                self.kept.keep(number, cell, pixels, seen=number >= level)
            for one in self._given:
                one.fill(shrunk[one.level], self.grid.place(one.level, cell))
        return shrunk[level]

    def as_far_as_restored(self, level: int, key: Key, source: Any) -> Array:
        """Return a part of a level, with pixels of the source where it is not restored; it will be filled in."""
        with self._lock:
            self._given = [one for one in self._given if one.pixels() is not None]
            for one in self._given:
                if (one.level, one.key) == (level, key) and (known := one.pixels()) is not None:
                    return known
        cells = self.grid.cells(level, key)
        whole = not self.missing(level, cells)
        pixels = np.empty(shape_of(key), source.dtype) if whole else np.array(source[index_of(key)])
        with self._lock:
            self._given.append(Given(level, key, ref(pixels)))
            for cell in cells:
                if (part := self.kept.look_at(level, cell)) is not None:
                    paste(pixels, key, part, self.grid.place(level, cell))
        return pixels

    def restored(self, level: int, key: Key) -> Array:
        """Return a part of a level, which is restored now where it is not yet."""
        pixels = np.empty(shape_of(key), self.levels[0].dtype)
        for cell in self.grid.cells(level, key):
            paste(pixels, key, self.restore(level, cell), self.grid.place(level, cell))
        return pixels

    def forget(self) -> None:
        """Free what is kept, and keep nothing from now on."""
        with self._lock:
            self.kept.close()
            self._given.clear()


@dataclass(frozen=True)
class Given:
    """Pixels that napari was given to draw; they are filled in as long as it has them."""

    level: int
    key: Key
    pixels: ref[Array]

    def fill(self, part: Array, place: Sequence[range]) -> None:
        """Fill in a restored part."""
        pixels = self.pixels()
        if pixels is not None:
            paste(pixels, self.key, part, place)


class LazyLevel:
    """A level of a picture, or a part of it, as an array; its pixels are found when `numpy.asarray` asks for them.

    Parameters
    ----------
    picture
        What restores it.
    number
        Which level it is.
    source
        The same level of the source.
    key
        Which part of it; None for all.
    """

    def __init__(self, picture: LazyPicture, number: int, source: Any, key: Key | None = None) -> None:
        self.picture, self.number, self.source = picture, number, source
        self.key: Key = tuple(range(n) for n in source.shape) if key is None else key
        self.shape = shape_of(self.key)
        self.dtype = np.dtype(source.dtype)
        self.ndim, self.size = len(self.shape), math.prod(self.shape)
        self.chunks = getattr(source, "chunks", None) if key is None else None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        if not all(is_simple(part) for part in (key if isinstance(key, tuple) else (key,))):
            return np.asarray(self)[key]
        left = iter(spelled_out(key, self.ndim))
        narrowed = (one if isinstance(one, int) else one[as_index(next(left))] for one in self.key)
        return LazyLevel(self.picture, self.number, self.source, tuple(narrowed))

    def __deepcopy__(self, _: Any) -> LazyLevel:
        return self  # a duplicate of a layer shares what is restored

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if drawn_by_napari():
            pixels = self.picture.as_far_as_restored(self.number, self.key, self.source)
        else:
            pixels = self.picture.restored(self.number, self.key)
        return pixels.astype(dtype or self.dtype, copy=bool(copy))


def is_lazy(layer: Any) -> bool:
    """Whether a layer is restored where somebody looks."""
    return isinstance(layer.data[0] if layer.multiscale else layer.data, LazyLevel)


def is_simple(part: Any) -> bool:
    """Whether a part of a key is a number, an ellipsis, or a slice that does not run backwards."""
    if isinstance(part, slice):
        return part.step is None or part.step > 0
    return part is ... or isinstance(part, int | np.integer)


def as_index(part: Any) -> Any:
    """Return a slice as it is, and a number of any type as one of Python."""
    return part if isinstance(part, slice) else operator.index(part)


def drawn_by_napari() -> bool:
    """Whether it is napari that asks for pixels, in order to draw a layer."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_globals["__name__"].startswith(PASSING_ON):
        frame = frame.f_back
    return str(frame.f_globals["__name__"]).startswith(DRAWING)
