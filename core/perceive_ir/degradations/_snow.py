"""Snow: soft flakes of several sizes, slightly drawn out by their fall, and a veil."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from perceive_ir.degradations._fields import smooth_field
from perceive_ir.degradations._part import Draw, Part
from perceive_ir.degradations._rain import weights

ONSETS = (0.0, 0.1, 0.25, 0.4)
"""Severities at which the layers of flakes set in."""
DENSITY = (110, 35, 7, 220)
"""Flakes per 128 x 128 pixels of the layers: small, middle, near and large, many small."""
RADIUS = (1.1, 2.2, 5.0, 1.3)
"""Radii of the flakes of the layers, in pixels."""
VEIL = 0.35
"""Opacity of the veil at severity 1."""


@dataclass(frozen=True)
class Snow(Part):
    r"""Flakes of four layers, each of which sets in at its own severity, and a veil of light ``A``.

    .. math:: y = (1 - v)\,[x + \alpha\,(c - x)] + v A, \qquad \alpha = 1 - \exp(-\textstyle\sum_k w_k(s) F_k)

    with :math:`w_k` as for rain, onsets 0, 0.1, 0.25, 0.4, a flake's white ``c``, and :math:`v = 0.35 s^2`.
    """

    layers: Tensor
    """(n, 4, H, W), optical depth of the flakes at full severity."""
    white: Tensor
    """(n, 3, 1, 1)."""
    veil: Tensor
    """(n, 1, H, W), unevenness of the veil, about 1."""
    light: Tensor
    """(n, 1, 1, 1), brightness ``A`` of the veil."""

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        angle, stretch = draw.vary(0.3, -1.2, 1.2), draw.vary(1.3, 1, 2.2)
        layers = torch.stack([_flakes(draw, k, angle, stretch) for k in range(len(ONSETS))], 1)
        white = (draw.vary(0.97, 0.88, 1, 1, 1, 1) + draw.tint(0.015)).clamp(max=1)
        veil = (1 + 0.15 * smooth_field(draw, 4)).clamp(0.5, 1.5)
        return cls(layers, white, veil, draw.vary(0.85, 0.7, 0.95, 1, 1, 1))

    def apply(self, x: Tensor, severity: Tensor) -> Tensor:
        onsets = torch.tensor(ONSETS, device=severity.device)[:, None, None]
        alpha = 1 - torch.exp(-(self.layers * weights(severity, onsets)).sum(1, keepdim=True))
        y = x + alpha * (self.white - x)
        return y + VEIL * severity.square() * self.veil * (self.light - y)


def _flakes(draw: Draw, layer: int, angle: Tensor, stretch: Tensor) -> Tensor:
    """Return one layer (n, H, W) of flakes, ``stretch`` (n,) times as long along their fall at ``angle`` (n,)."""
    reach = math.ceil(RADIUS[layer] * 2.6)
    count = max(1, math.ceil(DENSITY[layer] * 1.5 * (draw.height + 2 * reach) * (draw.width + 2 * reach) / 128**2))
    size = torch.tensor([draw.height + 2 * reach, draw.width + 2 * reach], device=draw.device)
    centre = draw.uniform(0, 1, count, 2) * size
    radius = RADIUS[layer] * draw.uniform(0.5, 1.2, count)
    lean = angle[:, None] + 0.3 * draw.normal(count)
    stretch = stretch[:, None] * draw.uniform(0.8, 1.25, count)
    opacity = draw.uniform(0.5, 3.0, count) * (draw.uniform(0, 1, count) < draw.vary(0.67, 0.3, 1)[:, None])
    window = torch.arange(-reach, reach + 1, device=draw.device)
    pixel = centre.floor()
    y = (window[:, None] + (pixel - centre)[..., 0, None, None]) / radius[..., None, None]  # (n, count, window, 1)
    x = (window + (pixel - centre)[..., 1, None, None]) / radius[..., None, None]
    cos, sin, stretch = torch.cos(lean)[..., None, None], torch.sin(lean)[..., None, None], stretch[..., None, None]
    along, across = (cos * y + sin * x) / stretch, cos * x - sin * y
    # A fourth power makes a flat top with soft edges, where a Gaussian would be all edge.
    flake = opacity[..., None, None] * torch.exp(-(along.square() + across.square()).square())
    rows, columns = pixel.long()[..., 0, None, None] + window[:, None], pixel.long()[..., 1, None, None] + window
    canvas = torch.zeros(draw.n, draw.height + 4 * reach, draw.width + 4 * reach, device=draw.device)
    index = (rows + reach).clamp(0, canvas.shape[1] - 1) * canvas.shape[2] + (columns + reach)
    canvas.view(draw.n, -1).scatter_add_(1, index.flatten(1), flake.flatten(1))
    return canvas[:, 2 * reach : 2 * reach + draw.height, 2 * reach : 2 * reach + draw.width]
