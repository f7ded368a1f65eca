"""The kinds of pictures that can be drawn, and how often each is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from perceive_ir_training.data import Picture
from perceive_ir_training.procedural.canvas import Floats, Random, shrink
from perceive_ir_training.procedural.leaves import draw_leaves
from perceive_ir_training.procedural.micrographs import draw_filaments, draw_spots
from perceive_ir_training.procedural.scenes import draw_scene
from perceive_ir_training.procedural.text import draw_text
from perceive_ir_training.procedural.textures import draw_gradients, draw_textures

SMALLEST = 16


@dataclass(frozen=True)
class Kind:
    """One kind of picture."""

    draw: Callable[[int, Random], Floats]
    """Canvas (3, N, N) of a side N."""
    share: float
    grey: float = 0.1
    """How many of them are grey."""
    microscopy: bool = False


def draw_pictures(count: int, size: int, random: Random) -> tuple[Picture, ...]:
    """Draw pictures of all kinds, each as often as its share says."""
    shares = np.array([kind.share for kind in KINDS.values()])
    chosen = random.choice(len(KINDS), count, p=shares / shares.sum())
    names = list(KINDS)
    return tuple(draw_picture(names[n], size, random) for n in chosen)


def draw_picture(kind: str, size: int, random: Random) -> Picture:
    """Draw one clean picture; the same state of ``random`` draws the same picture.

    Parameters
    ----------
    kind
        A key of ``KINDS``.
    size
        Height and width, at least 16.
    random
        Where all chance comes from.
    """
    if kind not in KINDS:
        raise ValueError(f"expected a kind out of {', '.join(KINDS)}, got {kind!r}")
    if size < SMALLEST:
        raise ValueError(f"expected a size >= {SMALLEST}, got {size}")
    chosen = KINDS[kind]
    canvas = chosen.draw(2 * size, random)
    if random.random() < chosen.grey:
        canvas = np.broadcast_to(canvas.mean(axis=0), canvas.shape)
    pixels = shrink(canvas)
    grey = bool((pixels == pixels[..., :1]).all())
    return Picture(f"procedural {kind}", pixels, grey, chosen.microscopy)


KINDS = {
    "leaves": Kind(draw_leaves, 0.3),
    "scene": Kind(draw_scene, 0.25),
    "textures": Kind(draw_textures, 0.12),
    "text": Kind(draw_text, 0.1),
    "gradients": Kind(draw_gradients, 0.05),
    "spots": Kind(draw_spots, 0.09, grey=0.7, microscopy=True),
    "filaments": Kind(draw_filaments, 0.09, grey=0.7, microscopy=True),
}
