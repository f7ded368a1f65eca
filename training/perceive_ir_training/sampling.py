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
from perceive_ir_training.data import Crops, Pictures

Severities = NDArray[np.float32]
OF_A_MICROSCOPE = ("noise", "blur", "jpeg", "lowres")
"""Types of damage that a micrograph can have."""


@dataclass(frozen=True)
class Batch:
    """Tensors of one step: pictures (B, 3, S, S) in [0, 1], severities (B, T)."""

    damaged: Tensor
    target: Tensor
    told: Tensor
    true: Tensor
    clean: Tensor


def draw_severities(microscopy: NDArray[np.bool_], mix: MixConfig, random: np.random.Generator) -> Severities:
    """Draw the true damage of each sample (N,): none, one type, or two to three."""
    odds = np.array([mix.weights.get(t, 1.0) for t in TYPES])
    fewer = odds * [t in OF_A_MICROSCOPE for t in TYPES]
    severities = np.zeros((len(microscopy), len(TYPES)), np.float32)
    for row, is_microscopy in zip(severities, microscopy, strict=True):
        if random.random() < mix.clean:
            continue
        number = int(random.integers(2, 4)) if random.random() < mix.several else 1
        chances = fewer if is_microscopy else odds
        types = random.choice(len(TYPES), number, replace=False, p=chances / chances.sum())
        row[types] = random.uniform(0.03, 1.0, number) * (1.0 if number == 1 else 0.75)
    return severities


def tell(true: Severities, mix: MixConfig, random: np.random.Generator) -> tuple[Severities, Severities]:
    """Decide what the restorer is told, and what damage must remain in the target."""
    told, remaining = true.copy(), np.zeros_like(true)
    for sample in range(len(true)):
        present = np.flatnonzero(true[sample])
        choice = random.random()
        less_often = mix.told_less if len(present) else 0.0
        if choice < less_often:
            part = random.uniform(0.2, 0.9) if len(present) == 1 or random.random() < 0.3 else 0.0
            less = present if part else random.choice(present, random.integers(1, len(present)), replace=False)
            told[sample, less] *= part
            remaining[sample, less] = true[sample, less] * (1 - part)
        elif choice < less_often + mix.told_wrong:
            absent = int(random.choice(np.flatnonzero(true[sample] == 0)))
            told[sample, absent] = random.uniform(0.1, 0.7)
    errors = random.uniform(-mix.told_roughly, mix.told_roughly, told.shape) * (random.random((len(told), 1)) < 0.5)
    return (told * (1 + errors)).clip(0, 1).astype(np.float32), remaining


def draw_batch(pictures: Pictures, count: int, size: int, mix: MixConfig, random: np.random.Generator) -> Batch:
    """Draw clean crops, damage them, and make the target that belongs to what is told."""
    crops = pictures.draw(count, size, mix.microscopy, random)
    clean, true = crops.pixels, draw_severities(crops.microscopy, mix, random)
    told, remaining = tell(true, mix, random)
    mixture = draw_mixture(crops, true, random)
    damaged = mixture.apply(clean, torch.from_numpy(true))
    target = mixture.apply(clean, torch.from_numpy(remaining)) if remaining.any() else clean
    return Batch(damaged, target, torch.from_numpy(told), torch.from_numpy(true), clean)


def draw_mixture(crops: Crops, severities: Severities, random: np.random.Generator) -> Mixture:
    """Draw the random part of the damage of a batch."""
    generator = torch.Generator().manual_seed(int(random.integers(2**62)))
    b, c, h, w = crops.pixels.shape
    return Mixture.draw((b, c, h, w), torch.from_numpy(severities > 0), generator, grey=crops.grey)
