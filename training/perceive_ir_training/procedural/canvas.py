"""What all kinds of pictures draw with: colours, noise, light, and the way to Pillow and back.

A canvas is float32 (3, N, N) in [0, 1] as stored (not linear light), twice as large as the picture, and its lengths are
in its own pixels. Soft things are drawn at half the side and enlarged.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]
Random = np.random.Generator


def shrink(canvas: Floats) -> NDArray[np.uint8]:
    """Halve a canvas by its 2 × 2 means and round it to (S, S, 3)."""
    total = canvas[:, ::2, ::2] + canvas[:, 1::2, ::2] + canvas[:, ::2, 1::2] + canvas[:, 1::2, 1::2]
    rounded = np.rint((total * np.float32(255 / 4)).clip(0, 255)).astype(np.uint8)
    return np.ascontiguousarray(rounded.transpose(1, 2, 0))


def draw_colours(count: int, random: Random, *, vivid: float = 1.0) -> Floats:
    """Draw the colours of one scene (3, count): few hues, mostly along yellow and blue, mostly dull."""
    bright = random.uniform(0.3, 0.6) + random.uniform(0.12, 0.28) * random.standard_normal(count)
    hues = random.normal(random.choice([0.5, -0.5, 0.9, 0.2], 2) * math.pi, 0.5)
    hue = hues[random.integers(2, size=count)] + random.normal(0, 0.35, count)
    hue = np.where(random.random(count) < 0.1, random.uniform(0, 2 * math.pi, count), hue)
    chroma = vivid * random.uniform(0.04, 0.14) * random.gamma(2.0, 0.7, count)
    red_green, yellow_blue = np.array([[1], [-1], [0]]) / 2**0.5, np.array([[1], [1], [-2]]) / 6**0.5
    colours = bright + chroma * (np.cos(hue) * red_green + np.sin(hue) * yellow_blue)
    kept: Floats = colours.clip(0.01, 0.99).astype(np.float32)
    return kept


def draw_noise(side: int, slope: float, random: Random, *, stretch: float = 1.0) -> Floats:
    """Draw periodic noise (N, N) of mean 0 and deviation 1 whose amplitude falls as frequency^-slope.

    ``stretch`` > 1 makes it longer along x, as wood and brushed metal are.
    """
    white = random.standard_normal((side, side // 2 + 1, 2), dtype=np.float32).view(np.complex64)[..., 0]
    noise: Floats = scipy.fft.irfft2(white * np.exp(np.float32(-slope) * log_frequency(side, stretch)), s=(side, side))
    noise /= noise.std()
    return noise


@lru_cache(maxsize=8)
def log_frequency(side: int, stretch: float) -> Floats:
    """Logarithm of the frequency of each coefficient of a real transform; that of the mean gets no share."""
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None] * stretch
    squared = fy**2 + fx**2
    squared[0, 0] = 1e30
    return (np.log(squared) / 2).astype(np.float32)


def enlarge(field: Floats) -> Floats:
    """Double the sides of a field (..., N, N) by repeating its pixels, which the shrinking undoes."""
    return field.repeat(2, axis=-2).repeat(2, axis=-1)


def smooth(field: Floats, side: int) -> Floats:
    """Enlarge a field (n, n) to (N, N) by interpolation, for what edges are cut from."""
    return np.asarray(Image.fromarray(field).resize((side, side), Image.Resampling.BILINEAR))


def grid(side: int) -> tuple[Floats, Floats]:
    """Return y (N, 1) and x (1, N) in [-1, 1]."""
    line = np.linspace(-1, 1, side, dtype=np.float32)
    return line[:, None], line[None]


def ramp(side: int, random: Random) -> Floats:
    """Draw a smooth field (N, N) in [0, 1]: along a direction or around a point, bent or not."""
    y, x = grid(side)
    angle = random.uniform(0, 2 * math.pi)
    along = np.float32(math.cos(angle)) * x + np.float32(math.sin(angle)) * y
    if random.random() < 0.4:
        cy, cx = random.uniform(-1.2, 1.2, 2).astype(np.float32)
        along = np.hypot(x - cx, (y - cy) * np.float32(random.uniform(0.6, 1.6)))
    if random.random() < 0.5:
        a, b, c, amount = random.uniform([1, -3, 0, 0.05], [3, -1, 6, 0.4]).astype(np.float32)
        along = along + amount * np.sin(a * x + b * y + c)
    unit: Floats = (along - along.min()) / np.float32(np.ptp(along))
    return unit


def tint(field: Floats, colours: Floats) -> Floats:
    """Colour a field in [0, 1] by interpolation between colours (3, count), evenly spaced."""
    places = np.linspace(0, 1023, colours.shape[1])
    table = np.stack([np.interp(np.arange(1024), places, c) for c in colours]).astype(np.float32)
    tinted: Floats = table.take((field * 1023).astype(np.int32), axis=1, mode="clip")
    return tinted


def light(canvas: Floats, random: Random) -> Floats:
    """Let the light fall off a little across a picture, in place."""
    low = np.float32(random.uniform(0.55, 1.0))
    canvas *= enlarge(low + (np.float32(1.05) - low) * ramp(canvas.shape[1] // 2, random))
    return canvas


def squash(noise: Floats, contrast: float) -> Floats:
    """Map noise of deviation 1 into [0, 1]."""
    unit: Floats = np.float32(0.5) + np.float32(0.5) * np.tanh(noise * np.float32(contrast))
    return unit


def as_colour(colour: Floats) -> tuple[int, int, int]:
    """Write a colour in [0, 1] as Pillow takes it."""
    r, g, b = (int(v * 255) for v in colour)
    return r, g, b


def as_image(canvas: Floats) -> Image.Image:
    """Give a canvas to Pillow."""
    return Image.fromarray((canvas * 255).clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def from_image(image: Image.Image) -> Floats:
    """Take a canvas back from Pillow."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)).astype(np.float32) / np.float32(255)
