"""TIFF: pixels with their axes, and the tags to write them back."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from perceive_ir._errors import ImageFileError
from perceive_ir.files import _exif, _tiff_fields
from perceive_ir.files._faults import damaged, one_line
from perceive_ir.files._picture import Meta, TiffMeta

LAZY_BYTES = 2**26
"""From this size on an uncompressed picture is mapped, not read."""

_TAGS = (269, 271, 272, 306, 315, 316, 33432, 700, 33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113)
"""Document, make, model, date, artist, host, copyright, XMP, and georeference."""

_EXIF_IFD, _ICC, _XRESOLUTION, _YRESOLUTION, _UNIT, _ORIENTATION = 34665, 34675, 282, 283, 296, 274
_JPEG = (6, 7)
_CENTIMETRES_PER_INCH = 2.54
_FATAL = re.compile(r"TiffPages @|corrupted|failed to reshape|TiffTag (25[6-9]|262|27[03789]|284|317|32[0-5]|33[89]) ")
_SMALL = 2**20
_BEST_PACKING = {1: 1, 5: 4096, 8: 1100, 32946: 1100, 32773: 64}
"""How many times smaller data can get: uncompressed, LZW, deflate, PackBits."""


def read_tiff(path: Path, records: list[logging.LogRecord]) -> tuple[NDArray[Any], str, Meta, tuple[str, ...]]:
    """Pixels, axes, what the file says, and notes; `records` is what tifffile logged so far."""
    with tifffile.TiffFile(path) as tif:
        if not tif.series:
            raise damaged(path, "it holds no picture")
        series = tif.series[0]
        page = _first_page(series)
        _refuse(series, page, path)
        notes = _left_out(tif, series)
        data = _mapped(path, tif, series)
        meta = _meta(tif, series, page)
    notes += _doubts(records, path)
    data, axes, meta, note = _usual(data, meta)
    return data, axes, meta, notes + note


def _first_page(series: tifffile.TiffPageSeries) -> tifffile.TiffPage:
    """The page whose tags hold for all pages of the series."""
    page = series.keyframe
    assert isinstance(page, tifffile.TiffPage)
    return page


def _refuse(series: tifffile.TiffPageSeries, page: tifffile.TiffPage, path: Path) -> None:
    """What cannot be restored, by name; and pages whose data lie behind the end of the file."""
    photometric = tifffile.PHOTOMETRIC(page.photometric)
    is_decoded = page.photometric <= 3 or (photometric.name == "YCBCR" and page.compression in _JPEG)
    if not is_decoded:
        raise ImageFileError(one_line(f"{path} has {photometric.name} colours; convert it to RGB or grey first"))
    if series.dtype is None or series.dtype.kind not in "biuf":
        raise ImageFileError(one_line(f"{path} has pixels of type {series.dtype}; convert them to numbers first"))
    if not isinstance(page.bitspersample, int):
        raise ImageFileError(one_line(f"{path} has samples of {page.bitspersample} bits; convert them to equal ones"))
    if 0 in series.shape:
        raise damaged(path, f"its shape is {series.shape}")
    if lost := sum(part is None for part in series.pages):
        raise ImageFileError(
            one_line(f"{path} lacks {lost} of its {len(series.pages)} planes; put the files that hold them beside it")
        )
    if not _is_whole(series, page):
        raise damaged(path)


def _is_whole(series: tifffile.TiffPageSeries, page: tifffile.TiffPage) -> bool:
    """Whether the file holds all segments, and none claims to unpack to more than its method ever packs.

    Checked before memory is asked for: a damaged width or height easily claims gigabytes.
    """
    segments, claimed = math.prod(page.chunked), math.prod(page.chunks) * page.bitspersample // 8
    packing = _BEST_PACKING.get(page.compression)
    if packing and claimed > _SMALL and claimed > packing * max(page.databytecounts, default=0):
        return False
    parts = [part for part in series.pages if part is not None]
    return any(page.databytecounts) and all(len(part.dataoffsets) >= segments and _is_inside(part) for part in parts)


def _is_inside(page: tifffile.TiffPage | tifffile.TiffFrame) -> bool:
    """Whether all data of a page lie before the end of its file, which need not be the first of its set."""
    ends = (at + size for at, size in zip(page.dataoffsets, page.databytecounts, strict=False))
    return max(ends, default=0) <= page.parent.filehandle.size


def _doubts(records: list[logging.LogRecord], path: Path) -> tuple[str, ...]:
    """What tifffile found strange; an error where pages or what describes the pixels are lost."""
    doubts = [one_line(record.getMessage())[:160] for record in records]
    if any(_FATAL.search(doubt) for doubt in doubts):
        raise damaged(path)
    return tuple(f"tifffile: {doubt}" for doubt in doubts[:2])


def _left_out(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[str, ...]:
    notes = []
    if len(tif.series) > 1:
        notes.append(f"the file holds {len(tif.series)} pictures; only the first is read")
    if len(series.levels) > 1:
        notes.append("the smaller levels of the pyramid are left out")
    if _EXIF_IFD in tif.pages.first.tags:
        notes.append("the EXIF directory is left out")
    if series.kind not in ("imagej", "ome", "shaped", "generic", "uniform"):
        notes.append(f"the metadata of {series.kind} are left out")
    return tuple(notes)


def _mapped(path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> NDArray[Any]:
    """Pixels, mapped where they are many and lie in one piece."""
    if series.nbytes < LAZY_BYTES or series.dataoffset is None or series.keyframe.bitspersample % 8:
        return np.asarray(series.asarray())
    assert series.dtype is not None
    dtype = np.dtype(series.dtype).newbyteorder(tif.byteorder)
    return np.memmap(path, dtype=dtype, mode="r", offset=series.dataoffset, shape=series.shape)


def _meta(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, page: tifffile.TiffPage) -> Meta:
    first = tif.pages.first
    values = {tag.code: tag.value for tag in first.tags if tag.code in (_ICC, _UNIT, _ORIENTATION)}
    resolution = tuple(first.tags[code].value for code in (_XRESOLUTION, _YRESOLUTION) if code in first.tags)
    unit = int(values.get(_UNIT, 2))
    flavour = _flavour(series)
    tiff = TiffMeta(
        flavour=flavour,
        native_axes=series.axes,
        photometric=tifffile.PHOTOMETRIC(page.photometric).name.lower(),
        extrasamples=tuple(int(sample) for sample in page.extrasamples),
        compression=tifffile.COMPRESSION(page.compression).name,
        predictor=page.predictor != 1,
        tile=(page.tilelength, page.tilewidth) if page.is_tiled else None,
        rows_per_strip=page.rowsperstrip if 0 < page.rowsperstrip < page.imagelength else None,
        resolution=(resolution[0], resolution[1]) if len(resolution) == 2 else None,
        resolution_unit=unit,
        byteorder=tif.byteorder,
        bigtiff=tif.is_bigtiff,
        software=first.software or None,
        text=first.description if flavour == "plain" and first.description else None,
        colormap=page.colormap,
        tags=tuple((t.code, int(t.dtype), t.count, t.value, True) for t in first.tags if t.code in _TAGS),
        fields=_tiff_fields.fields(tif, flavour),
    )
    orientation = _exif.with_orientation(int(values.get(_ORIENTATION, 1)))
    return Meta(dpi=_dpi(tiff.resolution, unit), icc=values.get(_ICC), exif=orientation, tiff=tiff)


def _flavour(series: tifffile.TiffPageSeries) -> str:
    if series.kind in ("imagej", "ome", "shaped"):
        return series.kind
    return "plain"


def _dpi(resolution: tuple[tuple[int, int], tuple[int, int]] | None, unit: int) -> tuple[float, float] | None:
    per_inch = {2: 1.0, 3: _CENTIMETRES_PER_INCH}.get(unit)
    if per_inch is None or resolution is None or not all(n and d for n, d in resolution):
        return None
    (x, per_x), (y, per_y) = resolution
    return per_inch * x / per_x, per_inch * y / per_y


def _usual(data: NDArray[Any], meta: Meta) -> tuple[NDArray[Any], str, Meta, tuple[str, ...]]:
    """Numbers whose minimum is black, samples last; and the axes in our letters."""
    tiff = meta.tiff
    assert tiff is not None
    note: tuple[str, ...] = ()
    native = tiff.native_axes
    if data.dtype.kind == "b":
        data, note = data.astype(np.uint8) * np.uint8(255), ("1-bit became 8-bit grey",)
    if tiff.photometric == "palette" and tiff.flavour != "imagej" and tiff.colormap is not None:
        data, native, note = _coloured(data, tiff.colormap), native + "S", ("the palette became RGB",)
        tiff = replace(tiff, native_axes=native, photometric="rgb", colormap=None)
    if is_inverted(tiff, data):
        data = np.invert(data)
    if "S" in native:
        data = np.moveaxis(data, native.index("S"), -1)
    return data, our_axes(native), replace(meta, tiff=tiff), note


def is_inverted(tiff: TiffMeta, data: NDArray[Any]) -> bool:
    """Whether 0 means white. ImageJ measures the stored values, so there they stay."""
    return tiff.photometric == "miniswhite" and tiff.flavour != "imagej" and data.dtype.kind == "u"


def our_axes(native: str) -> str:
    """Each letter once: samples are the last axis and called ``C``; channels beside them and unnamed axes move on."""
    taken = set("YXC" if "S" in native else "YX")
    letters = ""
    for letter in native.replace("S", ""):
        if letter in taken and letter not in "YX":
            letter = next(free for free in "IQJKLMNOUVW" if free not in taken and free not in native)
        taken.add(letter)
        letters += letter
    return letters + "C" * ("S" in native)


def _coloured(data: NDArray[Any], colormap: NDArray[np.uint16]) -> NDArray[Any]:
    """RGB of palette indices; 8 bits where the 16-bit table holds no more."""
    table: NDArray[Any] = np.ascontiguousarray(colormap.T)
    for step in (257, 256):
        if not (table % step).any():
            table = (table // step).astype(np.uint8)
            break
    return np.asarray(table[data])
