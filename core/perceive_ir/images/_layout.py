"""What the axes of an array mean, and the planes that it is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

# Axes without a name, the one next to YX first; Q is what TIFF readers call "other".
_UNNAMED = "QPONMLKJIHGFEDBAZTRUVW"


@dataclass(frozen=True)
class Plane:
    """One plane of an array: ``array[plane.index]`` is (Y, X) or (Y, X, colour), or with Y and X swapped."""

    index: tuple[int | slice, ...]
    """One entry per axis of the array: a number on stack axes, ``slice(None)`` on Y, X and colour."""
    y: int
    """Which axis of the array is Y."""
    x: int
    """Which axis of the array is X."""

    @property
    def swapped(self) -> bool:
        """Whether X stands before Y in the array."""
        return self.x < self.y

    def at(self, rows: slice, cols: slice) -> tuple[int | slice, ...]:
        """Return the index of a part of this plane in the array."""
        return tuple(rows if n == self.y else cols if n == self.x else part for n, part in enumerate(self.index))


@dataclass(frozen=True)
class Layout:
    """The meaning of an array's axes; made by :func:`parse_layout`, which checks it."""

    shape: tuple[int, ...]
    axes: str
    """One upper-case letter per axis, with Y and X."""

    @property
    def height(self) -> int:
        """The length of Y."""
        return self.shape[self.axes.index("Y")]

    @property
    def width(self) -> int:
        """The length of X."""
        return self.shape[self.axes.index("X")]

    @property
    def colour(self) -> bool:
        """Whether planes are RGB or RGBA: 3 or 4 entries of C or S right after Y and X, at the end."""
        return self.axes[-1] in "CS" and set(self.axes[-3:-1]) == {"Y", "X"} and self.shape[-1] in (3, 4)

    @property
    def stack_shape(self) -> tuple[int, ...]:
        """The lengths of the axes that count planes."""
        return tuple(self.shape[n] for n in self.stack_axes)

    @property
    def plane_count(self) -> int:
        """How many planes there are."""
        return math.prod(self.stack_shape)

    def planes(self) -> Sequence[Plane]:
        """Return the planes in C order; each is made when it is asked for."""
        return _Planes(self)

    def plane(self, number: int) -> Plane:
        """Return the plane with this number, counted in C order over the stack axes."""
        index: list[int | slice] = [slice(None)] * len(self.shape)
        for axis in reversed(self.stack_axes):
            number, index[axis] = divmod(number, self.shape[axis])
        return Plane(tuple(index), self.axes.index("Y"), self.axes.index("X"))

    def of_each_plane(self, rows: slice, columns: slice) -> tuple[slice, ...]:
        """Return where some rows and columns of all planes lie."""
        return tuple({"Y": rows, "X": columns}.get(letter, slice(None)) for letter in self.axes)

    def first_planes(self, count: int) -> tuple[slice, ...] | None:
        """Return where the first ``count`` planes lie, cut down to whole entries of the first axis that is long."""
        index = [slice(None)] * len(self.shape)
        for axis in self.stack_axes:
            if self.shape[axis] > 1:
                index[axis] = slice(0, count * self.shape[axis] // self.plane_count)
                return tuple(index) if index[axis].stop else None
        return None

    def number_of(self, place: Sequence[int]) -> int:
        """Return the number of the plane at a place of the stack axes."""
        number = 0
        for entry, length in zip(place, self.stack_shape, strict=True):
            number = number * length + entry
        return number

    @property
    def stack_axes(self) -> tuple[int, ...]:
        """Which axes count planes."""
        end = len(self.axes) - self.colour
        return tuple(n for n, letter in enumerate(self.axes[:end]) if letter not in "YX")


def parse_layout(shape: Sequence[int], axes: str = "auto") -> Layout:
    """Find out what the axes of an array mean.

    Parameters
    ----------
    shape : sequence of int
        The shape of the array.
    axes : str
        One letter per axis, upper or lower case, with Y and X: ``"YX"``, ``"TZCYX"``, ``"YXC"``. C or S with 3 or 4
        entries right after YX at the end is colour; every other axis counts independent planes. ``"auto"`` reads
        (h, w, 3) and (h, w, 4) as colour and takes the last two axes of everything else as YX.

    Raises
    ------
    TypeError, ValueError
        With one line that says what does not fit and what would.
    """
    shape = tuple(shape)
    if len(shape) < 2:
        raise ValueError(f"expected an image with at least 2 axes, got shape {shape}: reshape it to (height, width)")
    if not all(length >= 1 for length in shape):
        raise ValueError(f"expected an image with pixels, got shape {shape}: every axis needs a length of 1 or more")
    if not isinstance(axes, str):
        raise TypeError(f"expected axes as text, got {axes!r}: use 'auto' or one letter per axis, e.g. 'ZYX'")
    if axes.lower() == "auto":
        return Layout(shape, _guess(shape))
    _check_axes(axes.upper(), shape)
    return Layout(shape, axes.upper())


def _guess(shape: tuple[int, ...]) -> str:
    if len(shape) == 3 and shape[-1] in (3, 4):
        return "YXC"
    stack = len(shape) - 2
    if stack > len(_UNNAMED):
        raise ValueError(f"expected at most {len(_UNNAMED) + 2} axes, got {len(shape)}: merge some with .reshape")
    return _UNNAMED[:stack][::-1] + "YX"


def _check_axes(axes: str, shape: tuple[int, ...]) -> None:
    if not (axes.isascii() and axes.isalpha()):
        raise ValueError(f"expected axes as letters, got {axes!r}: use 'auto' or one letter per axis, e.g. 'ZYX'")
    if len(axes) != len(shape):
        raise ValueError(f"axes {axes!r} do not fit shape {shape}: give one letter for each of its {len(shape)} axes")
    repeated = sorted({letter for letter in axes if axes.count(letter) > 1})
    if repeated:
        raise ValueError(f"axes {axes!r} repeat {''.join(repeated)}: give every axis a letter of its own")
    missing = [letter for letter in "YX" if letter not in axes]
    if missing:
        raise ValueError(f"axes {axes!r} lack {' and '.join(missing)}: name the two axes of a plane Y and X")


@dataclass(frozen=True)
class _Planes(Sequence[Plane]):
    layout: Layout

    def __len__(self) -> int:
        return self.layout.plane_count

    @overload
    def __getitem__(self, number: int) -> Plane: ...
    @overload
    def __getitem__(self, number: slice) -> tuple[Plane, ...]: ...
    def __getitem__(self, number: int | slice) -> Plane | tuple[Plane, ...]:
        numbers = range(len(self))[number]
        if isinstance(numbers, range):
            return tuple(map(self.layout.plane, numbers))
        return self.layout.plane(numbers)
