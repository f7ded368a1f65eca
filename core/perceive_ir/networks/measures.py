"""What is measured of a picture by formula, beside what the image tower has learnt to see."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCK = 8
"""Side of a block of JPEG."""
GRID = 6
"""How many numbers say how much the block grid stands out."""
AROUND, APART = 7, 3
"""Side of the neighbourhood whose darkest value counts in a thumbnail, and how many pixels such places are apart."""
DARK_SHARES, LIGHT_SHARES = (0.02, 0.1, 0.25, 0.5, 0.75), (0.01, 0.5, 0.99)
"""Up to which value these shares of the darkest values, and of the brightness, lie."""
LIGHT = len(DARK_SHARES) + len(LIGHT_SHARES) + 2
"""How many numbers say how light and dark lie in a thumbnail."""
BLACK = 0.02
"""Added to values before their logarithm."""
BANDS = 238
"""How many numbers say how much detail there is of which size and direction."""
PATCH = 32
"""Side of the patches whose detail is parted into bands by its size and direction."""
DIRECTIONS = 4
"""Directions that are told apart."""
FLOOR = 1e-6
"""Power that counts as none; what is lost by rounding to 8 bits has about as much."""
FALL, LEVEL, SPREAD = -2.0, -4.0, 3.0
"""How a usual photograph's logarithm of power falls with that of the frequency, from where, and how much it varies."""


def grid_maps(image: Tensor) -> Tensor:
    """Measure jumps in brightness in cells of 8 x 8 pixels: (B, 3, H, W) -> (B, 18, H/8, W/8).

    Across each of the 8 columns and then the 8 rows of a cell: how much larger the jump is than those beside it; then
    the mean jump across columns and across rows.
    """
    grey = image.mean(dim=1)
    excess, jumps = zip(*(jumps_along_lines(lines) for lines in (grey, grey.mT)), strict=True)
    columns, rows = (e.unflatten(2, (-1, BLOCK)).unflatten(1, (-1, BLOCK)).mean(dim=2) for e in excess)
    phases = torch.cat([columns.movedim(-1, 1), rows.movedim(-1, 1).mT], dim=1)
    return torch.cat([phases, F.avg_pool2d(torch.stack([jumps[0], jumps[1].mT], dim=1), BLOCK)], dim=1)


def jumps_along_lines(lines: Tensor) -> tuple[Tensor, Tensor]:
    """Return (B, H, W): by how much the jump from each pixel to the next is above those beside it, and the jump."""
    steps = F.pad(lines, (1, 2), mode="replicate").diff(dim=-1).abs()
    jump = steps[..., 1:-1]
    return jump - (steps[..., :-2] + steps[..., 2:]) / 2, jump


def grid_strength(measured: Tensor) -> Tensor:
    """Say how much one line in eight stands out: means of `grid_maps` (..., 18) -> (..., 6), wherever the grid lies."""
    columns, rows, jumps = measured.split([BLOCK, BLOCK, 2], dim=-1)
    found = []
    for phases, jump in zip((columns, rows), jumps.split(1, dim=-1), strict=True):
        ordered = phases.sort(dim=-1, descending=True).values
        found.append((ordered[..., [0, 1, BLOCK - 1]] - ordered[..., [BLOCK // 2]]) / (jump + 1 / 255))
    return torch.cat(found, dim=-1)


def light_of(thumbnail: Tensor) -> Tensor:
    """Say how light and dark lie in a thumbnail (3, h, w): (LIGHT,).

    Haze lies over everything, so no place stays dark in any colour, which a pale scene seldom shows: the least value of
    each neighbourhood, in shares; then brightness, in shares, its spread, and how much colour there is.
    """
    thumbnail = thumbnail.clamp(0, 1)
    least, most = thumbnail.aminmax(dim=0)
    dark = -F.max_pool2d(-least[None, None], AROUND, APART, AROUND // 2).flatten()
    bright = thumbnail.mean(dim=0)[::APART, ::APART].flatten()
    shares = [torch.quantile(v, v.new_tensor(at)) for v, at in ((dark, DARK_SHARES), (bright, LIGHT_SHARES))]
    colour = ((most - least) / (most + BLACK)).mean()
    return torch.cat([(torch.cat(shares) + BLACK).log(), colour[None], bright.std(correction=0)[None]])


class Bands(nn.Module):
    """How much detail there is, by its size and direction: blur, low resolution and JPEG take it away each in its way.

    Patches are windowed and Fourier-transformed. The power of grey in each sector of each ring of frequencies counts by
    its mean, by that of its square, which strong edges rule, and by that of its logarithm, in which all places count
    alike; the power of two differences of colours by its mean in each ring.
    """

    window: Tensor
    sectors: Tensor
    rings: Tensor
    usual: Tensor

    def __init__(self) -> None:
        super().__init__()
        with torch.device("cpu"):  # formulas alone: they are there even where weights are not yet
            for name, values in self.constants().items():
                self.register_buffer(name, values, persistent=False)

    @staticmethod
    def constants() -> dict[str, Tensor]:
        """Return the window, the members of each sector and ring, and what is usual in each."""
        hann = torch.hann_window(PATCH, periodic=True)
        window = hann[:, None] * hann
        down, across = torch.fft.fftfreq(PATCH)[:, None] * PATCH, torch.fft.rfftfreq(PATCH) * PATCH
        ring = torch.hypot(down, across).round().long().clamp(max=PATCH // 2 + 1)  # the last: all in the corners
        sector = (torch.atan2(across, down) / math.pi * DIRECTIONS).round().long() % DIRECTIONS
        (sectors, in_ring), (rings, _) = (groups(names, ring) for names in (ring * DIRECTIONS + sector, ring))
        radii = torch.cat([in_ring.repeat(3), torch.arange(1, PATCH // 2 + 2).repeat(2)])
        return {
            "window": window / window.square().sum().sqrt(),
            "sectors": sectors,
            "rings": rings,
            "usual": FALL * radii.log() + LEVEL,
        }

    def maps(self, image: Tensor, step: int = PATCH) -> Tensor:
        """Measure patches every ``step`` pixels: (B, 3, H, W) -> (B, BANDS, h, w); what is left over is left out."""
        with torch.autocast(image.device.type, enabled=False):
            red, green, blue = image.float().unbind(dim=1)
            grey = self.power(image.float().mean(dim=1), step) @ self.sectors
            colours = [self.power(c - green, step) @ self.rings for c in (red, blue)]
            return torch.cat([grey, grey.square(), (grey + FLOOR).log(), *colours], dim=-1).movedim(-1, 1)

    def of_windows(self, image: Tensor, margin: int, window: int, stride: int) -> Tensor:
        """Return means of `maps` over sliding windows inside a margin: (B, BANDS, rows, columns); sizes in pixels.

        Of a window that is smaller than a patch, the patch that begins where it does.
        """
        step = math.gcd(PATCH, stride)
        inside, edge = max(1, (window - PATCH) // step + 1), margin // step
        rows, columns = (edge + (n - 2 * margin - window) // step + inside for n in image.shape[2:])
        return F.avg_pool2d(self.maps(image, step)[..., edge:rows, edge:columns], inside, stride // step)

    def power(self, plane: Tensor, step: int) -> Tensor:
        """Return the power of each frequency in each patch: (B, H, W) -> (B, h, w, PATCH * (PATCH / 2 + 1))."""
        down, across = (cast(int, torch.sym_max(PATCH - n, 0)) for n in plane.shape[1:])  # `max` is lost in a graph
        plane = F.pad(plane, (0, across, 0, down), mode="replicate")
        patches = plane.unfold(1, PATCH, step).unfold(2, PATCH, step)
        waves = torch.fft.rfft2((patches - patches.mean(dim=(3, 4), keepdim=True)) * self.window)
        real, imaginary = torch.view_as_real(waves).square().unbind(dim=-1)
        return (real + imaginary).flatten(3)

    def said(self, measured: Tensor) -> Tensor:
        """Put means of `maps` (..., BANDS) on one scale: logarithms beside those of a usual photograph."""
        parts = len(self.sectors.mT)
        mean, square, logarithm, colours = measured.float().split([parts] * 3 + [BANDS - 3 * parts], dim=-1)
        found = [(mean + FLOOR).log(), (square + FLOOR**2).log() / 2, logarithm, (colours + FLOOR).log()]
        return (torch.cat(found, dim=-1) - self.usual) / SPREAD


def groups(names: Tensor, ring: Tensor) -> tuple[Tensor, Tensor]:
    """Return a matrix that takes means over the frequencies (h, w) of each name, the constant one left out, (h w, G),
    and the ring of each (G,)."""
    found = names[ring > 0].unique()
    members = ((names[..., None] == found) & (ring > 0)[..., None]).flatten(0, 1).float()
    rings = (members * ring.flatten()[:, None]).sum(dim=0) / members.sum(dim=0)
    return members / members.sum(dim=0), rings
