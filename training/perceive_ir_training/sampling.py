"""What a batch shows and what the restorer is told of it (control by condition).

The true damage of a sample is a vector of severities. The restorer is told all of it, a part of it, or a type that
is absent; the target is the picture with exactly that part removed, in the same scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perceive_ir._vocabulary import TYPES
from perceive_ir.degradations import Mixture
from perceive_ir_training.config import MixConfig
from perceive_ir_training.data import Pictures

Severities = NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """Tensors of one step: pictures (B, 3, S, S) in [0, 1], severities (B, T)."""

    damaged: Tensor
    target: Tensor
    told: Tensor
    true: Tensor
    clean: Tensor


def draw_severities(count: int, mix: MixConfig, random: np.random.Generator) -> Severities:
    """Draw the true damage of each sample: none, one type, or two to three."""
    odds = np.array([mix.weights.get(t, 1.0) for t in TYPES])
    odds = odds / odds.sum()
    severities = np.zeros((count, len(TYPES)), np.float32)
    for row in severities:
        if random.random() < mix.clean:
            continue
        number = int(random.integers(2, 4)) if random.random() < mix.several else 1
        types = random.choice(len(TYPES), number, replace=False, p=odds)
        row[types] = random.uniform(0.03, 1.0, number) * (1.0 if number == 1 else 0.75)
    return severities


def tell(true: Severities, mix: MixConfig, random: np.random.Generator) -> tuple[Severities, Severities]:
    """Decide what the restorer is told, and what damage must remain in the target."""
    told, remaining = true.copy(), np.zeros_like(true)
    for sample in range(len(true)):
        present = np.flatnonzero(true[sample])
        choice = random.random()
        if len(present) and choice < mix.told_less:
            part = random.uniform(0.2, 0.9) if len(present) == 1 or random.random() < 0.3 else 0.0
            less = present if part else random.choice(present, random.integers(1, len(present)), replace=False)
            told[sample, less] *= part
            remaining[sample, less] = true[sample, less] * (1 - part)
        elif choice < mix.told_less + mix.told_wrong:
            absent = int(random.choice(np.flatnonzero(true[sample] == 0)))
            told[sample, absent] = random.uniform(0.1, 0.7)
    return told, remaining


def draw_batch(pictures: Pictures, count: int, size: int, mix: MixConfig, random: np.random.Generator) -> Batch:
    """Draw clean crops, damage them, and make the target that belongs to what is told."""
    clean, grey = pictures.draw(count, size, mix.microscopy, random)
    true = draw_severities(count, mix, random)
    told, remaining = tell(true, mix, random)
    generator = torch.Generator().manual_seed(int(random.integers(2**62)))
    severities = torch.from_numpy(true)
    mixture = Mixture.draw(tuple(clean.shape), severities > 0, generator, grey=grey)
    damaged = mixture.apply(clean, severities)
    target = mixture.apply(clean, torch.from_numpy(remaining)) if remaining.any() else clean
    return Batch(damaged, target, torch.from_numpy(told), severities, clean)
