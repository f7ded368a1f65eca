"""A shake undone by its own law: it filters a picture, and where the path of the camera is known, the filter can be
inverted. Finding the path is the hard part, see `perceive_ir._shake`; here it is known.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 64
"""Pixels to each side over which a shake is undone; an inverse filter is wider than the filter."""
GRID = 512
"""Side of the grid on which a filter is inverted."""
RESTRAINT = 1.5
"""How strongly detail is held back that the shake left little of; more than the least error wants, for a path is known
only roughly."""
FROM, UP_TO, MOST = 0.2, 0.4, 0.8
"""Severity of blur above which the law is listened to, and from which most; and how much that is."""
LEFT = 0.2
"""Severity of the blur that the law leaves to the network, at most."""


def inverse_of(path: Tensor) -> Tensor:
    r"""Return the filter (2 REACH + 1 squared) that undoes a kernel (k, k) of sum 1.

    .. math:: W = \bar K \,/\, (|K|^2 + 1.5\,(|f|^2 + 10^{-4}))

    after Wiener, with the power of natural pictures falling as the square of the frequency f.
    """
    kernel = response(path, [GRID, GRID])
    rows, columns = torch.fft.fftfreq(GRID)[:, None], torch.fft.rfftfreq(GRID)
    power = RESTRAINT * (rows.square() + columns.square() + 1e-4)
    wide = torch.fft.irfft2(kernel.conj() / (kernel.abs().square() + power), (GRID, GRID))
    near = torch.roll(wide, (REACH, REACH), (0, 1))[: 2 * REACH + 1, : 2 * REACH + 1]
    taper = torch.hann_window(2 * REACH + 3, periodic=False)[1:-1].sqrt()
    filter_: Tensor = near * taper[:, None] * taper
    return filter_ / filter_.sum()


def response(kernel: Tensor, shape: list[int]) -> Tensor:
    """Return the response of a kernel (k, k) about its middle, for pictures of a shape."""
    half = kernel.shape[0] // 2
    padded = F.pad(kernel, (0, shape[1] - kernel.shape[1], 0, shape[0] - kernel.shape[0]))
    found: Tensor = torch.fft.rfft2(torch.roll(padded, (-half, -half), (0, 1)))
    return found


def steadied(image: Tensor, condition: Tensor, filters: Tensor, blur: int) -> tuple[Tensor, Tensor]:
    """Undo shakes as far as blur is told, and return how much blur is left to be told.

    Parameters
    ----------
    image
        (B, 3, H, W).
    condition
        Severities (B, T), or maps of them (B, T, h, w).
    filters
        (B, F, F) or (1, F, F) as `inverse_of` returns them; zero where no shake was found.
    blur
        Number of the type of damage.
    """
    told = condition[:, blur : blur + 1]
    told = told[..., None, None] if told.ndim == 2 else told
    found = (filters.sum((1, 2)) > 0.5).float()[:, None, None, None]
    share = ((told - FROM) / (UP_TO - FROM)).clamp(0, 1) * found
    left = condition.clone()
    after = told - share * (told - told.clamp(max=LEFT))
    left[:, blur : blur + 1] = after if condition.ndim == 4 else after[..., 0, 0]
    if share.shape[-1] > 1:
        share = F.interpolate(share, image.shape[-2:], mode="bilinear", align_corners=False)
    undone = torch.cat([filtered(x[None], f) for x, f in zip(image, filters.expand(len(image), -1, -1), strict=True)])
    return image + MOST * share.to(image) * (undone - image), left


def filtered(image: Tensor, filter_: Tensor) -> Tensor:
    """Return a picture (1, 3, H, W) filtered, mirrored at its borders; it leaves [0, 1] only where it was beyond."""
    with torch.autocast(image.device.type, enabled=False):
        x = mirrored(mirrored(image.float(), 2), 3)
        size = [n + 2 * REACH for n in x.shape[-2:]]  # so that nothing comes in from the other side
        product = torch.fft.rfft2(x, size) * torch.fft.rfft2(filter_.float(), size)
        whole: Tensor = torch.fft.irfft2(product, size)
        height, width = image.shape[-2:]
        found = whole[..., 2 * REACH : 2 * REACH + height, 2 * REACH : 2 * REACH + width]
        return found.to(image.dtype).clamp(image.clamp(max=0), image.clamp(min=1))


def mirrored(x: Tensor, axis: int) -> Tensor:
    """Continue an axis by REACH at both ends, as often mirrored as it takes."""
    length = x.shape[axis]
    place = torch.arange(-REACH, length + REACH, device=x.device) % max(1, 2 * length - 2)
    return x.index_select(axis, torch.where(place < length, place, 2 * length - 2 - place))
