"""A restored picture, all that was done to it, and how to blend it anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perceive_ir import _decision as decision
from perceive_ir._perception import Perception
from perceive_ir._quality_map import QualityMap
from perceive_ir._recipe import Recipe, make_recipe
from perceive_ir._weights import Card
from perceive_ir.images import Layout, LazyArray, apply_residual, read_tile, write_tile

Array = NDArray[Any]


@dataclass(frozen=True)
class Result:
    """A restored picture and all that was done to it."""

    image: Array
    """The input's shape and dtype."""
    perception: Perception
    recipe: Recipe
    model: Card
    note: str = ""
    """What the user should know: unchanged because good, damage of no known type, smaller tiles used."""
    tile: tuple[int, int] = (0, 0)
    """Height and width of the tiles that were used, as the network sees them; (0, 0) if it did not run."""
    source: LazyArray | None = None
    layout: Layout | None = None
    residual: Array | None = None
    """What the network wants to change, in units of the value range; without alpha."""
    maps: Sequence[QualityMap] = ()
    """Quality map of each plane, with handling "region"."""
    corner: tuple[int, ...] = (0, 0)
    """Where the picture begins in the quality maps, which may cover more: row and column."""
    region: tuple[slice, slice] | None = None
    """Which rows and columns of the input it is; None for all."""

    def at(self, strength: float | None = None, tier_strength: Mapping[str, float] | None = None) -> Array:
        """Blend anew with another strength, without running the network."""
        changes: dict[str, Any] = {} if strength is None else {"strength": strength}
        if tier_strength is not None:
            changes["tier_strength"] = {**self.recipe.tier_strength, **tier_strength}
        recipe = make_recipe(self.recipe, **changes)
        array, layout = self._kept()
        out = np.empty(layout.shape, np.dtype(array.dtype))
        whole = (slice(0, layout.height), slice(0, layout.width))
        for number, plane in enumerate(layout.planes()):
            write_tile(out, plane, *whole, self.part(recipe, number, *whole))
        return out

    def part(self, recipe: Recipe, number: int, rows: slice, columns: slice) -> Array:
        """Blend a part of a plane anew with the strengths of a recipe; slices may have steps."""
        array, layout = self._kept()
        plane = layout.plane(number)
        raw = read_tile(array, plane, rows, columns)
        if self.residual is None:
            return raw
        low, high = self.perception.value_range
        change = read_tile(self.residual, plane, rows, columns)
        there = [slice(p.start + n, p.stop + n, p.step) for p, n in zip((rows, columns), self.corner, strict=True)]
        return apply_residual(raw, change, high - low, weights(recipe, self.maps, number, *there))

    def _kept(self) -> tuple[LazyArray, Layout]:
        if self.source is None or self.layout is None:
            raise ValueError("this result was made with keep_residual=False: run restore again to blend anew")
        return self.source, self.layout

    def to_dict(self) -> dict[str, Any]:
        """Say what was done, as plain values for metadata and files."""
        from perceive_ir._version import VERSION

        rows_columns = zip(("rows", "columns"), self.region or (), strict=False)
        region = {name: [one.start, one.stop] for name, one in rows_columns}
        return {
            "software": f"napari-perceive-ir {VERSION}",
            "model": {"name": self.model.name, "version": self.model.version, "sha256": self.model.digest},
            "recipe": self.recipe.model_dump(mode="json"),
            "perception": self.perception.to_dict(),
            "note": self.note,
            **({"region": region} if region else {}),
        }


@dataclass(frozen=True)
class Step:
    """Progress in tiles; the last step carries the result."""

    done: int
    total: int
    result: Result | None = None
    finished: Callable[[], Result | None] = lambda: None
    """Of a stack, the first planes that are finished already; None before the first."""


def untouched(array: LazyArray, layout: Layout, recipe: Recipe, seen: Perception, note: str, card: Card) -> Result:
    """Return the picture as it is."""
    image = np.empty(layout.shape, np.dtype(array.dtype))
    whole = (slice(0, layout.height), slice(0, layout.width))
    for plane in layout.planes():
        write_tile(image, plane, *whole, read_tile(array, plane, *whole))
    return Result(image, seen, recipe, card, note or "unchanged: nothing to do", source=array, layout=layout)


def weights(
    recipe: Recipe,
    maps: Mapping[int, QualityMap] | Sequence[QualityMap],
    number: int,
    rows: slice,
    columns: slice = slice(None),
) -> float | NDArray[np.float32]:
    """Strength of a part of a plane: one number, or with handling "region" one per pixel."""
    if recipe.handling != "region" or not maps:
        return recipe.strength
    return recipe.strength * decision.tier_weights(recipe, maps[number], rows, columns)
