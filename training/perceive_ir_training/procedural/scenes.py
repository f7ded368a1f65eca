"""Mixtures that resemble photographs: regions of different matter, solid things and wires."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw
from scipy import ndimage

from perceive_ir_training.procedural.canvas import (
    Floats,
    Random,
    as_colour,
    as_image,
    draw_colours,
    draw_noise,
    from_image,
    grid,
    light,
    smooth,
)
from perceive_ir_training.procedural.leaves import fill_with_leaves
from perceive_ir_training.procedural.textures import draw_gradients, draw_texture


def draw_scene(side: int, random: Random) -> Floats:
    """Photo-like: regions of different matter, solid things before them, and thin wires."""
    canvas = draw_matter(side, random)
    for _ in range(random.choice([1, 1, 2])):
        cover(canvas, region(side, random), draw_matter(side, random), random)
    for _ in range(int(random.integers(0, 5))):
        put_ball(canvas, random)
    if random.random() < 0.5:
        canvas = put_wires(canvas, random)
    return light(canvas, random)


def draw_matter(side: int, random: Random) -> Floats:
    """Fill a canvas with leaves, a texture or a gradient."""
    chance = random.random()
    if chance < 0.4:
        return fill_with_leaves(side, random.choice([6.0, 10.0, 16.0]), random)
    return draw_gradients(side, random) if chance < 0.7 else draw_texture(side, random)


def region(side: int, random: Random) -> NDArray[np.bool_]:
    """Draw a region (N, N) with a rough or smooth border, or the ground below a horizon."""
    noise = smooth(draw_noise(side // 2, random.uniform(1.6, 2.6), random), side)
    if random.random() < 0.5:
        return noise > np.float32(random.uniform(-0.5, 1.0))
    y, _ = grid(side)
    horizon = random.uniform(-0.5, 0.6) + random.uniform(0.02, 0.2) * noise[:1]
    return np.broadcast_to(y > horizon, (side, side))


def cover(below: Floats, mask: NDArray[np.bool_], above: Floats, random: Random) -> None:
    """Lay one matter over another, in place; it throws a soft shadow."""
    soft = smooth(ndimage.uniform_filter(mask[::8, ::8].astype(np.float32), 5, mode="nearest"), len(mask))
    shadow = np.roll(soft, random.integers(-12, 13, 2), axis=(0, 1)) * np.float32(random.uniform(0, 0.6))
    below *= 1 - shadow
    np.copyto(below, above, where=mask)


def put_ball(canvas: Floats, random: Random) -> None:
    """Put a shaded ball with a highlight into a canvas, in place."""
    side = canvas.shape[1]
    radius = side * random.uniform(0.04, 0.25)
    centre = random.uniform(0, side, 2)
    rows, columns = (slice(max(0, int(c - radius)), min(side, int(c + radius) + 2)) for c in centre)
    y = ((np.arange(side, dtype=np.float32)[rows] - np.float32(centre[0])) / np.float32(radius))[:, None]
    x = ((np.arange(side, dtype=np.float32)[columns] - np.float32(centre[1])) / np.float32(radius))[None]
    z = np.sqrt((1 - y**2 - x**2).clip(0, 1))
    sun = random.normal([-0.8, -0.5, 1.2], 1)
    sun = (sun / np.linalg.norm(sun)).astype(np.float32)
    facing = (sun[0] * y + sun[1] * x + sun[2] * z).clip(0, 1)
    shine = np.float32(random.uniform(0, 0.8)) * facing ** np.float32(random.uniform(8, 60))
    matt = np.float32(0.2) + np.float32(0.9) * facing
    ball = draw_colours(1, random, vivid=2.0)[..., None] * matt + shine
    np.copyto(canvas[:, rows, columns], ball.clip(0, 1), where=z > 0)


def put_wires(canvas: Floats, random: Random) -> Floats:
    """Draw thin curved lines over a canvas, as branches, hair and cables are."""
    image = as_image(canvas)
    pen = ImageDraw.Draw(image)
    for colour in draw_colours(int(random.integers(2, 12)), random).T:
        ends = random.uniform(-0.2, 1.2, (3, 2)) * len(canvas[0])
        t = np.linspace(0, 1, 40)[:, None]
        curve = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * ends[1] + t**2 * ends[2]
        pen.line(curve.ravel().tolist(), as_colour(colour), int(random.integers(2, 9)), joint="curve")
    return from_image(image)
