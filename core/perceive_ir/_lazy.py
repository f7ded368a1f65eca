"""Arrays that are larger than memory: restored chunk by chunk, when somebody asks for the pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perceive_ir._catalogue import find, loaded
from perceive_ir._errors import MissingExtraError
from perceive_ir._part import Box, Whole, surrounded, surroundings, within
from perceive_ir._perception import Perception
from perceive_ir._quality_map import margin
from perceive_ir._recipe import Recipe, make_recipe
from perceive_ir._windows import NEIGHBOURS, STRIDE, WINDOW
from perceive_ir.files._zarr import stored_in
from perceive_ir.images import Layout, LazyArray, check_array, find_range, parse_layout, read_tile, write_tile

if TYPE_CHECKING:
    from perceive_ir._engine import Restorer

SIDE = 512
"""Chunks are at least this long and wide where the picture is, so that their context does not cost too much."""
MOST = 2**24
"""Pixels of a chunk, from which on it has one plane only."""
_ONE_AT_A_TIME = Lock()
"""The network computes with all processors anyway; several chunks at once would only need more memory."""

Array = NDArray[Any]


def restore_lazy(
    array: Any,
    recipe: Recipe | Mapping[str, Any] | None = None,
    *,
    perception: Perception | None = None,
    **fields: Any,
) -> Any:
    """Restore an array that may be larger than memory, when its pixels are asked for.

    What is wrong with the picture, and which values are black and white, is found once and now: from at most 16 crops,
    and from every n-th pixel.

    Parameters
    ----------
    array
        Picture or stack; dask, zarr, or anything else with a shape, a dtype and slices. Not its coarser levels.
    recipe
        What to do; fields given by name override it. Handling "painted" needs the whole picture.
    perception
        What was seen before, instead of looking now; its value range is used too.
    **fields
        Fields of the recipe.

    Returns
    -------
    dask.array.Array
        Of the array's shape and dtype. Its pixels are those of `restore` within 1/512 of the value range; computing
        some of them reads and computes their chunks, with the context around them, and nothing else.
    """
    chunked, made = dask_array(), chunks_of(array, make_recipe(recipe, **fields), perception)
    card = model_of(made.recipe).card
    token = chunked.core.tokenize(array, made.recipe.model_dump_json(), made.seen.to_dict(), card.digest)
    dtype = np.dtype(made.source.dtype)
    return chunked.map_blocks(
        made,
        chunks=chunked.core.normalize_chunks(made.sides, made.layout.shape),
        dtype=dtype,
        meta=np.empty((0,) * len(made.sides), dtype),
        name=f"restored-{token}",
    )


def chunks_of(
    array: Any, recipe: Recipe, perception: Perception | None = None, restorer: Restorer | None = None
) -> Chunks:
    """Return what computes the chunks of a restored array; what is wrong with it is found now, unless it is known."""
    if recipe.handling == "painted":
        raise ValueError("handling 'painted' needs the whole picture: use restore(), or handling 'image' or 'region'")
    source = source_of(check_array(array))
    layout = parse_layout(source.shape, recipe.axes)
    model = restorer or model_of(recipe)
    model.check_overlap(recipe)
    if perception is None:
        perception = model.perceive(source, recipe.axes, recipe.value_range)
    elif recipe.value_range != "auto":
        perception = replace(perception, value_range=find_range(source, layout, recipe.value_range))
    model.steadying(source, layout, recipe, perception)  # found in the whole, for every chunk
    return Chunks(source, layout, recipe, perception, sides_of(layout, stored_in(array)), restorer)


def dask_array() -> Any:
    """Return dask's module of arrays, which is optional."""
    try:
        import dask.array
    except ImportError:
        raise MissingExtraError('restoring lazily needs dask: pip install "napari-perceive-ir[zarr]"') from None
    return dask.array


def model_of(recipe: Recipe) -> Restorer:
    """Return the model that a recipe names, loaded once in each process."""
    return loaded(find(recipe.model), recipe.device, recipe.precision)


@dataclass(frozen=True)
class Chunks:
    """Computes chunks of the restored array."""

    source: LazyArray
    layout: Layout
    recipe: Recipe
    seen: Perception
    sides: tuple[int, ...]
    """How long a chunk is along each axis, unless the array ends in it."""
    restorer: Restorer | None = None
    """The model; None for the one that the recipe names, loaded once in each process."""

    def __call__(self, block_id: tuple[int, ...] | None = None) -> Array:
        """Restore the chunk that dask counts so along each axis, plane by plane."""
        assert block_id is not None  # which dask looks for among the arguments that have a default
        spans = spans_of(block_id, self.sides, self.layout.shape)
        along = dict(zip(self.layout.axes, spans, strict=True))
        box = slice(along["Y"].start, along["Y"].stop), slice(along["X"].start, along["X"].stop)
        out = np.empty([len(span) for span in spans], self.source.dtype)
        planes = Layout(out.shape, self.layout.axes).planes()
        stack = [span for axis, span in enumerate(spans) if axis in self.layout.stack_axes]
        whole = slice(None), slice(None)
        for plane, place in zip(planes, product(*stack), strict=True):
            write_tile(out, plane, *whole, self.restored(self.layout.number_of(place), box))
        return out

    def restored(self, number: int, box: Box) -> Array:
        """Restore a part of a plane; no more of it is read than what counts there."""
        with _ONE_AT_A_TIME:
            restorer = self.restorer or model_of(self.recipe)
        rows, columns = self.read(restorer, box)
        pixels = read_tile(self.source, self.layout.plane(number), rows, columns)  # which may be restored lazily too
        with _ONE_AT_A_TIME:
            axes, judged = "YXC" if self.layout.colour else "YX", self.recipe.handling == "region"
            qmap = restorer.quality_map(pixels, axes, self.seen.value_range) if judged else None
            recipe = make_recipe(self.recipe, axes=axes)
            near = Whole(restorer, pixels, parse_layout(pixels.shape, axes), recipe, self.seen)
            return near.restore(0, (within(box[0], rows), within(box[1], columns)), qmap).at(recipe)

    def read(self, restorer: Restorer, box: Box) -> Box:
        """Return what is read for a part of a plane; judging the quality there needs more than restoring it."""
        steady = restorer.steadying(self.source, self.layout, self.recipe, self.seen)
        if self.recipe.handling != "region":
            return surroundings(restorer, self.layout, self.recipe, box, steady=steady)
        around = NEIGHBOURS + (WINDOW - STRIDE) // 2 + margin(restorer.system.perceiver)
        rows, columns = surroundings(restorer, self.layout, self.recipe, box, STRIDE, steady)
        step = math.lcm(STRIDE, restorer.system.restorer.size_needs.multiple_of)
        return (
            surrounded(rows, around, step, self.layout.height),
            surrounded(columns, around, step, self.layout.width),
        )


class Dask:  # not a dataclass: dask looks into these and would compute the whole array
    """A dask array whose parts are computed in the thread that asks, which is itself one of dask's.

    Parameters
    ----------
    array
        The dask array.
    """

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.dtype = np.dtype(array.dtype)

    def __getitem__(self, key: Any) -> Array:
        part: Array = self.array[key].compute(scheduler="synchronous")
        return part


def spans_of(block: Sequence[int], sides: Sequence[int], shape: Sequence[int]) -> list[range]:
    """Return what a chunk covers of each axis."""
    return [range(at * side, min((at + 1) * side, n)) for at, side, n in zip(block, sides, shape, strict=True)]


def source_of(array: LazyArray) -> LazyArray:
    """Return an array that can be read inside a computation of dask."""
    return Dask(array) if hasattr(array, "compute") and hasattr(array, "dask") else array


def sides_of(layout: Layout, chunks: Any) -> tuple[int, ...]:
    """Choose how long chunks are: as those of the source, in planes as many of them as make a good size."""
    lengths = [first(one) for one in chunks] if chunks is not None else [0] * len(layout.shape)
    sides = []
    for letter, n, length in zip(layout.axes, layout.shape, lengths, strict=True):
        if letter in "YX":
            sides.append(min(n, math.ceil(SIDE / (length or SIDE)) * (length or SIDE)))
        else:
            sides.append(n if layout.colour and letter == layout.axes[-1] else max(1, length))
    if math.prod(sides) > MOST:
        sides = [1 if axis in layout.stack_axes else side for axis, side in enumerate(sides)]
    return tuple(sides)


def first(chunks: int | Sequence[int]) -> int:
    """Return the length of the chunks of an axis, as zarr or as dask says it."""
    return chunks if isinstance(chunks, int) else int(chunks[0])
