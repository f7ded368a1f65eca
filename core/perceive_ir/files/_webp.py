"""WebP: the container by hand, pixels through libwebp, because Pillow refuses big ones by a global limit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from perceive_ir._errors import ImageFileError
from perceive_ir.files import _exif
from perceive_ir.files._faults import damaged, one_line
from perceive_ir.files._picture import Meta


def read_webp(path: Path) -> tuple[NDArray[Any], Meta, tuple[str, ...]]:
    """Pixels (h, w, 3 | 4), uint8, and what the file says about them."""
    content = path.read_bytes()
    chunks = _chunks(content, path)
    if b"ANIM" in chunks:
        raise ImageFileError(one_line(f"{path} is an animation; save its frames as single pictures or as a TIFF stack"))
    meta = Meta(
        lossless=b"VP8L" in chunks,
        icc=chunks.get(b"ICCP"),
        exif=_exif.strip(chunks.get(b"EXIF")),
        xmp=chunks.get(b"XMP "),
    )
    return np.asarray(imagecodecs.webp_decode(content)), meta, ()


def exif_of_webp(path: Path) -> bytes | None:
    return _exif.strip(_chunks(path.read_bytes(), path).get(b"EXIF"))


def _chunks(content: bytes, path: Path) -> dict[bytes, bytes]:
    if len(content) < 8 + int.from_bytes(content[4:8], "little"):
        raise damaged(path, "it is truncated")
    return dict(_walked(content))


def _walked(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of every chunk of the RIFF file; padded to even lengths. Pixels are left out."""
    at = 12
    while at + 8 <= len(content):
        name, length = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        yield name, b"" if name.startswith(b"VP8") else content[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
