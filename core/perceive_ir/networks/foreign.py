"""A network of others as a restorer: it cannot be told what to do, so only the gate says where its change is taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from perceive_ir._vocabulary import TYPES
from perceive_ir.networks.guidance import Signals, SizeNeeds, fit
from perceive_ir.networks.model import gate

Run = Callable[[Tensor], Tensor]
"""Restores one picture (1, C, H, W) in [0, 1], of any size."""


class ForeignNet(nn.Module):
    """``out = in + gate(condition) * (run(in) - in)``, all (B, 3, H, W); no guidance.

    Parameters
    ----------
    network
        The plain network: for hooks, and to be moved to a device.
    run
        Restores a picture with it.
    channels
        1 or 3. To a network for grey pictures each colour is one.
    size_needs, bytes_per_pixel
        As of any restorer; sizes that do not fit cost time, but work.
    types
        The damage that it was made for; all of it where nobody said.
    half
        Whether it works in bfloat16.
    """

    own: Tensor
    reach: int | None = None
    """How far it sees is not known."""

    def __init__(
        self, network: nn.Module, run: Run, channels: int, size_needs: SizeNeeds, bytes_per_pixel: float,
        types: Sequence[str] = TYPES, half: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.network, self.run, self.channels = network, run, channels
        self.size_needs, self.bytes_per_pixel = size_needs, bytes_per_pixel
        self.types, self.half_works = tuple(types), half
        self.register_buffer("own", torch.tensor([float(t in self.types) for t in TYPES]), persistent=False)

    def forward(self, image: Tensor, signals: Signals) -> Tensor:
        shares = fit(self.share(signals.condition), image)
        shares = shares.expand(len(image), *shares.shape[1:])
        return torch.cat([self.taken(*one) for one in zip(image.split(1), shares.split(1), strict=True)])

    def share(self, condition: Tensor) -> Tensor:
        """Say how much of the change is taken: (B, T, ...) -> (B, 1, ...)."""
        return gate(condition * self.own.view(1, -1, *[1] * (condition.ndim - 2)))

    def taken(self, image: Tensor, share: Tensor) -> Tensor:
        """Take so much of the change of one picture; where nothing is wrong, the network does not run."""
        return image + share * self.change(image) if bool(share.any()) else image

    def change(self, image: Tensor) -> Tensor:
        """Return what the network changes of one picture (1, 3, H, W).

        It knows values in [0, 1] alone; what lies beyond keeps its distance.
        """
        shown = image.clamp(0, 1).contiguous()
        return self.seen_in_colour(shown) - shown

    def seen_in_colour(self, image: Tensor) -> Tensor:
        """Restore (1, 3, H, W); colours that are all alike are a grey picture, restored once."""
        if self.channels == image.shape[1]:
            return self.run(image.clone()).float()
        first, *others = image.split(1, dim=1)
        alike = all(torch.equal(first, other) for other in others)
        done = [self.run(colour.clone()).float() for colour in ([first] if alike else [first, *others])]
        return torch.cat(done, dim=1).expand(image.shape)
