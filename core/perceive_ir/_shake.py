"""The path of a shaken camera, found in the picture alone.

The path is the one with which a picture of few edges becomes the one that is there: picture and path are found in turn,
from coarse to fine (after Xu, Zheng and Jia, 2013). That can go wrong, above all where there is little to see. So the
path is also found in both halves of the picture, and believed only where all three agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from perceive_ir.degradations import severity_of_reach
from perceive_ir.networks.steady import filtered, inverse_of, response

LONGEST = 51
"""Side of the largest path, in pixels."""
SHORTEST = 5
"""Side of the coarsest one."""
VIEW = 512
"""Side of the middle of a picture in which it is sought; half as much at least must be there."""
TURNS = 3
"""How often picture and path are found in turn at each scale."""
EDGE, LEAST_EDGE = 4e-3, 1e-4
"""What an edge must be worth, at first and at least; a tenth less at every turn."""
STEPS = 2.5
"""Factor by which edges become harder from step to step, up to ``HARDEST``."""
HARDEST = 1e5
SMOOTH = 0.2
"""How smooth a path is, as a share of the mean power of the edges."""
FAINT, STRAY = 0.06, 0.08
"""Share of the largest value below which a path is empty, and share of the sum below which a piece of it is."""
AGREEMENT = 0.85
"""Least likeness of the paths of the whole and its halves."""
SHORT = 2.8
"""Deviation of a path, in pixels, below which the network alone does better."""
GAPPED, THIN = 3.0, 16.0
"""Pixels of a path for each of its deviation: fewer are specks, and more a lens out of focus."""
SHRUNK, SPARSER = 0.7, 0.985
"""How much smaller a path is made, and which share of the edges that it then leaves may remain with the path itself:
too long a path makes edges instead of explaining them."""
COUNTED, EDGE_COUNTED = 1e-5, 1e-3
"""Square of the difference from which there is an edge, and what one must be worth, where edges are counted."""
OVERDRIVEN = 0.08
"""Share of the pixels that may become black or white."""


@dataclass(frozen=True)
class Shake:
    """A shake that is sure."""

    filter: Tensor
    """What undoes it."""
    severity: float
    """Of the blur, by the length of the path."""


def find_shake(picture: Tensor) -> Shake | None:
    """Return the shake of a picture (3, H, W) in [0, 1]; nothing where none is sure.

    One thread does it: several get into each other's way, for its many transforms are small.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return sure_shake(picture)
    finally:
        torch.set_num_threads(threads)


def sure_shake(picture: Tensor) -> Shake | None:
    """Return the shake of a picture, with the threads that there are."""
    rows, columns = (middle(n) for n in picture.shape[1:])
    grey = picture.float().cpu().mean(0)[rows, columns]
    if min(grey.shape) < VIEW // 2:
        return None
    path, half = find_path(grey), grey.shape[1] // 2
    if not is_shake(path) or edges_left(grey, path) > SPARSER * edges_left(grey, shrunk(path)):
        return None
    parts = [find_path(part.contiguous()) for part in (grey[:, :half], grey[:, half:])]
    pairs = ((parts[0], parts[1]), (parts[0], path), (parts[1], path))
    if min(likeness(a, b) for a, b in pairs) < AGREEMENT:
        return None
    filter_ = inverse_of(path)
    if overdriven(grey, filter_) > OVERDRIVEN:
        return None
    return Shake(filter_, severity_of_reach(deviation_of(path) * math.sqrt(3)))


def middle(length: int) -> slice:
    """Return the part of an axis in which a shake is sought."""
    start = max(0, length - VIEW) // 2
    return slice(start, min(length, start + VIEW))


def is_shake(path: Tensor) -> bool:
    """Whether a path is long, and thin."""
    deviation = deviation_of(path)
    return deviation >= SHORT and GAPPED <= float((path > 0.2 * path.max()).sum()) / deviation <= THIN


def edges_left(grey: Tensor, path: Tensor) -> float:
    """Return the share of pixels at which the picture of few edges has one."""
    right, below = edges(few_edges(faded(grey, LONGEST // 2), path, EDGE_COUNTED))
    return float((right.square() + below.square() > COUNTED).float().mean())


def shrunk(path: Tensor) -> Tensor:
    """Return a path made smaller."""
    side = round(len(path) * SHRUNK) // 2 * 2 + 1
    small = resized(path, [side, side]).clamp(min=0)
    small = F.pad(small, ((len(path) - side) // 2,) * 4)
    return small / small.sum()


def deviation_of(path: Tensor) -> float:
    """Return how far the points of a path lie from its middle, as a deviation in pixels."""
    place = torch.arange(len(path)) - len(path) // 2
    return math.sqrt(float((path.sum(0) * place.square()).sum() + (path.sum(1) * place.square()).sum()))


def likeness(a: Tensor, b: Tensor) -> float:
    """Return the largest correlation of two paths, wherever they lie."""
    shape = [128, 128]
    together = torch.fft.irfft2(response(a, shape).conj() * response(b, shape), shape)
    return float(together.max() / (a.norm() * b.norm()).clamp_min(1e-8))


def overdriven(grey: Tensor, filter_: Tensor) -> float:
    """Return the share of the pixels that only the filter makes black or white."""
    undone = filtered(grey[None, None].expand(1, 3, -1, -1), filter_)[0, 0]
    return float(extreme(undone) - extreme(grey))


def extreme(grey: Tensor) -> Tensor:
    """Return the share of pixels that are black or white."""
    return ((grey <= 0.002) | (grey >= 0.998)).float().mean()


# ---- picture and path in turn


def find_path(grey: Tensor) -> Tensor:
    """Return the path (LONGEST, LONGEST) of sum 1 about its middle, as it is found in a picture (H, W)."""
    sides = [LONGEST]
    while sides[0] > SHORTEST:
        sides.insert(0, max(SHORTEST, int(sides[0] / math.sqrt(2)) // 2 * 2 + 1))
    path, edge = torch.zeros(SHORTEST, SHORTEST), EDGE
    path[SHORTEST // 2, 1:-1] = 1 / (SHORTEST - 2)
    for side in sides:
        shape = [round(n * side / LONGEST) for n in grey.shape]
        there = faded(resized(grey, shape), max(4, side // 2))
        path = tidied(resized(path, [side, side]), 0.02)
        for _ in range(TURNS):
            drawn = few_edges(there, path, edge)
            path = centred(tidied(path_between(drawn, there, side)))
            edge = max(edge / 1.1, LEAST_EDGE)
    return path


def few_edges(there: Tensor, path: Tensor, edge: float) -> Tensor:
    """Return the picture of few edges that becomes the one that is there, by hardening edges step by step."""
    shape = list(there.shape)
    blur = response(path, shape)
    across, down = (response(step, shape) for step in (ACROSS, ACROSS.T))
    wanted, power = blur.conj() * torch.fft.rfft2(there), blur.abs().square()
    steep = across.abs().square() + down.abs().square()
    drawn, hard = there, 2 * edge
    while hard < HARDEST:
        right, below = edges(drawn)
        flat = right.square() + below.square() < edge / hard
        right, below = (torch.fft.rfft2(e.masked_fill(flat, 0)) for e in (right, below))
        pulled = wanted + hard * (across.conj() * right + down.conj() * below)
        drawn = torch.fft.irfft2(pulled / (power + hard * steep), shape)
        hard *= STEPS
    return drawn


def path_between(drawn: Tensor, there: Tensor, side: int) -> Tensor:
    """Return the smooth path (side, side) that makes the edges of one picture those of the other."""
    (a, b), (c, d) = ([torch.fft.rfft2(e) for e in edges(x)] for x in (drawn, there))
    power = a.abs().square() + b.abs().square()
    wide = torch.fft.irfft2((a.conj() * c + b.conj() * d) / (power + SMOOTH * power.mean()), list(there.shape))
    return torch.roll(wide, (side // 2, side // 2), (0, 1))[:side, :side]


def tidied(path: Tensor, faint: float = FAINT) -> Tensor:
    """Return a path without what is faint, and without stray pieces; its sum is 1."""
    kept = torch.where(path > faint * path.max(), path.clamp(min=0), 0)
    pieces: NDArray[Any]
    pieces, count = ndimage.label(kept.numpy() > 0, np.ones((3, 3)))
    sums = ndimage.sum_labels(kept.numpy(), pieces, range(1, count + 1))
    large = 1 + np.flatnonzero(sums > STRAY * np.sum(sums))
    kept = kept * torch.from_numpy(np.isin(pieces, large))
    return kept / kept.sum().clamp_min(1e-8)


def centred(path: Tensor) -> Tensor:
    """Move a path so that its mean lies in the middle."""
    place = torch.arange(len(path)) - len(path) // 2
    down, across = (round(float((path.sum(axis) * place).sum())) for axis in (1, 0))
    return torch.roll(path, (-down, -across), (0, 1))


def faded(grey: Tensor, width: int) -> Tensor:
    """Fade a picture to its mean along its borders, so that it may be continued by itself."""
    ramp = 0.5 - 0.5 * torch.cos(math.pi * (torch.arange(width) + 0.5) / width)
    rows, columns = (torch.cat([ramp, torch.ones(n - 2 * width), ramp.flip(0)]) for n in grey.shape)
    return grey.mean() + (grey - grey.mean()) * rows[:, None] * columns


def resized(x: Tensor, shape: list[int]) -> Tensor:
    """Return (H, W) in another size."""
    if list(x.shape) == shape:
        return x
    return F.interpolate(x[None, None], shape, mode="bicubic", antialias=True, align_corners=False)[0, 0]


def edges(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the differences to the next pixel, to the right and below."""
    return torch.roll(x, -1, 1) - x, torch.roll(x, -1, 0) - x


ACROSS = torch.tensor([[0.0, 0.0, 0.0], [1.0, -1.0, 0.0], [0.0, 0.0, 0.0]])
"""The kernel of a difference to the right, as a convolution has it."""
