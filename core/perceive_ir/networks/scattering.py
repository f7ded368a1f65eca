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

from perceive_ir.networks.guidance import Backbone, Guide, fit

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
THINNEST = 0.15
"""Least share of the light that is taken to come through."""
LUMA = (0.299, 0.587, 0.114)
REACH = CELL * (NEAR + 2 * SMOOTH + 3)
"""Pixels to each side on which the estimate depends."""
SLOPE = 4.0
"""Haze of severity 1 / SLOPE and more is believed as far as the network likes."""


class Scattering(nn.Module):
    """Shows a backbone the picture without haze, level by level, and mixes what it makes of it with that estimate.

    It enters through the guide, so that every backbone can have it. Fresh, nothing is shown and both count alike.
    """

    def __init__(self, channels: Mapping[int, int], haze: int) -> None:
        super().__init__()
        self.haze, self.finest = haze, min(channels)
        self.show = nn.ModuleDict({str(level): silent(width) for level, width in channels.items()})
        self.trust = nn.Conv2d(channels[self.finest], 1, 1)
        nn.init.zeros_(self.trust.weight)
        nn.init.zeros_(cast(Tensor, self.trust.bias))

    def forward(self, backbone: Backbone, image: Tensor, guide: Guide, condition: Tensor) -> Tensor:
        """Restore (B, 3, H, W); where the condition (B, T) or (B, T, h, w) has no haze, as the backbone does."""
        told = self.told(condition, image)
        lifted, through = lift(image)
        seen = told * torch.cat([lifted - image, 1 - through], 1)
        trust = seen[:, :1]

        def shown(level: int, features: Tensor) -> Tensor:
            nonlocal trust
            features = guide(level, features) + self.show[str(level)](F.avg_pool2d(seen, 2 ** (level - 1)))
            trust = self.trust(features) if level == self.finest else trust
            return features

        restored = backbone(image, shown)
        return restored + told * torch.sigmoid(trust) * (lifted - restored)

    def told(self, condition: Tensor, image: Tensor) -> Tensor:
        """Return min(1, 4 x severity of the haze), (B, 1, 1, 1) or (B, 1, H, W)."""
        haze = condition[:, self.haze : self.haze + 1].mul(SLOPE).clamp(0, 1)
        return haze[:, :, None, None] if haze.ndim == 2 else fit(haze, image)


def silent(width: int) -> nn.Conv2d:
    """Return a convolution of the four channels that are shown; without haze to be seen it has nothing to say."""
    convolution = nn.Conv2d(4, width, 3, padding=1, bias=False)
    nn.init.zeros_(convolution.weight)
    return convolution


def lift(image: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the picture (B, 3, H, W) without the haze that its dark places show, and the share of light let through.

    .. math:: J = (x - A) / t + A, \qquad t = 1 - 0.95\,\min_{near, colour} x / A

    where ``t`` (B, 1, H, W) is smoothed along the edges of the picture (a guided filter of He, Sun and Tang, 2010).
    Sides must be divisible by 4.
    """
    with torch.autocast(image.device.type, enabled=False):
        x = image.float()
        grey = (x * x.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        darkest = -F.max_pool2d(-x.amin(1, keepdim=True), CELL)
        haze = -F.max_pool2d(-darkest, 2 * NEAR + 1, 1, NEAR) / AIRLIGHT
        fitted = fit_to(F.avg_pool2d(grey, CELL), 1 - TAKEN * haze)
        slope, offset = F.interpolate(fitted, scale_factor=CELL, mode="bilinear").split(1, 1)
        through = (slope * grey + offset).clamp(THINNEST, 1.0)
        return ((x - AIRLIGHT) / through + AIRLIGHT).clamp(0, 1), through


def fit_to(guide: Tensor, values: Tensor) -> Tensor:
    """Return slope and offset (B, 2, h, w) that turn the guide into values, the mean of the fits around each cell."""
    middle, level, product, square = mean(torch.cat([guide, values, guide * values, guide * guide], 1)).split(1, 1)
    slope = (product - middle * level) / (square - middle * middle + SOFTNESS)
    return mean(torch.cat([slope, level - slope * middle], 1))


def mean(x: Tensor) -> Tensor:
    """Return the mean over ``SMOOTH`` cells to each side, fewer at the borders."""
    side = 2 * SMOOTH + 1
    rows = F.avg_pool2d(x, (side, 1), 1, (SMOOTH, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, side), 1, (0, SMOOTH), count_include_pad=False)
