"""A block of a network, which may be computed again in the backward pass instead of being kept in memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Block(nn.Module):
    """Part of a network: says in ``compute`` what it does with its maps."""

    recompute = False
    """Whether a training keeps the block's inputs alone, and computes all else once more for the gradient."""
    compute: Callable[..., Tensor]

    def forward(self, *maps: Tensor) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            again: Tensor = checkpoint(self.compute, *maps, use_reentrant=False, preserve_rng_state=False)
            return again
        return self.compute(*maps)


def recompute_blocks(network: nn.Module) -> None:
    """Let every block of a network be computed again (gradient checkpointing): less memory, more time."""
    for part in network.modules():
        if isinstance(part, Block):
            part.recompute = True
