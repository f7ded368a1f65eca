"""Gradients, and textures that fill a picture."""

from __future__ import annotations

import math

import numpy as np

from perceive_ir_training.procedural.canvas import (
    Floats,
    Random,
    draw_colours,
    draw_noise,
    enlarge,
    grid,
    light,
    ramp,
    smooth,
    squash,
    tint,
)


def draw_gradients(side: int, random: Random) -> Floats:
    """Smooth gradients, some with soft lights on them."""
    canvas = tint(ramp(side // 2, random), draw_colours(int(random.integers(2, 5)), random, vivid=1.6))
    for _ in range(int(random.integers(0, 4))):
        centre, width = random.uniform(-1, 1, (2, 1)), random.uniform(0.15, 0.8)
        down, right = np.exp(-((grid(side // 2)[1] - centre) ** 2) / (2 * width**2)).astype(np.float32)
        glow = np.outer(down, right) * np.float32(random.uniform(0.2, 0.8))
        canvas += glow * (draw_colours(1, random)[..., None] - canvas)
    return enlarge(canvas)


def draw_textures(side: int, random: Random) -> Floats:
    """One texture over the whole picture, under one light."""
    return light(draw_texture(side, random), random)


def draw_texture(side: int, random: Random) -> Floats:
    """Draw any of the textures."""
    return TEXTURES[random.integers(len(TEXTURES))](side, random)


def clouds(side: int, random: Random) -> Floats:
    """Noise of natural slope, coloured by its height."""
    noise = draw_noise(side // 2, random.uniform(0.9, 1.8), random, stretch=random.choice([1.0, 1.0, 6.0]))
    return enlarge(tint(squash(noise, random.uniform(0.4, 1.2)), draw_colours(int(random.integers(2, 5)), random)))


def rings(side: int, random: Random) -> Floats:
    """Marble and wood: stripes along the heights of smooth noise."""
    noise = smooth(draw_noise(side // 2, random.uniform(1.8, 2.4), random, stretch=random.choice([1.0, 4.0])), side)
    wave = np.float32(0.5) + np.float32(0.5) * np.sin(noise * np.float32(random.uniform(4, 20)))
    grain = enlarge(squash(draw_noise(side // 2, 0.9, random, stretch=8.0), 0.5)) * np.float32(random.uniform(0, 0.2))
    return tint((wave ** np.float32(random.uniform(0.5, 2)) + grain) / np.float32(1.2), draw_colours(3, random))


def turned(side: int, random: Random) -> tuple[Floats, Floats]:
    """Coordinates (N, N) that are turned and a little bent."""
    y, x = grid(side)
    turn = random.choice([0.0, random.uniform(0, math.pi)])
    cos, sin, bent, bowed = np.array([math.cos(turn), math.sin(turn), *random.normal(0, 0.08, 2)], np.float32)
    scale = np.float32(side / 2)
    u, v = scale * (cos * x + sin * y + bent * x * y), scale * (cos * y - sin * x + bowed * x * x)
    if random.random() < 0.4:
        u += smooth(draw_noise(side // 2, 2.2, random), side) * np.float32(random.uniform(2, 12))
    return u, v


def stripes(side: int, random: Random) -> Floats:
    """Stripes, sharp or soft, some of them chirped."""
    u, v = turned(side, random)
    rate = np.float32(2 * math.pi / math.exp(random.uniform(math.log(7), math.log(80))))
    chirp = np.float32(random.choice([0.0, random.uniform(0, 1.5)]) / side)
    wave = np.sin(rate * u * (1 + chirp * v)) * np.float32(random.choice([1.0, 3.0, 40.0]))
    return tint(np.float32(0.5) + np.float32(0.5) * wave.clip(-1, 1), draw_colours(2, random, vivid=1.5))


def checker(side: int, random: Random) -> Floats:
    """A board or a wall of bricks, each field of a slightly different shade, some with joints."""
    u, v = turned(side, random)
    period = np.float32(math.exp(random.uniform(math.log(10), math.log(90))))
    row = np.floor(v / period)
    u += np.float32(random.choice([0.0, 0.5])) * row * period
    column = np.floor(u / period)
    field = (row + column).astype(np.int32) % 2 + 2 * ((row * 61 + column * 17).astype(np.int32) % 512)
    shades = random.normal(1, random.uniform(0.02, 0.12), 1024).astype(np.float32)
    table = np.tile(draw_colours(2, random, vivid=1.5), 512) * shades
    canvas: Floats = table.take(field, axis=1)
    if random.random() < 0.5:
        joint = (v - row * period < 2.5) | (u - column * period < 2.5)
        np.copyto(canvas, draw_colours(1, random)[..., None], where=joint)
    return canvas


def woven(side: int, random: Random) -> Floats:
    """Threads that pass over and under each other, each rounded and shaded."""
    u, v = turned(side, random)
    period = np.float32(math.exp(random.uniform(math.log(9), math.log(48))))
    step = int(random.choice([1, 1, 2]))  # plain weave or twill
    u, v = u / period, v / period
    column, row = np.floor(u), np.floor(v)
    over = (column + row).astype(np.int32) % (2 * step) < step
    across, along = np.where(over, u - column, v - row), np.where(over, v - row, u - column)
    profile = np.sqrt(across * (1 - across)) * (np.float32(1.5) + np.sin(math.pi * along))
    profile *= 1 + np.float32(0.06) * enlarge(draw_noise(side // 2, 0.9, random))
    colours = draw_colours(2, random, vivid=1.3).take(over.astype(np.int32), axis=1)
    colours *= profile
    return colours


TEXTURES = (clouds, rings, stripes, checker, woven)
