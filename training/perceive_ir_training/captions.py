"""What a damaged picture is called: captions of types, strengths and tier, and which of them mean the same.

A caption says all that there is to say (the tier, every visible type and how strong it is), so two captions describe
the same thing exactly if tier and strengths agree, whatever their words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perceive_ir._vocabulary import DAMAGES, TIERS, TYPES
from perceive_ir_training.losses import LOW_FROM, VISIBLE, tiers_of

Choice = TypeVar("Choice")
MODERATE_FROM, EXTREME_FROM = 0.12, 0.6
"""Severities from which damage is called moderate and extreme; strong is what makes a picture low."""
TIER_WORDS = {
    "low": ("terrible", "awful", "bad", "poor"),
    "medium": ("mediocre", "average", "fair", "passable"),
    "high": ("excellent", "great", "superb", "fine"),
}
STRENGTHS = (
    (("slight", "slightly"), ("faint", "faintly")),
    (("moderate", "moderately"), ("noticeable", "noticeably")),
    (("strong", "strongly"), ("heavy", "heavily")),
    (("extreme", "extremely"), ("severe", "severely")),
)
"""Adjective and adverb of each strength, from 1 up."""
NOUNS = {
    "noise": ("noise", "grain"),
    "haze": ("haze", "fog"),
    "rain": ("rain", "rain streaks"),
    "snow": ("snow", "snowfall"),
    "blur": ("blur", "blurring"),
    "lowlight": ("darkness", "underexposure"),
    "jpeg": ("compression", "compression artifacts"),
    "lowres": ("coarseness", "pixelation"),
}
ADJECTIVES = {d.type: d.adjective for d in DAMAGES}
PHOTOS = ("photo", "picture", "image", "photograph")
PATTERNS = (
    "a {tier} {photo} with {nouns}",
    "a {tier}, {adjectives} {photo}",
    "a {photo} of {tier} quality with {nouns}",
    "{nouns} in a {tier} {photo}",
)
NO_NOUNS, NO_ADJECTIVES = ("no damage", "no visible damage"), ("clean", "undamaged")


def caption(severities: Tensor | NDArray[np.floating], random: np.random.Generator) -> str:
    """Describe a picture by its severities (T,), such as ``"a terrible photo with strong haze and slight noise"``."""
    row = torch.as_tensor(severities)[None]
    strengths = strengths_of(row)[0].tolist()
    kinds = [int(n) for n in random.permutation(len(strengths)) if strengths[n]]
    told = [pick(STRENGTHS[strengths[n] - 1], random) for n in kinds]
    nouns = [f"{strong} {pick(NOUNS[TYPES[n]], random)}" for n, (strong, _) in zip(kinds, told, strict=True)]
    adjectives = [f"{strongly} {ADJECTIVES[TYPES[n]]}" for n, (_, strongly) in zip(kinds, told, strict=True)]
    text = pick(PATTERNS, random).format(
        tier=pick(TIER_WORDS[TIERS[int(tiers_of(row)[0])]], random),
        photo=pick(PHOTOS, random),
        nouns=listed(nouns or [pick(NO_NOUNS, random)]),
        adjectives=listed(adjectives or [pick(NO_ADJECTIVES, random)]),
    )
    return re.sub(r"\ba (?=[aeiou])", "an ", text)


def captions_of(severities: Tensor, random: np.random.Generator) -> list[str]:
    """Describe each picture of a batch; severities (N, T)."""
    return [caption(row, random) for row in severities.cpu()]


def describe_same(severities: Tensor) -> Tensor:
    """Whether the captions of two samples describe the same thing: severities (N, T) -> boolean (N, N)."""
    said = torch.cat([strengths_of(severities), tiers_of(severities)[:, None]], dim=1)  # (N, T + 1)
    return (said[:, None] == said[None]).all(dim=-1)


def strengths_of(severities: Tensor) -> Tensor:
    """Strength of every type, 0 (not to be seen) to 4 (extreme): (N, T) -> (N, T)."""
    if severities.ndim != 2 or severities.shape[1] != len(TYPES):
        raise ValueError(f"expected severities (N, {len(TYPES)}), got {tuple(severities.shape)}")
    visible = (severities > VISIBLE).long()
    return visible + sum((severities >= start).long() for start in (MODERATE_FROM, LOW_FROM, EXTREME_FROM))


def pick(choices: Sequence[Choice], random: np.random.Generator) -> Choice:
    """Pick one, all alike."""
    return choices[int(random.integers(len(choices)))]


def listed(parts: Sequence[str]) -> str:
    """Join as in a sentence: "a", "a and b", "a, b and c"."""
    *others, last = parts
    return f"{', '.join(others)} and {last}" if others else last
