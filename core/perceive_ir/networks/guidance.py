"""How perception steers a backbone: condition and semantics become one affine modulation per level.

A backbone calls ``guide(level, features)`` at its latent and at each decoder level; that is the only seam. Level 1 is
the finest. Everything new starts at zero, so that a fresh guided network equals its plain backbone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Guide = Callable[[int, Tensor], Tensor]
T = TypeVar("T")


def unguided(level: int, features: Tensor) -> Tensor:
    """Leave the features as they are: the guide of a plain backbone."""
    return features


@dataclass(frozen=True)
class SizeNeeds:
    """What a network demands of its input's height and width."""

    multiple_of: int = 1
    """Both sides must be divisible by this."""
    minimum: int = 1
    """Smallest side in pixels."""


class Backbone(Protocol):
    """An encoder-decoder that maps (B, 3, H, W) to the same shape and lets itself be guided."""

    @property
    def size_needs(self) -> SizeNeeds:
        """What the network needs of sizes."""

    @property
    def reach(self) -> int | None:
        """How far an output pixel sees, in pixels to each side; ``None`` if it sees the whole tile."""

    @property
    def guided_channels(self) -> Mapping[int, int]:
        """Channels that the guide receives, by level."""

    @property
    def bytes_per_pixel(self) -> float:
        """Memory that a forward pass in float32 needs for each pixel of its input (measured)."""

    def __call__(self, image: Tensor, guide: Guide = unguided) -> Tensor:
        """Restore (B, 3, H, W)."""


@dataclass(frozen=True)
class Signals:
    """What is known of a picture before a tile of it is restored."""

    condition: Tensor
    """Severities (B, T), or a map of them (B, T, h, w) that covers the tile."""
    semantics: tuple[Tensor, ...] | None = None
    """Image-global feature vectors F_1 .. F_n (B, D_l), one per level, shallow to deep; (1, D_l) holds for all."""
    z: Tensor | None = None
    """What a CFE felt of the picture beside its condition (B, D); added to the embedded condition."""
    steady: Tensor | None = None
    """Filters that undo the shakes of the pictures (B, F, F), (1, F, F) for all; zero where no shake was found."""

    def rows(self) -> list[Signals]:
        """Return the signals of each entry of the batch."""
        return [self.take(slice(n, n + 1)) for n in range(len(self.condition))]

    def take(self, entries: slice | Tensor) -> Signals:
        """Return the signals of some entries of the batch."""
        semantics = self.semantics and tuple(f if len(f) == 1 else f[entries] for f in self.semantics)
        steady = self.steady if self.steady is None or len(self.steady) == 1 else self.steady[entries]
        return Signals(self.condition[entries], semantics, None if self.z is None else self.z[entries], steady)


class ConditionEmbedding(nn.Module):
    """Embed severities as Z: (B, T, ...) -> (B, D, ...)."""

    def __init__(self, types: int, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(types, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, condition: Tensor) -> Tensor:
        z: Tensor = self.mlp(condition.movedim(1, -1))
        return z.movedim(-1, 1)


class PGM(nn.Module):
    """Prompt-guided modulation: [F, Z] -> (gamma, beta), Y = (1 + gamma) * X + beta."""

    def __init__(self, channels: int, condition: int, semantic: int, hidden: int = 128) -> None:
        super().__init__()
        self.semantic = semantic
        self.normalise = nn.LayerNorm(semantic, elementwise_affine=False)
        self.enter = nn.Linear(condition + semantic, hidden)
        self.leave = nn.Linear(hidden, 2 * channels)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, z: Tensor, semantic: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return gamma and beta, (B, C, 1, 1) for a vector ``z`` (B, D), (B, C, h, w) for a map (B, D, h, w)."""
        z = z[:, :, None, None] if z.ndim == 2 else z
        z = z.movedim(1, -1)  # (B, h, w, D)
        known = z.new_zeros(z.shape[0], self.semantic) if semantic is None else self.normalise(semantic)
        known = known[:, None, None, :].expand(*z.shape[:3], -1)  # one picture's F for all its tiles
        affine = self.leave(F.gelu(self.enter(torch.cat([known, z], dim=-1))))
        gamma, beta = affine.movedim(-1, 1).chunk(2, dim=1)
        return gamma, beta


class Guidance(nn.Module):
    """One PGM per guided level, and the embedding of the condition that they share."""

    def __init__(self, channels: Mapping[int, int], types: int, semantics: Sequence[int], width: int = 128) -> None:
        super().__init__()
        if not semantics:
            raise ValueError("expected the sizes of the semantic vectors, at least one, got none")
        self.embed = ConditionEmbedding(types, width)
        self.levels = nn.ModuleDict(
            {str(level): PGM(count, width, of_level(semantics, level)) for level, count in channels.items()}
        )

    def forward(self, signals: Signals) -> Guide:
        """Return the guide for one batch; the affine parameters are found here, once."""
        # A processor's product of matrices has other bits for other numbers of rows: so that a picture does not depend
        # on those beside it, each is asked for alone.
        alone = signals.condition.device.type == "cpu" and not self.training
        parts = [self.affine(part) for part in (signals.rows() if alone else [signals])]
        return guided_by(
            {level: tuple(map(torch.cat, zip(*(p[level] for p in parts), strict=True))) for level in parts[0]}
        )

    def affine(self, signals: Signals) -> dict[int, tuple[Tensor, Tensor]]:
        """Find gamma and beta of every level."""
        z = self.embed(signals.condition)
        z = z if signals.z is None else z + signals.z
        semantics = signals.semantics or [None] * len(self.levels)
        return {int(name): pgm(z, of_level(semantics, int(name))) for name, pgm in self.levels.items()}


def guided_by(affine: Mapping[int, tuple[Tensor, ...]]) -> Guide:
    """Return the guide that modulates with the gamma and beta of every level."""

    def guide(level: int, features: Tensor) -> Tensor:
        gamma, beta = (fit(p, features) for p in affine[level])
        return torch.addcmul(features + beta, gamma, features)

    return guide


def fit(parameters: Tensor, features: Tensor) -> Tensor:
    """Resize a map of affine parameters to the features; a vector stays as it is."""
    if parameters.shape[-2:] in ((1, 1), features.shape[-2:]):
        return parameters
    return F.interpolate(parameters, size=features.shape[-2:], mode="bilinear", align_corners=False)


def of_level(vectors: Sequence[T], level: int) -> T:
    """Return what belongs to a level; levels deeper than there are vectors share the deepest."""
    return vectors[min(level, len(vectors)) - 1]


class PGCA(nn.Module):
    """Prompt-guided cross-attention over channels: Q from the guided Y, K and V from the unguided X."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_y, self.norm_x = ChannelNorm(channels), ChannelNorm(channels)
        self.query = pointwise_then_depthwise(channels, channels)
        self.key_value = pointwise_then_depthwise(channels, 2 * channels)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.project = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, guided: Tensor, plain: Tensor) -> Tensor:
        """Attend: (B, C, H, W) twice -> (B, C, H, W)."""
        query = self.query(self.norm_y(guided))
        key, value = self.key_value(self.norm_x(plain)).chunk(2, dim=1)
        attended: Tensor = self.project(attend_channels(query, key, value, self.temperature))
        return attended


def attend_channels(query: Tensor, key: Tensor, value: Tensor, temperature: Tensor) -> Tensor:
    """Attend between channels (C/h x C/h per head) instead of between pixels; all tensors (B, C, H, W)."""
    b, c, h, w = query.shape
    heads = temperature.shape[0]
    q, k, v = (t.reshape(b, heads, c // heads, h * w) for t in (query, key, value))
    weights = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)) * temperature
    return (weights.softmax(dim=-1) @ v).reshape(b, c, h, w)


def pointwise_then_depthwise(channels: int, out: int) -> nn.Sequential:
    """1x1 convolution to mix channels, then a depthwise 3x3 to mix neighbours."""
    return nn.Sequential(
        nn.Conv2d(channels, out, 1, bias=False), nn.Conv2d(out, out, 3, padding=1, groups=out, bias=False)
    )


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x.movedim(1, -1))
        return normed.movedim(-1, 1)
