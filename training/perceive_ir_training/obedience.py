"""How well a model obeys what it is told: more where it is told more, and little where nothing is to be done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from perceive_ir import TYPES, Restorer
from perceive_ir._vocabulary import task_of
from perceive_ir_training.classical import Pixels
from perceive_ir_training.data import Picture, Pictures
from perceive_ir_training.perceiving import damage, everything, mean_of, share, types_of

STEPS = (0.25, 0.5, 0.75, 1.0)
"""Severities that the model is told."""
DAMAGED = 0.5
"""Severity of the damage that is there, and of a type that is told although it is absent."""
TOLERANCE = 0.01
SIDE = 256
"""Side of the middle of each picture, which is enough to judge a change by."""


@dataclass(frozen=True)
class Change:
    """How much a picture changed, in mean absolute grey levels of 255, at each severity that was told."""

    picture: str
    there: str
    """Type of damage that is there; empty for a clean picture."""
    told: str
    changes: tuple[float, ...]


def middle(picture: Picture) -> Picture:
    """Cut the middle of a picture."""
    y, x = ((max(0, n - SIDE)) // 2 for n in picture.pixels.shape[:2])
    return replace(picture, pixels=np.ascontiguousarray(picture.pixels[y : y + SIDE, x : x + SIDE]))


def tell_more(restorer: Restorer, pictures: Pictures) -> Iterator[Change]:
    """Tell every type that is there at rising severity."""
    for picture in map(middle, everything(pictures)):
        for there in types_of(picture):
            yield told(restorer, picture, there, there, STEPS)


def tell_absent(restorer: Restorer, pictures: Pictures) -> Iterator[Change]:
    """Tell every type where it is absent: in the clean picture, and in one with another type, which changes."""
    for number, picture in enumerate(map(middle, everything(pictures))):
        for place, absent in enumerate(TYPES):
            yield told(restorer, picture, "", absent, (DAMAGED,))
            others = [t for t in types_of(picture) if t != absent]
            yield told(restorer, picture, others[(number + place) % len(others)], absent, (DAMAGED,))


def told(restorer: Restorer, picture: Picture, there: str, type: str, severities: Sequence[float]) -> Change:
    """Restore a picture with a type told at some severities."""
    pixels = damage(picture, {there: DAMAGED}, "obedience")[0] if there else picture.pixels
    seen = restorer.perceive(pixels)
    task = task_of(type)
    images = (restorer.restore(pixels, task=task, severity=s, perception=seen).image for s in severities)
    return Change(picture.name, there, type, tuple(round(difference(image, pixels), 4) for image in images))


def difference(image: Pixels, before: Pixels) -> float:
    """Mean absolute difference in grey levels."""
    return float(np.mean(np.abs(image.astype(np.float64) - before)))


def rises(changes: Sequence[float]) -> bool:
    """Whether no change is smaller than the one before, within 1 %."""
    return all(b >= (1 - TOLERANCE) * a for a, b in pairwise(changes))


def judge_more(rows: Sequence[Change]) -> dict[str, Any]:
    """Share of pictures that change no less when told more, and how much they change, by type and over the types."""
    types = {
        t: {"rises": share(rises(r.changes) for r in group), "changes": means([r.changes for r in group])}
        for t in TYPES
        if (group := [r for r in rows if r.told == t])
    }
    return {"told": list(STEPS), "rises": mean_of(types.values(), "rises"), "types": types, "rows": plain(rows)}


def judge_absent(rows: Sequence[Change]) -> dict[str, Any]:
    """Mean change when told a type that is absent, in clean and in otherwise damaged pictures, by type and overall."""
    types = {
        t: {name: means([r.changes for r in rows if r.told == t and bool(r.there) == is_damaged])[0]
            for name, is_damaged in (("clean", False), ("damaged", True))}
        for t in TYPES
    }  # fmt: skip
    overall = {name: mean_of(types.values(), name) for name in ("clean", "damaged")}
    return {"told": DAMAGED, **overall, "types": types, "rows": plain(rows)}


def means(changes: Sequence[Sequence[float]]) -> list[float]:
    """Mean change at each severity."""
    return [round(float(value), 4) for value in np.mean(changes, axis=0)]


def plain(rows: Sequence[Change]) -> list[dict[str, Any]]:
    """Return plain values for JSON."""
    return [{**asdict(row), "changes": list(row.changes)} for row in rows]
