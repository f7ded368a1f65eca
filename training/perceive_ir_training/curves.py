"""The log of a training as a picture: one small plot per term."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, COLUMNS = 380, 220, 3
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 34, 30
PAPER, INK, FAINT, LINE, SMOOTH = "white", "#222222", "#dddddd", "#9db7d5", "#1f5a99"
ASIDE = ("stage", "step", "minutes", "rate", "wait")
"""Entries of a line of the log that are no term."""
SMOOTHED_FROM = 12
"""Lines from which a smooth curve is drawn over the values."""


def draw_curves(lines: Sequence[Mapping[str, Any]], stage: str) -> Image.Image:
    """Draw every term of a stage against the steps; lines as the log has them."""
    own = [line for line in lines if line["stage"] == stage]
    names = list(dict.fromkeys(n for line in own for n in line if n not in ASIDE and is_number(line[n])))
    rows = math.ceil(max(1, len(names)) / COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * WIDTH, rows * HEIGHT + 30), PAPER)
    pen = ImageDraw.Draw(sheet)
    minutes = own[-1]["minutes"] if own else 0
    pen.text((LEFT, 8), f"{stage}: {own[-1]['step'] if own else 0} steps, {minutes:.0f} minutes", INK, font(16))
    for number, name in enumerate(names):
        points = [(line["step"], float(line[name])) for line in own if is_number(line.get(name))]
        corner = (number % COLUMNS * WIDTH, number // COLUMNS * HEIGHT + 30)
        draw_plot(pen, corner, name, points)
    return sheet


def draw_plot(pen: ImageDraw.ImageDraw, corner: tuple[int, int], name: str, points: list[tuple[float, float]]) -> None:
    """Draw one term into its place."""
    x0, y0, x1, y1 = corner[0] + LEFT, corner[1] + TOP, corner[0] + WIDTH - RIGHT, corner[1] + HEIGHT - BOTTOM
    steps, values = zip(*points, strict=True)
    low, high = limits(values)
    first, last = min(steps), max(max(steps), min(steps) + 1)

    def place(step: float, value: float) -> tuple[float, float]:
        share = (min(max(value, low), high) - low) / (high - low)
        return x0 + (step - first) / (last - first) * (x1 - x0), y1 - share * (y1 - y0)

    pen.text((x0, corner[1] + 12), f"{name}  {values[-1]:.4g}", INK, font(14))
    for part in range(5):
        value = low + (high - low) * part / 4
        y = y1 - (y1 - y0) * part / 4
        pen.line([(x0, y), (x1, y)], FAINT)
        pen.text((x0 - 6, y), f"{value:.3g}", INK, font(11), anchor="rm")
    for step, anchor in ((first, "lt"), (last, "rt")):
        pen.text((place(step, low)[0], y1 + 6), f"{step:,}", INK, font(11), anchor=anchor)
    draw_line(pen, [place(s, v) for s, v in points], LINE, 1)
    if len(points) >= SMOOTHED_FROM:
        draw_line(pen, [place(s, v) for s, v in zip(steps, smoothed(values), strict=True)], SMOOTH, 2)


def draw_line(pen: ImageDraw.ImageDraw, places: Sequence[tuple[float, float]], colour: str, width: int) -> None:
    """Draw a line through places, or a dot where there is only one."""
    if len(places) > 1:
        pen.line(list(places), colour, width)
    else:
        (x, y), = places  # fmt: skip
        pen.ellipse([x - 2, y - 2, x + 2, y + 2], colour)


def limits(values: Sequence[float]) -> tuple[float, float]:
    """Range of a plot: all values but the highest two in a hundred, which a start or a spike would fill it with."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[math.ceil(0.98 * (len(ordered) - 1))]
    return (low, high) if high > low else (low - 0.5 * (abs(low) or 1), low + 0.5 * (abs(low) or 1))


def smoothed(values: Sequence[float]) -> list[float]:
    """Running mean over a tenth of the values to both sides, fewer at the ends."""
    reach = max(1, len(values) // 20)
    windows = [values[max(0, n - reach) : n + reach + 1] for n in range(len(values))]
    return [sum(window) / len(window) for window in windows]


def is_number(value: object) -> bool:
    """Whether a value can be drawn."""
    return isinstance(value, int | float) and math.isfinite(value)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that comes with Pillow."""
    return ImageFont.load_default(size)
