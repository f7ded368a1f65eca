"""Whether somebody wrote into an array while it was worked on."""

from __future__ import annotations

from functools import reduce
from typing import Any
from zlib import crc32


def fingerprint(pixels: Any) -> int:
    """Return a checksum of an array in memory; 0 of any other, which would have to be read once more."""
    import numpy as np

    if type(pixels) is not np.ndarray:
        return 0
    parts = pixels if pixels.ndim else pixels[None]
    return reduce(lambda before, part: crc32(np.ascontiguousarray(part).data, before), parts, 0)
