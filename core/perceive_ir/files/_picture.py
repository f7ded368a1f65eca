"""What a file holds: the pixels, what their axes are, and everything needed to write them back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rational = tuple[int, int]


@dataclass(frozen=True)
class TiffMeta:
    """What only TIFF has. Raw values of tags, so that they go back as they came."""

    flavour: str = "plain"
    """``imagej``, ``ome``, ``shaped`` (tifffile's own JSON) or ``plain``."""
    native_axes: str = ""
    """Axes as stored; ``S`` are samples of a pixel. ``Picture.axes`` has them last and calls them ``C``."""
    photometric: str = "minisblack"
    extrasamples: tuple[int, ...] = ()
    compression: str = "NONE"
    predictor: bool = False
    tile: tuple[int, int] | None = None
    rows_per_strip: int | None = None
    resolution: tuple[Rational, Rational] | None = None
    resolution_unit: int = 1
    byteorder: str = "<"
    bigtiff: bool = False
    software: str | None = None
    text: str | None = None
    """The ImageDescription of a plain TIFF."""
    colormap: NDArray[np.uint16] | None = None
    """Lookup table of an ImageJ picture, whose pixels stay intensities."""
    tags: tuple[tuple[int, int, int, Any, bool], ...] = ()
    """Other tags worth keeping (author, georeference, XMP, …), in tifffile's form."""
    fields: dict[str, Any] = field(default_factory=dict)
    """ImageJ properties, OME attributes, or the JSON of the shaped flavour."""


@dataclass(frozen=True)
class Meta:
    """What a file says about its pixels."""

    lossless: bool = True
    dpi: tuple[float, float] | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    """The EXIF block from its byte-order mark on. The orientation in it is kept, not applied to the pixels."""
    xmp: bytes | None = None
    comment: bytes | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    """PNG chunks (name, content) that hold for the pixels whatever they are: gamma, text, time."""
    tiff: TiffMeta | None = None


@dataclass(frozen=True)
class Picture:
    """A picture read from a file."""

    data: NDArray[Any]
    """Pixels in stored orientation; memory-mapped and read-only for a big uncompressed TIFF."""
    axes: str
    """One letter per axis: ``YX``, ``YXC`` for colour, ``TZCYX``, … (``C`` last: samples of a pixel)."""
    path: Path
    kind: str
    """``tiff``, ``png``, ``jpeg``, ``webp``, ``bmp`` or ``gif``, by content; else ``bioio``, by name."""
    meta: Meta
    notes: tuple[str, ...] = ()
    """What was converted or left out in reading, for the user to know."""
