"""What a run will cost before it begins: time, tiles and memory, from the tile plan and the speed of the model here.

A speed is measured once, on noise, for each model, device, precision and choice of tasks; every run measures it anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_perceive_ir._run import Estimated, Ready, RunPlan, model_of, worked_on

if TYPE_CHECKING:
    from perceive_ir import Recipe, Restorer

SAMPLE = 192
"""Side of the picture on which the speed is measured, in pixels."""
GIGABYTE = 1e9


@dataclass(frozen=True)
class Speed:
    """How fast a model is here."""

    look: float
    """Seconds to perceive a picture."""
    per_pixel: float
    """Seconds for each pixel that the network sees, with all that is done for it."""
    most: bool = False
    """Whether it may well be faster, because what is perceived decides how much there is to do."""


@dataclass(frozen=True)
class Estimate:
    """What a run will cost."""

    seconds: float
    most: bool
    tiles: int
    side: int
    memory: float
    """Bytes for tiles and results."""

    def words(self) -> str:
        """Say it: "about 12 s · 6 tiles of 512 · 0.8 GB"."""
        tiles = "1 tile" if self.tiles == 1 else f"{self.tiles} tiles of {self.side}"
        memory = f"{max(self.memory / GIGABYTE, 0.1):.1f} GB"
        return f"{'up to' if self.most else 'about'} {duration(self.seconds)} · {tiles} · {memory}"


SPEEDS: dict[tuple[Any, ...], Speed] = {}
"""Speeds that are known, by what they depend on."""


def estimating(*plans: RunPlan) -> Iterator[Any]:
    """Say what a run will cost; the model is loaded and its speed measured where they are not yet."""
    recipe = plans[0].recipe
    restorer = model_of(recipe)
    yield Ready()
    if key_of(recipe) not in SPEEDS:
        SPEEDS[key_of(recipe)] = measured(restorer, recipe)
    yield Estimated(estimate(restorer, SPEEDS[key_of(recipe)], plans))


def estimate(restorer: Restorer, speed: Speed, plans: tuple[RunPlan, ...]) -> Estimate:
    """Say what pictures will cost one after the other."""
    from perceive_ir.images import check_array, residual_dtype

    tiles, side, pixels, memory, results = 0, 0, 0, 0.0, 0.0
    for plan in plans:
        check_array(plan.array)
        layout = worked_on(restorer, plan)
        laid, choice = restorer.lay_tiles(layout, plan.recipe, plan.recipe.tile)
        count, area = laid.count * layout.plane_count, math.prod(laid.tile_shape)
        tiles, side, pixels = tiles + count, max(side, choice.tile), pixels + count * area
        memory = max(memory, choice.batch * area * restorer.system.restorer.bytes_per_pixel)
        dtype = np.dtype(plan.array.dtype)
        results += math.prod(layout.shape) * (dtype.itemsize + residual_dtype(dtype).itemsize)
    seconds = speed.look * len(plans) + speed.per_pixel * pixels
    return Estimate(seconds, speed.most, tiles, side, memory + results)


def measured(restorer: Restorer, recipe: Recipe) -> Speed:
    """Restore noise, as a run with this recipe would, and take the time."""
    from perceive_ir._recipe import make_recipe
    from perceive_ir._vocabulary import TASKS

    tasks, handling = tasks_of(recipe), "region" if recipe.handling == "region" else "image"
    noise = np.random.default_rng(0).random((SAMPLE, SAMPLE), np.float32)
    work = make_recipe(recipe, axes="YX", task=tasks or TASKS, severity=0.5, handling=handling, tile="auto")
    begin = perf_counter()
    seen = restorer.perceive(noise, "YX")
    look = perf_counter() - begin
    restorer.restore(noise[:64, :64], work, perception=seen)  # the first pass of a network is slow
    begin = perf_counter()
    restorer.restore(noise, work, perception=seen)
    return Speed(look, (perf_counter() - begin) / noise.size, most=not tasks)


def learn(recipe: Recipe, seconds: float, pixels: int) -> None:
    """Remember how long a run took for what its network saw, where the next one will have as much to do."""
    known = SPEEDS.get(key_of(recipe))
    if known is not None and not known.most and pixels:
        SPEEDS[key_of(recipe)] = Speed(known.look, seconds / pixels)


def key_of(recipe: Recipe) -> tuple[Any, ...]:
    """Return what the speed depends on."""
    return recipe.model, recipe.device, recipe.precision, recipe.handling, tasks_of(recipe)


def tasks_of(recipe: Recipe) -> tuple[str, ...]:
    """Return the tasks that are chosen or painted; none where the picture decides."""
    painted = {task for task, _ in recipe.painted.values()} if recipe.handling == "painted" else ()
    return tuple(sorted(painted or recipe.tasks))


def duration(seconds: float) -> str:
    """Say a time: "8 s", "3 min", "2.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
