"""Measure how far a tiled restoration lies from the whole one, with the weights of the package, float32.

python scripts/measure_seams.py

The picture is a long strip: at every tile size it is wider than a tile with its exact context, so tiles never see all.
"""

from __future__ import annotations

import sys
from itertools import product

import numpy as np
from numpy.typing import NDArray

from perceive_ir import TASKS, Restorer, degrade, load
from perceive_ir._vocabulary import type_of
from perceive_ir.samples import load_sample

TILES = (128, 192, 256)
SAMPLES = ("lake", "hills", "palace", "tulips")
HEIGHT = 160


def main() -> None:
    """Print the largest differences in units of the value range: a row per task, the overlaps with their tiles."""
    model = load("compact", device="cpu", precision="float32")
    clean = strip()
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


if __name__ == "__main__":
    main()
