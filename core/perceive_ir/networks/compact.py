"""The compact backbone: a dense-convolution U-Net without any spatially global operation.

What a tile shows depends on nothing but the tile and its guide, so tiles join without seams.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceive_ir.networks.block import Block
from perceive_ir.networks.guidance import Guide, SizeNeeds, unguided


@dataclass(frozen=True)
class CompactConfig:
    """Sizes of the compact backbone, finest level first; level l works at 1/2**(l - 1) of the resolution."""

    widths: tuple[int, ...] = (24, 48, 96, 192)
    encoder_blocks: tuple[int, ...] = (1, 1, 1, 3)
    """Residual blocks per level; the last entry is the latent."""
    decoder_blocks: tuple[int, ...] = (1, 1, 1)
    gain: bool = False
    """Whether the residual also scales its input: ``a * image + b``, as haze and darkness ask for."""

    def __post_init__(self) -> None:
        if len(self.encoder_blocks) != len(self.widths) or len(self.decoder_blocks) != len(self.widths) - 1:
            raise ValueError(
                f"expected one encoder entry per width and one decoder entry fewer, got widths {self.widths}, "
                f"encoder_blocks {self.encoder_blocks}, decoder_blocks {self.decoder_blocks}"
            )
        if min(self.widths) < 1 or self.encoder_blocks[-1] < 1:
            raise ValueError(
                "expected widths and latent blocks of 1 or more, got "
                f"widths {self.widths}, encoder_blocks {self.encoder_blocks}"
            )


class ResidualBlock(Block):
    """Two 3x3 convolutions around a ReLU, added to the input; starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(cast(Tensor, self.second.bias))

    def compute(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        change: Tensor = self.second(F.relu(self.first(x), inplace=True))
        return x + change


def blocks(width: int, count: int) -> nn.Sequential:
    """Stack residual blocks."""
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))


class Compact(nn.Module):
    """Compact U-Net: (B, 3, H, W) -> (B, 3, H, W), a residual on its input."""

    def __init__(self, config: CompactConfig | None = None) -> None:
        super().__init__()
        self.config = config or CompactConfig()
        widths, depth = self.config.widths, len(self.config.widths)
        self.enter = nn.Conv2d(3, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(blocks(w, n) for w, n in zip(widths, self.config.encoder_blocks, strict=True))
        self.down = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 2, stride=2) for i in range(depth - 1))
        self.up = nn.ModuleList(nn.Conv2d(widths[i + 1], 4 * widths[i], 1) for i in range(depth - 1))
        self.decoder = nn.ModuleList(blocks(w, n) for w, n in zip(widths[:-1], self.config.decoder_blocks, strict=True))
        self.leave = nn.Conv2d(widths[0], 6 if self.config.gain else 3, 3, padding=1)
        nn.init.normal_(self.leave.weight, std=0.01)
        nn.init.zeros_(cast(Tensor, self.leave.bias))

    @property
    def size_needs(self) -> SizeNeeds:
        """Sides divisible by the stride of the latent."""
        return SizeNeeds(multiple_of=self.stride, minimum=self.stride)

    @property
    def stride(self) -> int:
        """Side of the pixel block that becomes one place of the latent."""
        side: int = 2 ** (len(self.config.widths) - 1)
        return side

    @property
    def reach(self) -> int:
        """Pixels that an output pixel sees to each side: two 3x3 convolutions a block, at the stride of its level."""
        config = self.config
        convolutions = [2 * n for n in config.encoder_blocks]
        for level, n in enumerate(config.decoder_blocks):
            convolutions[level] += 2 * n
        convolutions[0] += 2  # enter and leave
        inside: int = sum(n * 2**level for level, n in enumerate(convolutions))
        return inside + self.stride  # a pixel may sit at any place in its latent cell

    @property
    def guided_channels(self) -> Mapping[int, int]:
        """Every level is guided: decoder levels 1 .. n-1 and the latent n."""
        return {level + 1: width for level, width in enumerate(self.config.widths)}

    @property
    def bytes_per_pixel(self) -> float:
        """Memory per pixel: about eight maps of the first width at the peak; measured 725 bytes for a width of 24."""
        return 32.0 * self.config.widths[0]

    def forward(self, image: Tensor, guide: Guide = unguided) -> Tensor:
        x = self.enter(image)  # (B, W1, H, W)
        skips = []
        for encode, shrink in zip(self.encoder, self.down, strict=False):  # all levels but the latent
            skips.append(encode(x))
            x = shrink(skips[-1])
        latent = cast(nn.Sequential, self.encoder[-1])
        x = latent[-1](guide(len(self.encoder), latent[:-1](x)))  # (B, Wn, H/stride, W/stride)
        for level in reversed(range(len(self.up))):
            x = F.pixel_shuffle(self.up[level](x), 2) + skips[level]
            x = self.decoder[level](guide(level + 1, x))
        change: Tensor = self.leave(x)
        if self.config.gain:
            gain, offset = change.chunk(2, dim=1)
            change = torch.addcmul(offset, gain, image)
        return image + change
