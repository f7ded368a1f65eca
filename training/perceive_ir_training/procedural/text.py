"""Pages, signs and screens."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from perceive_ir_training.procedural.canvas import (
    Floats,
    Random,
    as_colour,
    as_image,
    draw_colours,
    enlarge,
    from_image,
    ramp,
    tint,
)

LETTERS = "eeeeeeettttaaaaooooiiiinnnnsssshhhrrrdddlllccuummwwffggyyppbbvkjxqz"


def draw_text(side: int, random: Random) -> Floats:
    """A page, a sign or a screen: blocks of text of several sizes and directions, rules, boxes and bars."""
    paper, ink = page_colours(random)
    image = as_image(enlarge(tint(ramp(side // 2, random), paper)))
    pen = ImageDraw.Draw(image)
    for _ in range(int(random.integers(0, 6))):
        draw_figure(pen, side, as_colour(ink[:, random.integers(4)]), random)
    if random.random() < 0.5:
        write_page(image, as_colour(ink[:, 0]), random)
    else:
        write_scattered(image, ink, random)
    turn = random.choice([0.0, 0.0, 90.0, random.uniform(-6, 6)])
    return from_image(image.rotate(turn, Image.Resampling.BILINEAR, fillcolor=as_colour(paper[:, 0])))


def page_colours(random: Random) -> tuple[Floats, Floats]:
    """Colours of a paper (3, 2), nearly even, and of inks (3, 4) that can be read on it."""
    paper = draw_colours(1, random)
    paper = paper if random.random() < 0.5 else 1 - np.float32(0.15) * paper
    ink, weight = draw_colours(4, random, vivid=2.0), random.uniform(0.5, 1.0, 4).astype(np.float32)
    ink = ink * (1 - weight) + np.float32(paper.mean() < 0.5) * weight
    return (paper + random.normal(0, 0.02, 2).astype(np.float32)).clip(0, 1), ink.clip(0, 1)


def write_page(image: Image.Image, colour: tuple[int, int, int], random: Random) -> None:
    """Fill a page with paragraphs of one size."""
    top, size = 0.0, math.exp(random.uniform(math.log(14), math.log(44)))
    while top < image.height:
        block = text_block(size, image.height, random)
        image.paste(colour, (image.width // 20, int(top)), block)
        top += block.height + random.uniform(0, 0.05) * image.height


def write_scattered(image: Image.Image, ink: Floats, random: Random) -> None:
    """Put blocks of text of several sizes and directions anywhere."""
    side = image.height
    for _ in range(int(random.integers(2, 7))):
        size = math.exp(random.uniform(math.log(14), math.log(max(20, side / 4))))
        turn = random.choice([0.0, 0.0, 90.0, random.uniform(-25, 25), random.uniform(0, 360)])
        block = text_block(size, side, random).rotate(turn, Image.Resampling.BILINEAR, expand=True)
        left, top = (random.uniform(-0.3, 0.8, 2) * side).astype(int).tolist()
        image.paste(as_colour(ink[:, random.integers(4)]), (left, top), block)


def text_block(size: float, side: int, random: Random) -> Image.Image:
    """Draw a few lines of made-up words as a mask."""
    font = load_font(max(8, round(size)))
    lines = [write_line(int(1.7 * side / size) + 1, random) for _ in range(int(random.integers(1, 6)))]
    step = round(size * random.uniform(1.1, 1.5))
    mask = Image.new("L", (int(0.92 * side), step * len(lines) + round(0.4 * size)))
    pen = ImageDraw.Draw(mask)
    for number, line in enumerate(lines):
        pen.text((0, number * step), line, fill=255, font=font)
    return mask


def write_line(length: int, random: Random) -> str:
    """Make up a line of words and numbers."""
    letters = "".join(LETTERS[n] for n in random.integers(len(LETTERS), size=length).tolist())
    ends = np.cumsum(random.integers(1, 9, length // 4 + 1)).tolist()
    words = [letters[a:b] for a, b in zip([0, *ends], ends, strict=False) if a < length]
    styles = random.integers(12, size=len(words)).tolist()
    spelt = [STYLES[style](word) if style < len(STYLES) else word for style, word in zip(styles, words, strict=True)]
    return " ".join(spelt)[:length] + str(random.choice(["", ".", ",", " -", "?"]))


STYLES: tuple[Callable[[str], str], ...] = (
    str.upper,
    str.title,
    str.title,
    lambda word: str(int.from_bytes(word.encode(), "big") % 10**5),
)
"""How one word of three is written: in capitals, with one, or as a number."""


@lru_cache(maxsize=256)
def load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Load the font that comes with Pillow."""
    return ImageFont.load_default(size)


def draw_figure(pen: ImageDraw.ImageDraw, side: int, colour: tuple[int, int, int], random: Random) -> None:
    """Draw a box, a rule, bars, a disc or a curve."""
    (left, top), (wide, high) = random.uniform(-0.1, 0.8, 2) * side, random.uniform(0.05, 0.6, 2) * side
    width, shape = int(random.integers(2, 9)), random.integers(5)
    box = (left, top, left + wide, top + high)
    if shape == 0:
        pen.rectangle(box, outline=colour, width=width)
    elif shape == 1:
        pen.line((left, top, left + wide, top), colour, width)
    elif shape == 2:
        for n, short in enumerate(random.random(6)):
            foot = left + n * wide / 6
            pen.rectangle((foot, top + short * high, foot + wide / 10, top + high), colour)
    elif shape == 3:
        pen.ellipse(box, fill=colour)
    else:
        curve = np.stack([np.linspace(left, left + wide, 24), top + np.cumsum(random.normal(0, high / 12, 24))], axis=1)
        pen.line(curve.ravel().tolist(), colour, width)
