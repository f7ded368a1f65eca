"""The restoration network: a backbone, its guidance, and a gate that lets nothing through where nothing is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from torch import Tensor, nn

from perceive_ir.networks.guidance import Backbone, Guidance, Guide, Signals, SizeNeeds, fit
from perceive_ir.networks.scattering import CELL, REACH, Scattering
from perceive_ir.networks.steady import steadied

GATE_SLOPE = 4.0
"""Severity 1 / GATE_SLOPE opens the gate fully."""


class GuidedNet(nn.Module):
    """``out = in + gate(condition) * (backbone(in, guide) - in)``, all (B, 3, H, W).

    With the number of the type ``haze``, the backbone is also shown what the law of scattering makes of the picture;
    with that of ``blur``, a shake whose path is known is undone first.
    """

    def __init__(
        self,
        backbone: nn.Module,
        types: int,
        semantics: Sequence[int],
        haze: int | None = None,
        blur: int | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.guidance = Guidance(self.plain.guided_channels, types, semantics)
        self.haze, self.blur = haze, blur
        self.scattering = None if haze is None else Scattering(self.plain.guided_channels)

    @property
    def plain(self) -> Backbone:
        """The backbone seen through its protocol."""
        return cast(Backbone, self.backbone)

    @property
    def size_needs(self) -> SizeNeeds:
        """What the backbone needs of sizes, and the cells of the haze."""
        needs = self.plain.size_needs
        if self.scattering is None:
            return needs
        return SizeNeeds(math.lcm(needs.multiple_of, CELL), max(needs.minimum, CELL))

    @property
    def reach(self) -> int | None:
        """How far it sees; the law is shown by a convolution, which sees farthest at the coarsest level."""
        reach = self.plain.reach
        if reach is None or self.scattering is None:
            return reach
        return reach + REACH + int(2 ** (max(self.plain.guided_channels) - 1))

    @property
    def bytes_per_pixel(self) -> float:
        """Memory that the backbone needs per pixel of its input; the law fits into what that is rounded up by."""
        return self.plain.bytes_per_pixel

    def guide(self, signals: Signals) -> Guide:
        """Find the affine parameters of every level, once for all tiles that share the signals."""
        return cast(Guide, self.guidance(signals))

    def forward(self, image: Tensor, signals: Signals) -> Tensor:
        if self.blur is not None and signals.steady is not None:
            image, left = steadied(image, signals.condition, signals.steady, self.blur)
            signals = replace(signals, condition=left)
        residual = self.work(image, self.guide(signals), signals.condition) - image
        return image + fit(gate(signals.condition), image) * residual

    def work(self, image: Tensor, guide: Guide, condition: Tensor) -> Tensor:
        """Restore a picture with a guide; the gate is not in it."""
        if self.scattering is None or self.haze is None:
            return self.plain(image, guide)
        believed = fit(gate(condition[:, self.haze : self.haze + 1]), image)
        restored: Tensor = self.scattering(self.plain, image, guide, believed)
        return restored


def gate(condition: Tensor) -> Tensor:
    """min(1, 4 x largest severity): (B, T) -> (B, 1, 1, 1), or a map (B, T, h, w) -> (B, 1, h, w)."""
    largest = condition.amax(dim=1, keepdim=True).mul(GATE_SLOPE).clamp(0, 1)
    return largest[:, :, None, None] if largest.ndim == 2 else largest
