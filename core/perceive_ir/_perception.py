"""What the model sees in a whole picture or stack.

A picture is judged by at most 16 crops at native resolution (shrinking would hide noise and blur) and by one
thumbnail, which shows haze and darkness.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from perceive_ir._device import in_company
from perceive_ir._shake import Shake
from perceive_ir._vocabulary import TIERS, TONAL_TYPES, TYPE_TITLES, TYPES
from perceive_ir.images import Layout, LazyArray, Plane, read_tile, to_network
from perceive_ir.networks import ClsTaps, Perceiver, Reading, System, far_shares, gather, light_of

CROP = 128
"""Side of a crop, in pixels."""
MOST_CROPS = 16
MOST_TOGETHER, CACHED = 64, 10
"""Crops of several pictures that the tower sees at once, and on a processor, in whose cache they should stay."""
THUMBNAIL = 112
"""Longest side of the thumbnail, in pixels."""
PRESENT = 0.5
"""Probability from which a type counts as present; doubt means restraint."""
SLIGHT = 0.2
"""Severity below which damage is called slight."""
STRONG = 0.55
"""Severity from which damage is called strong."""
DEGREES = ("slight", "moderate", "strong")
EVIDENT = 0.1
"""Severity from which damage that is present contradicts a high quality; of light and contrast none does."""

Array = NDArray[np.float32]
Features = tuple[Tensor, ...]
"""F_1 .. F_n, each (N, D_l)."""


@dataclass(frozen=True)
class Perception:
    """What the model sees in a picture or stack: how good it is, and what is wrong with it."""

    tiers: Mapping[str, float]
    """Probability of each quality tier."""
    types: Mapping[str, float]
    """Probability that each type of damage is present."""
    severities: Mapping[str, float]
    """How severe each type is if it is present at all, 0 .. 1."""
    value_range: tuple[float, float]
    """The values that counted as black and white."""
    semantics: tuple[Array, ...] = field(default=(), repr=False, compare=False)
    """Feature vectors F_1 .. F_n of the picture, which guide the restoration."""
    shakes: dict[tuple[float, float], Shake | None] = field(default_factory=dict, repr=False, compare=False)
    """The shake, by the value range in which it was looked for; where nobody needed it, it is not there."""

    @property
    def score(self) -> float:
        """Expected tier: 0 (low) .. 2 (high)."""
        return sum(rank * self.tiers[tier] for rank, tier in enumerate(TIERS))

    @property
    def tier(self) -> str:
        """The likeliest tier, but medium where that is high and damage is evident all the same."""
        tiers = np.array([self.tiers[t] for t in TIERS])
        return TIERS[ranks(tiers, np.array([self.condition[t] for t in TYPES]))]

    @property
    def condition(self) -> dict[str, float]:
        """Severity of each type that is present, 0 for the others."""
        return {t: self.severities[t] if self.types[t] >= PRESENT else 0.0 for t in self.types}

    @property
    def weightiest(self) -> tuple[str, ...]:
        """All types, that first of which most is to be expected."""
        return weightiest(self.types, self.severities)

    @property
    def present(self) -> tuple[str, ...]:
        """The types that count as present, the weightiest first."""
        return tuple(t for t in self.weightiest if self.types[t] >= PRESENT)

    @property
    def unknown(self) -> bool:
        """Whether the picture looks damaged, but by no known type."""
        return self.tier != "high" and not self.present

    def words(self) -> str:
        """Say it in words: "haze, moderate (0.46); quality low"."""
        seen = [f"{TYPE_TITLES[t]}, {degree(self.severities[t])} ({self.severities[t]:.2f})" for t in self.present]
        damage = " and ".join(seen) or ("damage of no known type" if self.unknown else "no damage")
        return f"{damage}; quality {self.tier}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "tiers": rounded(self.tiers),
            "score": round(self.score, 4),
            "types": rounded(self.types),
            "condition": rounded(self.condition),
            "unknown": self.unknown,
            "value_range": list(self.value_range),
        }


@dataclass(frozen=True)
class Look:
    """What the crops of a picture and its thumbnails show."""

    near: Features
    """Of the crops."""
    far: Features
    """Of the thumbnails."""
    lights: Tensor
    """How light and dark lie in each thumbnail (M, LIGHT)."""


@dataclass(frozen=True)
class Subject:
    """A picture or stack to look at."""

    array: LazyArray
    layout: Layout
    value_range: tuple[float, float]


def perceive(
    system: System, subjects: Sequence[Subject], device: torch.device, *, brief: bool = False
) -> list[Perception]:
    """Judge pictures, or stacks as one each; briefly by every other crop."""
    looks = look_closely(system.perceiver, subjects, device, brief)
    judged = [judge(system.perceiver, one, look) for one, look in zip(subjects, looks, strict=True)]
    if system.taps is None:
        return judged
    return [replace(p, semantics=overview(system.taps, s, device)) for p, s in zip(judged, subjects, strict=True)]


def look_closely(
    perceiver: Perceiver, subjects: Sequence[Subject], device: torch.device, brief: bool = False
) -> list[Look]:
    """Return what each picture's crops and thumbnails show; what is of one size is looked at together."""
    crops = [cuts(one, device, brief) for one in subjects]
    small = [[thumbnail(one, n, device) for n in spread(one.layout.plane_count, 4)] for one in subjects]
    features = pooled(perceiver, [image for images in (*crops, *small) for image in images])
    near, far = ([joined(features, len(images)) for images in group] for group in (crops, small))
    lights = [torch.stack([light_of(image) for image in images]) for images in small]
    return [Look(*parts) for parts in zip(near, far, lights, strict=True)]


def overview(taps: ClsTaps, subject: Subject, device: torch.device) -> tuple[Array, ...]:
    """Show a frozen ViT a whole picture, or some planes of a stack; return its feature vectors."""
    found = [taps.semantics(whole_plane(subject, n, device)[None]) for n in spread(subject.layout.plane_count, 4)]
    return tuple(torch.cat(level).mean(dim=0).cpu().numpy() for level in zip(*found, strict=True))


def judge(perceiver: Perceiver, subject: Subject, look: Look) -> Perception:
    """Read what is wrong with one picture off what its crops and its thumbnails show."""
    with torch.inference_mode():
        readings, overviews = perceiver.read(look.near), perceiver.read(look.far)
        logits, severities = taken_together(perceiver, readings, overviews, look.lights)
        if perceiver.closer is not None:
            logits, severities = perceiver.closer(perceiver.detail(look.near), logits, severities)
    tiers = (tiers_in(readings) + tiers_in(overviews)) / 2
    return Perception(
        named(TIERS, tiers),
        named(TYPES, logits.sigmoid()),
        named(TYPES, severities),
        subject.value_range,
        tuple(f.mean(dim=0).float().cpu().numpy() for f in look.near),
    )


def taken_together(
    perceiver: Perceiver, readings: Reading, overviews: Reading, lights: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the logits of the types and the severities (T,) that crops, thumbnails and their light tell together."""
    logits = combine(readings.type_logits, overviews.type_logits)
    severities = combine(readings.severities, overviews.severities)
    if perceiver.overall is None:
        return logits, severities
    logits = perceiver.overall(gather(readings, overviews, lights))
    return logits, perceiver.overall.amounts(severities, lights.mean(dim=0))


def ranks(tiers: NDArray[Any], condition: NDArray[Any]) -> NDArray[np.intp]:
    """Rank of the likeliest tier of (3, ...), but medium where that is high and damage of (T, ...) is evident."""
    likeliest = tiers.argmax(axis=0)
    evident = (condition[[t not in TONAL_TYPES for t in TYPES]] >= EVIDENT).any(axis=0)
    found: NDArray[np.intp] = likeliest - (evident & (likeliest == TIERS.index("high")))
    return found


def tiers_in(readings: Reading) -> Tensor:
    """Return the probability of each tier (3,): the mean over crops or thumbnails."""
    return readings.tier_logits.softmax(dim=-1).mean(dim=0)


def cuts(subject: Subject, device: torch.device, brief: bool = False) -> list[Tensor]:
    """Read the crops of a picture."""
    return [cut(subject, place, device) for place in places(subject.layout, brief)]


def places(layout: Layout, brief: bool = False) -> list[tuple[Plane, slice, slice]]:
    """Choose at most 16 crops, spread evenly over the picture, or over the planes of a stack.

    Briefly every other one of them, as the fields of one colour lie on a chessboard; but no plane is left out where
    there are few and each has a single crop: they may be channels.
    """
    planes = spread(layout.plane_count, MOST_CROPS)
    share = MOST_CROPS // len(planes)
    rows, columns = grid(layout.height, layout.width, share)
    ys, xs = starts(layout.height, rows), starts(layout.width, columns)
    few = rows * columns == 1 and len(planes) <= MOST_CROPS // 2
    return [
        (plane, slice(y, y + CROP), slice(x, x + CROP))
        for plane in map(layout.plane, planes) for i, y in enumerate(ys) for j, x in enumerate(xs)
        if not brief or few or (number_of(plane) + i + j) % 2 == 0
    ]  # fmt: skip


def number_of(plane: Plane) -> int:
    """Return a number that is odd for every other plane along each axis of a stack."""
    return sum(n for n in plane.index if isinstance(n, int))


def spread(count: int, most: int) -> list[int]:
    """Choose at most ``most`` of ``count`` numbers, evenly, from the middle of equal parts."""
    chosen = min(count, most)
    return [int((i + 0.5) * count / chosen) for i in range(chosen)]


def grid(height: int, width: int, most: int) -> tuple[int, int]:
    """Choose how many crops stand side by side and below each other: as many as fit, at most ``most``."""
    rows, columns = math.ceil(height / CROP), math.ceil(width / CROP)
    while rows * columns > most:
        if columns == 1 or (rows > 1 and rows * width >= columns * height):
            rows -= 1
        else:
            columns -= 1
    return rows, columns


def starts(length: int, count: int) -> list[int]:
    """Place ``count`` crops along an axis, from edge to edge; a single one in the middle."""
    last = max(0, length - CROP)
    return [last // 2] if count == 1 else [round(i * last / (count - 1)) for i in range(count)]


def cut(subject: Subject, place: tuple[Plane, slice, slice], device: torch.device) -> Tensor:
    """Read one crop (3, h, w), with sides that the tower can take."""
    plane, rows, columns = place
    layout = subject.layout
    raw = read_tile(subject.array, plane, clipped(rows, layout.height), clipped(columns, layout.width))
    return padded(to_network(raw, *subject.value_range, device), Perceiver.multiple_of)


def clipped(part: slice, length: int) -> slice:
    """Cut a slice at the end of its axis."""
    return slice(part.start, min(part.stop, length))


def padded(image: Tensor, multiple: int) -> Tensor:
    """Reflect (..., h, w) at the bottom and the right until both sides are divisible."""
    height, width = (-(-n // multiple) * multiple for n in image.shape[-2:])
    return image[..., mirror(image.shape[-2], height), :][..., mirror(image.shape[-1], width)]


def mirror(length: int, wanted: int, before: int = 0) -> Tensor:
    """Indices that continue an axis by reflection, edge included, as far as wanted, beginning before its start."""
    index = torch.arange(-before, wanted - before) % (2 * length)
    return torch.where(index < length, index, 2 * length - 1 - index)


def thumbnail(subject: Subject, number: int, device: torch.device) -> Tensor:
    """Shrink a whole plane to a thumbnail (3, h, w)."""
    image = whole_plane(subject, number, device)
    ratio = min(1.0, THUMBNAIL / max(image.shape[-2:]))
    size = [max(1, round(n * ratio)) for n in image.shape[-2:]]
    return padded(F.interpolate(image[None], size=size, mode="area")[0], Perceiver.multiple_of)


def whole_plane(subject: Subject, number: int, device: torch.device) -> Tensor:
    """Read a whole plane (3, h, w), with a stride that leaves twice the sides of a thumbnail or a little more."""
    layout = subject.layout
    step = max(1, max(layout.height, layout.width) // (2 * THUMBNAIL))
    raw = read_tile(subject.array, layout.plane(number), slice(0, layout.height, step), slice(0, layout.width, step))
    return to_network(raw, *subject.value_range, device)


def pooled(perceiver: Perceiver, images: Sequence[Tensor]) -> Iterator[Features]:
    """Return the features of each image, one row each; those of one size are found together."""
    groups: dict[torch.Size, list[int]] = {}
    for number, image in enumerate(images):
        groups.setdefault(image.shape, []).append(number)
    found: dict[int, Features] = {}
    for numbers in groups.values():
        most = CACHED if images[numbers[0]].device.type == "cpu" else MOST_TOGETHER
        for start in range(0, len(numbers), most):
            some = numbers[start : start + most]
            with torch.inference_mode():
                levels = perceiver.semantics(in_company(torch.stack([images[n] for n in some])))
            found |= {n: tuple(level[row : row + 1] for level in levels) for row, n in enumerate(some)}
    return (found[n] for n in range(len(images)))


def joined(features: Iterator[Features], count: int) -> Features:
    """Take the features of the next images, as rows of one tensor per level."""
    return tuple(torch.cat(level) for level in zip(*islice(features, count), strict=True))


def combine(crops: Tensor, overviews: Tensor) -> Tensor:
    """Mean over crops (N, T); for types that change the light of the whole picture, thumbnails (M, T) count as much."""
    far = far_shares().to(crops)
    return (1 - far) * crops.mean(dim=0) + far * overviews.mean(dim=0)


def weightiest(types: Mapping[str, float], severities: Mapping[str, float]) -> tuple[str, ...]:
    """All types, that first of which most is to be expected: probability times severity."""
    return tuple(sorted(types, key=lambda t: -types[t] * severities[t]))


def degree(severity: float) -> str:
    """Name a severity."""
    return DEGREES[bisect_right((SLIGHT, STRONG), severity)]


def named(names: Sequence[str], values: Tensor) -> dict[str, float]:
    """Pair names with numbers."""
    return dict(zip(names, (float(v) for v in values), strict=True))


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Round for people and files."""
    return {name: round(value, 4) for name, value in values.items()}
