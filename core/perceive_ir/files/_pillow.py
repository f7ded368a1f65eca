"""JPEG, BMP and GIF through Pillow, and the encoders of JPEG and WebP.

The file classes are called directly: ``Image.open`` refuses big pictures by a limit that is global to the process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from perceive_ir._errors import ImageFileError
from perceive_ir.files import _exif
from perceive_ir.files._faults import one_line
from perceive_ir.files._picture import Meta

_CLASSES: dict[str, type[ImageFile]] = {
    "jpeg": JpegImageFile,
    "bmp": BmpImageFile,
    "gif": GifImageFile,
}
_QUALITY = 95
"""Of JPEG, and of WebP unless its source lost nothing."""
_LARGEST = 2**31
"""Pixels; a header that claims more is taken for damaged before memory is asked for."""


def read_pillow(path: Path, kind: str) -> tuple[NDArray[Any], Meta, tuple[str, ...]]:
    """Pixels (h, w) or (h, w, 3 | 4), uint8, and what the file says about them."""
    with open(path, "rb") as file, _CLASSES[kind](file, str(path)) as image:
        _refuse(image, path)
        mode = _mode(image)
        image.load()
        note = () if mode == image.mode else (f"{_NAMES.get(image.mode, image.mode)} became {_NAMES.get(mode, mode)}",)
        pixels = np.asarray(image if mode == image.mode else image.convert(mode))
        return pixels, _meta(image, lossless=kind in ("bmp", "gif")), note


def exif_of_jpeg(path: Path) -> bytes | None:
    with open(path, "rb") as file, JpegImageFile(file, str(path)) as image:
        return _exif.strip(image.info.get("exif"))


def encode_jpeg(file: BinaryIO, pixels: NDArray[Any], meta: Meta) -> None:
    """Without chroma subsampling: 4:4:4."""
    options = _options(meta)
    if meta.dpi is not None:
        options["dpi"] = tuple(round(value) for value in meta.dpi)
    if meta.comment is not None:
        options["comment"] = meta.comment
    Image.fromarray(_native(pixels)).save(file, "JPEG", quality=_QUALITY, subsampling=0, **options)


def encode_webp(file: BinaryIO, pixels: NDArray[Any], meta: Meta) -> None:
    """``exact`` keeps the colour of pixels that are fully transparent."""
    image = Image.fromarray(_native(pixels))
    image.save(file, "WEBP", lossless=meta.lossless, exact=meta.lossless, quality=_QUALITY, **_options(meta))


_NAMES = {"1": "1-bit", "L": "8-bit grey", "LA": "grey with alpha", "P": "a palette", "PA": "a palette"}


def _refuse(image: ImageFile, path: Path) -> None:
    if image.width * image.height > _LARGEST:
        raise ImageFileError(
            one_line(f"{path} claims {image.width} × {image.height} pixels; get it again, or give so many as a TIFF")
        )
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise ImageFileError(
            one_line(f"{path} is an animation of {frames} frames; save them as single pictures or as a TIFF stack")
        )
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise ImageFileError(one_line(f"{path} has {image.mode} pixels; convert it to RGB or grey first"))


def _mode(image: ImageFile) -> str:
    if image.mode in ("LA", "PA") or "transparency" in image.info:
        return "RGBA"
    return {"1": "L", "P": "RGB"}.get(image.mode, image.mode)


def _meta(image: ImageFile, *, lossless: bool) -> Meta:
    info = image.info
    dpi = info.get("dpi")
    return Meta(
        lossless=lossless,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None,
        icc=info.get("icc_profile") or None,
        exif=_exif.strip(info.get("exif")),
        xmp=info.get("xmp") or None,
        comment=info.get("comment") or None,
    )


def _options(meta: Meta) -> dict[str, Any]:
    options: dict[str, Any] = {"icc_profile": meta.icc or b"", "exif": (meta.exif and b"Exif\0\0" + meta.exif) or b""}
    if meta.xmp is not None:
        options["xmp"] = meta.xmp
    return options


def _native(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(pixels, dtype=np.uint8)
