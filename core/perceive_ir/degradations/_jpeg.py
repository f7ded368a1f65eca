"""JPEG: quantised cosine coefficients of 8 x 8 blocks, and coarser colour."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from perceive_ir.degradations._part import Draw, Part, blend, peak

# Annex K of the JPEG standard (ITU-T T.81), quality 50.
LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8 for _ in range(4)),
)
YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
RGB = ((1, 0, 1.402), (1, -0.344136, -0.714136), (1, 1.772, 0))


@dataclass(frozen=True)
class Jpeg(Part):
    """JPEG at the quality ``95 - 90 s``, not rounded; colour at half resolution (4:2:0) unless ``full_colour``.

    The standard variant has its blocks aligned with the picture's corner and 4:2:0 colour.
    """

    shift: Tensor
    """Integers (n, 2): where the block grid begins, in pixels before the corner; equal for all pictures."""
    full_colour: Tensor
    """Boolean (n,): 4:4:4."""

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        shift = draw.vary(0, 0, 16, 2)[:1].long().clamp(max=15).expand(draw.n, 2)
        return cls(shift, draw.chance(0.25))

    def apply(self, x: Tensor, severity: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        top, left = self.shift[0].tolist()
        padded = F.pad(x.clamp(0, 1), (left, -(width + left) % 16, top, -(height + top) % 16), mode="replicate")
        ycc = _colours(padded, YCC) * 255
        scale = _scale(95 - 90 * peak(severity))
        luma = _quantise(ycc[:, :1] - 128, LUMA, scale)
        chroma = _chroma(ycc[:, 1:], scale, self.full_colour)
        y = _colours(torch.cat([luma + 128, chroma], 1), RGB) / 255
        return blend(x, y[..., top : top + height, left : left + width].clamp(0, 1), severity)


def _colours(x: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    """Return (n, 3, H, W) in another colour space."""
    weight = torch.tensor(matrix, device=x.device, dtype=x.dtype)
    return torch.matmul(weight, x.flatten(2)).view(x.shape)


def _scale(quality: Tensor) -> Tensor:
    """Return the factor on the tables, by the customary rule: 1 at quality 50, 10 at quality 5, 0.1 at 95."""
    return torch.where(quality < 50, 50 / quality, 2 - quality / 50)


def _chroma(x: Tensor, scale: Tensor, full: Tensor) -> Tensor:
    """Return colour planes (n, 2, H, W) after quantisation at half resolution, or at full where ``full`` (n,)."""
    small = _quantise(F.avg_pool2d(x, 2), CHROMA, scale)
    y = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
    rows = torch.nonzero(full).flatten()
    if len(rows):
        y[rows] = _quantise(x[rows], CHROMA, scale[rows])
    return y


def _quantise(x: Tensor, table: tuple[tuple[int, ...], ...], scale: Tensor) -> Tensor:
    """Return planes (n, C, H, W) with every block's cosine coefficients rounded to multiples of the scaled table."""
    n, c, height, width = x.shape
    blocks = x.reshape(n, c, height // 8, 8, width // 8, 8).transpose(3, 4).reshape(n, -1, 64)
    basis = _basis(x.device)
    steps = (torch.tensor(table, device=x.device).flatten() * scale.view(n, 1, 1)).clamp(min=1)
    blocks = ((blocks @ basis.T) / steps).round_().mul_(steps) @ basis
    return blocks.view(n, c, height // 8, width // 8, 8, 8).transpose(3, 4).reshape(x.shape)


def _basis(device: torch.device) -> Tensor:
    """Return the orthonormal cosine transform of flattened 8 x 8 blocks, (64, 64)."""
    k = torch.arange(8, device=device, dtype=torch.float32)
    one = torch.cos((2 * k + 1) * k[:, None] * math.pi / 16) / 2
    one[0] /= 2**0.5
    return torch.kron(one, one)
