"""What a batch shows and what the restorer is told of it (control by condition).

The true damage of a sample is a vector of severities. The restorer is told all of it, a part of it, a type that is
absent, or what the perceiver reads; the target is the picture with exactly that part removed, in the same scene.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perceive_ir._vocabulary import TYPES
from perceive_ir.degradations import FAMILIES, Mixture
from perceive_ir_training.config import MixConfig
from perceive_ir_training.data import Crops, Pictures

Severities = NDArray[np.float32]
Types = Sequence[str]
Read = Callable[[Tensor], Tensor]
"""Damaged pictures (B, 3, H, W) -> the severities that are perceived, 0 where a type is not (B, T)."""
REVERSIBLE = np.array([FAMILIES[t].reversible for t in TYPES])
"""Types of which too much can be undone: what is told beyond what is there, the target shows as the opposite change."""
MARGIN = 24
"""Pixels drawn around a crop and cut off again once it is damaged: a long shake brings in what lies beside it."""
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


def draw_severities(
    microscopy: NDArray[np.bool_], mix: MixConfig, random: np.random.Generator, own: Types = TYPES
) -> Severities:
    """Draw the true damage of each sample (N,): none, one type of ``own``, or with it one or two of all types.

    Clean pictures and first types are spread evenly over the batch: each is as frequent as its odds say in every
    batch, not only in the long run.
    """
    odds = odds_of(mix)
    mine, seen = odds * [t in own for t in TYPES], np.array([t in OF_A_MICROSCOPE for t in TYPES])
    severities = np.zeros((len(microscopy), len(TYPES)), np.float32)
    clean = spread(len(microscopy), random) < mix.clean
    damaged = np.flatnonzero(~clean)
    for sample, place in zip(damaged, spread(len(damaged), random), strict=True):
        number = int(random.integers(2, 4)) if random.random() < mix.several else 1
        chances = odds * seen if microscopy[sample] else odds
        edges = np.cumsum(mine * seen if microscopy[sample] else mine)
        if edges[-1] == 0:
            continue  # a micrograph, where no type that it can have is drawn
        first = int(np.searchsorted(edges, place * edges[-1], side="right"))
        types = [first, *draw_others(first, chances, number - 1, random)]
        severities[sample, types] = random.uniform(0.03, 1.0, len(types)) * (1.0 if number == 1 else 0.75)
    return severities


def odds_of(mix: MixConfig) -> NDArray[np.float64]:
    """How often each type is drawn, relative to the others."""
    return np.array([mix.weights.get(t, 1.0) for t in TYPES])


def of_one_type(mix: MixConfig, name: str) -> MixConfig:
    """Return the mix with one type of damage alone, in every picture, and all of it told."""
    return replace(
        mix, clean=0.0, several=0.0, told_less=0.0, told_wrong=0.0, told_more=0.0, told_roughly=0.0,
        perceived=0.0,
        weights={t: float(t == name) for t in TYPES},
    )  # fmt: skip


def spread(count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw numbers in [0, 1), one out of each of ``count`` equal parts, in random order."""
    return (random.permutation(count) + random.random(count)) / max(count, 1)


def draw_others(first: int, chances: NDArray[np.float64], number: int, random: np.random.Generator) -> list[int]:
    """Draw further types, as many as there are with a chance."""
    left = np.where(np.arange(len(chances)) == first, 0, chances)
    number = min(number, int(np.count_nonzero(left)))
    return random.choice(len(left), number, replace=False, p=left / left.sum()).tolist() if number else []


def tell(
    true: Severities, mix: MixConfig, random: np.random.Generator, own: Types = TYPES
) -> tuple[Severities, Severities]:
    """Decide what a restorer of the types ``own`` is told, and what damage must remain in the target."""
    mine = np.array([t in own for t in TYPES])
    told, remaining = true * mine, true * ~mine
    for sample in range(len(true)):
        present = np.flatnonzero(told[sample])
        absent = np.flatnonzero(mine & (true[sample] == 0))
        choice = random.random()
        less_often = mix.told_less if len(present) else 0.0
        if choice < less_often:
            part = random.uniform(0.2, 0.9) if len(present) == 1 or random.random() < 0.3 else 0.0
            less = present if part else random.choice(present, random.integers(1, len(present)), replace=False)
            told[sample, less] *= part
            remaining[sample, less] = true[sample, less] * (1 - part)
        elif choice < less_often + mix.told_wrong and len(absent):
            told[sample, random.choice(absent)] = random.uniform(0.1, 0.7)
        elif choice > 1 - mix.told_more:
            more = random.uniform(0, 1 - told[sample]) * (told[sample] > 0) * REVERSIBLE
            told[sample] += more
            remaining[sample] -= more
    errors = random.uniform(-mix.told_roughly, mix.told_roughly, told.shape) * (random.random((len(told), 1)) < 0.5)
    return (told * (1 + errors)).clip(0, 1).astype(np.float32), remaining


def draw_batch(
    pictures: Pictures,
    count: int,
    size: int,
    mix: MixConfig,
    random: np.random.Generator,
    *,
    own: Types = TYPES,
    read: Read | None = None,
    device: torch.device | str = "cpu",
) -> Batch:
    """Draw clean crops, damage them, and make the target that belongs to what a restorer of ``own`` is told.

    It is told the severities that a crop shows, for those of its scene say little about a part of it. Where it is told
    what the perceiver reads, damage that is not perceived remains in the target.
    """
    crops = pictures.draw(count, size + 2 * MARGIN, mix.microscopy, random, mix.procedural, mix.shrunk)
    inside = slice(MARGIN, MARGIN + size)
    severities = draw_severities(crops.microscopy, mix, random, own)
    told, remaining = (torch.from_numpy(s).to(device) for s in tell(severities, mix, random, own))
    mixture = draw_mixture(crops, severities, random, window=True).to(device)
    clean, true = crops.pixels.to(device), torch.from_numpy(severities).to(device)
    damaged, told = mixture.apply(clean, true), mixture.shown(clean, told, (inside, inside))
    perceived = torch.from_numpy(random.random(count) < mix.perceived).to(device)
    if read is not None and perceived.any():
        mine = torch.tensor([t in own for t in TYPES], device=true.device)
        told[perceived] = read(damaged[perceived][..., inside, inside]) * mine
        remaining[perceived] = torch.where(told > 0, 0, true)[perceived]
    target = mixture.apply(clean, remaining) if remaining.any() else clean
    damaged, target, clean = (x[..., inside, inside].contiguous() for x in (damaged, target, clean))
    return Batch(damaged, target, told, true, clean)


def draw_mixture(crops: Crops, severities: Severities, random: np.random.Generator, *, window: bool = False) -> Mixture:
    """Draw the random part of the damage of a batch; ``window`` says that the crops are small parts of their scenes."""
    generator = torch.Generator().manual_seed(int(random.integers(2**62)))
    b, c, h, w = crops.pixels.shape
    return Mixture.draw((b, c, h, w), torch.from_numpy(severities > 0), generator, grey=crops.grey, window=window)
