"""What every stage of a training can do, and what all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from perceive_ir._device import choose_precision
from perceive_ir_training.config import TrainConfig
from perceive_ir_training.ranks import ALONE, World
from perceive_ir_training.sources import Sources


@dataclass
class Terms:
    """Weighted terms of a loss, and what only the log tells."""

    losses: dict[str, Tensor]
    notes: dict[str, Tensor] = field(default_factory=dict)


class Stage(Protocol):
    """One stage of a training."""

    setting: Setting
    modules: nn.ModuleDict
    """All networks that the stage knows; what it trains has parameters that need a gradient."""

    def batch(self, step: int, size: int) -> Any:
        """Make what a step needs, or this process' share of it; from the seed and the number of the step alone."""

    def terms(self, batch: Any) -> Terms:
        """Compute the terms of the loss."""

    def refresh(self, step: int) -> None:
        """Do what is due before a step, with the network in training mode."""

    def finish(self, modules: nn.ModuleDict) -> None:
        """Bring averaged networks into the state in which they are saved."""

    def remember(self) -> dict[str, Tensor]:
        """Return what must be known to resume, beside the networks."""

    def recall(self, kept: Mapping[str, Tensor]) -> None:
        """Take over what `remember` gave."""


@dataclass
class Setting:
    """What all stages share."""

    config: TrainConfig
    sources: Sources
    device: torch.device
    world: World = ALONE

    def random(self, stage: int, step: int) -> np.random.Generator:
        """Return the random numbers of a step."""
        return np.random.default_rng([self.config.seed, stage, step])

    def autocast(self) -> torch.autocast:
        """Compute with the precision of the configuration."""
        kind = choose_precision(self.config.precision, self.device)
        return torch.autocast(self.device.type, kind, enabled=kind != torch.float32)


class Forgetful:
    """A stage that has nothing to remember and nothing to do between steps."""

    def refresh(self, step: int) -> None:
        """Nothing is due."""

    def finish(self, modules: nn.ModuleDict) -> None:
        """Nothing is left to do."""

    def remember(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def recall(self, kept: Mapping[str, Tensor]) -> None:
        """Nothing."""


def weigh(losses: Mapping[str, Tensor], weights: Any) -> dict[str, Tensor]:
    """Weigh the terms as the configuration says, and drop those that are switched off."""
    return {name: getattr(weights, name) * loss for name, loss in losses.items() if getattr(weights, name)}
