"""Haze undone by the law of scattering alone: an estimate that a network is shown, and weighs against its own.

In nearly every clear scene something near each place is dark in one colour at least; what brightness is left there is
haze (the dark channel of He, Sun and Tang, 2009). All of it is found within a few dozen pixels, so tiles join without
seams.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceive_ir.networks.guidance import Backbone, Guide

AIRLIGHT = 0.9
"""Brightness of the haze."""
CELL = 4
"""Side of the cells in which the haze is found, in pixels."""
NEAR = 2
"""Cells to each side in which the darkest place is sought."""
SMOOTH = 3
"""Cells to each side over which the haze is fitted to the brightness of the picture."""
SOFTNESS = 1e-3
"""Variance of brightness below which a place is flat, and the haze over it smooth."""
TAKEN = 0.95
"""Share of the haze that is taken away: a trace of it belongs to distance."""
THINNEST = 0.25
"""Least share of the light that is taken to come through."""
REACH = CELL * (NEAR + 2 * SMOOTH + 1) + 1
"""Pixels to each side on which the estimate depends."""


class Scattering(nn.Module):
    """Shows a backbone what the law would change, level by level, and mixes its picture with that of the law.

    It enters through the guide, so that every backbone can have it. Fresh, nothing is shown and both count alike.
    """

    def __init__(self, channels: Mapping[int, int]) -> None:
        super().__init__()
        self.finest = min(channels)
        self.show = nn.ModuleDict({str(level): silent(width) for level, width in channels.items()})
        self.trust = nn.Conv2d(channels[self.finest], 1, 1)
        nn.init.zeros_(self.trust.weight)
        nn.init.zeros_(cast(Tensor, self.trust.bias))

    def forward(self, backbone: Backbone, image: Tensor, guide: Guide, believed: Tensor) -> Tensor:
        """Restore (B, 3, H, W), as far as haze is believed (B, 1, 1, 1) or (B, 1, H, W), 0 to 1, by the law too."""
        change, through = lift(image)
        seen = believed * torch.cat([change, 1 - through], 1)
        heard: dict[int, Tensor] = {}

        def shown(level: int, features: Tensor) -> Tensor:
            part = F.avg_pool2d(seen, 2 ** (level - 1)) if level > 1 else seen
            heard[level] = guide(level, features) + self.show[str(level)](part.to(features.dtype))
            return heard[level]

        restored = backbone(image, shown)
        share = believed * torch.sigmoid(self.trust(heard[self.finest]))
        return restored + share * (image + change - restored)


def silent(width: int) -> nn.Conv2d:
    """Return a convolution of the four channels that are shown; without haze to be seen it has nothing to say."""
    convolution = nn.Conv2d(4, width, 3, padding=1, bias=False)
    nn.init.zeros_(convolution.weight)
    return convolution


def lift(image: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return what lifts the haze off a picture (B, 3, H, W), to be added to it, and the share of light let through.

    .. math:: (x - A) / t + A - x, \qquad t = 1 - 0.95\,\min_{near, colour} x / A

    where ``t`` (B, 1, H, W) is smoothed along the edges of the picture (a guided filter of He, Sun and Tang, 2010), and
    the lifted picture stays in [0, 1]. Sides must be divisible by 4. What lies outside [0, 1] counts as 0 or 1.
    """
    with torch.autocast(image.device.type, enabled=False):
        x = image.float().clamp(0, 1)
        grey = 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]
        darkest = -F.max_pool2d(-x.amin(1, keepdim=True), CELL)
        haze = -F.max_pool2d(-darkest, 2 * NEAR + 1, 1, NEAR) / AIRLIGHT
        fitted = guided_fit(F.avg_pool2d(grey, CELL), 1 - TAKEN * haze)
        slope, offset = F.interpolate(fitted, scale_factor=CELL, mode="bilinear").split(1, 1)
        through = (slope * grey + offset).clamp(THINNEST, 1.0)
        return ((x - AIRLIGHT) / through + AIRLIGHT).clamp(0, 1) - x, through


def guided_fit(brightness: Tensor, values: Tensor) -> Tensor:
    """Return slope and offset (B, 2, h, w) that turn brightness into values, the mean of the fits around each cell."""
    moments = torch.cat([brightness, values, brightness * values, brightness * brightness], 1)
    bright, value, product, square = mean_around(moments).split(1, 1)
    slope = (product - bright * value) / (square - bright * bright + SOFTNESS)
    return mean_around(torch.cat([slope, value - slope * bright], 1))


def mean_around(x: Tensor) -> Tensor:
    """Return the mean over ``SMOOTH`` cells to each side, fewer at the borders."""
    side = 2 * SMOOTH + 1
    rows = F.avg_pool2d(x, (side, 1), 1, (SMOOTH, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, side), 1, (0, SMOOTH), count_include_pad=False)
