"""The compact perceiver: a small image tower with the interface of an ``open_clip`` model, and what is read from it.

A crop gives pooled features at four depths (F_1 .. F_4), one embedding in the space of the tier features, and the
readout of the CFE: contrastive vector Z, logits of the types and severities. Pooling over a window instead of a crop
gives the same readings as a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceive_ir._vocabulary import TONAL_TYPES, TYPES
from perceive_ir.networks.measures import BANDS, BLOCK, GRID, LIGHT, Bands, grid_maps, grid_strength

SOFT = ("blur", "lowres")
"""Types that leave a picture soft, and little else."""
LEAST = 1e-4
"""Severities this near to 0 and 1 count as this far from them."""


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
    bands: bool = False
    """Whether detail is measured by its size and direction beside the tower."""
    overall: bool = False
    """Whether a readout of its own says which types a whole picture has; else it is the mean over its parts."""
    hidden: int = 0
    """Hidden units between the features and the embedding, beside the straight projection; 0 for none. What a restorer
    left unfinished lies between low and high in another way for each type of damage."""
    closer: int = 0
    """Hidden units of a closer look at the bands of a whole picture, which puts types and severities right; 0 for none.
    It needs ``bands`` and ``overall``."""

    def __post_init__(self) -> None:
        if min(self.closer, self.hidden) < 0:
            raise ValueError(f"expected no fewer than 0 hidden units, got {min(self.closer, self.hidden)}")
        if self.closer and not (self.bands and self.overall):
            raise ValueError(f"expected bands and overall beside closer = {self.closer}; set them, or closer = 0")

    @property
    def semantics(self) -> tuple[int, ...]:
        """Sizes of the pooled feature vectors F_l: mean and spread of every channel; last, what is measured beside."""
        return tuple(2 * w for w in self.widths) + (GRID,) * self.grid + (BANDS,) * self.bands


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

    def silence(self) -> None:
        """Change nothing from here on, until it is trained: what comes in is never negative."""
        nn.init.zeros_(cast(Tensor, self.body[-1].weight))


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

    def added_to(self, blocks: Sequence[int]) -> list[TowerBlock]:
        """Return the blocks that a tower with fewer blocks at each level lacks."""
        own = [[layer for layer in stage if isinstance(layer, TowerBlock)] for stage in cast(Any, self.stages)]
        return [block for level, count in zip(own, blocks, strict=True) for block in level[count:]]

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
        self.bands = Bands() if self.config.bands else None
        self.normalise = nn.BatchNorm1d(pooled)
        self.project = nn.Linear(pooled, self.config.embedding)
        self.bend = bend(pooled, self.config.hidden, self.config.embedding) if self.config.hidden else None
        self.tiers = nn.Parameter(torch.randn(self.config.tiers, self.config.embedding))
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.cfe = CFE(pooled, self.config.contrast, self.config.types)
        self.overall = Overall(self.config.types, self.config.tiers) if self.config.overall else None
        self.closer = Closer(self.config.closer, self.config.types) if self.config.closer else None

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Embed pictures as an ``open_clip`` model does: (B, 3, H, W) -> (B, D)."""
        embedding = self.embed(self.join(self.semantics(image)))
        return F.normalize(embedding, dim=-1) if normalize else embedding

    def semantics(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return F_1 .. F_4 of whole crops, each (B, 2 W_l), and what is measured of grid and bands (B, ...)."""
        found = [pool(maps) for maps in self.tower(image)]
        if self.config.grid:
            found.append(grid_strength(grid_maps(image).mean(dim=(2, 3))))
        if self.bands is not None:
            found.append(self.bands.said(self.bands.maps(image).mean(dim=(2, 3))))
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
        if self.bands is not None:
            means = self.bands.of_windows(image, margin, window, stride)
            found.append(self.bands.said(means.movedim(1, -1)).movedim(-1, 1))
        return tuple(found)

    def join(self, semantics: Sequence[Tensor]) -> Tensor:
        """Concatenate and normalise F_1 .. F_4 for the readouts."""
        joined: Tensor = self.normalise(torch.cat(list(semantics), dim=-1))
        return joined

    def detail(self, semantics: Sequence[Tensor]) -> Tensor:
        """Return the mean bands (BANDS,) of the crops of a picture, as `Closer` takes them."""
        return self.join(semantics)[:, -BANDS:].mean(dim=0)

    def embed(self, joined: Tensor) -> Tensor:
        """Project what `join` gives (N, features) into the space of the tier features (N, D)."""
        embedding: Tensor = self.project(joined)
        return embedding if self.bend is None else embedding + self.bend(joined)

    def read(self, semantics: Sequence[Tensor]) -> Reading:
        """Read tiers, types and severities off pooled features."""
        joined = self.join(semantics)
        embedding = F.normalize(self.embed(joined), dim=-1)
        tiers = F.normalize(self.tiers, dim=-1)
        contrast, types, severities = self.cfe(joined)
        return Reading(self.logit_scale.exp() * embedding @ tiers.T, types, severities, contrast, embedding)

    def forward(self, image: Tensor) -> Reading:
        return self.read(self.semantics(image))


def bend(features: int, hidden: int, embedding: int) -> nn.Sequential:
    """Return a hidden layer to be added to a projection, of which it changes nothing before it is trained."""
    last = nn.Linear(hidden, embedding)
    for unused in (last.weight, last.bias):
        nn.init.zeros_(unused)
    return nn.Sequential(nn.Linear(features, hidden), nn.GELU(), last)


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
        kinds, far = torch.arange(self.out_features), far_shares()
        weights = torch.zeros(self.out_features, 3, self.said)
        weights[kinds, 0, kinds], weights[kinds, 2, kinds] = 1 - far, far
        return F.pad(weights.flatten(1), (0, LIGHT))

    def forward(self, gathered: Tensor) -> Tensor:
        """What `gather` gives (..., 3 said + LIGHT) -> logits of the types (..., T)."""
        return super().forward(gathered)

    def amounts(self, severities: Tensor, light: Tensor) -> Tensor:
        """Put severities (..., T), means over the parts, right by the light (..., LIGHT)."""
        logits = severities.float().logit(eps=LEAST)
        found: Tensor = (self.slopes * logits + self.by_light(light)).sigmoid()
        return found


class Closer(nn.Module):
    """A closer look at the detail of a whole picture: what the bands of all its crops say of types and severities
    beyond what is read off each crop. It changes nothing before it is fitted.

    It may find `SOFT` types where they were not seen; of the presence of the others, which cost more to see by mistake,
    it may only take back what was said.
    """

    def __init__(self, hidden: int, types: int) -> None:
        super().__init__()
        self.enter = nn.Linear(BANDS, hidden)
        self.leave = nn.Linear(hidden, 2 * types)
        self.begin()

    def begin(self) -> None:
        """Draw hidden units anew, and leave everything as it is."""
        self.enter.reset_parameters()
        for unused in (self.leave.weight, self.leave.bias):
            nn.init.zeros_(unused)

    def forward(self, bands: Tensor, logits: Tensor, severities: Tensor) -> tuple[Tensor, Tensor]:
        """Put logits of types and severities (..., T) right by the mean bands of the crops (..., BANDS)."""
        types, amounts = self.added(bands)
        soft = torch.tensor([t in SOFT for t in TYPES], device=types.device)
        types = torch.where(soft, types, types.clamp(max=0))
        return logits + types, (severities.float().logit(eps=LEAST) + amounts).sigmoid()

    def added(self, bands: Tensor, dropped: float = 0) -> tuple[Tensor, Tensor]:
        """Return what the bands add to the logits of types and of severities (..., T); while it is fitted, a share of
        the hidden units is dropped."""
        types, amounts = self.leave(F.dropout(F.gelu(self.enter(bands)), dropped)).chunk(2, dim=-1)
        return types, amounts


def far_shares() -> Tensor:
    """How much thumbnails count in what is said of each type (T,): half for those that change the light of the whole
    picture, nothing for the others."""
    return torch.tensor([0.5 * (t in TONAL_TYPES) for t in TYPES])


def gather(crops: Reading, overviews: Reading, lights: Tensor) -> Tensor:
    """Put together what is said of N crops and M thumbnails (3 said + LIGHT,): means over both, and the spread over the
    crops; last, the light of the thumbnails (M, LIGHT)."""
    near, far = (
        torch.cat([r.type_logits, r.severities.float().logit(eps=LEAST), r.tier_logits], dim=-1)
        for r in (crops, overviews)
    )
    return torch.cat([near.mean(dim=0), near.std(dim=0, correction=0), far.mean(dim=0), lights.mean(dim=0)])


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
