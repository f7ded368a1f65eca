"""What the families of damage share: the random part of one type, as a value that knows no severity."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draw:
    """What a family needs to draw its random part for ``n`` pictures."""

    n: int
    """Number of pictures."""
    height: int
    """Height in pixels."""
    width: int
    """Width in pixels."""
    generator: torch.Generator
    """Source of all random numbers; its device is the device of what is drawn."""
    grey: Tensor
    """Boolean (n,): pictures with three equal channels, whose damage must have none of its own colour."""
    varied: bool
    """Whether each picture gets a sub-kind of its own, or all get the standard variant."""
    window: bool = False
    """Whether the pictures are small windows of their scenes, in varied mode only."""

    @property
    def device(self) -> torch.device:
        """Device of everything drawn."""
        return self.generator.device

    def uniform(self, low: float, high: float, *size: int) -> Tensor:
        """Return uniform numbers (n, *size) in [low, high)."""
        return torch.rand(self.n, *size, generator=self.generator, device=self.device) * (high - low) + low

    def normal(self, *size: int) -> Tensor:
        """Return standard normal numbers (n, *size)."""
        return torch.randn(self.n, *size, generator=self.generator, device=self.device)

    def chance(self, probability: float, *size: int) -> Tensor:
        """Return booleans (n, *size), true with ``probability``; never true in the standard variant."""
        return self.uniform(0, 1, *size) < (probability if self.varied else -1.0)

    def vary(self, standard: float, low: float, high: float, *size: int) -> Tensor:
        """Return uniform numbers (n, *size), or ``standard`` throughout where nothing is to vary."""
        drawn = self.uniform(low, high, *size)
        return drawn if self.varied else torch.full_like(drawn, standard)

    def tint(self, strength: float) -> Tensor:
        """Return a slight colour offset (n, 3, 1, 1), zero for grey pictures and in the standard variant."""
        offset = self.normal(3, 1, 1) * strength
        keep = ~self.grey if self.varied else torch.zeros_like(self.grey)
        return offset * keep[:, None, None, None]


@dataclass(frozen=True)
class Part(ABC):
    """The random part of one type of damage for ``n`` pictures; every tensor has the pictures as first axis."""

    reversible: ClassVar[bool] = False
    """Whether a severity below 0 is the opposite change, as too much of a remedy makes it."""

    @classmethod
    @abstractmethod
    def draw(cls, draw: Draw) -> Self:
        """Draw all random numbers."""

    @abstractmethod
    def apply(self, x: Tensor, severity: Tensor) -> Tensor:
        """Damage ``x`` (n, 3, H, W) with a severity (n, 1, 1, 1) or (n, 1, H, W) in [0, 1], or [-1, 1]."""

    def relief(self, x: Tensor) -> Tensor:
        """Return how strong the damage is in each place of ``x``, where 1 is what the severity says.

        (n, 1, H, W), or (n, 1, 1, 1) where it is the same everywhere.
        """
        return torch.ones(len(x), 1, 1, 1, device=x.device)

    def shown(self, x: Tensor, severity: Tensor) -> Tensor:
        """Return the severity that each place of ``x`` shows: (n, 1, H, W), or (n, 1, 1, 1) where it is the same."""
        return severity * self.relief(x)

    def select(self, rows: Tensor) -> Self:
        """Return the part of some of the pictures."""
        return self._each(lambda tensor: tensor[rows])

    def to(self, device: torch.device) -> Self:
        """Return the part on another device."""
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: change(v) for name, v in values.items() if isinstance(v, Tensor)})


def blend(x: Tensor, worst: Tensor, severity: Tensor) -> Tensor:
    """Return ``worst``, faded towards ``x`` where a map of severities (n, 1, H, W) stays below its maximum."""
    if severity.shape[-2:] == (1, 1):
        return worst
    share = severity / peak(severity)
    return torch.where(share > 0, x + (worst - x) * share, x)


def peak(severity: Tensor) -> Tensor:
    """Return the largest severity of each picture, (n, 1, 1, 1)."""
    return severity.amax((-2, -1), keepdim=True)
