"""Thumbnails for the report: small JPEGs in which noise stays visible."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from perceive_ir.images import Layout

LONGEST = 440
"""Side of a thumbnail in pixels, at most."""
QUALITY = 86


def thumbnail(array: Any, layout: Layout, limits: tuple[float, float], longest: int = LONGEST) -> bytes:
    """Return the middle plane as JPEG, black and white at the limits.

    Pixels are left out, not averaged: averaging would hide noise.
    """
    from PIL import Image

    from perceive_ir.images import read_tile

    step = -(-max(layout.height, layout.width) // longest)
    plane = layout.plane(layout.plane_count // 2)
    pixels = read_tile(array, plane, slice(0, layout.height, step), slice(0, layout.width, step))
    pixels = pixels[..., :3] if pixels.ndim == 3 else pixels
    low, high = limits
    with np.errstate(all="ignore"):
        share = (pixels.astype(np.result_type(pixels.dtype, np.float32)) - low) / (high - low)
    grey = (np.fmin(np.fmax(share, 0), 1) * 255).round().astype(np.uint8)  # NaN becomes black
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "JPEG", quality=QUALITY, subsampling=0)
    return stream.getvalue()
