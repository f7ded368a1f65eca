"""Random fields and the drawing of points, from which depth, veils, streaks and kernels are made."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from perceive_ir.degradations._part import Draw


def smooth_field(draw: Draw, cells: int) -> Tensor:
    """Return a smooth random field (n, 1, H, W) of about ``cells`` hills along the longer side, mean 0, deviation 1."""
    longest = max(draw.height, draw.width)
    rows, columns = (max(2, round(cells * side / longest)) for side in (draw.height, draw.width))
    coarse = draw.normal(1, rows + 2, columns + 2)
    fine = F.interpolate(coarse, (draw.height, draw.width), mode="bicubic", align_corners=False)
    return standardise(fine)


def slope(draw: Draw) -> Tensor:
    """Return a plane (n, 1, H, W) that rises towards a side of the picture, mean 0, deviation 1."""
    angle = draw.uniform(0, 2 * torch.pi, 1, 1, 1)
    y = torch.linspace(-1, 1, draw.height, device=draw.device)[:, None]
    x = torch.linspace(-1, 1, draw.width, device=draw.device)
    return standardise(torch.cos(angle) * y + torch.sin(angle) * x)


def standardise(field: Tensor) -> Tensor:
    """Return the field (n, 1, H, W) with mean 0 and deviation 1 in each picture; a constant one becomes 0."""
    centred = field - field.mean((-2, -1), keepdim=True)
    return centred / (centred.square().mean((-2, -1), keepdim=True).sqrt() + 1e-4)


def box(x: Tensor, radius: int) -> Tensor:
    """Return the mean over a window of ``2 * radius + 1`` pixels, with shorter windows at the borders."""
    side = 2 * radius + 1
    rows = F.avg_pool2d(x, (side, 1), 1, (radius, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, side), 1, (0, radius), count_include_pad=False)


def splat(points: Tensor, weights: Tensor, height: int, width: int) -> Tensor:
    """Draw points into pictures, each spread over its four nearest pixels.

    Parameters
    ----------
    points : Tensor
        (n, P, 2), y and x in pixels; what lies outside is lost.
    weights : Tensor
        (n, P).
    height, width : int
        Size of the pictures.

    Returns
    -------
    Tensor
        (n, H, W), sums of the weights.
    """
    corner = points.floor()
    down, right = (points - corner).unbind(-1)
    # Two pixels of margin take what sticks out, and everything farther away is moved onto them.
    pitch = width + 4
    y, x = corner[..., 0].clamp(-2, height) + 2, corner[..., 1].clamp(-2, width) + 2
    index = y.long() * pitch + x.long()
    lower, upper = weights * down, weights * (1 - down)
    canvas = torch.zeros(len(points), (height + 4) * pitch, device=points.device)
    for offset, row in ((0, upper), (pitch, lower)):
        canvas.scatter_add_(1, index + offset, row * (1 - right))
        canvas.scatter_add_(1, index + offset + 1, row * right)
    return canvas.view(-1, height + 4, pitch)[:, 2:-2, 2:-2]
