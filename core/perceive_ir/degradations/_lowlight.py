"""Low light: too short an exposure, with what the sensor adds to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from perceive_ir.degradations._fields import smooth_field
from perceive_ir.degradations._part import Draw, Part

STOPS = 3.5
"""Halvings of the picture's values at severity 1."""


@dataclass(frozen=True)
class LowLight(Part):
    r"""An under-exposed picture with a steeper tone curve, a cast, a shifted black level and sensor noise.

    .. math:: z = x^{1 + g s}\, 2^{-3.5\, s\, u}\, c^{\,s} + b\,s, \qquad
              y = z + s\, a\, n\, \sqrt{0.002\, z + 0.00003}

    with curve ``g``, unevenness ``u`` of the light about 1, cast ``c`` about 1, black level ``b``, noise gain ``a`` and
    a unit field ``n``. The standard variant has g = 0.3, u = c = 1, b = 0, a = 1.
    """

    reversible = True
    curve: Tensor
    """(n, 1, 1, 1)."""
    stops: Tensor
    """(n, 1, H, W), ``u``."""
    cast: Tensor
    """(n, 3, 1, 1), natural logarithm of ``c``."""
    black: Tensor
    """(n, 1, 1, 1)."""
    gain: Tensor
    """(n, 1, 1, 1)."""
    field: Tensor
    """(n, 3, H, W), deviation 1."""

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        uneven = draw.vary(0, 0, 0.08, 1, 1, 1) * draw.chance(0.6, 1, 1, 1) * smooth_field(draw, 2)
        stops = (draw.vary(1, 0.85, 1.15, 1, 1, 1) + uneven).clamp(0.7, 1.4)
        black = draw.vary(0, -0.02, 0.025, 1, 1, 1) * draw.chance(0.6, 1, 1, 1)
        field = draw.normal(3, draw.height, draw.width)
        field = torch.where(draw.grey[:, None, None, None], field[:, :1], field)
        curve, gain = draw.vary(0.3, 0, 0.7, 1, 1, 1), draw.vary(1, 0.1, 1.8, 1, 1, 1)
        return cls(curve, stops, draw.tint(0.15), black, gain, field)

    def apply(self, x: Tensor, severity: Tensor) -> Tensor:
        toned = x.clamp(0, 1).pow(1 + self.curve * severity)
        scale = torch.exp2(-STOPS * severity * self.stops) * torch.exp(self.cast * severity)
        z = toned * scale + self.black * severity
        return z + severity.clamp(min=0) * self.gain * self.field * (0.002 * z.clamp(min=0) + 3e-5).sqrt()
