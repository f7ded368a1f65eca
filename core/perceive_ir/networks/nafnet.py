"""The NAFNet backbone: blocks without any activation function, in which one half of the channels gates the other.

Its channel attention takes means over the tile: this network sees the whole tile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from perceive_ir.networks.block import Block
from perceive_ir.networks.guidance import ChannelNorm, Guide, SizeNeeds, unguided


@dataclass(frozen=True)
class NAFNetConfig:
    """Sizes of NAFNet, finest level first; as published for deblurring (GoPro).

    For denoising (SIDD): encoder_blocks (2, 2, 4, 8), middle_blocks 12, decoder_blocks (2, 2, 2, 2).
    """

    width: int = 32
    """Channels of the finest level; each level below has twice as many."""
    encoder_blocks: tuple[int, ...] = (1, 1, 1, 28)
    middle_blocks: int = 1
    """Blocks of the latent."""
    decoder_blocks: tuple[int, ...] = (1, 1, 1, 1)

    def __post_init__(self) -> None:
        if len(self.encoder_blocks) != len(self.decoder_blocks):
            raise ValueError(
                "expected as many encoder_blocks as decoder_blocks, got "
                f"{self.encoder_blocks} and {self.decoder_blocks}"
            )
        if self.width < 1 or self.middle_blocks < 0 or min((*self.encoder_blocks, *self.decoder_blocks), default=0) < 0:
            raise ValueError(
                f"expected a width of 1 or more and no negative number of blocks, got width {self.width}, "
                f"encoder_blocks {self.encoder_blocks}, middle_blocks {self.middle_blocks}, "
                f"decoder_blocks {self.decoder_blocks}"
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, the latent last."""
        return tuple(self.width * 2**level for level in range(len(self.encoder_blocks) + 1))


def simple_gate(x: Tensor) -> Tensor:
    """Multiply one half of the channels with the other: (B, 2C, H, W) -> (B, C, H, W)."""
    one, other = x.chunk(2, dim=1)
    return one * other


class ChannelAttention(nn.Module):
    """SCA: scale every channel by a linear function of the means of all channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = x * self.mix(x.mean(dim=(2, 3), keepdim=True))
        return scaled


class NAFBlock(Block):
    """Mix neighbours under channel attention, then channels, each scaled and added; starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(width), ChannelNorm(width)
        self.spread = nn.Conv2d(width, 2 * width, 1)
        self.neighbours = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.attention = ChannelAttention(width)
        self.project = nn.Conv2d(width, width, 1)
        self.enter, self.leave = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(width, width, 1)
        self.beta, self.gamma = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))

    def compute(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        mixed = simple_gate(self.neighbours(self.spread(self.norm1(x))))
        x = x + self.beta[:, None, None] * self.project(self.attention(mixed))
        out: Tensor = x + self.gamma[:, None, None] * self.leave(simple_gate(self.enter(self.norm2(x))))
        return out


def blocks(width: int, count: int) -> nn.Sequential:
    """Stack blocks."""
    return nn.Sequential(*(NAFBlock(width) for _ in range(count)))


class NAFNet(nn.Module):
    """NAFNet: (B, 3, H, W) -> (B, 3, H, W), a residual on its input."""

    def __init__(self, config: NAFNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or NAFNetConfig()
        *widths, latent = self.config.widths
        self.enter = nn.Conv2d(3, self.config.width, 3, padding=1)
        self.encoder = nn.ModuleList(blocks(w, n) for w, n in zip(widths, self.config.encoder_blocks, strict=True))
        self.down = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, stride=2) for w in widths)
        self.middle = blocks(latent, self.config.middle_blocks)
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * w, 4 * w, 1, bias=False), nn.PixelShuffle(2)) for w in widths
        )
        self.decoder = nn.ModuleList(blocks(w, n) for w, n in zip(widths, self.config.decoder_blocks, strict=True))
        self.leave = nn.Conv2d(self.config.width, 3, 3, padding=1)
        nn.init.zeros_(cast(Tensor, self.leave.bias))

    @property
    def size_needs(self) -> SizeNeeds:
        """Sides divisible by the stride of the latent."""
        stride = 2 ** len(self.config.encoder_blocks)
        return SizeNeeds(multiple_of=stride, minimum=stride)

    @property
    def reach(self) -> None:
        """The means of the channel attention see the whole tile."""
        return None

    @property
    def guided_channels(self) -> Mapping[int, int]:
        """Decoder levels 1 .. n and the latent n + 1."""
        return {level + 1: width for level, width in enumerate(self.config.widths)}

    @property
    def bytes_per_pixel(self) -> float:
        """Memory per pixel; measured 1,150 bytes for a width of 32, 290 for 8."""
        return 45.0 * self.config.width

    def forward(self, image: Tensor, guide: Guide = unguided) -> Tensor:
        x = self.enter(image)  # (B, W, H, W)
        skips = []
        for encode, shrink in zip(self.encoder, self.down, strict=True):
            skips.append(encode(x))
            x = shrink(skips[-1])
        x = self.middle(guide(len(self.config.widths), x))  # (B, 16W, H/16, W/16)
        for level in reversed(range(len(self.decoder))):
            x = self.up[level](x) + skips[level]
            x = self.decoder[level](guide(level + 1, x))
        residual: Tensor = self.leave(x)
        return image + residual
