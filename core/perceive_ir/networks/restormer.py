"""The Restormer-type backbone of the paper: transposed attention, gated feed-forward, PGCA in the decoder.

Attention runs over channels, but its weights come from all pixels of the tile: this network sees the whole tile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceive_ir.networks.block import Block
from perceive_ir.networks.guidance import (
    PGCA,
    ChannelNorm,
    Guide,
    SizeNeeds,
    attend_channels,
    pointwise_then_depthwise,
    unguided,
)


@dataclass(frozen=True)
class RestormerConfig:
    """Sizes of the network, finest level first; the last level is the latent."""

    widths: tuple[int, ...] = (48, 96, 192, 384)
    blocks: tuple[int, ...] = (4, 6, 6, 8)
    heads: tuple[int, ...] = (1, 2, 4, 8)
    refinement: int = 4
    expansion: float = 2.66
    extra_attention: bool = False
    """Whether the guided blocks also attend to themselves, after PGCA, as the authors' code has it."""

    def __post_init__(self) -> None:
        check_levels(self.widths, self.blocks, self.heads)


def check_levels(widths: tuple[int, ...], blocks: tuple[int, ...], heads: tuple[int, ...]) -> None:
    """Refuse numbers of channels, blocks and heads that do not fit together."""
    if not len(widths) == len(blocks) == len(heads):
        raise ValueError(f"expected as many widths, blocks and heads, got {widths}, {blocks}, {heads}")
    if not widths or min(*widths, *heads) < 1 or min(blocks) < 0:
        raise ValueError(
            "expected widths and heads of 1 or more and no negative number of blocks, got "
            f"{widths}, {heads} and {blocks}"
        )
    if any(width % count for width, count in zip(widths, heads, strict=True)):
        raise ValueError(f"expected widths divisible by their heads, got {widths} and {heads}")
    if any(width % 4 for width in widths[1:]):
        raise ValueError(f"expected widths divisible by 4 from the second level on, got {widths}")


class MDTA(nn.Module):
    """Multi-head attention between channels."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.query_key_value = pointwise_then_depthwise(channels, 3 * channels)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.project = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.query_key_value(x).chunk(3, dim=1)
        attended: Tensor = self.project(attend_channels(query, key, value, self.temperature))
        return attended


class GDFN(nn.Module):
    """Feed-forward part in which one half of the channels gates the other."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.enter = pointwise_then_depthwise(channels, 2 * hidden)
        self.leave = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        open_, value = self.enter(x).chunk(2, dim=1)
        out: Tensor = self.leave(F.gelu(open_) * value)
        return out


class TransformerBlock(Block):
    """TB: attention between channels, then feed-forward, each added to its input."""

    def __init__(self, channels: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.attention = MDTA(channels, heads)
        self.feed_forward = GDFN(channels, expansion)

    def compute(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.feed_forward(self.norm2(x))
        return out


def transformer_blocks(channels: int, heads: int, count: int, expansion: float) -> nn.Sequential:
    """Stack transformer blocks."""
    return nn.Sequential(*(TransformerBlock(channels, heads, expansion) for _ in range(count)))


class SelfAttention(nn.Module):
    """MDTA added to its input."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.attention = MDTA(channels, heads)

    def forward(self, x: Tensor) -> Tensor:
        attended: Tensor = x + self.attention(self.norm(x))
        return attended


class EnhancedBlock(Block):
    """ETB: the guided features Y ask the plain features X: X' = PGCA(Y, X) + Y, then feed-forward."""

    def __init__(self, channels: int, heads: int, expansion: float, extra: bool = False) -> None:
        super().__init__()
        self.attention = PGCA(channels, heads)
        self.norm = ChannelNorm(channels)
        self.extra = SelfAttention(channels, heads) if extra else nn.Identity()
        self.feed_forward = GDFN(channels, expansion)

    def compute(self, plain: Tensor, guided: Tensor) -> Tensor:
        """(B, C, H, W) twice -> (B, C, H, W)."""
        x = self.extra(self.attention(guided, plain) + guided)
        out: Tensor = x + self.feed_forward(self.norm(x))
        return out


class GuidedLevel(nn.Module):
    """The blocks of one decoder level; the guide acts anew before every block."""

    def __init__(self, config: RestormerConfig, level: int) -> None:
        super().__init__()
        self.level = level
        channels, count, heads = (sizes[level - 1] for sizes in (config.widths, config.blocks, config.heads))
        self.blocks = nn.ModuleList(
            EnhancedBlock(channels, heads, config.expansion, config.extra_attention) for _ in range(count)
        )

    def forward(self, x: Tensor, guide: Guide) -> Tensor:
        for block in self.blocks:
            x = block(x, guide(self.level, x))
        return x


class Restormer(nn.Module):
    """Restormer-type network: (B, 3, H, W) -> (B, 3, H, W), a residual on its input."""

    def __init__(self, config: RestormerConfig | None = None) -> None:
        super().__init__()
        self.config = config or RestormerConfig()
        c = self.config
        last = len(c.widths) - 1
        self.enter = nn.Conv2d(3, c.widths[0], 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(
            transformer_blocks(c.widths[i], c.heads[i], c.blocks[i], c.expansion) for i in range(last)
        )
        self.down = nn.ModuleList(down(c.widths[i], c.widths[i + 1]) for i in range(last))
        self.latent = GuidedLevel(c, last + 1)
        self.up = nn.ModuleList(up(c.widths[i + 1], c.widths[i]) for i in range(last))
        self.merge = nn.ModuleList(nn.Conv2d(2 * c.widths[i], c.widths[i], 1, bias=False) for i in range(last))
        self.decoder = nn.ModuleList(GuidedLevel(c, i + 1) for i in range(last))
        self.refine = transformer_blocks(c.widths[0], c.heads[0], c.refinement, c.expansion)
        self.leave = nn.Conv2d(c.widths[0], 3, 3, padding=1, bias=False)

    @property
    def size_needs(self) -> SizeNeeds:
        """Sides divisible by the stride of the latent."""
        stride = 2 ** (len(self.config.widths) - 1)
        return SizeNeeds(multiple_of=stride, minimum=stride)

    @property
    def reach(self) -> None:
        """Channel attention sees the whole tile."""
        return None

    @property
    def guided_channels(self) -> Mapping[int, int]:
        """Decoder levels 1 .. n-1 and the latent n."""
        return {level + 1: width for level, width in enumerate(self.config.widths)}

    @property
    def bytes_per_pixel(self) -> float:
        """Memory per pixel: the feed-forward of the finest level holds wide maps; measured 3,420 bytes for 48."""
        return 90.0 * self.config.widths[0]

    def forward(self, image: Tensor, guide: Guide = unguided) -> Tensor:
        x = self.enter(image)  # (B, W1, H, W)
        skips = []
        for encode, shrink in zip(self.encoder, self.down, strict=True):
            x = encode(x)
            skips.append(x)
            x = shrink(x)
        x = self.latent(x, guide)  # (B, W4, H/8, W/8)
        for level in reversed(range(len(self.decoder))):
            x = self.merge[level](torch.cat([self.up[level](x), skips[level]], dim=1))
            x = self.decoder[level](x, guide)
        residual: Tensor = self.leave(self.refine(x))
        return image + residual


def down(channels: int, out: int) -> nn.Sequential:
    """Halve the resolution."""
    return nn.Sequential(nn.Conv2d(channels, out // 4, 3, padding=1, bias=False), nn.PixelUnshuffle(2))


def up(channels: int, out: int) -> nn.Sequential:
    """Double the resolution."""
    return nn.Sequential(nn.Conv2d(channels, 4 * out, 3, padding=1, bias=False), nn.PixelShuffle(2))
