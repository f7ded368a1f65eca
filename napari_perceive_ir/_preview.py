"""A preview: what the canvas shows of a picture, restored as it will come out in the whole; knows no Qt.

A plane is restored in cells, those in the middle of the canvas first. Cells, perception and quality maps are kept, so
that panning restores only what comes into sight, and another strength restores nothing.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_perceive_ir._layers import plan_run
from napari_perceive_ir._part import NoPlane
from napari_perceive_ir._run import Event, Previewed, Progress, Ready, RunPlan, Seen, model_of
from napari_perceive_ir._visible import plane_index, visible_box
from napari_perceive_ir._words import sentence
from perceive_ir import Recipe
from perceive_ir._recipe import make_recipe

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from perceive_ir import Perception, QualityMap
    from perceive_ir._part import Part, Whole

CELL = 128
"""Side of a cell, in pixels."""
LUMP = 2
"""So many cells down and across are restored at once, but for the very first."""
MOST_PIXELS = 2_000_000
"""What is larger is previewed in its middle."""
MOST_CELLS = 2 * MOST_PIXELS // CELL**2
"""Cells that are kept."""

Box = tuple[slice, slice]
"""Rows and columns."""
Cell = tuple[int, int]
Key = tuple[str, int]
"""What a restored cell depends on, but for the pixels."""


class NotPreviewed(Exception):
    """Why there is no preview, in one line."""


@dataclass(frozen=True)
class PreviewPlan:
    """What of a layer is to be previewed."""

    run: RunPlan
    index: tuple[int, ...]
    """Which plane: a pixel of each axis of the layer; those along Y and X do not matter."""
    box: Box
    cropped: bool
    """Whether the canvas shows more than that."""


@dataclass(frozen=True, eq=False)
class Patch:
    """Some cells, restored together."""

    box: Box
    part: Part

    def paste(self, pixels: NDArray[Any], box: Box, recipe: Recipe) -> None:
        """Write what lies in a box into its pixels."""
        both = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(self.box, box, strict=True)]
        here, there = (
            tuple(slice(one.start - a.start, one.stop - a.start) for one, a in zip(both, around, strict=True))
            for around in (self.box, box)
        )
        pixels[there] = self.part.at(recipe)[here]


class Known:
    """What was found in one picture, or in a plane that is looked at alone; one preview at a time adds to it.

    Parameters
    ----------
    plan
        A run on the picture.
    """

    def __init__(self, plan: RunPlan) -> None:
        self.array, self.part = plan.array, plan.part
        self.perception: Perception | None = None
        self.maps: dict[int, QualityMap] = {}
        self._looked = looked_with(plan.recipe)
        self._patches: dict[tuple[Key, int, Cell], Patch] = {}

    def fits(self, plan: RunPlan) -> bool:
        """Whether a run looks at the same pixels in the same way."""
        same = plan.array is self.array and plan.part == self.part
        return same and looked_with(plan.recipe) == self._looked

    def patch(self, key: Key, number: int, cell: Cell) -> Patch | None:
        """Return the restored patch of a plane that holds a cell."""
        return self._patches.get((key, number, cell))

    def keep(self, keys: Mapping[Cell, Key], number: int, cells: Sequence[Cell], patch: Patch) -> None:
        """Keep a patch, and forget the oldest ones."""
        for cell in cells:
            self._patches[keys[cell], number, cell] = patch
        for old in list(self._patches)[:-MOST_CELLS]:
            del self._patches[old]


def plan_preview(
    viewer: Any, layer: Image | None, recipe: Recipe, point: Sequence[float] | None = None, labels: Labels | None = None
) -> PreviewPlan:
    """Find out what to preview, or raise NotPreviewed; with a point, its plane is looked at alone."""
    if layer is None:
        raise NotPreviewed("There is no picture to preview.")
    if viewer.dims.ndisplay != 2:
        raise NotPreviewed("There is a preview in the 2D view only.")
    try:
        run = plan_run(layer, recipe, labels, point)
    except NoPlane as error:  # which the next move of a slider may change
        raise NotPreviewed(sentence(str(error))) from None
    seen = visible_box(viewer, layer, run.recipe.axes)
    if seen is None:
        raise NotPreviewed("The preview shows planes of Y and X: turn the axes back to see it.")
    if not all(one.stop > one.start for one in seen):
        raise NotPreviewed("The picture is out of sight.")
    box = middle(seen)
    return PreviewPlan(run, plane_index(viewer, layer), box, box != seen)


def middle(box: Box) -> Box:
    """Return the middle part of a box that is too large."""
    lengths = [one.stop - one.start for one in box]
    share = min(1.0, math.sqrt(MOST_PIXELS / math.prod(lengths)))
    kept = [max(1, int(n * share)) for n in lengths]
    starts = [one.start + (n - k) // 2 for one, n, k in zip(box, lengths, kept, strict=True)]
    rows, columns = (slice(start, start + k) for start, k in zip(starts, kept, strict=True))
    return rows, columns


def previewing(plan: PreviewPlan, known: Known) -> Iterator[Event]:
    """Restore what is planned and not known yet, with an event after every patch; close the iterator to cancel.

    Of a new picture the pixels come first as they are: while it is looked at, napari makes a layer of them.
    """
    from perceive_ir._part import Whole
    from perceive_ir.images import check_array, parse_layout, read_tile

    restorer, run = model_of(plan.run.recipe), plan.run
    yield Ready()
    array = check_array(run.pixels())
    layout = parse_layout(array.shape, run.recipe.axes)
    number = 0 if run.part else plane_number(run.recipe.axes, layout.stack_shape, plan.index)
    pixels = np.array(read_tile(array, layout.plane(number), *plan.box))
    if known.perception is None:
        yield Previewed(lifted(pixels, run.recipe.axes, plan.index), corner(plan))
        known.perception = restorer.perceive(array, run.recipe.axes, run.recipe.value_range)
    yield Seen(known.perception)
    whole = Whole(restorer, array, layout, run.recipe, known.perception, run.labels)
    if run.recipe.handling == "region":
        yield from judging(whole, number, known)
    for note, done, total in patched(pixels, plan, whole, number, known):
        yield Previewed(lifted(pixels, run.recipe.axes, plan.index), corner(plan), done, total, note)


def judging(whole: Whole, number: int, known: Known) -> Iterator[Event]:
    """Make the quality map of a plane once."""
    from perceive_ir.images import read_tile

    if number in known.maps:
        return
    layout = whole.layout
    plane = read_tile(whole.array, layout.plane(number), slice(0, layout.height), slice(0, layout.width))
    axes = "YXC" if layout.colour else "YX"
    for step in whole.restorer.map_steps(plane, axes, whole.seen.value_range):
        yield Progress(step.done, step.total)
        if step.map is not None:
            known.maps[number] = step.map


def patched(
    pixels: NDArray[Any], plan: PreviewPlan, whole: Whole, number: int, known: Known
) -> Iterator[tuple[str, int, int]]:
    """Paste patches into pixels, first all that are known, then one by one: yields a note, cells done and cells."""
    recipe, size = whole.recipe, (whole.layout.height, whole.layout.width)
    cells = cells_in(plan.box)
    keys = {cell: (restored_with(recipe), painted_around(whole, number, box_of([cell], size))) for cell in cells}
    patches = {cell: known.patch(keys[cell], number, cell) for cell in cells}
    for patch in dict.fromkeys(p for p in patches.values() if p is not None):
        patch.paste(pixels, plan.box, recipe)
    missing = [cell for cell in cells if patches[cell] is None]
    note = next((p.part.result.note for p in patches.values() if p is not None), "")
    if len(missing) < len(cells):
        yield note, len(cells) - len(missing), len(cells)
    done = set(cells) - set(missing)
    for lump in lumps(missing, plan.box):
        box = box_of(lump, size)
        patch = Patch(box, whole.restore(number, box, known.maps.get(number)))
        known.keep(keys, number, lump, patch)
        patch.paste(pixels, plan.box, recipe)
        done |= set(lump)
        yield patch.part.result.note, len(done), len(cells)


def painted_around(whole: Whole, number: int, box: Box) -> int:
    """Return a number that is another one when other labels are painted where a part of a plane looks."""
    from perceive_ir._guide import plane_of

    if whole.labels is None:
        return 0
    return zlib.crc32(plane_of(whole.labels, whole.layout, number)[whole.around(box)].tobytes())


def cells_in(box: Box) -> list[Cell]:
    """Return the cells that a box touches."""
    ys, xs = (range(one.start // CELL, -(-one.stop // CELL)) for one in box)
    return [(y, x) for y in ys for x in xs]


def lumps(cells: Sequence[Cell], box: Box) -> list[list[Cell]]:
    """Group cells that are restored together: first the one in the middle of a box, then the nearest lumps."""
    centre = [(one.start + one.stop) / 2 / CELL - 0.5 for one in box]
    nearest = sorted(cells, key=lambda cell: math.dist(cell, centre))
    grouped: dict[Cell, list[Cell]] = {}
    for y, x in nearest[1:]:
        grouped.setdefault((y // LUMP, x // LUMP), []).append((y, x))
    return [nearest[:1], *grouped.values()] if nearest else []


def box_of(cells: Sequence[Cell], size: tuple[int, int]) -> Box:
    """Return the pixels of a plane that cells cover, and what lies between them."""
    ys, xs = zip(*cells, strict=True)
    rows, columns = (slice(CELL * min(ns), min(n, CELL * (max(ns) + 1))) for ns, n in zip((ys, xs), size, strict=True))
    return rows, columns


def plane_number(axes: str, stack_shape: Sequence[int], index: Sequence[int]) -> int:
    """Return which plane of a stack an index lies in, counted in C order."""
    place = [n for axis, n in zip(axes, index, strict=False) if axis not in "YX"][: len(stack_shape)]
    return int(np.ravel_multi_index(place, tuple(stack_shape))) if stack_shape else 0


def lifted(pixels: NDArray[Any], axes: str, index: Sequence[int]) -> NDArray[Any]:
    """Return a copy of a part of a plane with all axes of its layer; a channel of it, if the layer counts them."""
    if pixels.ndim == 3 and len(index) == len(axes):
        pixels = pixels[..., index[-1]]
    lengths = dict(zip("YX", pixels.shape, strict=False))
    if axes.index("X") < axes.index("Y"):
        pixels = pixels.swapaxes(0, 1)
    shape = [lengths.get(axis, 1) for axis in axes[: len(index)]]
    return np.array(pixels).reshape(*shape, *pixels.shape[2:])


def corner(plan: PreviewPlan) -> tuple[int, ...]:
    """Return the pixel of the layer that is the first of the preview."""
    starts = dict(zip("YX", (one.start for one in plan.box), strict=True))
    return tuple(starts.get(axis, n) for axis, n in zip(plan.run.recipe.axes, plan.index, strict=False))


def looked_with(recipe: Recipe) -> tuple[Any, ...]:
    """Return the fields of a recipe that a perception depends on."""
    return recipe.model, recipe.axes, recipe.value_range


def restored_with(recipe: Recipe) -> str:
    """Return all of a recipe but what blending anew can change, as text."""
    start = Recipe(handling=recipe.handling)
    return make_recipe(recipe, strength=start.strength, tier_strength=start.tier_strength).model_dump_json()
