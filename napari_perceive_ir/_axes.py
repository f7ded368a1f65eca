"""What the axes of a layer mean, as the recipe says it: letters such as ZYX or YXC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari.layers import Image

_UNNAMED = "ABDEFGHIJKLMNOPQ"
_SPELLED = {"TIME": "T", "CHANNEL": "C", "DEPTH": "Z"}


def layer_axes(layer: Image) -> str:
    """Return a layer's axes: its labels where they name a plane, else stack axes without a name before YX."""
    return read_axes(layer.axis_labels, layer.rgb)


def named_axes(layer: Image) -> str:
    """Return a layer's axes where its labels name them all, else nothing."""
    named = "".join(letter(label) for label in layer.axis_labels)
    return layer_axes(layer) if fits(named, layer.ndim) else ""


def read_axes(labels: Sequence[str], rgb: bool) -> str:
    """Return axes from axis labels; colour is the last axis, which has no label."""
    named = "".join(letter(label) for label in labels)
    axes = named if fits(named, len(labels)) else f"{_UNNAMED[len(_UNNAMED) - len(labels) + 2 :]}YX"
    return axes + ("S" if "C" in axes else "C") if rgb else axes


def letter(label: str) -> str:
    """Return the letter of a label, or nothing."""
    name = label.strip().upper()
    name = _SPELLED.get(name, name)
    return name if len(name) == 1 and name.isascii() and name.isalpha() else ""


def fits(axes: str, count: int) -> bool:
    """Whether letters name every axis once, two of them Y and X, and none is kept for colour."""
    return len(axes) == count == len(set(axes)) and set("YX") <= set(axes) and "S" not in axes


def spread_cells(cells: NDArray[Any], axes: str, shape: Sequence[int]) -> NDArray[Any]:
    """Bring cells (stack axes, Y, X) into the order of a layer's axes; an axis without cells shares them."""
    order = [*stack_axes(axes, cells.ndim - 2), "Y", "X"]
    missing = [a for a in axes if a not in order]
    moved: NDArray[Any] = cells.reshape(cells.shape + (1,) * len(missing)).transpose(
        [(order + missing).index(a) for a in axes]
    )
    lengths = [shape[n] if a in missing else moved.shape[n] for n, a in enumerate(axes)]
    return np.ascontiguousarray(np.broadcast_to(moved, lengths))


def stack_axes(axes: str, count: int) -> list[str]:
    """Return the axes of the stack in a layer's axes; one too many is colour that napari shows plane by plane."""
    return [a for a in axes if a not in "YX"][:count]
