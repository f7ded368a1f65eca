"""Colours that say where a picture is good or bad, laid over it or alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perceive_ir._vocabulary import TYPES
from perceive_ir.commands._map import What

if TYPE_CHECKING:
    from perceive_ir import QualityMap

Palette = NDArray[np.float32]  # (N, 4): red, green, blue, opacity, all in 0..1

# Told apart by everybody: the palette of Okabe and Ito, with a dark red instead of its black.
COLOURS = {
    "low": "#D55E00", "medium": "#E69F00",
    "noise": "#56B4E9", "haze": "#F0E442", "rain": "#0072B2", "snow": "#CC79A7", "blur": "#E69F00",
    "lowlight": "#882255", "jpeg": "#009E73", "lowres": "#D55E00",
}  # fmt: skip
OPACITY = 0.55
SCORE_STEPS = 200


def values(qmap: QualityMap, what: What) -> NDArray[Any]:
    """Return the values of the cells."""
    if what is What.tiers:
        return qmap.tier_labels
    return qmap.type_labels if what is What.types else qmap.score.astype(np.float32)


def draw(image: NDArray[Any], axes: str, qmap: QualityMap, what: What, *, plain: bool = False) -> NDArray[np.uint8]:
    """Colour a picture by its map.

    Parameters
    ----------
    image
        One picture, grey or colour.
    axes
        Its axes.
    qmap
        Its map.
    what
        What the colours show.
    plain
        Leave the picture out.

    Returns
    -------
    ndarray
        (h, w, 3), or with ``plain`` (h, w, 4), uint8.
    """
    if qmap.probabilities.ndim > 3:
        raise ValueError(f"a PNG holds one map, this is a stack of {qmap.probabilities.shape[1:-2]}; write a .tif")
    cells = values(qmap, what)
    numbers = np.rint(cells * (SCORE_STEPS / 2)).astype(np.intp) if what is What.score else cells
    paint = qmap.full(palette(what)[numbers].transpose(2, 0, 1)).transpose(1, 2, 0)  # (h, w, 4)
    if plain:
        return np.asarray(np.rint(paint * 255), np.uint8)
    opacity = paint[..., 3:] * np.float32(OPACITY)
    mixed = grey(image, axes)[..., None] * (1 - opacity) + paint[..., :3] * opacity
    return np.asarray(np.rint(mixed * 255), np.uint8)


def palette(what: What) -> Palette:
    """Return the colour of each value; what is good has none."""
    if what is What.types:
        return np.array([rgba(None), *(rgba(COLOURS[name]) for name in TYPES)], np.float32)
    low, medium, high = rgba(COLOURS["low"]), rgba(COLOURS["medium"]), rgba(None, like=COLOURS["medium"])
    if what is What.tiers:
        return np.array([high, low, medium, high], np.float32)
    place = np.linspace(0, 2, SCORE_STEPS + 1)
    return np.stack([np.interp(place, [0, 1, 2], part) for part in zip(low, medium, high, strict=True)], 1).astype("f4")


def rgba(colour: str | None, like: str = "#000000") -> tuple[float, float, float, float]:
    """Read ``#RRGGBB`` as opaque; None is transparent."""
    code = int((colour or like)[1:], 16)
    return (code >> 16) / 255, (code >> 8 & 255) / 255, (code & 255) / 255, float(colour is not None)


def grey(image: NDArray[Any], axes: str) -> NDArray[np.float32]:
    """Return a picture as it is seen, (h, w) in 0..1."""
    from perceive_ir.images import find_range, parse_layout, read_tile, to_network

    layout = parse_layout(image.shape, axes)
    whole = read_tile(image, layout.plane(0), slice(0, layout.height), slice(0, layout.width))
    shown = to_network(whole, *find_range(image, layout, "auto"))
    seen: NDArray[np.float32] = shown.mean(dim=0).clamp(0, 1).numpy()
    return seen
