"""Haze: light scattered into the line of sight, more of it from farther away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from perceive_ir.degradations._fields import box, smooth_field, standardise
from perceive_ir.degradations._part import Draw, Part

OPTICAL_DEPTH = 2.3
"""Mean optical depth at severity 1: a tenth of the light comes through."""


@dataclass(frozen=True)
class Haze(Part):
    r"""Haze by the scattering model.

    .. math:: y = x\,t + A\,(1 - t), \qquad t = \exp(-2.3\, s\, u\, d)

    with a depth ``d`` of mean 1 over the picture, airlight ``A`` and, in varied mode only, a density ``u`` near 1. Of
    windows, most of the contrast in depth lies between them: ``u`` is how near or far they are in their scene. The
    depth joins a plane that recedes in some direction, smooth hills, and steps that follow the colours of the clean
    picture, because objects differ in both.
    """

    reversible = True
    geometry: Tensor
    """(n, 1, H, W), the part of the depth that does not depend on the picture."""
    colour: Tensor
    """(n, 3, 1, 1), how much farther the red, green and blue things are."""
    steps: Tensor
    """(n, 1, 1, 1), the share of stepwise depth: 0 slopes only, 1 layers only."""
    contrast: Tensor
    """(n, 1, 1, 1), deviation of the logarithm of depth; 0 is a wall of fog."""
    airlight: Tensor
    """(n, 3, 1, 1)."""
    density: Tensor
    """(n, 1, 1, 1)."""

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        inside = draw.chance(0.4, 1, 1, 1)
        hills = smooth_field(draw, 2) + draw.vary(0, 0, 0.25, 1, 1, 1) * smooth_field(draw, 6)
        geometry = _receding(draw) * draw.vary(1, 0.2, 1.5, 1, 1, 1) + hills * draw.vary(0.3, 0.1, 0.8, 1, 1, 1)
        colour = draw.normal(3, 1, 1) * draw.vary(0, 0, 0.9, 1, 1, 1)
        # Far things outdoors are often bright (sky), so brightness leans towards distance.
        colour = torch.where(inside, colour, colour + draw.vary(0, 0, 0.8, 1, 1, 1))
        contrast = torch.where(inside, draw.uniform(0.35, 1.1, 1, 1, 1), draw.vary(0.35, 0, 0.7, 1, 1, 1))
        light = torch.where(inside, draw.uniform(0.8, 1.0, 1, 1, 1), draw.vary(0.85, 0.6, 1.0, 1, 1, 1))
        density = torch.exp(0.2 * draw.normal(1, 1, 1) * (1.0 if draw.varied else 0.0))
        if draw.window:
            density = density * torch.exp(0.9 * contrast * draw.normal(1, 1, 1) - 0.4 * contrast.square())
            contrast = 0.45 * contrast
        airlight = (light + draw.tint(0.025)).clamp(0.5, 1)
        return cls(standardise(geometry), colour, draw.vary(0, 0, 0.7, 1, 1, 1), contrast, airlight, density)

    def apply(self, x: Tensor, severity: Tensor) -> Tensor:
        t: Tensor = torch.exp(-OPTICAL_DEPTH * severity * self.relief(x))
        return x * t + self.airlight * (1 - t)

    def relief(self, x: Tensor) -> Tensor:
        """Return density times depth (n, 1, H, W)."""
        return self.density * self.depth(x)

    def depth(self, x: Tensor) -> Tensor:
        """Return the depth (n, 1, H, W) of a clean picture, positive, of mean 1."""
        tones = (x - x.mean((-2, -1), keepdim=True)) / 0.25
        raw = self.geometry + box((tones * self.colour).sum(1, keepdim=True), 2)
        raw = raw + self.steps * (_staircase(raw) - raw)
        raw = _follow_edges(raw, x.mean(1, keepdim=True))
        depth: Tensor = torch.exp(self.contrast * standardise(raw))
        return depth / depth.mean((-2, -1), keepdim=True)


def _receding(draw: Draw) -> Tensor:
    """Return a plane (n, 1, H, W) in perspective; the standard one recedes upwards, like a landscape."""
    angle = draw.vary(0, -1.2, 1.2, 1, 1, 1) + torch.pi * draw.chance(0.15, 1, 1, 1)
    y = torch.linspace(-1, 1, draw.height, device=draw.device)[:, None]
    x = torch.linspace(-1, 1, draw.width, device=draw.device)
    away = (torch.sin(angle) * x - torch.cos(angle) * y) / 1.5
    horizon = draw.vary(1.5, 1.1, 3.0, 1, 1, 1)
    return standardise(1 / (horizon - away))


def _staircase(raw: Tensor) -> Tensor:
    """Return the slopes as layers of one unit each, with steep but soft edges."""
    floor = raw.floor()
    return floor + torch.sigmoid((raw - floor - 0.5) * 12)


def _follow_edges(raw: Tensor, guide: Tensor, radius: int = 3, epsilon: float = 2e-3) -> Tensor:
    """Return ``raw`` as a locally linear function of ``guide``: smooth inside things, sharp at their edges."""
    height, width = guide.shape[-2:]
    # The coefficients vary slowly, so half the resolution does for them.
    g, r = (F.interpolate(v, ((height + 1) // 2, (width + 1) // 2), mode="area") for v in (guide, raw))
    mean_g, mean_r, cross, square = box(torch.cat([g, r, g * r, g * g], 1), radius).split(1, 1)
    slope = (cross - mean_g * mean_r) / (square - mean_g * mean_g + epsilon)
    coarse = box(torch.cat([slope, mean_r - slope * mean_g], 1), radius)
    slope, offset = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False).split(1, 1)
    followed: Tensor = slope * guide + offset
    return followed
