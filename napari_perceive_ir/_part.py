"""Which part of a layer is meant: a plane of a stack, a region, or both; as slices of its array and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_perceive_ir._axes import layer_axes, named_axes
from napari_perceive_ir._placement import level0

if TYPE_CHECKING:
    from napari.layers import Image

    from perceive_ir._part import Box


class NoPlane(ValueError):
    """The sliders stand where a layer has no plane."""


@dataclass(frozen=True)
class Part:
    """A plane of a stack, a region of each plane, or both."""

    axes: str
    index: tuple[slice, ...]
    """The plane or the whole stack in the array, with all rows and columns: what is perceived."""
    plane: Mapping[str, int]
    """The number of the plane on each axis of the stack; empty for the whole stack."""
    region: Box | None = None
    """What of it is restored; None for all."""
    named: bool = True
    """Whether the axes have names; where not, letters stand in for them."""

    @property
    def start(self) -> tuple[int, ...]:
        """Its first pixel."""
        corner = dict(zip("YX", (one.start for one in self.region or ()), strict=False))
        return tuple(one.start + corner.get(axis, 0) for axis, one in zip(self.axes, self.index, strict=True))

    @property
    def plane_words(self) -> str:
        """Name the plane: "Z 3", or "plane 3" where its axis has no name."""
        if self.plane and not self.named:
            return f"plane {', '.join(map(str, self.plane.values()))}"
        return ", ".join(f"{axis} {number}" for axis, number in self.plane.items())

    @property
    def words(self) -> str:
        """Name it: "Z 3, region"."""
        return ", ".join(filter(None, [self.plane_words, "region" if self.region else ""]))


def stack_axes_of(source: Image, axes: str) -> list[int]:
    """Return which axes of a layer count planes."""
    from perceive_ir.images import parse_layout

    layout = parse_layout(level0(source).shape, axes)
    return [n for n, letter in enumerate(axes[: len(axes) - layout.colour]) if letter not in "YX"]


def part_of(source: Image, axes: str, point: Sequence[float] | None, region: Box | None = None) -> Part | None:
    """Return the plane of a layer that is at a point of the world, or a region of it; None for the whole layer."""
    stack = stack_axes_of(source, axes) if point is not None else []
    if not stack and region is None:
        return None
    index, plane = [slice(0, n) for n in level0(source).shape], {}
    for axis, number in zip(stack, plane_at(source, stack, point), strict=True):
        index[axis], plane[axes[axis]] = slice(number, number + 1), number
    named = axes != layer_axes(source) or bool(named_axes(source))
    return Part(axes, tuple(index), plane, region, named)


def plane_at(source: Image, stack: Sequence[int], point: Sequence[float] | None) -> list[int]:
    """Return the numbers of the plane of a stack that is at a point of the world."""
    if point is None:
        return []
    shape = level0(source).shape
    place = np.rint(source.world_to_data(list(point)[-source.ndim :])).astype(int)
    if any(not 0 <= place[axis] < shape[axis] for axis in stack):
        raise NoPlane(f"layer {source.name!r} has no plane where the sliders stand: move them, or choose the stack")
    return [int(place[axis]) for axis in stack]


def about_part(part: Part | None) -> dict[str, Any]:
    """Say in metadata which plane it is."""
    return {"plane": dict(part.plane)} if part is not None and part.plane else {}
