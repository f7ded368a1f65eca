"""Blur: a shaken camera, a lens out of focus, a soft lens."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from perceive_ir.degradations._fields import splat
from perceive_ir.degradations._part import Draw, Part, blend, peak

REACH = 10.5
"""Pixels from the centre to the farthest point of a round kernel at severity 1."""
LONGER = 1.3
"""By which share a shake reaches farther than that at severity 1, and by its square less below."""
POINTS = 256
"""Points that a kernel is made of."""
GAMMA = 2.2


@dataclass(frozen=True)
class Blur(Part):
    r"""A convolution whose kernel is a cloud of points, r pixels in radius.

    .. math:: y = \Big(\tfrac{1}{P} \sum_p x^\gamma(\cdot - r\, k_p)\Big)^{1/\gamma}

    with points :math:`|k_p| \le 1`: a smooth random path about its middle in time (a shake; every other in 7 to 15
    halts, as where frames of a film are added up), a disc of radius 0.6 (defocus) or a Gaussian of deviation 1/3.
    :math:`r = 10.5\, s`, for a shake :math:`r = 10.5\, s\, (1 + 1.3 s^2)`: up to 48 pixels from end to end, as where a
    camera is swung. :math:`\gamma = 2.2` mixes light as a sensor does, :math:`\gamma = 1` mixes values. The standard
    variant is a straight shake at 30 degrees, in values.
    """

    points: Tensor
    """(n, P, 2), y and x."""
    shaken: Tensor
    """Boolean (n,): by a shake."""
    linear: Tensor
    """Boolean (n,): in linear light."""

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        kind = draw.vary(0, 0, 1)[:, None, None]
        round_ = torch.where(kind < 0.85, _disc(draw) * 0.6, _bell(draw))
        shaken = kind < 0.65
        return cls(torch.where(shaken, _shake(draw), round_), shaken.flatten(), draw.chance(0.5))

    def apply(self, x: Tensor, severity: Tensor) -> Tensor:
        worst = peak(severity)
        reach = REACH * worst[:, 0] * (1 + LONGER * worst[:, 0].square() * self.shaken[:, None, None])
        kernels = _kernels(self.points * reach, math.ceil(float(reach.max())))
        linear = self.linear[:, None, None, None]
        if not bool(self.linear.any()):
            return blend(x, _convolve(x, kernels), severity)
        light = torch.where(linear, x.clamp(min=1e-6).pow(GAMMA), x)
        mixed = _convolve(light, kernels)
        y = torch.where(linear, mixed.clamp(min=1e-14).pow(1 / GAMMA), mixed)
        return blend(x, y, severity)


def severity_of_reach(pixels: float) -> float:
    """Return how severe a shake is that reaches so many pixels to each side, 1 at most."""
    reaches = [REACH * (n / 100) * (1 + LONGER * (n / 100) ** 2) for n in range(101)]
    return min(100, bisect_left(reaches, pixels)) / 100


def _shake(draw: Draw) -> Tensor:
    """Return random paths (n, P, 2) about their middle in time, within the unit disc: half are straight, half go by
    halts."""
    start = draw.vary(math.pi / 6, 0, 2 * math.pi, 1)
    bend = draw.vary(0, 0, 4, 1) * ~draw.chance(0.5, 1)
    knots = F.interpolate(draw.normal(2, 6), POINTS, mode="linear", align_corners=True)
    heading = start + bend * knots[:, 0].cumsum(1) / POINTS * 2
    speed = torch.exp(draw.vary(0, 0, 0.8, 1) * knots[:, 1])
    path: Tensor = (torch.stack([-torch.sin(heading), torch.cos(heading)], -1) * speed[..., None]).cumsum(1)
    halts = torch.where(draw.chance(0.5, 1), draw.uniform(7, 16, 1).floor(), POINTS)
    halt = ((torch.arange(POINTS, device=draw.device) * halts / POINTS).floor() + 0.5) * POINTS / halts
    path = path.gather(1, halt.long()[..., None].expand_as(path))
    path -= path[:, POINTS // 2 - 1 : POINTS // 2 + 1].mean(1, keepdim=True)
    radius: Tensor = torch.linalg.vector_norm(path, dim=-1)
    return path / radius.amax(1)[:, None, None]


def _disc(draw: Draw) -> Tensor:
    """Return points (1, P, 2) that fill the unit disc evenly, on a sunflower's spiral."""
    return _spiral(draw, ((torch.arange(POINTS, device=draw.device) + 0.5) / POINTS).sqrt())


def _bell(draw: Draw) -> Tensor:
    """Return points (1, P, 2) spread like a Gaussian of deviation 1/3, by the quantiles of its radius."""
    quantile = (torch.arange(POINTS, device=draw.device) + 0.5) / POINTS
    return _spiral(draw, ((-2 * torch.log(1 - quantile)).sqrt() / 3).clamp(max=1))


def _spiral(draw: Draw, radius: Tensor) -> Tensor:
    turn = torch.arange(POINTS, device=draw.device) * math.pi * (3 - 5**0.5)
    points = torch.stack([torch.sin(turn), torch.cos(turn)], -1) * radius[:, None]
    return (points - points.mean(0))[None]


def _kernels(points: Tensor, radius: int) -> Tensor:
    """Return kernels (n, k, k) of sum 1 from points (n, P, 2) in pixels about the centre."""
    side = 2 * radius + 1
    return splat(points + radius, torch.full_like(points[..., 0], 1 / points.shape[1]), side, side)


def _convolve(x: Tensor, kernels: Tensor) -> Tensor:
    """Return each picture (n, 3, H, W) blurred by its own kernel (n, k, k), mirrored at the borders."""
    radius = kernels.shape[-1] // 2
    mode = "reflect" if radius < min(x.shape[-2:]) else "replicate"
    padded = F.pad(x, (radius,) * 4, mode=mode).transpose(0, 1)  # (3, n, H + 2r, W + 2r)
    return F.conv2d(padded, kernels[:, None], groups=len(x)).transpose(0, 1)
