"""Rain: streaks in layers, and a veil when it pours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from perceive_ir.degradations._fields import slope, smooth_field, splat, standardise
from perceive_ir.degradations._part import Draw, Part

ONSETS = (0.0, 0.1, 0.3, 0.5)
"""Severities at which the layers of streaks set in."""
DENSITY = (130, 45, 12, 240)
"""Streaks per 128 x 128 pixels of the layers: fine, long, near and thick, dense."""
LENGTH = (36, 64, 80, 26)
"""Longest streaks of the layers, in pixels."""
ZOOM = (1, 1, 2, 1)
"""How much thicker than a pixel a layer is drawn."""
VEIL = 0.4
"""Opacity of the veil at severity 1."""
FINEST = 33
"""Longest fine streaks, in pixels of the noise that they are made of."""


@dataclass(frozen=True)
class Rain(Part):
    r"""Streaks ``a`` of four layers, each of which sets in at its own severity, and a veil of light ``A``.

    .. math:: y = (1 - v)\,[x + a\,(1 - m x)] + v A, \qquad a = \sum_k w_k(s) R_k, \quad
              w_k = \max(0, (s - s_k) / (1 - s_k))

    with onsets :math:`s_k` = 0, 0.1, 0.3, 0.5. ``m`` = 0 adds the streaks, ``m`` = 1 screens them. The veil is
    :math:`v = 0.4 \max(0, (s - 0.4) / 0.6)`. Varied rain may be sparse and bright, or thick, and its
    layers and its veil may set in earlier; half of it adds light and screens nothing. It may also fall more densely in
    some places than in others, as if ``s`` were larger there, often ever more towards one side, and so many fine
    streaks, or soft curtains, may fall that they add light everywhere, 0.3 to 0.55 at full severity; the single streaks
    are then faint, or there are none, and the fine ones may be no more than a shade of that light.
    """

    layers: Tensor
    """(n, 4, H, W), streaks at full severity."""
    onsets: Tensor
    """(n, 4, 1, 1), severities at which they set in."""
    clears: Tensor
    """(n, 1, 1, 1), severity up to which there is no veil."""
    screen: Tensor
    """(n, 1, 1, 1), ``m``."""
    tint: Tensor
    """(n, 3, 1, 1), colour of the streaks, about 1."""
    veil: Tensor
    """(n, 1, H, W), unevenness of the veil, about 1."""
    light: Tensor
    """(n, 1, 1, 1), brightness ``A`` of the veil."""
    fine: Tensor
    """(n, 1, H, W), light of streaks too many to be told apart, at severity 1."""
    cover: Tensor
    """(n, 1, H, W), how dense the rain is in each place, about 1."""

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        angle = draw.vary(0.15, -0.5, 0.5) * draw.vary(1, 0.2, 1.2)
        layers = torch.stack([_streaks(draw, k, angle) for k in range(len(ONSETS))], 1)
        layers = torch.where(draw.chance(0.3, 1, 1, 1), 0.6 * F.max_pool2d(layers, (1, 3), 1, (0, 1)), layers)
        softness = draw.vary(0, 0, 1, 1, 1, 1)
        layers = layers + softness * (F.avg_pool2d(layers, (1, 3), 1, (0, 1)) - layers)
        onsets = torch.tensor(ONSETS, device=draw.device)[:, None, None] * draw.vary(1, 0.5, 1, 1, 1, 1)
        misty = draw.chance(0.3, 1, 1, 1)
        clears = torch.where(misty, draw.uniform(0.05, 0.35, 1, 1, 1), 0.4)
        veil = 1 + torch.where(misty, draw.uniform(0.15, 0.6, 1, 1, 1), 0.15) * smooth_field(draw, 4)
        light = draw.vary(0.75, 0.6, 0.9, 1, 1, 1)
        screen = torch.where(draw.chance(0.5, 1, 1, 1), 0, draw.vary(0.5, 0, 1, 1, 1, 1))
        pours = draw.chance(0.5, 1, 1, 1)
        fine = torch.where(pours, draw.uniform(0.3, 0.55, 1, 1, 1), 0) * _fine(draw, angle)
        layers = torch.where(pours, draw.uniform(-0.4, 0.6, 1, 1, 1).clamp(min=0), 1) * layers
        veil, tint = veil.clamp(0.2, 1.8), 1 + draw.tint(0.02)
        return cls(layers, onsets, clears, screen, tint, veil, light, fine, _cover(draw, pours))

    def apply(self, x: Tensor, severity: Tensor) -> Tensor:
        severity = self.shown(x, severity)
        streaks = (self.layers * weights(severity, self.onsets)).sum(1, keepdim=True) + self.fine * severity
        y = x + streaks * self.tint * (1 - self.screen * x.clamp(max=1))
        veil = VEIL * weights(severity, self.clears) * self.veil
        return y + veil * (self.light - y)

    def relief(self, x: Tensor) -> Tensor:
        """Return how dense the rain is."""
        return self.cover

    def shown(self, x: Tensor, severity: Tensor) -> Tensor:
        """Return the severity of each place: it rains no more than at severity 1."""
        return super().shown(x, severity).clamp(max=1)


def weights(severity: Tensor, onsets: Tensor) -> Tensor:
    """Return how present each layer is (n, K, H, W) at a severity (n, 1, H, W): 0 at its onset, 1 at severity 1."""
    return ((severity - onsets) / (1 - onsets)).clamp(min=0)


def _cover(draw: Draw, pours: Tensor) -> Tensor:
    """Return how dense rain is in each place (n, 1, H, W); of small windows most of the contrast lies between them.

    Where it pours (n, 1, 1, 1) it is never even: light that is the same everywhere could not be told from a bright day.
    """
    some = torch.where(draw.chance(0.4, 1, 1, 1), draw.uniform(0.2, 0.9, 1, 1, 1), 0)
    contrast = torch.where(pours, draw.uniform(0.4, 1.2, 1, 1, 1), some)
    hills = standardise(smooth_field(draw, 2) + draw.uniform(0, 3, 1, 1, 1) * slope(draw))
    cover = torch.exp((0.3 if draw.window else 1.0) * contrast * hills)
    cover = cover / cover.mean((-2, -1), keepdim=True)
    between = torch.exp(0.9 * contrast * draw.normal(1, 1, 1) - 0.4 * contrast.square())
    return cover * between if draw.window else cover


def _fine(draw: Draw, angle: Tensor) -> Tensor:
    """Return streaks (n, 1, H, W) without number, of mean about 1: noise, blurred along the fall of the rain."""
    sparse = draw.uniform(0.2, 0.97, 1, 1, 1)
    coarse = draw.chance(0.25, 1, 1, 1)
    height, width = draw.height + FINEST - 1, draw.width + FINEST - 1
    drops = (draw.uniform(0, 1, 1, height, width) - sparse).clamp(min=0) / (1 - sparse).square() * 2
    few = F.interpolate(drops[:, :, : -(-height // 5), : -(-width // 5)], (height, width), mode="bilinear")
    drops = torch.where(coarse, few, drops)
    lengths = draw.uniform(0.3, 1, 1) * (FINEST - 1)
    along = lengths * torch.linspace(-0.5, 0.5, 2 * FINEST, device=draw.device)
    points = torch.stack([torch.cos(angle)[:, None] * along, torch.sin(angle)[:, None] * along], -1) + FINEST // 2
    lines = splat(points, torch.full_like(along, 0.5 / FINEST), FINEST, FINEST)
    streaks = F.conv2d(drops.transpose(0, 1), lines[:, None], groups=draw.n).transpose(0, 1)
    # Many lie behind one another: light, and little contrast.
    return 1 + draw.uniform(0.03, 1, 1, 1, 1) * (streaks - 1)


def _streaks(draw: Draw, layer: int, angle: Tensor) -> Tensor:
    """Return one layer (n, H, W) of streaks that fall at about ``angle`` (n,) radians off the vertical."""
    zoom, longest = ZOOM[layer], LENGTH[layer] // ZOOM[layer]
    height, width = math.ceil(draw.height / zoom), math.ceil(draw.width / zoom)
    count = max(1, math.ceil(DENSITY[layer] * 1.5 * (draw.height + longest) * (draw.width + longest) / 128**2))
    centre = draw.uniform(0, 1, count, 2) * torch.tensor([height + longest, width + longest], device=draw.device)
    lean = angle[:, None] + 0.04 * draw.normal(count)
    reach = draw.uniform(0.35, 1, count) * draw.vary(1, 0.5, 1)[:, None] * longest
    # Most streaks are faint and a few bright, as drops lie at all distances; where there are few, each is brighter.
    strength = draw.uniform(0.25, 1, count) ** draw.vary(2, 1, 2)[:, None] * draw.vary(1, 0.5, 1.2)[:, None]
    share = torch.exp(draw.vary(math.log(0.67), math.log(0.12), 0))[:, None]
    strength = strength * (draw.uniform(0, 1, count) < share) * (0.67 / share).sqrt()
    steps = torch.linspace(-0.5, 0.5, longest, device=draw.device)
    along = reach[..., None] * steps
    points = torch.stack([torch.cos(lean)[..., None] * along, torch.sin(lean)[..., None] * along], -1)
    points = points + centre[:, :, None] - longest / 2
    faded = strength[..., None] * (2 * reach / longest)[..., None] * (1 - (2 * steps).square())
    drawn = splat(points.flatten(1, 2), faded.flatten(1), height, width)
    if zoom == 1:
        return drawn
    return F.interpolate(drawn[:, None], (draw.height, draw.width), mode="bilinear", align_corners=False)[:, 0]
