"""Low resolution: a picture made smaller and enlarged again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from perceive_ir.degradations._part import Draw, Part, blend, peak

SHRINK = ("bicubic", "bilinear", "area")
ENLARGE = ("bicubic", "bilinear")


@dataclass(frozen=True)
class LowRes(Part):
    """A picture shrunk by the factor ``1 + 3 s`` (sides rounded to whole pixels) and enlarged to its own size.

    The standard variant is bicubic with a low-pass both ways.
    """

    shrink: Tensor
    """Integers (n,), index into ``SHRINK``."""
    enlarge: Tensor
    """Integers (n,), index into ``ENLARGE``."""

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        shrink, enlarge = draw.vary(0, 0, len(SHRINK)), draw.vary(0, 0, len(ENLARGE))
        return cls(shrink.long().clamp(max=len(SHRINK) - 1), enlarge.long().clamp(max=len(ENLARGE) - 1))

    def apply(self, x: Tensor, severity: Tensor) -> Tensor:
        factors = (1 + 3 * peak(severity)).flatten().tolist()
        rows = zip(x.split(1), factors, self.shrink.tolist(), self.enlarge.tolist(), strict=True)
        worst = torch.cat([_coarse(row, f, SHRINK[down], ENLARGE[up]) for row, f, down, up in rows])
        return blend(x, worst, severity)


def _coarse(x: Tensor, factor: float, shrink: str, enlarge: str) -> Tensor:
    """Return a picture (1, 3, H, W) that has been ``factor`` times smaller."""
    height, width = x.shape[-2:]
    size = (max(1, round(height / factor)), max(1, round(width / factor)))
    small = F.interpolate(x, size, mode=shrink, antialias=shrink != "area")
    return F.interpolate(small, (height, width), mode=enlarge, align_corners=False)
