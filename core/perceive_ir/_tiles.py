"""Large planes in tiles: where they lie, how they blend, how large they may be, and how their residuals add up.

Neighbours overlap by at least twice the halo and hand over to each other along a linear ramp in the middle of it, so
that every pixel which a tile contributes lies at least ``halo - blend`` pixels from any edge inside the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from perceive_ir._errors import NotEnoughMemoryError

SMALLEST_TILE = 16


@dataclass(frozen=True, eq=False)
class Span:
    """A tile along one axis."""

    start: int
    window: NDArray[np.float32]
    """How much of each pixel the tile contributes, 0..1; the windows of an axis sum to 1 everywhere."""
    support: slice
    """The pixels of the tile, counted from its start, that it contributes at all."""

    @property
    def first(self) -> int:
        """The first pixel of the image that the tile contributes to."""
        return self.start + int(self.support.start)

    @property
    def end(self) -> int:
        """The pixel after the last one that the tile contributes to."""
        return self.start + int(self.support.stop)


class Tile(NamedTuple):
    """A tile: two spans."""

    y: Span
    x: Span


@dataclass(frozen=True, eq=False)
class TilePlan:
    """Where the tiles of one plane lie; made by :func:`plan_tiles`."""

    height: int
    width: int
    padded: tuple[int, int]
    """Height and width after padding at the bottom and at the right, both multiples of what the network demands."""
    tile_shape: tuple[int, int]
    """Height and width of every tile as the network sees it."""
    ys: tuple[Span, ...]
    xs: tuple[Span, ...]

    @property
    def count(self) -> int:
        """How many tiles there are."""
        return len(self.ys) * len(self.xs)

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """All tiles, row after row from the top, each row from the left."""
        return tuple(Tile(y, x) for y in self.ys for x in self.xs)

    def read(self, tile: Tile) -> tuple[slice, slice]:
        """Return the rows and columns of the image under a tile; what is missing at its end is to be padded."""
        top, left = tile.y.start, tile.x.start
        height, width = self.tile_shape
        return slice(top, min(top + height, self.height)), slice(left, min(left + width, self.width))

    def finished(self, row: int) -> int:
        """Return how many rows of the image are final after a row of tiles: no later tile contributes to them."""
        return self.ys[row + 1].first if row + 1 < len(self.ys) else self.height


def plan_tiles(height: int, width: int, *, tile: int, halo: int, multiple: int, blend: int = 8) -> TilePlan:
    """Lay tiles over a plane.

    Parameters
    ----------
    height, width : int
        The size of the plane.
    tile : int
        The largest wished side of a tile's core; tiles shrink as far as their number stays the same.
    halo : int
        The context around the core, in pixels.
    multiple : int
        Sizes and starts of tiles are multiples of it.
    blend : int
        Half the width of the ramp between neighbours; not more than `halo` counts.
    """
    check_tile(tile)
    for name, value, least in (("height", height, 1), ("width", width, 1), ("multiple", multiple, 1)):
        _check_number(name, value, least)
    _check_number("overlap", halo, 0)
    _check_number("blend", blend, 0)
    tile_height, ys = _spans(height, tile, halo, multiple, blend)
    tile_width, xs = _spans(width, tile, halo, multiple, blend)
    padded = (_round_up(height, multiple), _round_up(width, multiple))
    return TilePlan(height, width, padded, (tile_height, tile_width), ys, xs)


def check_tile(tile: object) -> int:
    """Return the side of a tile if it is one, else raise ValueError."""
    return _check_number("tile", tile, SMALLEST_TILE)


def _check_number(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"expected {name} as a whole number of pixels, {least} or more, got {value!r}")
    return int(value)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _side(length: int, tile: int, halo: int, multiple: int) -> int:
    """Return the size of a tile along an axis: the smallest that needs no more tiles than the wished one."""
    padded = _round_up(length, multiple)
    wished = _round_up(max(tile, multiple) + 2 * halo, multiple)
    if padded <= wished:
        return padded
    count = 1 + -(-(padded - wished) // _step(wished, halo, multiple))
    core = _round_up(-(-(padded - 2 * halo) // count), multiple)
    return min(wished, _round_up(core + 2 * halo, multiple))


def _step(side: int, halo: int, multiple: int) -> int:
    return (side - 2 * halo) // multiple * multiple


def _spans(length: int, tile: int, halo: int, multiple: int, blend: int) -> tuple[int, tuple[Span, ...]]:
    padded, side = _round_up(length, multiple), _side(length, tile, halo, multiple)
    if side == padded:
        return side, (_span(0, np.ones(side)),)
    step = _step(side, halo, multiple)
    # The last tile is shifted inwards, so that it has the size of the others.
    starts = [*range(0, padded - side, step), padded - side]
    borders = [(left + side + right) / 2 for left, right in pairwise(starts)]
    return side, _blend(starts, borders, side, min(blend, halo))


def _blend(starts: list[int], borders: list[float], side: int, blend: int) -> tuple[Span, ...]:
    """Make windows: what is right of a tile's left border, less what is right of its right border; sums to 1."""
    befores, afters = [-np.inf, *borders], [*borders, np.inf]
    spans = []
    for start, before, after in zip(starts, befores, afters, strict=True):
        centres = start + np.arange(side) + 0.5
        spans.append(_span(start, _ramp(centres, before, blend) - _ramp(centres, after, blend)))
    return tuple(spans)


def _ramp(centres: NDArray[Any], border: float, blend: int) -> NDArray[Any]:
    """Rise from 0 to 1 over ``2 * blend`` pixels around a border; a border in a pixel halves it even without blend."""
    ramp: NDArray[Any] = np.clip((centres - border) / (2 * max(blend, 0.5)) + 0.5, 0, 1)
    return ramp


def _span(start: int, window: NDArray[Any]) -> Span:
    used = np.flatnonzero(window)
    return Span(start, window.astype(np.float32), slice(int(used[0]), int(used[-1]) + 1))


class Band(NamedTuple):
    """Finished rows of a plane."""

    y0: int
    residual: torch.Tensor
    """(channels, rows, width); a view of memory that the next tile overwrites."""


class Accumulator:
    """Adds the residuals of a plan's tiles up, in their order, and hands out every row once, as soon as it is final.

    Its memory grows with the width of the plane and the height of a tile, not with the height of the plane.

    Parameters
    ----------
    plan : TilePlan
        The tiles that will come.
    channels : int
        How many channels a residual has.
    device : torch.device or str
        Where the residuals live.
    """

    def __init__(self, plan: TilePlan, channels: int = 3, device: torch.device | str = "cpu") -> None:
        self._plan = plan
        self._down = [torch.from_numpy(y.window[y.support, None]).to(device) for y in plan.ys]
        self._along = [torch.from_numpy(x.window[x.support]).to(device) for x in plan.xs]
        self._rows = torch.zeros(channels, plan.tile_shape[0], plan.padded[1], device=device)
        self._top = 0  # the row of the image that is the first of the buffer
        self._added = 0

    def add(self, residual: torch.Tensor) -> Band | None:
        """Add the next tile's residual (channels, tile height, tile width); return a band if it ended a row."""
        row, col = divmod(self._added, len(self._plan.xs))
        if row == len(self._plan.ys):
            raise ValueError(f"expected {self._plan.count} tiles, got one more: make an Accumulator for every plane")
        if row and col == 0:
            self._forget(row - 1)
        y, x = self._plan.ys[row], self._plan.xs[col]
        weighted = (residual[:, y.support, x.support] * self._down[row]).mul_(self._along[col])
        self._rows[:, y.first - self._top : y.end - self._top, x.first : x.end] += weighted
        self._added += 1
        return self._band(row) if col + 1 == len(self._plan.xs) else None

    def _band(self, row: int) -> Band:
        return Band(self._top, self._rows[:, : self._plan.finished(row) - self._top, : self._plan.width])

    def _forget(self, row: int) -> None:
        """Move what the next row of tiles adds to up to the top of the buffer, and make room below it."""
        final, end = self._plan.finished(row), self._plan.ys[row].end
        shared = self._rows[:, final - self._top : end - self._top].clone()
        self._rows.zero_()
        self._rows[:, : end - final] = shared
        self._top = final


class TileChoice(NamedTuple):
    """How large tiles are, and how many of them the network sees at once."""

    tile: int
    """The side of the core, as for :func:`plan_tiles`; not larger than the plane."""
    batch: int


def pick_tile(
    height: int,
    width: int,
    *,
    halo: int,
    multiple: int,
    bytes_per_pixel: float,
    budget_bytes: int,
    wish: str | int = "auto",
    planes: int = 1,
    largest: int = 512,
) -> TileChoice:
    """Choose the side of the core and the number of tiles per batch that fit into a memory budget.

    Parameters
    ----------
    height, width : int
        The size of a plane.
    halo, multiple : int
        See :func:`plan_tiles`.
    bytes_per_pixel : float
        What the network needs for each pixel of its input.
    budget_bytes : int
        What it may need in all.
    wish : "auto" or int
        "auto" is the largest side that fits; a number is taken as it is, however much memory it costs.
    planes : int
        How many planes there are; tiles of several may share a batch.
    largest : int
        The largest side to choose, and with its halo the largest batch: more pixels at once are no faster.

    Raises
    ------
    NotEnoughMemoryError
        If even the smallest tile does not fit.
    """
    pixels = budget_bytes / bytes_per_pixel
    tile = _fitting(height, width, halo, multiple, pixels, largest) if wish == "auto" else check_tile(wish)
    tile = min(tile, max(height, width, SMALLEST_TILE))
    plan = plan_tiles(height, width, tile=tile, halo=halo, multiple=multiple)
    at_once = min(pixels, (largest + 2 * halo) ** 2) / math.prod(plan.tile_shape)
    return TileChoice(tile, max(1, min(int(at_once), plan.count * planes)))


def _fitting(height: int, width: int, halo: int, multiple: int, pixels: float, largest: int) -> int:
    needed = math.inf
    for tile in range(largest, SMALLEST_TILE - 1, -SMALLEST_TILE):
        needed = _side(height, tile, halo, multiple) * _side(width, tile, halo, multiple)
        if needed <= pixels:
            return tile
    raise NotEnoughMemoryError(
        f"the smallest tile has {needed} pixels, only {int(pixels)} fit: give more memory or a smaller overlap"
    )


def smaller(tile: int) -> int:
    """Return the side to try after a tile did not fit into memory."""
    if tile <= SMALLEST_TILE:
        raise NotEnoughMemoryError(
            f"even tiles of {tile} pixels do not fit into memory: free some, or use device='cpu'"
        )
    return max(SMALLEST_TILE, tile // 2)
