"""Several small restorers instead of one: each undoes a group of damage types, one after the other.

Types that have little in common (noise and haze, say) hinder each other in a network this small. The groups stand in
the order in which damage is undone; a group of which a picture shows nothing costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from perceive_ir._device import in_company
from perceive_ir.networks.guidance import Signals, SizeNeeds
from perceive_ir.networks.model import GuidedNet


class Specialists(nn.Module):
    """A chain of guided networks with backbones of one shape; each is told of its own group of types alone."""

    own: Tensor

    def __init__(self, members: Sequence[GuidedNet], groups: Sequence[Sequence[int]], types: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        own = torch.zeros(len(groups), types)
        for number, group in enumerate(groups):
            own[number, list(group)] = 1
        self.register_buffer("own", own, persistent=False)

    @property
    def guided(self) -> list[GuidedNet]:
        """The members by their type."""
        return [cast(GuidedNet, member) for member in self.members]

    @property
    def size_needs(self) -> SizeNeeds:
        """What every member needs of sizes."""
        needs = [member.size_needs for member in self.guided]
        return SizeNeeds(math.lcm(*(n.multiple_of for n in needs)), max(n.minimum for n in needs))

    @property
    def reach(self) -> int | None:
        """How far the whole chain sees."""
        reaches = [member.reach for member in self.guided]
        return None if None in reaches else sum(filter(None, reaches))

    @property
    def bytes_per_pixel(self) -> float:
        """Memory per pixel; the members work one after the other."""
        return max(member.bytes_per_pixel for member in self.guided)

    def forward(self, image: Tensor, signals: Signals) -> Tensor:
        for member, own in zip(self.members, self.own, strict=True):
            condition = signals.condition * own.view(1, -1, *[1] * (signals.condition.ndim - 2))
            asked = condition.flatten(1).any(dim=1)
            told = replace(signals, condition=condition)
            if bool(asked.all()):
                image = member(image, told)
            elif bool(asked.any()):
                image = self.some(member, image, told, asked.nonzero()[:, 0])
        return image

    @staticmethod
    def some(member: nn.Module, image: Tensor, told: Signals, chosen: Tensor) -> Tensor:
        """Let a member work on the chosen entries of a batch."""
        changed = member(in_company(image[chosen]), told.take(chosen))[: len(chosen)]
        return image.index_copy(0, chosen, changed.to(image.dtype))
