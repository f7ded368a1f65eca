"""One restoration or quality map as a plan and a stream of events; knows no Qt and touches no layer while it runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING, Any

from napari_perceive_ir._fingerprint import fingerprint
from napari_perceive_ir._pyramid import coarser
from perceive_ir import Recipe
from perceive_ir._advice import EXPECTED
from perceive_ir._recipe import make_recipe
from perceive_ir._windows import STRIDE, WINDOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_perceive_ir._estimate import Estimate
    from napari_perceive_ir._lazy_picture import LazyPicture
    from napari_perceive_ir._part import Part
    from perceive_ir import Perception, QualityMap, Restorer, Result
    from perceive_ir._lazy import Chunks
    from perceive_ir._part import Box
    from perceive_ir._weights import Card
    from perceive_ir.images import Layout

NO_MATTER = ("strength", "tier_strength", "axes", "device", "precision", "memory")
"""Fields of the recipe that may differ between a result and controls that still speak of it."""
_LOADING = Lock()
MISTAKES = EXPECTED
"""What the user is told in one line, its traceback kept in the log; everything else is a bug and is raised as one."""


@dataclass(frozen=True)
class RunPlan:
    """All that a restoration needs, taken from the layer before it starts."""

    array: Any
    recipe: Recipe
    """With the axes of the array."""
    place: Mapping[str, Any]
    """Where the layer lies and how it looks, for the case that its data are replaced during the run."""
    labels: Any = None
    part: Part | None = None
    """What of the array is restored; None for all of it."""
    coarser: Sequence[Any] = ()
    """The other levels of a multiscale layer."""
    maps: Mapping[int, QualityMap] | None = None
    """Quality maps of planes that need not be judged again."""

    @property
    def levels(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of all levels of a multiscale layer, the array's first."""
        return tuple(tuple(one.shape) for one in (self.array, *self.coarser)) if self.coarser else ()

    def pixels(self) -> Any:
        """Return what is perceived, and restored but for a region of it; of a lazy array it may be read here."""
        return self.array if self.part is None else self.array[self.part.index]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of what is perceived."""
        return tuple(self.array.shape if self.part is None else (one.stop - one.start for one in self.part.index))

    @property
    def region(self) -> Box | None:
        """The rows and columns that are restored; None for all."""
        return None if self.part is None else self.part.region


@dataclass(frozen=True)
class Ready:
    """The model is loaded."""


@dataclass(frozen=True)
class Seen:
    """The picture has been looked at."""

    perception: Perception


@dataclass(frozen=True)
class Progress:
    """Tiles done, or parts of a map; of all pictures of the job."""

    done: int
    total: int
    finished: Callable[[], Result | None] = lambda: None
    """The planes of the current stack that are finished already."""


@dataclass(frozen=True)
class Finished:
    """The picture is restored."""

    result: Result
    coarser: Sequence[NDArray[Any]] = ()
    """Its other levels, where the layer is multiscale."""
    edited: bool = False
    """Whether somebody wrote into the picture meanwhile."""


@dataclass(frozen=True)
class Looked:
    """The picture has been looked at, and is restored where somebody looks from now on."""

    picture: LazyPicture
    about: Mapping[str, Any]
    """How it is restored, for metadata."""


@dataclass(frozen=True)
class Blended:
    """A result has been blended anew."""

    result: Result
    coarser: Sequence[NDArray[Any]] = ()
    """Its other levels, where its layer is multiscale."""


@dataclass(frozen=True)
class Previewed:
    """A part of a plane is restored as far as it goes by now."""

    pixels: NDArray[Any]
    """With all axes of the layer."""
    corner: tuple[int, ...]
    """The pixel of the layer that is the first."""
    done: int = 0
    total: int = 0
    """Parts; none as long as the picture is not looked at."""
    note: str = ""


@dataclass(frozen=True)
class Mapped:
    """The picture is judged place by place."""

    map: QualityMap
    value_range: tuple[float, float]
    """The values that counted as black and white."""
    model: Card


@dataclass(frozen=True)
class Found:
    """Labels are painted."""

    labels: tuple[int, ...]
    all: bool
    """Whether everything has been looked through."""


@dataclass(frozen=True)
class Estimated:
    """What a run will cost is known."""

    estimate: Estimate


@dataclass(frozen=True)
class Failed:
    """Something went wrong."""

    error: Exception


Event = Ready | Seen | Progress | Finished | Looked | Blended | Previewed | Mapped | Found | Estimated | Failed


def restoring(*plans: RunPlan) -> Iterator[Event]:
    """Restore pictures one after the other, with an event after every batch of tiles; close the iterator to cancel."""
    from napari_perceive_ir._estimate import learn

    restorer = model_of(plans[0].recipe)
    yield Ready()
    tiles = [tiles_of(restorer, plan) for plan in plans]
    for number, plan in enumerate(plans):
        pixels, recipe = plan.pixels(), plan.recipe
        before = fingerprint(pixels)
        seen = restorer.perceive(pixels, recipe.axes, recipe.value_range)
        yield Seen(seen)
        began = perf_counter()
        given = {"labels": plan.labels, "region": plan.region, "perception": seen, "maps": plan.maps}
        for step in restorer.steps(pixels, recipe, **given):
            tiles[number] = step.total
            if step.result is not None:
                learn(recipe, perf_counter() - began, step.total * math.prod(step.result.tile))
            yield Progress(sum(tiles[:number]) + step.done, sum(tiles), step.finished)
            if step.result is not None:
                yield Finished(step.result, coarser(step.result.image, plan.levels), fingerprint(pixels) != before)


def looking(*plans: RunPlan) -> Iterator[Event]:
    """Look at pictures one after the other, and restore nothing yet."""
    from napari_perceive_ir._lazy_picture import LazyPicture
    from perceive_ir._lazy import chunks_of

    restorer = model_of(plans[0].recipe)
    yield Ready()
    for plan in plans:
        chunks = chunks_of(plan.array, plan.recipe, restorer=restorer)
        yield Seen(chunks.seen)
        yield Looked(LazyPicture([plan.array, *plan.coarser], chunks), about_lazy(chunks, restorer))


def about_lazy(chunks: Chunks, restorer: Restorer) -> dict[str, Any]:
    """Say how a picture is restored of which nothing is restored yet."""
    import numpy as np

    from perceive_ir import Result

    recipe, seen = chunks.recipe, chunks.seen
    return Result(np.empty(0), seen, recipe, restorer.card, restorer.decide(recipe, seen).note).to_dict()


def tiles_of(restorer: Restorer, plan: RunPlan) -> int:
    """Count the tiles of a picture; one that cannot be restored is refused before any is."""
    from perceive_ir.images import check_array

    check_array(plan.array)
    layout = worked_on(restorer, plan)
    return restorer.lay_tiles(layout, plan.recipe, plan.recipe.tile)[0].count * layout.plane_count


def worked_on(restorer: Restorer, plan: RunPlan) -> Layout:
    """Return the layout of what the network sees: of a region with the context around it."""
    from perceive_ir._part import surroundings
    from perceive_ir.images import parse_layout

    layout = parse_layout(plan.shape, plan.recipe.axes)
    if plan.region is None:
        return layout
    part = layout.of_each_plane(*surroundings(restorer, layout, plan.recipe, plan.region))
    return parse_layout([len(range(n)[one]) for n, one in zip(layout.shape, part, strict=True)], layout.axes)


def blending(result: Result, wanted: Recipe, levels: Sequence[tuple[int, ...]] = ()) -> Iterator[Event]:
    """Blend a result, shown in these levels, with the strengths of another recipe."""
    image, recipe = result.at(**strengths(wanted)), make_recipe(result.recipe, **strengths(wanted))
    yield Blended(replace(result, image=image, recipe=recipe), coarser(image, levels))


def mapping(plan: RunPlan, window: int = WINDOW, stride: int = STRIDE) -> Iterator[Event]:
    """Judge place by place, with an event after every part of a plane; close the iterator to cancel."""
    from perceive_ir.images import check_array, find_range, parse_layout

    restorer, axes = model_of(plan.recipe), plan.recipe.axes
    yield Ready()
    array = check_array(plan.array)
    limits = find_range(array, parse_layout(array.shape, axes), plan.recipe.value_range)
    for step in restorer.map_steps(array, axes, limits, window=window, stride=stride):
        yield Progress(step.done, step.total)
        if step.map is not None:
            yield Mapped(step.map, limits, restorer.card)


def guarded(events: Callable[..., Iterator[Event]], *args: Any) -> Iterator[Event]:
    """Turn an error into the last event: threads of napari swallow a RuntimeError and then never finish."""
    try:
        yield from events(*args)
    except Exception as error:
        yield Failed(error)


def loading(recipe: Recipe) -> Iterator[Event]:
    """Load the model that a recipe names, so that it is there when it is needed."""
    model_of(recipe)
    yield Ready()


def model_of(recipe: Recipe) -> Restorer:
    """Return the model that a recipe names; it is loaded once and kept, however many ask for it at once."""
    from perceive_ir._catalogue import loaded

    with _LOADING:
        return loaded(recipe.model, recipe.device, recipe.precision)


def same_but_strength(one: Recipe, other: Recipe) -> bool:
    """Whether two recipes differ in nothing but what blending anew can change, and where and how it was computed."""
    return one == make_recipe(other, **{name: getattr(one, name) for name in NO_MATTER})


def strengths(recipe: Recipe) -> dict[str, Any]:
    """Return the fields of a recipe that blending anew can change."""
    return {"strength": recipe.strength, "tier_strength": recipe.tier_strength}


def shown_severity(recipe: Recipe, seen: Perception) -> float | None:
    """Return the severity that was read for the chosen task, where there is exactly one."""
    from perceive_ir._vocabulary import type_of

    return seen.severities[type_of(recipe.tasks[0])] if len(recipe.tasks) == 1 else None
