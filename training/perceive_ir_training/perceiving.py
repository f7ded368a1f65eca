"""How well a model perceives: types, severities and mixtures of damage made by formula on pictures it never saw.

The random part of the damage comes from seeds of this measurement alone, so no scene of it was trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perceive_ir import TYPES, Perception, Restorer
from perceive_ir._perception import DEGREES, PRESENT, degree, weightiest
from perceive_ir.degradations import Mixture
from perceive_ir_training.classical import Pixels
from perceive_ir_training.crossfit import Halves, as_stored
from perceive_ir_training.data import SUFFIXES, Picture, Pictures, load_pictures, read_picture
from perceive_ir_training.gate import MULTIPLE, Triplet
from perceive_ir_training.sampling import OF_A_MICROSCOPE

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Severities of single types."""
MIXTURES_EACH = 8
"""Mixtures of two that are made of each picture, and their severities from and to."""
MIXED_FROM, MIXED_TO = 0.2, 0.75
LOW, MEDIUM = (0.35, 0.9), (0.06, 0.2)
"""Severities of the tiers in triplets made by formula; clearly on their side of the limits of training."""
MARKS = ("first", "likeliest", "found", "exact", "error", "rank")
"""What is said of each type that is there alone."""
SALT = "perceive-ir evaluation"


@dataclass(frozen=True)
class Seen:
    """What is in a picture, and what was read from it."""

    picture: str
    microscopy: bool
    true: Mapping[str, float]
    """Severity of each type that is there."""
    types: Mapping[str, float]
    """Probability of every type."""
    severities: Mapping[str, float]
    """Severity of every type, if it is there at all."""
    tier: str

    @property
    def present(self) -> set[str]:
        """Types that count as present."""
        return {t for t, probability in self.types.items() if probability >= PRESENT}

    @property
    def first(self) -> str:
        """The type that is named first."""
        return weightiest(self.types, self.severities)[0]

    @property
    def degree(self) -> str:
        """How strong the strongest damage is, in a word."""
        return degree(max(self.true.values()))

    @property
    def likeliest(self) -> str:
        """The type with the highest probability."""
        return max(self.types, key=lambda t: self.types[t])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        numbers = {k: {t: round(v, 4) for t, v in getattr(self, k).items()} for k in ("true", "types", "severities")}
        return {"picture": self.picture, "tier": self.tier, **numbers}


# ---- pictures and their damage


def pictures_in(root: str | Path, limit: int | None = None) -> Pictures:
    """Read the held-back pictures of ``train``, else ``kodak24/clean``; at most ``limit`` of each kind."""
    root = Path(root)
    if (root / "train").is_dir():
        found = load_pictures(root, held_back=True)
    else:
        folder = next((f for f in (root / "validate/kodak24/clean", root / "kodak24/clean") if f.is_dir()), None)
        if folder is None:
            raise ValueError(
                f"no pictures to perceive under {root}: expected train/ or kodak24/clean (or leave it out)"
            )
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
        found = Pictures(tuple(read_picture(p, p.name) for p in paths))
    return Pictures(found.photos[:limit], found.microscopy[:limit])


def everything(pictures: Pictures) -> tuple[Picture, ...]:
    """Photos, then micrographs, which come twice: as stored and stretched."""
    stretched = [
        replace(p, name=f"{p.name} {('stored', 'stretched')[n % 2]}") for n, p in enumerate(pictures.microscopy)
    ]
    return (*pictures.photos, *stretched)


def types_of(picture: Picture) -> tuple[str, ...]:
    """Types of damage that a picture can have."""
    return OF_A_MICROSCOPE if picture.microscopy else TYPES


def damage(picture: Picture, severities: Mapping[str, float], key: object = "") -> tuple[Pixels, dict[str, float]]:
    """Damage a whole picture, and say how much it shows: haze of one severity is thin in some scenes, thick in others.

    The same types and key give the same scene at any severity.
    """
    x = torch.from_numpy(picture.pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
    wanted = torch.tensor([[severities.get(t, 0.0) for t in TYPES]])
    drawn = torch.tensor([[t in severities for t in TYPES]])
    generator = torch.Generator().manual_seed(seed_of(picture.name, *sorted(severities), key))
    shape = (1, 3, x.shape[2], x.shape[3])
    mixture = Mixture.draw(shape, drawn, generator, grey=torch.tensor([picture.grey]))
    damaged: Pixels = (mixture.apply(x, wanted)[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    shown = dict(zip(TYPES, mixture.shown(x, wanted)[0].tolist(), strict=True))
    return damaged, {t: shown[t] for t in severities}


def seed_of(*words: object) -> int:
    """Return a seed that depends on the words alone."""
    text = " ".join([SALT, *map(str, words)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def singles(pictures: Pictures) -> Iterator[tuple[Picture, dict[str, float], Pixels]]:
    """Every type that fits at every level, each in a scene of its own."""
    for picture in everything(pictures):
        for kind in types_of(picture):
            for level in LEVELS:
                pixels, true = damage(picture, {kind: level}, level)
                yield picture, true, pixels


def mixtures(pictures: Pictures) -> Iterator[tuple[Picture, dict[str, float], Pixels]]:
    """Mixtures of two types."""
    for picture in everything(pictures):
        random = np.random.default_rng(seed_of(picture.name, "mixtures"))
        pairs = list(combinations(types_of(picture), 2))
        for n in random.permutation(len(pairs))[:MIXTURES_EACH]:
            pixels, true = damage(picture, {t: float(random.uniform(MIXED_FROM, MIXED_TO)) for t in pairs[n]})
            yield picture, true, pixels


def scenes(pictures: Pictures, halves: Halves) -> Iterator[Triplet]:
    """Low quality, what a half-trained restorer that never saw the picture makes of it, and high; named by its type."""
    for picture in everything(pictures):
        fold = halves.fold_for(Pictures((picture,)))
        for kind in types_of(picture):
            random = np.random.default_rng(seed_of(picture.name, kind, "scenes"))
            low, shown = damage(picture, {kind: float(random.uniform(*LOW))}, "scenes")
            yield Triplet(kind, low, rendered(halves, low, shown, fold, picture.grey), picture.pixels)


def rendered(halves: Halves, low: Pixels, shown: Mapping[str, float], fold: int, grey: bool) -> Pixels:
    """Return a picture as the half-trained restorer of the other fold, told what it shows, leaves it."""
    height, width = low.shape[:2]
    sides = ((0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0))
    x = torch.from_numpy(np.pad(low, sides, mode="symmetric")).permute(2, 0, 1)[None].float().div(255)
    told = torch.tensor([[shown.get(t, 0.0) for t in TYPES]])
    made = as_stored(halves.render(x, told, fold), torch.tensor([grey]))[0, :, :height, :width]
    pixels: Pixels = made.permute(1, 2, 0).mul(255).round().byte().numpy()
    return pixels


def triplets(pictures: Pictures) -> Iterator[Triplet]:
    """Low, slightly damaged and high quality of one scene, by severity alone; the task is named by its type."""
    for picture in everything(pictures):
        for kind in types_of(picture):
            random = np.random.default_rng(seed_of(picture.name, kind, "tiers"))
            low, medium = (damage(picture, {kind: float(random.uniform(*part))}, "tiers")[0] for part in (LOW, MEDIUM))
            yield Triplet(kind, low, medium, picture.pixels)


# ---- what is read from them


def look(restorer: Restorer, cases: Iterable[tuple[Picture, Mapping[str, float], Pixels]]) -> list[Seen]:
    """Perceive pictures whose damage is known."""
    return [as_seen(picture, true, restorer.perceive(pixels)) for picture, true, pixels in cases]


def as_seen(picture: Picture, true: Mapping[str, float], read: Perception) -> Seen:
    """Put side by side what is there and what was read."""
    return Seen(picture.name, picture.microscopy, true, read.types, read.severities, read.tier)


def judge_singles(seen: Sequence[Seen]) -> dict[str, Any]:
    """Judge single degradations: each type by itself, and the means over the types."""
    by_type = {t: [s for s in seen if t in s.true] for t in TYPES}
    types = {t: judge_type(t, rows) for t, rows in by_type.items() if rows}
    kinds = {"photos": [s for s in seen if not s.microscopy], "microscopy": [s for s in seen if s.microscopy]}
    degrees = {name: [s for s in seen if s.degree == name] for name in DEGREES}
    return {
        "samples": len(seen),
        **{name: mean_of(types.values(), name) for name in MARKS},
        "first_by_kind": {kind: share(s.first in s.true for s in rows) for kind, rows in kinds.items() if rows},
        "first_by_degree": {name: first_in(rows) for name, rows in degrees.items() if rows},
        "types": types,
    }


def first_in(seen: Sequence[Seen]) -> float:
    """Share of the pictures whose damage is named first, the mean over the types that are there."""
    by_type = [[s for s in seen if t in s.true] for t in TYPES]
    return round(float(np.mean([share(s.first in s.true for s in rows) for rows in by_type if rows])), 4)


def judge_type(type: str, seen: Sequence[Seen]) -> dict[str, Any]:
    """Judge pictures that have this type of damage alone.

    First: it is named first; likeliest: it has the highest probability; found: it counts as present; exact: and no
    other does; error: mean absolute error of its severity; rank: Spearman's correlation of its severity.
    """
    true, read = [s.true[type] for s in seen], [s.severities[type] for s in seen]
    return {
        "samples": len(seen),
        "first": share(s.first == type for s in seen),
        "likeliest": share(s.likeliest == type for s in seen),
        "found": share(type in s.present for s in seen),
        "exact": share(s.present == {type} for s in seen),
        "error": round(float(np.mean(np.abs(np.subtract(true, read)))), 4),
        "rank": spearman(true, read),
    }


def judge_mixtures(seen: Sequence[Seen]) -> dict[str, Any]:
    """F1 of the types that count as present: over all decisions together, and of each type."""
    hits = {t: sum(t in s.true and t in s.present for s in seen) for t in TYPES}
    claims = {t: sum(t in s.true for s in seen) + sum(t in s.present for s in seen) for t in TYPES}
    types = {t: round(2 * hits[t] / claims[t], 4) for t in TYPES if claims[t]}
    f1 = round(2 * sum(hits.values()) / sum(claims.values()), 4) if seen else None
    return {"samples": len(seen), "f1": f1, "types": types}


def judge_clean(seen: Sequence[Seen]) -> dict[str, Any]:
    """Share of clean pictures in which damage is seen, and of those taken for high quality."""
    alarms, high = share(bool(s.present) for s in seen), share(s.tier == "high" for s in seen)
    return {"samples": len(seen), "false_alarms": alarms, "high": high}


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rank correlation, equal values sharing their rank; nothing where either does not vary."""
    from scipy.stats import rankdata

    ranks = np.stack([rankdata(a), rankdata(b)])
    if len(a) < 2 or bool((np.ptp(ranks, axis=1) == 0).any()):
        return None
    return round(float(np.corrcoef(ranks)[0, 1]), 4)


def share(answers: Iterable[bool]) -> float:
    """Share of answers that are yes."""
    return round(float(np.mean(list(answers))), 4)


def mean_of(rows: Iterable[Mapping[str, Any]], name: str) -> float | None:
    """Mean of a number over the rows that have it."""
    found = [row[name] for row in rows if row[name] is not None]
    return round(float(np.mean(found)), 4) if found else None
