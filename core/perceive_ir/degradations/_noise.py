"""Noise: Gaussian, equal in all channels, signal-dependent, correlated, salt and pepper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from perceive_ir.degradations._part import Draw, Part

SIGMA = 55 / 255
"""Standard deviation at severity 1, where full scale is 1."""

SOFT = 8
"""Pixels to each side that soft noise is smoothed over."""


@dataclass(frozen=True)
class Noise(Part):
    r"""Noise of standard deviation :math:`\sigma(s) = 55 s / 255` on a mid-grey, whatever its kind.

    .. math:: y = x + \sigma(s)\, n\, \sqrt{1 - \rho + 2 \rho x}

    with a unit field ``n``: :math:`\rho = 0` is Gaussian noise, :math:`\rho > 0` adds shot noise (Poisson-Gaussian).
    :math:`\rho < 0` is what a camera's tone curve leaves, which lifts the shadows with their noise, not the highlights.
    Salt and pepper strikes the share :math:`4 \sigma^2` of the pixels, which is the same deviation on a mid-grey.
    """

    field: Tensor
    """(n, 3, H, W), deviation 1."""
    shot: Tensor
    """(n, 1, 1, 1) in [-1, 1], the share of the variance that grows with the signal, or falls."""
    impulse: Tensor
    """Boolean (n,): salt and pepper instead."""

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        kind = draw.uniform(0, 1) if draw.varied else draw.uniform(0, 0)
        equal, camera = draw.grey | ((kind > 0.40) & (kind < 0.45)), (kind > 0.45) & (kind < 0.80)
        rises, falls = ((kind > 0.66) & (kind < 0.95)) | draw.chance(0.1), (kind > 0.45) & (kind < 0.66)
        field = draw.normal(3, draw.height, draw.width)
        field = torch.where(equal[:, None, None, None], field[:, :1], field * _uneven(draw, camera))
        mosaic, start = camera & draw.chance(0.65) & ~draw.grey, draw.uniform(0, 2, 2).long()
        if mosaic.any():
            field[mosaic] = _through_a_mosaic(field[mosaic], start[mosaic])
        luma = torch.where(mosaic, draw.uniform(0.1, 0.5), draw.uniform(0.2, 1.6))
        chroma, colour = draw.uniform(0.4, 3.5), torch.where(mosaic, draw.uniform(0.2, 0.8), 1.0)
        if camera.any():
            field[camera] = _correlated(field[camera], luma[camera], chroma[camera], colour[camera])
        shot = draw.vary(0, 0.3, 1.0) * rises - draw.vary(0, 0.1, 0.95) * falls
        return cls(field, shot[:, None, None, None], kind > 0.95)

    def apply(self, x: Tensor, severity: Tensor) -> Tensor:
        sigma = SIGMA * severity
        y: Tensor = x + sigma * self.field * (1 - self.shot + 2 * self.shot * x.clamp(min=0)).sqrt()
        rows = torch.nonzero(self.impulse).flatten()
        if len(rows):
            y[rows] = _impulses(x[rows], self.field[rows], sigma[rows])
        return y


def _uneven(draw: Draw, camera: Tensor) -> Tensor:
    """Return how strong the noise of each channel is (n, 3, 1, 1): a camera amplifies red and blue more than green."""
    gains = draw.uniform(0.5, 1.5, 3, 1, 1)
    gains = gains / gains.square().mean(1, keepdim=True).sqrt()
    return torch.where(camera[:, None, None, None], gains, torch.ones_like(gains))


def _through_a_mosaic(field: Tensor, start: Tensor) -> Tensor:
    """Return noise (n, 3, H, W) of a sensor that sees one colour a pixel, and has the others from the neighbours.

    Red is seen in one pixel of four, blue in another; ``start`` (n, 2), 0 or 1, says where.
    """
    down, right = (
        (torch.arange(length, device=field.device) + start[:, axis, None]) % 2
        for axis, length in enumerate(field.shape[-2:])
    )
    red, blue = (1 - down)[:, :, None] * (1 - right)[:, None], down[:, :, None] * right[:, None]
    seen = torch.stack([red, 1 - red - blue, blue], 1).to(field)
    of_four, of_two = [[1, 2, 1], [2, 4, 2], [1, 2, 1]], [[0, 1, 0], [1, 4, 1], [0, 1, 0]]
    fill = torch.tensor([of_four, of_two, of_four]).to(field)[:, None] / 4
    mode = "reflect" if min(field.shape[-2:]) > 1 else "replicate"  # reflected, colours go on in turn
    return F.conv2d(F.pad(field * seen, (1,) * 4, mode=mode), fill, groups=3)


def _correlated(field: Tensor, luma: Tensor, chroma: Tensor, colour: Tensor) -> Tensor:
    """Return noise as cameras and programs leave it: soft in brightness, softer in colour, deviation 1.

    ``luma`` and ``chroma`` (n,) are the deviations of the Gaussians, in pixels; a share ``colour`` (n,) of it is left.
    """
    grey = field.mean(1, keepdim=True)
    soft = _soften(grey, luma) + colour[:, None, None, None] * _soften(field - grey, chroma)
    deviation: Tensor = soft.square().mean((1, 2, 3), keepdim=True).sqrt()
    return soft / deviation


def _soften(field: Tensor, sigma: Tensor) -> Tensor:
    """Return a field (n, C, H, W) low-passed by Gaussians of ``sigma`` (n,); white noise keeps its deviation."""
    n, channels, height, width = field.shape
    taps = torch.exp(-0.5 * (torch.arange(-SOFT, SOFT + 1, device=field.device) / sigma[:, None]).square())
    taps = taps / taps.square().sum(1, keepdim=True).sqrt()
    mode = "reflect" if min(height, width) > SOFT else "replicate"
    stacked = F.pad(field, (SOFT,) * 4, mode=mode).transpose(0, 1)
    rows = F.conv2d(stacked, taps[:, None, :, None], groups=n)
    return F.conv2d(rows, taps[:, None, None, :], groups=n).transpose(0, 1).reshape(n, channels, height, width)


def _impulses(x: Tensor, field: Tensor, sigma: Tensor) -> Tensor:
    """Return ``x`` with salt where the field is far above 0 and pepper where it is far below."""
    threshold = 2**0.5 * torch.erfinv((1 - 4 * sigma.square()).clamp(max=1 - 1e-6))
    struck = (field.abs() > threshold) & (sigma > 0)
    return torch.where(struck, (field > 0).to(x.dtype), x)
