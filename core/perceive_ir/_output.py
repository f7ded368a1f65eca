"""What is fixed before the first tile, and where the residuals of the tiles go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from perceive_ir import _decision as decision
from perceive_ir._perception import Perception
from perceive_ir._quality_map import QualityMap
from perceive_ir._recipe import Recipe
from perceive_ir._result import Result, weights
from perceive_ir._tiles import Accumulator, Band, Tile, TilePlan
from perceive_ir._weights import Card
from perceive_ir.images import (
    Layout,
    LazyArray,
    Plane,
    apply_residual,
    read_tile,
    residual_dtype,
    residual_to_plane,
    write_tile,
)

Array = NDArray[Any]


@dataclass(frozen=True)
class Job:
    """One picture or stack, its plan and its condition: everything that is fixed before the first tile."""

    array: LazyArray
    layout: Layout
    recipe: Recipe
    seen: Perception
    plan: TilePlan
    tile: int
    """Side of a tile's core."""
    batch: int
    """How many tiles the network sees at once."""
    decided: decision.Decision
    labels: Array | None = None
    steady: Tensor | None = None
    """The filter that undoes a shake."""
    short: bool = False
    """Whether memory ran out before."""


class Output:
    """Takes the residuals of tiles, plane by plane, and writes finished rows."""

    def __init__(self, job: Job, keep_residual: bool, maps: Mapping[int, QualityMap] | None = None) -> None:
        self.job = job
        dtype, shape = np.dtype(job.array.dtype), job.layout.shape
        self.image = np.empty(shape, dtype)
        colours = (*shape[:-1], 3) if job.layout.colour else shape
        self.residual = np.empty(colours, residual_dtype(dtype)) if keep_residual else None
        self.accumulators: dict[int, Accumulator] = {}
        self.sources: dict[int, LazyArray] = {}
        self.maps = dict(maps or {})
        self.done = 0
        """How many planes are finished."""

    def source(self, number: int, plane: Plane) -> tuple[LazyArray, Plane]:
        """Return where to read a plane: the array itself, or for lazy arrays a copy of the plane, read once."""
        if isinstance(self.job.array, np.ndarray):
            return self.job.array, plane
        if number not in self.sources:
            whole = (slice(0, self.job.layout.height), slice(0, self.job.layout.width))
            self.sources[number] = read_tile(self.job.array, plane, *whole)
        kept = self.sources[number]
        return kept, Plane((slice(None),) * len(kept.shape), 0, 1)

    def read(self, number: int, tile: Tile) -> Array:
        """Return what lies under a tile, as it is stored."""
        return read_tile(*self.source(number, self.job.layout.plane(number)), *self.job.plan.read(tile))

    def map_of(self, number: int, judge: Callable[..., QualityMap]) -> QualityMap:
        """Return the quality map of a plane, made when it is first needed."""
        if number not in self.maps:
            source, plane = self.source(number, self.job.layout.plane(number))
            whole = read_tile(source, plane, slice(0, self.job.layout.height), slice(0, self.job.layout.width))
            axes = "YXC" if self.job.layout.colour else "YX"
            self.maps[number] = judge(whole, axes, self.job.seen.value_range)
        return self.maps[number]

    def add(self, number: int, residual: Tensor) -> None:
        """Take the next tile of a plane."""
        if number not in self.accumulators:
            self.accumulators[number] = Accumulator(self.job.plan, device=residual.device)
        band = self.accumulators[number].add(residual)
        if band is not None:
            self.write(number, band)
            if band.y0 + band.residual.shape[1] >= self.job.layout.height:
                del self.accumulators[number]
                self.sources.pop(number, None)
                self.done = number + 1  # planes come in order

    def write(self, number: int, band: Band) -> None:
        """Write finished rows."""
        layout, recipe = self.job.layout, self.job.recipe
        rows, columns = slice(band.y0, band.y0 + band.residual.shape[1]), slice(0, layout.width)
        target = layout.plane(number)
        source, plane = self.source(number, target)
        change = residual_to_plane(band.residual, layout.colour, residual_dtype(self.image.dtype))
        low, high = self.job.seen.value_range
        raw = read_tile(source, plane, rows, columns)
        strength = weights(recipe, self.maps, number, rows)
        write_tile(self.image, target, rows, columns, apply_residual(raw, change, high - low, strength))
        if self.residual is not None:
            write_tile(self.residual, target, rows, columns, change.cpu().numpy())

    def result(self, card: Card, note: str) -> Result:
        """Return the finished picture."""
        job, kept = self.job, self.residual is not None
        return Result(
            self.image, job.seen, job.recipe, card, note, job.plan.tile_shape,
            job.array if kept else None, job.layout if kept else None, self.residual,
            tuple(self.maps[n] for n in sorted(self.maps)),
        )  # fmt: skip

    def finished(self, card: Card) -> Result | None:
        """Return the first planes of a stack, as far as whole entries of its first long axis are finished."""
        part = self.job.layout.first_planes(self.done)
        if part is None:
            return None
        layout = Layout(self.image[part].shape, self.job.layout.axes)
        note = f"stopped: the first {layout.plane_count} of {self.job.layout.plane_count} planes are restored"
        whole, kept = self.result(card, note), self.residual is not None
        return replace(
            whole, image=self.image[part].copy(), source=self.job.array[part] if kept else None,
            layout=layout if kept else None, residual=None if self.residual is None else self.residual[part].copy(),
            maps=whole.maps[: layout.plane_count],
        )  # fmt: skip


Part = tuple[Output, int, Tile]
"""A tile of a plane (its number) of a picture."""


def parts(output: Output) -> Iterator[Part]:
    """All tiles of all planes, in order."""
    for number in range(output.job.layout.plane_count):
        for tile in output.job.plan.tiles:
            yield output, number, tile


def grouped(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """Split into lists of ``size``."""
    group: list[Any] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
