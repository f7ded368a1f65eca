"""The compact perceiver: a small image tower with the interface of an ``open_clip`` model, and what is read from it.

A crop gives pooled features at four depths (F_1 .. F_4), one embedding in the space of the tier features, and the
readout of the CFE: contrastive vector Z, logits of the types and severities. Pooling over a window instead of a crop
gives the same readings as a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceive_ir._vocabulary import TONAL_TYPES, TYPES

BLOCK = 8
"""Side of a block of JPEG."""
GRID = 6
"""How many numbers say how much the block grid stands out."""
LEAST = 1e-4
"""Severities this near to 0 and 1 count as this far from them."""
AROUND, APART = 7, 3
"""Side of the neighbourhood whose darkest value counts in a thumbnail, and how many pixels such places are apart."""
DARK_SHARES, LIGHT_SHARES = (0.02, 0.1, 0.25, 0.5, 0.75), (0.01, 0.5, 0.99)
"""Up to which value these shares of the darkest values, and of the brightness, lie."""
LIGHT = len(DARK_SHARES) + len(LIGHT_SHARES) + 2
"""How many numbers say how light and dark lie in a thumbnail."""
BLACK = 0.02
"""Added to values before their logarithm."""


@dataclass(frozen=True)
class TowerConfig:
    """Sizes of the image tower; level l works at 1/2**l of the resolution."""

    widths: tuple[int, ...] = (24, 48, 96, 160)
    blocks: tuple[int, ...] = (1, 1, 1, 1)
    embedding: int = 256
    contrast: int = 128
    types: int = 8
    tiers: int = 3
    grid: bool = False
    """Whether the block grid of JPEG is measured beside the tower, which cannot see where jumps stand in line."""
    overall: bool = False
    """Whether a readout of its own says which types a whole picture has; else it is the mean over its parts."""

    @property
    def semantics(self) -> tuple[int, ...]:
        """Sizes of the pooled feature vectors F_l: mean and spread of every channel; last, what the grid measures."""
        return tuple(2 * w for w in self.widths) + (GRID,) * self.grid


@dataclass(frozen=True)
class Reading:
    """What the perceiver says of N crops or windows; every tensor is (N, ...)."""

    tier_logits: Tensor  # (N, 3) low, medium, high
    type_logits: Tensor  # (N, T)
    severities: Tensor  # (N, T) in [0, 1]
    contrast: Tensor  # (N, 128) Z of the CFE, length 1
    embedding: Tensor  # (N, D) in the space of the tier features, length 1


class TowerBlock(nn.Module):
    """Two normalised 3x3 convolutions, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x), inplace=True)


class Tower(nn.Module):
    """Feature maps at 1/2, 1/4, 1/8 and 1/16 of the resolution."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        stages, previous = [], 3
        for width, count in zip(config.widths, config.blocks, strict=True):
            enter = nn.Conv2d(4 * previous, width, 3, padding=1, bias=False)
            stages.append(
                nn.Sequential(
                    nn.PixelUnshuffle(2),
                    enter,
                    nn.BatchNorm2d(width),
                    nn.ReLU(inplace=True),
                    *(TowerBlock(width) for _ in range(count)),
                )
            )
            previous = width
        self.stages = nn.ModuleList(stages)
        self.config = config

    @property
    def reach(self) -> int:
        """Pixels that the deepest feature sees to each side of its own 16: 3x3 convolutions at every level."""
        return sum((1 + 2 * count) * 2 ** (level + 1) for level, count in enumerate(self.config.blocks))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x, maps = image * 2 - 1, []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps)


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


class Encoder(Protocol):
    """A frozen image encoder that guides a restorer: the compact tower, or a large one behind the same interface."""

    @property
    def multiple_of(self) -> int:
        """Both sides of a picture must be divisible by this."""

    def semantics(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the feature vectors F_1 .. F_n of pictures (B, 3, H, W) in [0, 1], shallow to deep."""

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Embed pictures in the space of the tier features."""


class Perceiver(nn.Module):
    """Image tower, tier features and CFE readout: pictures (B, 3, H, W) in [0, 1], sides divisible by 16."""

    multiple_of = 16

    def __init__(self, config: TowerConfig | None = None) -> None:
        super().__init__()
        self.config = config or TowerConfig()
        pooled = sum(self.config.semantics)
        self.tower = Tower(self.config)
        self.normalise = nn.BatchNorm1d(pooled)
        self.project = nn.Linear(pooled, self.config.embedding)
        self.tiers = nn.Parameter(torch.randn(self.config.tiers, self.config.embedding))
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.cfe = CFE(pooled, self.config.contrast, self.config.types)
        self.overall = Overall(self.config.types, self.config.tiers) if self.config.overall else None

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Embed pictures as an ``open_clip`` model does: (B, 3, H, W) -> (B, D)."""
        embedding: Tensor = self.project(self.join(self.semantics(image)))
        return F.normalize(embedding, dim=-1) if normalize else embedding

    def semantics(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return F_1 .. F_4 of whole crops, each (B, 2 W_l), and what the grid measures (B, 6)."""
        found = [pool(maps) for maps in self.tower(image)]
        if self.config.grid:
            found.append(grid_strength(grid_maps(image).mean(dim=(2, 3))))
        return tuple(found)

    def semantics_of_windows(self, image: Tensor, margin: int, window: int, stride: int) -> tuple[Tensor, ...]:
        """Return the same of sliding windows inside a margin, (B, D, rows, columns) each; all sizes in pixels."""

        def pooled(maps: Tensor, scale: int) -> Tensor:
            edge = margin // scale
            inner = maps[..., edge : maps.shape[-2] - edge, edge : maps.shape[-1] - edge]
            return pool_windows(inner, window // scale, stride // scale)

        found = [pooled(maps, 2 ** (level + 1)) for level, maps in enumerate(self.tower(image))]
        if self.config.grid:
            means = pooled(grid_maps(image), BLOCK)[:, : 2 * BLOCK + 2]
            found.append(grid_strength(means.movedim(1, -1)).movedim(-1, 1))
        return tuple(found)

    def join(self, semantics: Sequence[Tensor]) -> Tensor:
        """Concatenate and normalise F_1 .. F_4 for the readouts."""
        joined: Tensor = self.normalise(torch.cat(list(semantics), dim=-1))
        return joined

    def read(self, semantics: Sequence[Tensor]) -> Reading:
        """Read tiers, types and severities off pooled features."""
        joined = self.join(semantics)
        embedding = F.normalize(self.project(joined), dim=-1)
        tiers = F.normalize(self.tiers, dim=-1)
        contrast, types, severities = self.cfe(joined)
        return Reading(self.logit_scale.exp() * embedding @ tiers.T, types, severities, contrast, embedding)

    def forward(self, image: Tensor) -> Reading:
        return self.read(self.semantics(image))


class CFE(nn.Module):
    """Degradation features: contrastive vector Z, and on it the heads for types and severities."""

    def __init__(self, features: int, contrast: int, types: int, hidden: int = 256) -> None:
        super().__init__()
        self.enter = nn.Linear(features, hidden)
        self.leave = nn.Linear(hidden, contrast)
        self.type_head = nn.Linear(hidden, types)
        self.severity_head = nn.Linear(hidden, types)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, features) -> Z (N, contrast) of length 1, type logits (N, T), severities (N, T) in [0, 1]."""
        hidden = F.leaky_relu(self.enter(features), 0.1)
        z = F.normalize(self.leave(hidden), dim=-1)
        return z, self.type_head(hidden), self.severity_head(hidden).sigmoid()


class Overall(nn.Linear):
    """Which types of damage a whole picture has, off all that is said of its crops and of its thumbnails, and off how
    light and dark lie in these; and how severe each is, off the mean over the parts and the light.

    It starts as the rule that it replaces: the mean over the crops, where thumbnails count as much for tonal types.
    """

    def __init__(self, types: int, tiers: int) -> None:
        self.said = 2 * types + tiers
        super().__init__(3 * self.said + LIGHT, types)
        self.slopes, self.by_light = nn.Parameter(torch.ones(types)), nn.Linear(LIGHT, types)
        for unused in (self.bias, self.by_light.weight, self.by_light.bias):
            nn.init.zeros_(unused)
        with torch.no_grad():
            self.weight.copy_(self.rule())

    def rule(self) -> Tensor:
        """Weights (T, 3 said + LIGHT) that give the mean over the parts."""
        tonal = torch.tensor([float(t in TONAL_TYPES) for t in TYPES])
        weights = torch.zeros(self.out_features, 3, self.said)
        kinds = torch.arange(self.out_features)
        weights[kinds, 0, kinds], weights[kinds, 2, kinds] = 1 - tonal / 2, tonal / 2
        return F.pad(weights.flatten(1), (0, LIGHT))

    def forward(self, gathered: Tensor) -> Tensor:
        """What `gather` gives (..., 3 said + LIGHT) -> logits of the types (..., T)."""
        return super().forward(gathered)

    def amounts(self, severities: Tensor, light: Tensor) -> Tensor:
        """Put severities (..., T), means over the parts, right by the light (..., LIGHT)."""
        logits = severities.float().logit(eps=LEAST)
        found: Tensor = (self.slopes * logits + self.by_light(light)).sigmoid()
        return found


def gather(crops: Reading, overviews: Reading, lights: Tensor) -> Tensor:
    """Put together what is said of N crops and M thumbnails (3 said + LIGHT,): means over both, and the spread over the
    crops; last, the light of the thumbnails (M, LIGHT)."""
    near, far = (
        torch.cat([r.type_logits, r.severities.float().logit(eps=LEAST), r.tier_logits], dim=-1)
        for r in (crops, overviews)
    )
    return torch.cat([near.mean(dim=0), near.std(dim=0, correction=0), far.mean(dim=0), lights.mean(dim=0)])


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


def pool(maps: Tensor) -> Tensor:
    """Mean and standard deviation over all places: (B, C, h, w) -> (B, 2C)."""
    mean = maps.mean(dim=(2, 3))
    variance = (maps - mean[..., None, None]).square().mean(dim=(2, 3))  # `var` takes eight times as long
    return torch.cat([mean, variance.add(1e-6).sqrt()], dim=1)


def pool_windows(maps: Tensor, window: int, stride: int) -> Tensor:
    """Mean and standard deviation over sliding windows: (B, C, h, w) -> (B, 2C, rows, columns)."""
    mean = F.avg_pool2d(maps, window, stride)
    variance = F.avg_pool2d(maps * maps, window, stride) - mean * mean
    return torch.cat([mean, variance.clamp_min(0).add(1e-6).sqrt()], dim=1)
