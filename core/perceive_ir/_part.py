"""Parts of a picture, restored as they come out in the whole: with the same perception, range and context."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from torch import Tensor

from perceive_ir._guide import CONDITION_STEP, plane_of
from perceive_ir._labels import check_labels
from perceive_ir._perception import Perception
from perceive_ir._quality_map import QualityMap
from perceive_ir._recipe import Recipe, make_recipe
from perceive_ir._result import Result, Step
from perceive_ir.images import Layout, LazyArray, parse_layout, read_tile

if TYPE_CHECKING:
    from perceive_ir._engine import Restorer

Array = NDArray[Any]
Box = tuple[slice, slice]
"""Rows and columns."""


@dataclass(frozen=True)
class Part:
    """Some rows and columns of a plane, restored with what is around them."""

    inside: Box
    """Where they lie in the result."""
    result: Result

    def at(self, recipe: Recipe) -> Array:
        """Return the pixels, blended with the strengths of a recipe; the network does not run."""
        return self.result.part(recipe, 0, *self.inside)


@dataclass(frozen=True)
class Whole:
    """A picture or stack, and all that its parts share."""

    restorer: Restorer
    array: LazyArray
    layout: Layout
    recipe: Recipe
    seen: Perception
    """Of the whole; its value range counts."""
    labels: Any = None

    def restore(self, number: int, box: Box, qmap: QualityMap | None = None) -> Part:
        """Restore a part of a plane; handling "region" needs the plane's quality map."""
        rows, columns = self.around(box, 1 if qmap is None else qmap.stride)
        marks = check_labels(self.labels, self.layout, self.recipe)
        *_, last = self.restorer.steps(
            read_tile(self.array, self.layout.plane(number), rows, columns),
            self.told("YXC" if self.layout.colour else "YX"),
            labels=None if marks is None else plane_of(marks, self.layout, number)[rows, columns],
            perception=self.seen,
            maps={} if qmap is None else {0: cut(qmap, rows, columns)},
        )
        assert last.result is not None
        return Part((within(box[0], rows), within(box[1], columns)), last.result)

    def steps(self, box: Box, maps: Mapping[int, QualityMap], keep_residual: bool) -> Iterator[Step]:
        """Restore a part of every plane, with a step after every batch of tiles; the result is of the part alone."""
        known, layout = dict(maps) if self.recipe.handling == "region" else {}, self.layout
        if self.recipe.handling == "region":
            for _ in self.judge(known):
                yield Step(0, 1)
        rows, columns = self.around(box, math.lcm(1, *(qmap.stride for qmap in known.values())))
        marks = check_labels(self.labels, layout, self.recipe)
        alone = Alone(box, (within(box[0], rows), within(box[1], columns)), layout.axes, self.recipe)
        for step in self.restorer.steps(
            self.array[layout.of_each_plane(rows, columns)],
            self.told(layout.axes),
            labels=None if marks is None else marks[..., rows, columns],
            perception=self.seen,
            maps={number: cut(qmap, rows, columns) for number, qmap in known.items()},
            keep_residual=keep_residual,
        ):
            yield Step(step.done, step.total, alone.of(step.result), partial(finished_alone, alone, step))

    def judge(self, maps: dict[int, QualityMap]) -> Iterator[None]:
        """Add the quality maps of the planes that have none, which need more context than a restoration."""
        axes = "YXC" if self.layout.colour else "YX"
        everything = (slice(0, self.layout.height), slice(0, self.layout.width))
        for number in sorted(set(range(self.layout.plane_count)) - maps.keys()):
            plane = read_tile(self.array, self.layout.plane(number), *everything)
            for step in self.restorer.map_steps(plane, axes, self.seen.value_range):
                yield
                if step.map is not None:
                    maps[number] = step.map

    def around(self, box: Box, stride: int = 1) -> Box:
        """Add the context to a part of a plane; quality maps have to be cut between two of their cells."""
        steady = self.restorer.steadying(self.array, self.layout, self.recipe, self.seen)
        return surroundings(self.restorer, self.layout, self.recipe, box, stride, steady)

    def told(self, axes: str) -> Recipe:
        """Return what holds for the part with its context."""
        return make_recipe(self.recipe, axes=axes, value_range="auto")


@dataclass(frozen=True)
class Alone:
    """Cuts the context off a result."""

    box: Box
    """Where the part lies in the whole."""
    inside: Box
    """Where it lies in a result."""
    axes: str
    recipe: Recipe
    """As it was given for the whole."""

    def of(self, result: Result | None) -> Result | None:
        """Return the result without its context."""
        if result is None:
            return None
        index = parse_layout(result.image.shape, self.axes).of_each_plane(*self.inside)
        image = result.image[index].copy()
        kept = result.residual is not None or result.source is not None
        return replace(
            result, image=image, recipe=self.recipe, region=self.box, corner=tuple(one.start for one in self.inside),
            source=result.source[index] if result.source is not None else None,
            layout=parse_layout(image.shape, self.axes) if kept else None,
            residual=None if result.residual is None else result.residual[index].copy(),
        )  # fmt: skip


def finished_alone(alone: Alone, step: Step) -> Result | None:
    """Return the planes that are finished by a step, without their context."""
    return alone.of(step.finished())


def check_region(region: Sequence[slice], layout: Layout) -> Box:
    """Return rows and columns with both ends, or refuse what is no part of a plane."""
    lengths = (layout.height, layout.width)
    parts = tuple(region)
    if len(parts) == 2 and all(isinstance(one, slice) and one.step in (None, 1) for one in parts):
        rows, columns = (slice(*one.indices(n)[:2]) for one, n in zip(parts, lengths, strict=True))
        if rows.start < rows.stop and columns.start < columns.stop:
            return rows, columns
    raise ValueError(
        f"expected region as (slice(top, bottom), slice(left, right)) in {lengths[0]} x {lengths[1]} pixels, "
        f"got {region!r}"
    )


def surroundings(
    restorer: Restorer, layout: Layout, recipe: Recipe, box: Box, stride: int = 1, steady: Tensor | None = None
) -> Box:
    """Add to a part of a plane the context that a recipe wants, between multiples of all steps."""
    step = math.lcm(restorer.system.restorer.size_needs.multiple_of, CONDITION_STEP, stride)
    halo, lengths = restorer.overlap(recipe, steady), (layout.height, layout.width)
    rows, columns = (surrounded(one, halo, step, n) for one, n in zip(box, lengths, strict=True))
    return rows, columns


def surrounded(part: slice, halo: int, step: int, length: int) -> slice:
    """Add the context to a part of an axis, up to the ends of the axis and multiples of a step."""
    return slice(max(0, (part.start - halo) // step * step), min(length, -(-(part.stop + halo) // step) * step))


def within(part: slice, around: slice) -> slice:
    """Return where a part of an axis lies in a larger one."""
    return slice(part.start - around.start, part.stop - around.start)


def cut(qmap: QualityMap, rows: slice, columns: slice) -> QualityMap:
    """Return a part of the quality map of a plane; it begins where cells begin."""
    cells = [slice(p.start // qmap.stride, -(-p.stop // qmap.stride)) for p in (rows, columns)]
    values = {name: getattr(qmap, name)[:, *cells] for name in ("probabilities", "types", "severities")}
    return replace(qmap, **values, shape=(rows.stop - rows.start, columns.stop - columns.start))
