"""What the model sees place by place: the features that judge a whole picture, read in sliding windows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perceive_ir._perception import PRESENT, mirror, ranks
from perceive_ir._vocabulary import TIERS, TONAL_TYPES, TYPES
from perceive_ir._windows import NEIGHBOURS, check_window
from perceive_ir.images import Layout, LazyArray, Plane, read_tile, to_network
from perceive_ir.networks import PATCH, Perceiver

CHUNK = 768
"""A quality map is computed in chunks of this side."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class QualityMap:
    """What the model sees, place by place; cell (i, j) covers ``stride`` x ``stride`` pixels of the picture.

    Haze and low light change slowly over a picture: what is seen of them is what is seen around.
    Arrays have the shape (..., h, w) with the stack axes of the picture before h and w.
    """

    probabilities: Array
    """(3, ..., h, w): probability of each tier."""
    types: Array
    """(T, ..., h, w): probability of each type."""
    severities: Array
    """(T, ..., h, w): how severe each type is if it is present at all."""
    stride: int
    window: int
    shape: tuple[int, int]
    """Height and width of the picture."""

    @property
    def score(self) -> Array:
        """Expected tier, 0 (low) .. 2 (high)."""
        result: Array = np.tensordot(np.arange(len(TIERS), dtype=np.float32), self.probabilities, axes=1)
        return result

    @property
    def tier_labels(self) -> NDArray[np.uint8]:
        """The likeliest tier: 1 low, 2 medium, 3 high; but medium where that is high and damage is evident."""
        return (ranks(self.probabilities, self.condition) + 1).astype(np.uint8)

    @property
    def type_labels(self) -> NDArray[np.uint8]:
        """The likeliest type that is present, counted from 1 in the order of the vocabulary; 0 for none."""
        likeliest = self.types.argmax(axis=0) + 1
        labels: NDArray[np.uint8] = np.where(self.types.max(axis=0) >= PRESENT, likeliest, 0).astype(np.uint8)
        return labels

    @property
    def condition(self) -> Array:
        """(T, ..., h, w): severity of each type that is present, 0 for the others."""
        return np.where(self.types >= PRESENT, self.severities, 0).astype(np.float32)

    def by_plane(self) -> dict[int, QualityMap]:
        """Return the map of each plane of a stack by its number, counted in C order."""
        cells = self.probabilities.shape[-2:]
        values = (self.probabilities, self.types, self.severities)
        planes = zip(*(one.reshape(len(one), -1, *cells).swapaxes(0, 1) for one in values), strict=True)
        return {
            number: replace(self, probabilities=tiers, types=types, severities=severities)
            for number, (tiers, types, severities) in enumerate(planes)
        }

    def full(self, values: NDArray[Any]) -> NDArray[Any]:
        """Enlarge an array of cells to the size of the picture."""
        height, width = self.shape
        large = values.repeat(self.stride, axis=-2).repeat(self.stride, axis=-1)
        return large[..., :height, :width]


@dataclass(frozen=True)
class MapStep:
    """Progress of a quality map in chunks; the last step carries the map."""

    done: int
    total: int
    map: QualityMap | None = None


def map_steps(
    perceiver: Perceiver, array: LazyArray, layout: Layout, limits: tuple[float, float], device: torch.device,
    window: int, stride: int,
) -> Iterator[MapStep]:  # fmt: skip
    """Judge every place of every plane, chunk by chunk."""
    check_window(window, stride)
    cells = (math.ceil(layout.height / stride), math.ceil(layout.width / stride))
    stack = (*layout.stack_shape, *cells)
    tiers, types, severities = (np.empty((n, *stack), np.float32) for n in (len(TIERS), len(TYPES), len(TYPES)))
    planes = [a.reshape(len(a), -1, *cells) for a in (tiers, types, severities)]
    around = (window - stride) // 2 + margin(perceiver)
    parts = list(product(range(layout.plane_count), chunks(cells, stride)))
    for done, (number, part) in enumerate(parts, 1):
        image = surroundings(array, layout.plane(number), layout, limits, device, pixels(part, stride), around)
        for plane, values in zip(planes, read_windows(perceiver, image, window, stride), strict=True):
            plane[:, number, *part] = values
        if done < len(parts):
            yield MapStep(done, len(parts))
    calm(types, severities, stride)
    qmap = QualityMap(tiers, types, severities, stride, window, (layout.height, layout.width))
    yield MapStep(len(parts), len(parts), qmap)


def calm(types: Array, severities: Array, stride: int) -> None:
    """Replace what is seen of the tonal types (T, ..., h, w) by means over what is seen around, in place."""
    from scipy.ndimage import gaussian_filter

    reach = NEIGHBOURS // stride
    for kind in TONAL_TYPES:
        seen, severe = types[TYPES.index(kind)], severities[TYPES.index(kind)]
        expected = seen * severe
        for values in (seen, expected):
            gaussian_filter(values, reach / 2, output=values, mode="nearest", radius=reach, axes=(-2, -1))
        severe[...] = expected / seen.clip(1e-6)


def chunks(cells: tuple[int, int], stride: int) -> Iterator[tuple[slice, slice]]:
    """Cut a plane's cells into chunks: rows and columns of each."""
    side = max(1, CHUNK // stride)
    for top in range(0, cells[0], side):
        for left in range(0, cells[1], side):
            yield slice(top, min(top + side, cells[0])), slice(left, min(left + side, cells[1]))


def pixels(part: tuple[slice, slice], stride: int) -> tuple[int, int, int, int]:
    """Return the pixels of a part of the cells: top, left, height, width."""
    rows, columns = part
    size = (rows.stop - rows.start, columns.stop - columns.start)
    return rows.start * stride, columns.start * stride, size[0] * stride, size[1] * stride


def margin(perceiver: Perceiver) -> int:
    """Pixels around a chunk that make its features independent of where it was cut."""
    return -(-perceiver.tower.reach // PATCH) * PATCH


def surroundings(
    array: LazyArray, plane: Plane, layout: Layout, limits: tuple[float, float], device: torch.device,
    box: tuple[int, int, int, int], around: int,
) -> Tensor:  # fmt: skip
    """Read a box (top, left, height, width) with what is around it, reflected at the borders of the picture."""
    rows, y = reflected(box[0] - around, box[2] + 2 * around, layout.height)
    columns, x = reflected(box[1] - around, box[3] + 2 * around, layout.width)
    image = to_network(read_tile(array, plane, rows, columns), *limits, device)
    return image[:, y.to(device)][:, :, x.to(device)]


def reflected(start: int, count: int, length: int) -> tuple[slice, Tensor]:
    """Return the part of an axis to read, and the indices in it of a range that may leave the axis."""
    index = mirror(length, count, -start)
    first = int(index.min())
    return slice(first, int(index.max()) + 1), index - first


def read_windows(perceiver: Perceiver, image: Tensor, window: int, stride: int) -> tuple[Array, Array, Array]:
    """Read sliding windows of (3, H, W), which has a margin around the windows."""
    with torch.inference_mode():
        levels = [level[0] for level in perceiver.semantics_of_windows(image[None], margin(perceiver), window, stride)]
        h, w = levels[0].shape[1:]
        reading = perceiver.read([level.flatten(1).T for level in levels])  # (h * w, ...)
        values = (reading.tier_logits.softmax(-1), reading.type_logits.sigmoid(), reading.severities)
        tiers, types, severities = (v.T.reshape(-1, h, w).float().cpu().numpy() for v in values)
    return tiers, types, severities
