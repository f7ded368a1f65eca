"""What the network is told of each tile: one condition for the picture, or each tile's part of a map."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from perceive_ir import _decision as decision
from perceive_ir._output import Output, Part
from perceive_ir._quality_map import QualityMap
from perceive_ir._tiles import Tile, TilePlan
from perceive_ir.images import Layout
from perceive_ir.networks import Signals

CONDITION_STEP = 8
"""Pixels per cell of a condition map; divides what every backbone demands of sizes."""


@dataclass
class Guide:
    """Makes the signals of a picture's tiles."""

    output: Output
    device: torch.device
    listens: bool
    """Whether the network listens to the feature vectors of the picture."""
    quality_map: Callable[..., QualityMap]
    maps: dict[int, Tensor] = field(default_factory=dict)
    """Condition maps of the planes at hand."""

    def signals(self, tiles: Sequence[tuple[int, Tile]]) -> Signals:
        """Say what to do in some tiles, given with the numbers of their planes."""
        job, semantics = self.output.job, self.semantics()
        if job.recipe.handling == "image":
            return Signals(job.decided.vector().to(self.device), semantics, steady=self.steady())
        planes = {number for number, _ in tiles}
        self.maps = {n: self.maps[n] if n in self.maps else self.condition_map(n).to(self.device) for n in planes}
        condition = torch.stack([window(self.maps[n], tile, job.plan) for n, tile in tiles])
        return Signals(condition, semantics, steady=self.steady())

    def steady(self) -> Tensor | None:
        """Return the filter that undoes a shake of the picture, if one was found."""
        found = self.output.job.steady
        return None if found is None else found[None].to(self.device)

    def semantics(self) -> tuple[Tensor, ...] | None:
        """Return the feature vectors of the picture, if the network listens to them."""
        found = self.output.job.seen.semantics
        return tuple(torch.from_numpy(f)[None].to(self.device) for f in found) if self.listens and found else None

    def condition_map(self, number: int) -> Tensor:
        """Condition of a plane in cells of 8 pixels, (T, H/8, W/8) of the padded plane."""
        job = self.output.job
        height, width = (n // CONDITION_STEP for n in job.plan.padded)
        scale = 1
        if job.recipe.handling == "painted":
            assert job.labels is not None
            marks = plane_of(job.labels, job.layout, number)
            cells = decision.painted_condition(job.recipe, marks, CONDITION_STEP)
        else:
            qmap = self.output.map_of(number, self.quality_map)
            cells = decision.region_condition(job.recipe, qmap, job.decided.condition)
            scale = qmap.stride // CONDITION_STEP
        return decision.enlarge(cells, scale, (height, width))


def told(group: Sequence[Part], guides: Mapping[int, Guide]) -> Iterator[tuple[Signals, int]]:
    """Yield the signals of each picture in a batch of tiles, and how many tiles it has there."""
    for _, run in groupby(group, key=lambda part: id(part[0])):
        tiles = list(run)
        output = tiles[0][0]
        yield guides[id(output)].signals([(number, tile) for _, number, tile in tiles]), len(tiles)


def joined(parts: Iterable[tuple[Signals, int]]) -> Signals:
    """Join the signals of pictures, each repeated for all its tiles; those of a single picture stay as they are."""
    several = list(parts)
    if len(several) == 1:
        return several[0][0]
    conditions = [signals.condition.expand(count, *signals.condition.shape[1:]) for signals, count in several]
    filters = steady_of(several)
    if several[0][0].semantics is None:
        return Signals(torch.cat(conditions), steady=filters)
    levels = zip(*([f.expand(count, -1) for f in signals.semantics or ()] for signals, count in several), strict=True)
    return Signals(torch.cat(conditions), tuple(map(torch.cat, levels)), steady=filters)


def steady_of(parts: Sequence[tuple[Signals, int]]) -> Tensor | None:
    """Join the filters that undo shakes; zero where there is none."""
    there = next((signals.steady for signals, _ in parts if signals.steady is not None), None)
    if there is None:
        return None
    none = torch.zeros_like(there)
    filters = [none if signals.steady is None else signals.steady for signals, _ in parts]
    return torch.cat([f.expand(count, -1, -1) for f, (_, count) in zip(filters, parts, strict=True)])


def window(condition: Tensor, tile: Tile, plan: TilePlan) -> Tensor:
    """Cut a tile's part out of a condition map."""
    y, x = tile.y.start // CONDITION_STEP, tile.x.start // CONDITION_STEP
    height, width = (n // CONDITION_STEP for n in plan.tile_shape)
    return condition[:, y : y + height, x : x + width]


def plane_of(labels: NDArray[Any], layout: Layout, number: int) -> NDArray[Any]:
    """Return the labels of a plane."""
    plane: NDArray[Any] = labels if labels.ndim == 2 else labels.reshape(-1, layout.height, layout.width)[number]
    return plane
