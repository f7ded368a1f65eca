"""A foreign network behind the seam ``guide(level, features)``, and the CFE that looks at its pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from perceive_ir.networks.compact import ResidualBlock
from perceive_ir.networks.guidance import Guide, SizeNeeds, unguided
from perceive_ir.networks.tower import CFE, pool


@dataclass(frozen=True)
class Seam:
    """The hook behind one tap: hands its features to the guide of the call that is under way, if there is one."""

    tapped: Tapped
    level: int

    def __call__(self, module: nn.Module, inputs: Any, features: Tensor) -> Tensor:
        return self.tapped.guide(self.level, features).to(features.dtype)


class Tapped(nn.Module):
    """A network whose named modules ask the guide; called in any other way, it is as it was.

    One call at a time: what guides it is kept here meanwhile. A part that runs again during the backward pass
    (checkpointed activations) is no longer guided then, which torch reports as an error.

    Parameters
    ----------
    network
        Any module that takes pictures (B, C, H, W).
    taps
        Names of its modules and their channels, finest first: the first is level 1.
    stride
        What the sides of a picture must be divisible by.
    reach
        How far an output pixel sees, where that is known.
    bytes_per_pixel
        Memory for each pixel of the input.
    """

    def __init__(
        self, network: nn.Module, taps: Mapping[str, int], stride: int, reach: int | None, bytes_per_pixel: float
    ) -> None:
        super().__init__()
        self.network: nn.Module = network
        self.guided_channels = dict(enumerate(taps.values(), start=1))
        self.size_needs = SizeNeeds(multiple_of=stride, minimum=stride)
        self.reach, self.bytes_per_pixel = reach, bytes_per_pixel
        self.guide: Guide = unguided
        self.hooks = [
            network.get_submodule(name).register_forward_hook(Seam(self, level))
            for level, name in enumerate(taps, start=1)
        ]

    def forward(self, image: Tensor, guide: Guide = unguided) -> Tensor:
        self.guide = guide
        try:
            output: Tensor = self.network(image)
            return output
        finally:
            self.guide = unguided

    def release(self) -> nn.Module:
        """Take the hooks off and let go of the network."""
        for hook in self.hooks:
            hook.remove()
        network, self.network = self.network, Gone()
        return network


class Gone(nn.Module):
    """Stands where a network was."""

    def forward(self, image: Tensor) -> Tensor:
        raise RuntimeError("the network was detached: attach to it again")


@dataclass(frozen=True)
class Readout:
    """What a CFE reads off B pictures."""

    contrast: Tensor  # (B, 128) Z, length 1
    type_logits: Tensor  # (B, T)
    severities: Tensor  # (B, T) in [0, 1]

    @property
    def condition(self) -> Tensor:
        """Severity of each type, as far as it is there (B, T); smooth, so that all of it can learn."""
        return self.type_logits.sigmoid() * self.severities


class PictureCFE(nn.Module):
    """CFE of the paper on pictures of any size: two residual blocks, pooling (mean and spread), and the readout."""

    def __init__(self, channels: int, types: int, widths: Sequence[int] = (32, 64), contrast: int = 128) -> None:
        super().__init__()
        first, second = widths
        self.body = nn.Sequential(
            nn.Conv2d(channels, first, 3, stride=2, padding=1),
            nn.ReLU(),
            ResidualBlock(first),
            nn.Conv2d(first, second, 3, stride=2, padding=1),
            nn.ReLU(),
            ResidualBlock(second),
        )
        self.readout = CFE(2 * second, contrast, types)

    def forward(self, image: Tensor) -> Readout:
        return Readout(*self.readout(pool(self.body(image))))
