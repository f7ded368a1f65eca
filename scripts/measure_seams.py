"""Measure how far a tiled restoration lies from the whole one, float32, and whether its seams show.

python scripts/measure_seams.py [--model NAME_OR_PATH]

The picture is a long strip: at every tile size it is wider than a tile with its exact context, so tiles never see all.
Of a network that sees the whole tile no overlap is exact; there the seam score counts, at several overlaps.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from perceive_ir import TASKS, Restorer, degrade, load
from perceive_ir._tiles import Span, TilePlan
from perceive_ir._vocabulary import type_of
from perceive_ir.images import parse_layout
from perceive_ir.samples import load_sample

TILES = (128, 192, 256)
SAMPLES = ("lake", "hills", "palace", "tulips")
HEIGHT = 160
OVERLAPS = (16, 32, 64, 96)
ACROSS = 16
"""Pixels across which a jump is measured."""


def main() -> None:
    """Measure the model that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="compact")
    model = load(parser.parse_args().model, device="cpu", precision="float32")
    clean = strip()
    if model.system.restorer.reach is None:
        measure_whole_tiles(model, clean)
    else:
        measure(model, clean)


def measure(model: Restorer, clean: NDArray[np.uint8]) -> None:
    """Print the largest differences in units of the value range: a row per task, the overlaps with their tiles."""
    sys.stdout.write(f"{clean.shape[0]} x {clean.shape[1]} pixels, tiles of {', '.join(map(str, TILES))}\n")
    for tasks in (*((task,) for task in TASKS), ("denoise", "derain", "dehaze")):  # the last: all specialists
        seams = differences(model, damaged(clean, tasks), tasks)
        sys.stdout.write(f"| {' + '.join(tasks)} | {' | '.join(f'{seam:.1e}' for seam in seams)} |\n")
        sys.stdout.flush()


def strip() -> NDArray[np.uint8]:
    """Return bands out of the middle of the samples, side by side."""
    pictures = [load_sample(name) for name in SAMPLES]
    return np.concatenate([p[p.shape[0] // 2 - HEIGHT // 2 :][:HEIGHT] for p in pictures], axis=1)


def damaged(clean: NDArray[np.uint8], tasks: tuple[str, ...]) -> NDArray[np.float32]:
    """Damage a picture so that the tasks have work, in units of the value range."""
    image = clean
    for task in reversed(tasks):
        image = degrade(image, type_of(task), 0.6)
    return image.astype(np.float32) / 255


def differences(model: Restorer, image: NDArray[np.float32], tasks: tuple[str, ...]) -> list[float]:
    """Return the largest difference between tiles and the whole: all tiles at the default overlap, then exactly."""
    fields = {"task": tasks, "severity": 0.6}
    whole = model.restore(image, tile=max(image.shape), **fields).image
    seams = []
    for overlap, tile in product(("auto", "exact"), TILES):
        *_, last = model.steps(image, tile=tile, overlap=overlap, **fields)
        assert last.total > 1 and last.result is not None, f"one tile of {tile} with {overlap} overlap covers all"
        seams.append(float(np.abs(last.result.image - whole).max()))
    return seams


# ---- networks that see the whole tile


def measure_whole_tiles(model: Restorer, clean: NDArray[np.uint8], tile: int = TILES[-1]) -> None:
    """Print a row per task and overlap: mean and largest difference to the whole, and the seam score of both."""
    for task, overlap in product(TASKS, OVERLAPS):
        found = seams_of(model, damaged(clean, (task,)), task, tile, overlap)
        sys.stdout.write(f"| {task} | {overlap} | {' | '.join(f'{value:.2g}' for value in found)} |\n")
        sys.stdout.flush()


def seams_of(
    model: Restorer, image: NDArray[np.float32], task: str, tile: int, overlap: int
) -> tuple[float, float, float, float]:
    """Return mean and largest difference between tiles and the whole, and the seam scores of both."""
    fields = {"task": task, "severity": 0.6, "overlap": overlap}
    whole = model.restore(image, tile=max(image.shape), **fields)
    tiled = model.restore(image, tile=tile, perception=whole.perception, **fields)
    plan, _ = model.lay_tiles(parse_layout(image.shape, "YXC"), tiled.recipe, tile)
    away = np.abs(tiled.image - whole.image)
    scores = (seam_score(result.image - image, plan) for result in (tiled, whole))
    return (float(away.mean()), float(away.max()), *scores)


def seam_score(change: NDArray[np.float32], plan: TilePlan) -> float:
    """Say how much more a change (H, W, 3) jumps across the borders of tiles than elsewhere; 1 where no border shows.

    A jump is the difference across 16 pixels, averaged along the border over the side of a tile: what shows as a line.
    """
    at, elsewhere = [], []
    for turned, along, across in ((change, plan.ys, plan.xs), (change.swapaxes(0, 1), plan.xs, plan.ys)):
        borders = list(borders_of(across))
        for span in along:
            stripe = turned[span.first : span.end].mean(axis=0)  # (length, 3)
            jumps = np.square(stripe[ACROSS:] - stripe[:-ACROSS]).mean(axis=1)
            places = np.arange(len(jumps)) + ACROSS // 2
            near = np.min([np.abs(places - border) for border in borders] or [np.full(len(jumps), np.inf)], axis=0)
            at.append(jumps[near == 0])
            elsewhere.append(jumps[near >= ACROSS])
    usual = np.concatenate(elsewhere).mean()
    return float(np.sqrt(np.concatenate(at).mean() / usual)) if usual else 1.0


def borders_of(spans: tuple[Span, ...]) -> Iterator[int]:
    """Yield where tiles hand over to each other: the middle of each ramp."""
    return ((before.end + after.first) // 2 for before, after in pairwise(spans))


if __name__ == "__main__":
    main()
