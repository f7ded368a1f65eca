"""The PromptIR-type backbone: a Restormer-type network that asks learned prompts in its decoder what is wrong.

A prompt block pools its features, weighs learned components by them, and lets a transformer block read the result
beside the features. Attention and pooling see the whole tile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceive_ir.networks.guidance import Guide, SizeNeeds, unguided
from perceive_ir.networks.restormer import TransformerBlock, check_levels, down, transformer_blocks, up


@dataclass(frozen=True)
class PromptIRConfig:
    """Sizes of the network, finest level first; the last level is the latent."""

    widths: tuple[int, ...] = (48, 96, 192, 384)
    blocks: tuple[int, ...] = (4, 6, 6, 8)
    heads: tuple[int, ...] = (1, 2, 4, 8)
    refinement: int = 4
    expansion: float = 2.66
    components: int = 5
    """Learned prompts of each prompt block."""
    prompt_widths: tuple[int, ...] = (64, 128, 320)
    """Channels of the prompts at levels 2 .. n."""
    prompt_sides: tuple[int, ...] = (64, 32, 16)
    """Sides at which they are learned; they are resized to the features."""

    def __post_init__(self) -> None:
        check_levels(self.widths, self.blocks, self.heads)
        if not len(self.prompt_widths) == len(self.prompt_sides) == len(self.widths) - 1:
            raise ValueError(
                "expected prompt_widths and prompt_sides for each level but the first, got "
                f"{self.prompt_widths} and {self.prompt_sides} for widths {self.widths}"
            )
        joined = [width + prompt for width, prompt in zip(self.widths[1:], self.prompt_widths, strict=True)]
        if any(width % heads for width, heads in zip(joined, self.heads[1:], strict=True)):
            raise ValueError(
                f"expected widths + prompt_widths divisible by their heads, got {joined} and {self.heads[1:]}"
            )
        if self.components < 1 or min((*self.prompt_widths, *self.prompt_sides), default=1) < 1:
            raise ValueError(
                f"expected components, prompt_widths and prompt_sides of 1 or more, got {self.components}, "
                f"{self.prompt_widths}, {self.prompt_sides}"
            )


class Prompt(nn.Module):
    """Learned components, summed with weights that the features choose, at the size of the features."""

    def __init__(self, channels: int, width: int, side: int, components: int) -> None:
        super().__init__()
        self.components = nn.Parameter(torch.rand(components, width, side, side))
        self.choose = nn.Linear(channels, components)
        self.smooth = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, width, H, W)."""
        weights = self.choose(x.mean(dim=(2, 3))).softmax(dim=-1)  # (B, N)
        prompt = torch.einsum("bn,ncij->bcij", weights, self.components)
        smooth: Tensor = self.smooth(F.interpolate(prompt, size=x.shape[-2:], mode="bilinear", align_corners=False))
        return smooth


class PromptBlock(nn.Module):
    """Let a transformer block read features and prompt side by side: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, heads: int, expansion: float, prompt: Prompt) -> None:
        super().__init__()
        joined = channels + prompt.smooth.out_channels
        self.prompt = prompt
        self.read = TransformerBlock(joined, heads, expansion)
        self.reduce = nn.Conv2d(joined, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        reduced: Tensor = self.reduce(self.read(torch.cat([x, self.prompt(x)], dim=1)))
        return reduced


class PromptIR(nn.Module):
    """PromptIR-type network: (B, 3, H, W) -> (B, 3, H, W), a residual on its input."""

    def __init__(self, config: PromptIRConfig | None = None) -> None:
        super().__init__()
        self.config = config or PromptIRConfig()
        c = self.config
        last = len(c.widths) - 1
        stacks = [transformer_blocks(*sizes, c.expansion) for sizes in zip(c.widths, c.heads, c.blocks, strict=True)]
        self.enter = nn.Conv2d(3, c.widths[0], 3, padding=1, bias=False)
        self.encoder, self.latent = nn.ModuleList(stacks[:last]), stacks[last]
        self.down = nn.ModuleList(down(c.widths[i], c.widths[i + 1]) for i in range(last))
        self.prompts = nn.ModuleList(prompt_block(c, i) for i in range(last))
        self.up = nn.ModuleList(up(c.widths[i + 1], c.widths[i]) for i in range(last))
        self.merge = nn.ModuleList(nn.Conv2d(2 * c.widths[i], c.widths[i], 1, bias=False) for i in range(last))
        self.decoder = nn.ModuleList(
            transformer_blocks(c.widths[i], c.heads[i], c.blocks[i], c.expansion) for i in range(last)
        )
        self.refine = transformer_blocks(c.widths[0], c.heads[0], c.refinement, c.expansion)
        self.leave = nn.Conv2d(c.widths[0], 3, 3, padding=1, bias=False)

    @property
    def size_needs(self) -> SizeNeeds:
        """Sides divisible by the stride of the latent."""
        stride = 2 ** (len(self.config.widths) - 1)
        return SizeNeeds(multiple_of=stride, minimum=stride)

    @property
    def reach(self) -> None:
        """Channel attention and prompts see the whole tile."""
        return None

    @property
    def guided_channels(self) -> Mapping[int, int]:
        """Decoder levels 1 .. n-1 and the latent n."""
        return {level + 1: width for level, width in enumerate(self.config.widths)}

    @property
    def bytes_per_pixel(self) -> float:
        """Memory per pixel: as for the Restormer type; measured 3,510 bytes for 48."""
        return 90.0 * self.config.widths[0]

    def forward(self, image: Tensor, guide: Guide = unguided) -> Tensor:
        x = self.enter(image)  # (B, W1, H, W)
        skips = []
        for encode, shrink in zip(self.encoder, self.down, strict=True):
            skips.append(encode(x))
            x = shrink(skips[-1])
        x = self.latent(guide(len(self.config.widths), x))  # (B, W4, H/8, W/8)
        for level in reversed(range(len(self.decoder))):
            x = self.up[level](self.prompts[level](x))
            x = self.merge[level](torch.cat([x, skips[level]], dim=1))
            x = self.decoder[level](guide(level + 1, x))
        residual: Tensor = self.leave(self.refine(x))
        return image + residual


def prompt_block(config: PromptIRConfig, number: int) -> PromptBlock:
    """Make the prompt block of level ``number + 2``, in front of the step up from it."""
    channels, heads = config.widths[number + 1], config.heads[number + 1]
    prompt = Prompt(channels, config.prompt_widths[number], config.prompt_sides[number], config.components)
    return PromptBlock(channels, heads, config.expansion, prompt)
