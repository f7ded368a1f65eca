"""Reading: what the content is decides how."""

from __future__ import annotations

import os
from pathlib import Path

from perceive_ir.files._bioio import KIND, read_bioio
from perceive_ir.files._faults import reading
from perceive_ir.files._picture import Picture
from perceive_ir.files._pillow import read_pillow
from perceive_ir.files._png import read_png
from perceive_ir.files._sniff import kind_of
from perceive_ir.files._tiff_read import read_tiff
from perceive_ir.files._webp import read_webp

_READERS = {"png": read_png, "webp": read_webp}


def read_image(path: str | os.PathLike[str]) -> Picture:
    """Read a TIFF, PNG, JPEG, WebP, BMP or GIF with all that is needed to write it back, or what bioio reads.

    Pixels stay in stored orientation. Palettes become RGB, 1-bit pictures 8-bit grey, grey with alpha RGBA, and
    `Picture.notes` says so; CMYK, animations and complex numbers are refused by name.

    Raises
    ------
    ImageFileError
        In one line, whatever is wrong with the file.
    MissingExtraError
        A file of a microscope, and no plugin of bioio for it.
    """
    path = Path(path)
    kind = kind_of(path)
    with reading(path) as records:
        if kind == "tiff":
            data, axes, meta, notes = read_tiff(path, records)
            return Picture(data, axes, path, kind, meta, notes)
        if kind == KIND:
            data, axes, meta, notes = read_bioio(path)
            return Picture(data, axes, path, kind, meta, notes)
        data, meta, notes = _READERS[kind](path) if kind in _READERS else read_pillow(path, kind)
        return Picture(data, "YX" if data.ndim == 2 else "YXC", path, kind, meta, notes)
