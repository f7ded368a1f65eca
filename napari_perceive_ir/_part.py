"""Which part of a layer is meant: one plane of a stack, as slices of its array and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_perceive_ir._placement import level0

if TYPE_CHECKING:
    from napari.layers import Image


@dataclass(frozen=True)
class Part:
    """A plane of a stack."""

    index: tuple[slice, ...]
    """What it is in the array."""
    plane: Mapping[str, int]
    """Its number on each axis of the stack."""

    @property
    def start(self) -> tuple[int, ...]:
        """Its first pixel."""
        return tuple(one.start or 0 for one in self.index)

    def words(self) -> str:
        """Name it: "Z 3"."""
        return ", ".join(f"{axis} {number}" for axis, number in self.plane.items())


def stack_axes_of(source: Image, axes: str) -> list[int]:
    """Return which axes of a layer count planes."""
    from perceive_ir.images import parse_layout

    layout = parse_layout(level0(source).shape, axes)
    return [n for n, letter in enumerate(axes[: len(axes) - layout.colour]) if letter not in "YX"]


def plane_at(source: Image, axes: str, point: Sequence[float]) -> Part | None:
    """Return the plane of a layer that is at a point of the world; None where the layer is no stack."""
    stack, shape = stack_axes_of(source, axes), level0(source).shape
    if not stack:
        return None
    place = np.rint(source.world_to_data(list(point)[-source.ndim :])).astype(int)
    if any(not 0 <= place[axis] < shape[axis] for axis in stack):
        raise ValueError(f"layer {source.name!r} has no plane where the sliders stand: move them, or choose the stack")
    index = [slice(0, n) for n in shape]
    for axis in stack:
        index[axis] = slice(int(place[axis]), int(place[axis]) + 1)
    return Part(tuple(index), {axes[axis]: int(place[axis]) for axis in stack})


def about_part(part: Part | None) -> dict[str, Any]:
    """Say in metadata which part it is."""
    return {} if part is None else {"plane": dict(part.plane)}
