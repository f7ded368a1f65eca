"""The engine: an array in, a restored array out, tile by tile, with progress and a true cancel after every batch.

Perception and value range are found once per image and shared by all tiles. The network's residual is added to the
values as they are stored: ``out = in + strength * scale * sum(window * (net(x) - x))``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from perceive_ir import _decision as decision
from perceive_ir._device import (
    GIB,
    choose_device,
    choose_precision,
    in_company,
    looking,
    memory_budget,
    without_denormals,
)
from perceive_ir._encoders import equip
from perceive_ir._guide import CONDITION_STEP, Guide, joined, told
from perceive_ir._labels import check_labels
from perceive_ir._opinion import in_its_way, precision_for
from perceive_ir._output import Job, Output, grouped, parts
from perceive_ir._part import Box, Whole, check_region
from perceive_ir._perception import Perception, Subject, mirror, perceive
from perceive_ir._quality_map import MapStep, QualityMap, map_steps
from perceive_ir._recipe import Recipe, make_recipe
from perceive_ir._result import Result, Step, untouched
from perceive_ir._shaken import explained, shake_of
from perceive_ir._tiles import TileChoice, TilePlan, pick_tile, plan_tiles, smaller
from perceive_ir._vocabulary import TYPES, type_of
from perceive_ir._weights import Card
from perceive_ir._windows import STRIDE, WINDOW, check_window
from perceive_ir.images import (
    FILL_REACH,
    Layout,
    LazyArray,
    check_array,
    find_range,
    parse_layout,
    to_network,
)
from perceive_ir.networks import ForeignNet, Signals, System
from perceive_ir.networks.steady import FROM
from perceive_ir.networks.steady import REACH as STEADY_REACH

BLEND = 8
"""Half the width of the ramp between neighbouring tiles, in pixels."""
DEFAULT_OVERLAP = 56
"""Context around a tile that brings it within 1/512 of the whole image (measured)."""
CHAIN_OVERLAP = 72
"""The same where several networks work one after the other, each on what the one before it made."""
WIDE_OVERLAP = 64
"""The same where a network sees the whole tile: half of it is ramp, for there is no overlap at which tiles agree."""
LARGEST_TILE = {"cpu": 512, "cuda": 1024, "mps": 512}
"""Larger tiles are no faster."""

Array = NDArray[Any]


class Restorer:
    """A loaded model: perceives, maps and restores arrays.

    Parameters
    ----------
    system
        The networks, in evaluation mode; frozen encoders that they need are loaded here.
    card
        What the weights say of themselves.
    device, precision
        As in the recipe; "auto" chooses.
    """

    def __init__(self, system: System, card: Card, *, device: str = "auto", precision: str = "auto") -> None:
        self.card = card
        self.device = choose_device(device)
        self.system = equip(system).to(self.device).eval().requires_grad_(False)
        foreign = isinstance(system.restorer, ForeignNet)
        self.precision = choose_precision(precision_for(system.restorer, precision), self.device)
        # A network of others may count on the usual order of values in memory.
        (system.perceiver if foreign else system).to(memory_format=torch.channels_last)

    def compile(self) -> None:
        """Compile the restorer with ``torch.compile``; pays for many tiles of one size, costs a minute at the first."""
        self.system.restorer.compile()

    def perceive(self, image: Any, axes: str = "auto", value_range: str | tuple[float, float] = "auto") -> Perception:
        """Say what is wrong with a picture, or with a stack as one, and how badly."""
        return self.perceive_all([look_at(image, axes, value_range)])[0]

    def perceive_all(self, subjects: Sequence[Subject], *, brief: bool = False) -> list[Perception]:
        """Say the same of several pictures, each for itself; crops of one size are looked at together.

        A brief look leaves out every other crop, and takes little more than half the time where there are several.
        """
        with looking(self.device):
            seen = perceive(self.system, subjects, self.device, brief=brief)
        if brief or not self.system.config.steady:
            return seen
        return [explained(subject, one) for subject, one in zip(subjects, seen, strict=True)]

    def quality_map(
        self,
        image: Any,
        axes: str = "auto",
        value_range: str | tuple[float, float] = "auto",
        *,
        window: int = WINDOW,
        stride: int = STRIDE,
    ) -> QualityMap:
        """Say what is wrong place by place, in windows of ``window`` pixels every ``stride`` pixels."""
        *_, last = self.map_steps(image, axes, value_range, window=window, stride=stride)
        assert last.map is not None
        return last.map

    def map_steps(
        self,
        image: Any,
        axes: str = "auto",
        value_range: str | tuple[float, float] = "auto",
        *,
        window: int = WINDOW,
        stride: int = STRIDE,
    ) -> Iterator[MapStep]:
        """Map as `quality_map` does, but yield after every chunk; close the iterator to cancel."""
        array = check_array(image)
        layout = parse_layout(array.shape, axes)
        check_window(window, stride)
        limits = find_range(array, layout, value_range)
        steps = map_steps(self.system.perceiver, array, layout, limits, self.device, window, stride)
        while True:
            with looking(self.device):  # not while others wait for the next step
                step = next(steps, None)
            if step is None:
                return
            yield step

    def restore(
        self,
        image: Any,
        recipe: Recipe | Mapping[str, Any] | None = None,
        *,
        labels: Any = None,
        region: Sequence[slice] | None = None,
        perception: Perception | None = None,
        **fields: Any,
    ) -> Result:
        """Restore a picture or stack.

        Parameters
        ----------
        image
            An array: 2-D, RGB(A) or a stack; see the recipe's ``axes``.
        recipe
            What to do; fields given by name override it.
        labels
            Array of whole numbers over the picture, for handling "painted".
        region
            Two slices, rows and columns: only these are restored, as they come out in the whole picture.
        perception
            What was seen before, instead of looking again; its value range is used too.
        **fields
            Fields of the recipe.
        """
        *_, last = self.steps(image, recipe, labels=labels, region=region, perception=perception, **fields)
        assert last.result is not None
        return last.result

    def steps(
        self,
        image: Any,
        recipe: Recipe | Mapping[str, Any] | None = None,
        *,
        labels: Any = None,
        region: Sequence[slice] | None = None,
        perception: Perception | None = None,
        maps: Mapping[int, QualityMap] | None = None,
        keep_residual: bool = True,
        **fields: Any,
    ) -> Iterator[Step]:
        """Restore as `restore` does, but yield after every batch of tiles; close the iterator to cancel.

        Planes whose quality map is given by their number are not judged again.
        """
        recipe = make_recipe(recipe, **fields)
        array = check_array(image)
        layout = parse_layout(array.shape, recipe.axes)
        marks = check_labels(labels, layout, recipe)
        self.check_overlap(recipe)
        box = None if region is None else check_region(region, layout)
        return self._steps(array, layout, recipe, marks, perception, maps or {}, keep_residual, box)

    def _steps(
        self, array: LazyArray, layout: Layout, recipe: Recipe, labels: Array | None,
        perception: Perception | None, maps: Mapping[int, QualityMap], keep_residual: bool, box: Box | None,
    ) -> Iterator[Step]:  # fmt: skip
        if perception is None:
            seen = self.perceive(array, recipe.axes, recipe.value_range)
        elif recipe.value_range == "auto":
            seen = perception
        else:
            seen = replace(perception, value_range=find_range(array, layout, recipe.value_range))
        if box is not None:
            yield from Whole(self, array, layout, recipe, seen, labels).steps(box, maps, keep_residual)
            return
        decided = self.decide(recipe, seen)
        if recipe.handling == "image" and decided.unchanged:
            yield Step(1, 1, untouched(array, layout, recipe, seen, decided.note, self.card))
            return
        steady = self.steadying(array, layout, recipe, seen)
        job, short = self.plan(array, layout, recipe, seen, decided, labels, recipe.tile, steady=steady), ""
        while True:
            try:
                yield from self.run(Output(job, keep_residual, maps), "; ".join(filter(None, [decided.note, short])))
                return
            except torch.OutOfMemoryError:
                pass  # what the tiles held is free only when the error is
            job = self.plan_less(job)
            height, width = job.plan.tile_shape
            short = f"memory was short: tiles of {height} x {width} pixels used, {job.batch} at once"

    def restore_all(
        self, subjects: Sequence[Subject], seen: Sequence[Perception], recipe: Recipe
    ) -> Iterator[tuple[int, Result]]:
        """Restore several pictures, tiles of one size together; yield number and result as each is finished.

        On a processor each result has the very bits that `restore` gives. Nothing is retried with smaller tiles.
        """
        self.check_overlap(recipe)
        alike: dict[tuple[int, int], dict[int, Output]] = {}
        notes = {}
        planes = sum(subject.layout.plane_count for subject in subjects)
        for number, (subject, one) in enumerate(zip(subjects, seen, strict=True)):
            decided = self.decide(recipe, one)
            if recipe.handling == "image" and decided.unchanged:
                yield number, untouched(subject.array, subject.layout, recipe, one, decided.note, self.card)
                continue
            notes[number] = decided.note
            steady = self.steadying(subject.array, subject.layout, recipe, one)
            job = self.plan(subject.array, subject.layout, recipe, one, decided, None, recipe.tile, planes, steady)
            alike.setdefault(job.plan.tile_shape, {})[number] = Output(job, keep_residual=False)
        for outputs in alike.values():
            waiting, jobs = dict(outputs), [output.job for output in outputs.values()]
            tiles = sum(job.plan.count * job.layout.plane_count for job in jobs)
            for _ in self.batches(list(outputs.values()), min(tiles, *(job.batch for job in jobs))):
                for number in [n for n, output in waiting.items() if output.done == output.job.layout.plane_count]:
                    yield number, waiting.pop(number).result(self.card, notes[number])

    def decide(self, recipe: Recipe, seen: Perception) -> decision.Decision:
        """Decide what is done with a picture, and what is to be said of that."""
        decided = decision.decide(recipe, seen)
        counted = replace(decided, note=note_of(recipe, seen, decided))
        return in_its_way(counted, recipe, self.system.restorer, self.card.name)

    def steadying(self, array: LazyArray, layout: Layout, recipe: Recipe, seen: Perception) -> Tensor | None:
        """Return the filter that undoes the shake of a picture, where enough blur is to be undone; it is found once."""
        wanted = self.system.config.steady and decision.most(recipe, self.decide(recipe, seen), "blur") > FROM
        shake = shake_of(array, layout, seen) if wanted else None
        return None if shake is None else shake.filter

    def memory(self, recipe: Recipe) -> float:
        """Return the memory that the tiles of a batch may need here and now, in GiB."""
        return memory_budget(recipe.memory, self.device) / GIB

    @property
    def pixels_at_once(self) -> int:
        """How many pixels of small pictures are worth a batch of the network."""
        side: int = LARGEST_TILE[self.device.type] + 2 * DEFAULT_OVERLAP
        return side * side

    def overlap(self, recipe: Recipe, steady: Tensor | None = None) -> int:
        """Return the context around a tile, in pixels; undoing a shake needs more of it."""
        return self.usual_overlap(recipe) + (0 if steady is None or is_number(recipe.overlap) else STEADY_REACH)

    def usual_overlap(self, recipe: Recipe) -> int:
        """Return the context that the networks need."""
        reach = self.system.restorer.reach
        if recipe.overlap == "exact":
            return (reach or 0) + BLEND + FILL_REACH
        if recipe.overlap != "auto":
            return recipe.overlap
        if reach is None:
            return WIDE_OVERLAP
        return CHAIN_OVERLAP if self.networks(recipe) > 1 else DEFAULT_OVERLAP

    def networks(self, recipe: Recipe) -> int:
        """Count the networks that may work on a picture, one after the other."""
        named = recipe.tasks if recipe.handling != "painted" else ()
        asked = {type_of(task) for task in named} or set(TYPES)
        return sum(not asked.isdisjoint(group) for group in self.system.config.split_groups())

    def blend(self, overlap: int) -> int:
        """Return half the width of the ramp between tiles: wide where each tile is seen as a whole."""
        return BLEND if self.system.restorer.reach is not None else max(BLEND, overlap // 2)

    def check_overlap(self, recipe: Recipe) -> None:
        """Refuse an exact overlap for a network that sees the whole tile."""
        if recipe.overlap == "exact" and self.system.restorer.reach is None:
            raise ValueError(
                f"overlap 'exact' does not exist for {self.card.name}, whose network may see the whole tile: "
                "give pixels or 'auto'"
            )

    def plan(
        self, array: LazyArray, layout: Layout, recipe: Recipe, seen: Perception, decided: decision.Decision,
        labels: Array | None = None, tile: str | int = "auto", planes: int = 0, steady: Tensor | None = None,
    ) -> Job:  # fmt: skip
        """Lay the tiles of a picture and fix what is the same for all of them; see `lay_tiles`."""
        plan, choice = self.lay_tiles(layout, recipe, tile, planes, steady)
        return Job(array, layout, recipe, seen, plan, choice.tile, choice.batch, decided, labels, steady)

    def lay_tiles(
        self, layout: Layout, recipe: Recipe, tile: str | int = "auto", planes: int = 0, steady: Tensor | None = None
    ) -> tuple[TilePlan, TileChoice]:
        """Lay tiles, as large as memory allows, and say how many the network sees at once.

        ``planes`` of several pictures, not only those of this one, may share a batch.
        """
        halo, multiple = self.overlap(recipe, steady), self.system.restorer.size_needs.multiple_of
        multiple = math.lcm(multiple, CONDITION_STEP)
        choice = pick_tile(
            layout.height, layout.width, halo=halo, multiple=multiple, planes=planes or layout.plane_count,
            bytes_per_pixel=self.system.restorer.bytes_per_pixel, wish=tile,
            budget_bytes=memory_budget(recipe.memory, self.device), largest=LARGEST_TILE[self.device.type],
        )  # fmt: skip
        plan = plan_tiles(
            layout.height, layout.width, tile=choice.tile, halo=halo, multiple=multiple, blend=self.blend(halo)
        )
        return plan, choice

    def plan_less(self, job: Job) -> Job:
        """Plan anew after memory ran out: fewer tiles at once, and when there is but one, smaller ones."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if job.batch > 1:
            return replace(job, batch=job.batch // 4 or 1, short=True)
        tile = smaller(job.tile)
        planned = self.plan(
            job.array, job.layout, job.recipe, job.seen, job.decided, job.labels, tile, steady=job.steady
        )
        return replace(planned, batch=1, short=True)

    def run(self, output: Output, note: str) -> Iterator[Step]:
        """Restore tile by tile, batch by batch; planes are written in place as their rows are finished."""
        job = output.job
        total, done = job.plan.count * job.layout.plane_count, 0
        for count in self.batches([output], job.batch):
            done += count
            if done < total:
                yield Step(done, total, finished=lambda: output.finished(self.card))
        yield Step(total, total, output.result(self.card, note))

    def batches(self, outputs: Sequence[Output], size: int) -> Iterator[int]:
        """Restore the tiles, all of one size, of one picture or several; yield after every batch how many it had."""
        shape = outputs[0].job.plan.tile_shape
        guides = {id(output): self.guide(output) for output in outputs}
        buffer = torch.empty(size, 3, *shape, device=self.device).to(memory_format=torch.channels_last)
        for group in grouped(chain.from_iterable(map(parts, outputs)), size):
            for slot, (output, number, tile) in enumerate(group):
                raw = output.read(number, tile)
                low, high = output.job.seen.value_range
                buffer[slot] = fill_up(to_network(raw, low, high, self.device), shape)
            images = buffer[: len(group)]
            if not outputs[0].job.short:
                images = in_company(images)
            residuals = self.residuals(images, joined(told(group, guides)))
            for (output, number, _), residual in zip(group, residuals, strict=False):
                output.add(number, residual)
            yield len(group)

    def guide(self, output: Output) -> Guide:
        """Return what says to the network what to do in each tile of a picture."""
        return Guide(output, self.device, self.system.config.semantics, self.quality_map)

    def residuals(self, images: Tensor, signals: Signals) -> Tensor:
        """Run the network on a batch of tiles: (N, 3, h, w) -> what it wants to change, float32."""
        with torch.inference_mode(), without_denormals():
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
                restored = self.system.restorer(images, signals)
            change: Tensor = restored.float() - images  # not in place: a chain may hand back its input itself
            return change


def look_at(image: Any, axes: str = "auto", value_range: str | tuple[float, float] = "auto") -> Subject:
    """Find out what an array holds: its axes, and which values are black and white."""
    array = check_array(image)
    layout = parse_layout(array.shape, axes)
    return Subject(array, layout, find_range(array, layout, value_range))


def is_number(overlap: str | int) -> bool:
    """Whether an overlap is given in pixels, which then holds."""
    return not isinstance(overlap, str)


def note_of(recipe: Recipe, seen: Perception, decided: decision.Decision) -> str:
    """Return what the decision has to say, where it is the one that counts."""
    noted = recipe.handling == "image" or (recipe.handling == "region" and seen.unknown)
    return decided.note if noted else ""


def fill_up(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Reflect (3, h, w) at the bottom and the right up to the size of a tile."""
    if image.shape[-2:] == size:
        return image
    return image[:, mirror(image.shape[-2], size[0])][:, :, mirror(image.shape[-1], size[1])]
