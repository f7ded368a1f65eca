"""A part of a plane, restored as it comes out in the whole picture: with the same perception, range and context."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from perceive_ir._engine import Restorer, check_labels
from perceive_ir._guide import CONDITION_STEP, plane_of
from perceive_ir._perception import Perception, QualityMap
from perceive_ir._recipe import Recipe, make_recipe
from perceive_ir._result import Result
from perceive_ir.images import Layout, LazyArray, read_tile

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
        step = math.lcm(self.restorer.system.restorer.size_needs.multiple_of, CONDITION_STEP)
        step = math.lcm(step, qmap.stride) if qmap is not None else step
        halo, lengths = self.restorer.overlap(self.recipe), (self.layout.height, self.layout.width)
        rows, columns = (surrounded(one, halo, step, n) for one, n in zip(box, lengths, strict=True))
        marks = check_labels(self.labels, self.layout, self.recipe)
        recipe = make_recipe(self.recipe, axes="YXC" if self.layout.colour else "YX", value_range="auto")
        *_, last = self.restorer.steps(
            read_tile(self.array, self.layout.plane(number), rows, columns),
            recipe,
            labels=None if marks is None else plane_of(marks, self.layout, number)[rows, columns],
            perception=self.seen,
            maps={} if qmap is None else {0: cut(qmap, rows, columns)},
        )
        assert last.result is not None
        return Part((within(box[0], rows), within(box[1], columns)), last.result)


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
