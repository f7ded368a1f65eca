"""What learns: the networks of a stage, the mean of their weights, and the optimiser."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from perceive_ir_training.config import StageConfig
from perceive_ir_training.stages import Stage


@dataclass
class Learner:
    """What changes while a stage is trained."""

    modules: nn.ModuleDict
    average: nn.ModuleDict
    """The same networks with averaged weights."""
    optimiser: torch.optim.Optimizer
    settings: StageConfig
    extra: dict[str, Tensor] = field(default_factory=dict)
    """What else the stage must remember."""


def make_learner(stage: Stage, settings: StageConfig) -> Learner:
    """Build the averaged networks and the optimiser."""
    average = copy.deepcopy(stage.modules).requires_grad_(False)
    groups = parameter_groups(stage.modules, settings.weight_decay)
    optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.99), fused=True)
    return Learner(stage.modules, average, optimiser, settings)


def parameter_groups(module: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Decay the weights of convolutions and linear layers only."""
    weights = [p for p in trained(module) if p.ndim > 1]
    others = [p for p in trained(module) if p.ndim <= 1]
    return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def trained(modules: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that learn."""
    return [p for p in modules.parameters() if p.requires_grad]


@torch.no_grad()
def update_average(average: nn.Module, current: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights and buffers towards the current ones; faster while there is little to average."""
    keep = min(decay, step / (step + 10))
    pairs = list(zip(average.parameters(), current.parameters(), strict=True))
    old, new = (list(side) for side in zip(*(p for p in pairs if p[1].requires_grad), strict=True))
    torch._foreach_lerp_(old, new, 1 - keep)
    for kept, buffer in zip(average.buffers(), current.buffers(), strict=True):
        if kept.is_floating_point():  # what is equal stays so; a mask may hold infinities, which have no mean
            kept.copy_(torch.where(kept == buffer, buffer, kept.lerp(buffer, 1 - keep)))
        else:
            kept.copy_(buffer)


@torch.no_grad()
def take_buffers(current: nn.Module, average: nn.Module) -> None:
    """Replace the buffers, among them the statistics of normalisations, by the averaged ones."""
    for buffer, kept in zip(current.buffers(), average.buffers(), strict=True):
        buffer.copy_(kept)
