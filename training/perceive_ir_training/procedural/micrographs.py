"""Fluorescence micrographs: spots and filaments on a dark uneven background."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from perceive_ir_training.procedural.canvas import Floats, Random, draw_noise, enlarge, ramp, smooth

Doubles = NDArray[np.float64]

DYES = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 1], [1, 0.1, 0.1], [0.2, 0.4, 1], [1, 1, 1], [1, 0.8, 0]], np.float32)
"""Colours in which the channels of a microscope are shown."""


def draw_spots(side: int, random: Random) -> Floats:
    """Fluorescent puncta and blobs, alone and in cells, on a dark uneven background."""
    canvas = np.zeros((3, side, side), np.float32)
    cells = random.uniform(0, side, (int(random.integers(2, 9)), 2))
    reach = side * random.uniform(0.05, 0.15)
    for dye in random.permutation(DYES)[: random.integers(1, 4)]:
        count = int(random.integers(30, 300))
        places = cells[random.integers(len(cells), size=count)] + random.normal(0, reach, (count, 2))
        free = random.random((count, 1)) < random.choice([0.1, 0.9])
        places = np.where(free, random.uniform(0, side, (count, 2)), places)
        width = random.uniform(1.8, 3.5) * np.exp(np.abs(random.normal(0, random.choice([0.1, 0.1, 0.6]), count)))
        canvas += sum_of_blobs(side, places, width, random.lognormal(0, 0.7, count)) * dye[:, None, None]
    if random.random() < 0.5:
        bodies = sum_of_blobs(side, cells, np.full(len(cells), reach), np.ones(len(cells)))
        bodies = (3 * bodies - 1).clip(0, 1) * (1 + np.float32(0.25) * enlarge(draw_noise(side // 2, 1.2, random)))
        canvas += bodies * np.float32(random.uniform(0.3, 1.5)) * random.choice(DYES)[:, None, None]
    return expose(canvas, random)


def sum_of_blobs(side: int, places: Doubles, width: Doubles, height: Doubles) -> Floats:
    """Add Gaussian blobs: each is an outer product, so that all of them are one product of matrices."""
    at, inverse = np.arange(side, dtype=np.float32), (-0.5 / width**2).astype(np.float32)[:, None]
    down, right = (np.exp((at - c.astype(np.float32)[:, None]) ** 2 * inverse) for c in places.T)
    total: Floats = (down * height.astype(np.float32)[:, None]).T @ right
    return total


def draw_filaments(side: int, random: Random) -> Floats:
    """Microtubules from a centre or from everywhere, or a network, on a dark uneven background."""
    canvas = np.zeros((3, side, side), np.float32)
    for dye in random.permutation(DYES)[: random.integers(1, 3)]:
        plane = network(side, random) if random.random() < 0.3 else tubules(side, random)
        canvas += ndimage.gaussian_filter(plane, random.uniform(1.4, 2.6), truncate=3) * dye[:, None, None]
    return expose(canvas, random)


def tubules(side: int, random: Random) -> Floats:
    """Smooth random walks (N, N), of which some begin at one point."""
    count, steps = int(random.integers(15, 90)), side
    bend = random.choice([0.02, 0.05, 0.1]) * 2**1.5
    turn = ndimage.gaussian_filter1d(random.standard_normal((count, steps)), 6, axis=1) * bend
    heading = random.uniform(0, 2 * math.pi, (count, 1)) + np.cumsum(turn, axis=1)
    from_centre = random.random() < 0.4
    start = random.uniform(0.2, 0.8, (1, 2)) if from_centre else random.uniform(-0.2, 1.2, (count, 2))
    y = start[:, :1] * side + np.cumsum(1.4 * np.sin(heading), axis=1)
    x = start[:, 1:] * side + np.cumsum(1.4 * np.cos(heading), axis=1)
    reached = np.arange(steps) < random.uniform(0.1, 1.0, (count, 1)) * steps
    return splat(side, y[reached], x[reached], (reached * random.lognormal(0, 0.4, (count, 1)))[reached])


def splat(side: int, y: Doubles, x: Doubles, weight: Doubles) -> Floats:
    """Share the weight of each point between the four pixels around it."""
    inside = (y >= 0) & (x >= 0) & (y < side - 1) & (x < side - 1)
    y, x, weight = y[inside], x[inside], weight[inside]
    top, left = y.astype(np.int64), x.astype(np.int64)
    down, right = y - top, x - left
    corners = (
        (0, (1 - down) * (1 - right)),
        (1, (1 - down) * right),
        (side, down * (1 - right)),
        (side + 1, down * right),
    )
    total = sum(np.bincount(top * side + left + step, share * weight, side * side) for step, share in corners)
    return np.asarray(total, np.float32).reshape(side, side)


def network(side: int, random: Random) -> Floats:
    """Draw a network (N, N): the lines along which smooth noise is zero."""
    noise = smooth(draw_noise(side // 2, random.uniform(1.6, 2.2), random), side)
    steep = np.abs(np.diff(noise, axis=0, append=noise[:1])) + np.abs(np.diff(noise, axis=1, append=noise[:, :1]))
    distance = np.abs(noise) / np.maximum(steep, np.float32(1e-3))
    lines: Floats = np.clip(np.float32(random.uniform(1, 2.5)) - distance, 0, 1)
    return lines


def expose(canvas: Floats, random: Random) -> Floats:
    """Add the uneven background and scale the brightest parts to where a camera shows them."""
    top = max(np.percentile(canvas[:, ::4, ::4].max(axis=0), random.uniform(98, 99.9)), canvas.max() / 4, 1e-6)
    uneven, floor = random.uniform(0, [0.12, 0.08]).astype(np.float32)
    canvas *= np.float32(random.uniform(0.4, 1.0) / top)
    canvas += enlarge(ramp(canvas.shape[1] // 2, random) * uneven + floor)
    return canvas.clip(0, 1)
