"""Dead leaves: shapes of all sizes that hide each other, which have the statistics of natural pictures."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from perceive_ir_training.procedural.canvas import Floats, Random, draw_colours, draw_noise, enlarge, grid, light

Doubles = NDArray[np.float64]
Labels = NDArray[np.int32]


def draw_leaves(side: int, random: Random) -> Floats:
    """Dead leaves: shapes of all sizes that hide each other, shaded and textured, under one light."""
    return light(fill_with_leaves(side, random.choice([2.0, 2.0, 2.5, 3.0, 4.0]), random), random)


def fill_with_leaves(side: int, smallest: float, random: Random) -> Floats:
    """Paint leaves over each other; their radii follow r^-3, which makes the picture scale-invariant."""
    largest, base = side / 3, 40
    smallest = min(smallest, largest / 4)
    area = math.pi * 2 * smallest**2 * math.log(largest / smallest)  # mean over r^-3
    count = base + min(6000, int(2.5 * side**2 / area))
    radii = draw_radii(count, smallest, largest, random)
    radii[:base] = random.uniform(0.3, 1, base) * largest  # large ones at the bottom, so that nothing stays bare
    centres = random.uniform(-0.05, 1.05, (count, 2)) * side
    image = Image.new("I", (side, side))
    pen = ImageDraw.Draw(image)
    for number, corners in enumerate(outlines(radii, centres, random)):
        pen.polygon(corners, fill=number)
    return shade_leaves(np.asarray(image), centres, random)


def draw_radii(count: int, smallest: float, largest: float, random: Random) -> Doubles:
    """Draw radii whose density falls as r^-3."""
    return (smallest**-2 - random.random(count) * (smallest**-2 - largest**-2)) ** -0.5


def outlines(radii: Doubles, centres: Doubles, random: Random) -> list[list[float]]:
    """Draw the corners of leaves: ellipses, wavy blobs and boxes, in the mixture that this picture has."""
    count = len(radii)
    waves = random.normal(0, random.choice([0.0, 0.06, 0.12]), (count, 3, 1))
    phases = random.uniform(0, 2 * math.pi, (count, 3, 1))
    boxes = random.random((count, 1)) < random.choice([0.0, 0.15, 0.5])
    flat = np.exp(random.normal(0, random.choice([0.15, 0.4, 0.8]), (count, 1))) ** 0.5
    turn = random.uniform(0, 2 * math.pi, (count, 1))
    turn = np.where(boxes, turn * random.choice([0.0, 0.1, 1.0]), turn)
    drawn: list[list[float]] = [[]] * count
    for corners, group in ((8, radii < 10), (32, radii >= 10)):
        angle = np.linspace(0, 2 * math.pi, corners, endpoint=False) + math.pi / 4
        wavy = 1 + (waves[group] * np.sin(np.array([[2], [3], [5]]) * angle + phases[group])).sum(axis=1)
        square = 1 / np.maximum(np.abs(np.cos(angle)), np.abs(np.sin(angle)))
        shape = np.where(boxes[group], square, wavy) * np.exp(1j * angle)
        shape = (shape.real * flat[group] + 1j * shape.imag / flat[group]) * np.exp(1j * turn[group])
        points = shape * radii[group, None] + centres[group] @ [[1], [1j]]
        for number, point in zip(np.flatnonzero(group), points.view(np.float64).tolist(), strict=True):
            drawn[number] = point
    return drawn


def shade_leaves(labels: Labels, centres: Doubles, random: Random) -> Floats:
    """Colour leaves: a gradient of light in each, shadows below, noise of two kinds or stripes in some."""
    side, count = len(labels), len(centres)
    y, x = grid(side)
    slope = random.normal(0, 0.25, (2, count))
    offset = -(slope * (centres.T * (2 / side) - 1)).sum(axis=0)
    rough, fine = random.normal(0, random.uniform(0.02, 0.12), (2, count)) * (random.random((2, count)) < 0.6)
    shade = 1 + pick(slope[0], labels) * x + pick(slope[1], labels) * y + pick(offset, labels)
    shade += pick(rough, labels) * enlarge(draw_noise(side // 2, random.uniform(1.0, 1.6), random))
    shade += pick(fine / 2, labels) * enlarge(draw_noise(side // 2, random.uniform(0.7, 1.0), random))  # not white
    if random.random() < 0.4:
        shade += stripes_in(labels, count, random)
    if random.random() < 0.7:
        shade *= shadows(labels, random)
    colours = draw_colours(count, random)
    lit: Floats = (colours.take(labels, axis=1) * shade.clip(0.2, 1.8)).clip(0, 1)
    return lit


def shadows(labels: Labels, random: Random) -> Floats:
    """Darken the leaves beside those that lie on them, in three steps away from the light."""
    steps = random.uniform(-3, 3, 2)
    total = np.ones(labels.shape, np.float32)
    for n in (1, 2, 3):
        moved = np.roll(labels, np.rint(n * steps).astype(int), axis=(0, 1))
        total -= np.float32(random.uniform(0.03, 0.12)) * (moved > labels)
    return total


def stripes_in(labels: Labels, count: int, random: Random) -> Floats:
    """Stripes in one leaf of eight, each with its own direction and width."""
    y, x = grid(len(labels))
    rate = math.pi * len(labels) / np.exp(random.uniform(math.log(8), math.log(60), count))
    turn = random.uniform(0, math.pi, count)
    wave = np.sin(pick(rate * np.sin(turn), labels) * y + pick(rate * np.cos(turn), labels) * x)
    wave = np.sign(wave) if random.random() < 0.5 else wave
    return wave * pick(random.uniform(0.1, 0.4, count) * (random.random(count) < 0.125), labels)


def pick(values: Doubles, labels: Labels) -> Floats:
    """Give each pixel the value of its leaf."""
    return values.astype(np.float32).take(labels)
