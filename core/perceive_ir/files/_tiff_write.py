"""TIFF: what to hand to tifffile so that a picture goes back as it came, and to hand it over."""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from perceive_ir.files import _exif, _tiff_fields
from perceive_ir.files._atomic import ask_disk
from perceive_ir.files._description import KEYWORD, Description, added
from perceive_ir.files._picture import Meta, TiffMeta
from perceive_ir.files._tiff_read import is_inverted, our_axes

_LOSSLESS = ("NONE", "LZW", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "ZSTD", "LZMA")
_BIG = 2**32 - 2**25
_OME_TYPES = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")

Options = dict[str, Any]


def write_tiff(
    path: Path, array: NDArray[Any], axes: str, meta: Meta, *, ome: bool, same: bool, description: Description | None
) -> tuple[str, ...]:
    """Write `array` and return notes on what could not be kept; `same`: shape and axes are those of the source."""
    pixels, options, notes = plan(array, axes, meta, ome=ome, same=same, description=description)
    try:
        tifffile.imwrite(path, pixels, **options)
    except OSError as error:
        if error.errno is None:  # numpy keeps to itself why it could not write
            ask_disk(path, pixels.nbytes)
        raise
    return notes


def plan(
    array: NDArray[Any], axes: str, meta: Meta, *, ome: bool, same: bool, description: Description | None
) -> tuple[NDArray[Any], Options, tuple[str, ...]]:
    """The pixels as stored, the arguments of `tifffile.imwrite`, and notes."""
    old = meta.tiff or TiffMeta()
    native = old.native_axes if same and our_axes(old.native_axes) == axes else _native(axes)
    if "S" in native:
        array = np.moveaxis(array, -1, native.index("S"))
    flavour, notes = _flavour(old, native, array.dtype, ome=ome)
    if flavour == "imagej":
        array, native = _in_imagej_order(array, native)
    kept = old.fields if flavour == old.flavour else _tiff_fields.imagej_as_ome(old) if flavour == "ome" else {}
    kept = kept if same else _tiff_fields.without_planes(kept)
    options = _pixel_options(array, native, old, same=same)
    if same and is_inverted(old, array):
        array = np.invert(array)
    compression, note = _compression(old)
    options |= compression | _page_options(old, meta)
    options |= _size_options(array, flavour, old)
    if flavour == "imagej" and _is_big(array):  # read by its first page alone, so all pixels lie in one piece
        options = {key: value for key, value in options.items() if key not in ("compression", "predictor", "tile")}
    options |= _text_options(flavour, kept, native, old.text if flavour == "plain" else None, description)
    if flavour == "ome":
        options["metadata"]["UUID"] = identity(array, options["metadata"])
    if meta.exif is not None and meta.tiff is None:
        notes += ("of the EXIF only the orientation is kept in a TIFF",)
    return array, options, notes + note


def holds_ome(dtype: np.dtype[Any], axes: str) -> bool:
    native = _native(axes)
    known = len(set(native)) == len(native) and set(native) <= set("TZCYXSAPRHEQ")
    return dtype.name in _OME_TYPES and known and native.endswith(("YX", "YXS"))


def _native(axes: str) -> str:
    """A last ``C`` behind ``X`` are samples."""
    return axes[:-1] + "S" if axes.endswith("XC") else axes


def _flavour(old: TiffMeta, native: str, dtype: np.dtype[Any], *, ome: bool) -> tuple[str, tuple[str, ...]]:
    """The flavour to write: that of the source where it can hold the picture."""
    wanted = "ome" if ome else old.flavour
    if wanted == "imagej" and not _holds_imagej(native, dtype):
        return "shaped", (f"ImageJ's TIFF does not hold {dtype} as {native}; its metadata are left out",)
    if wanted == "ome" and not (dtype.name in _OME_TYPES and set(native) <= set("TZCYXSAPRHEQ")):
        return "shaped", (f"OME-TIFF does not hold {dtype} as {native}; its metadata are left out",)
    if wanted == "plain" and len(native.replace("S", "")) > (3 if native[0] in "IQ" else 2):
        return "shaped", ()
    return wanted, ()


def _holds_imagej(native: str, dtype: np.dtype[Any]) -> bool:
    colour = "S" in native
    return set(native) <= set("TZCYXS") and dtype.name in (
        ("uint8",) if colour else ("uint8", "uint16", "int16", "float32")
    )


def _in_imagej_order(array: NDArray[Any], native: str) -> tuple[NDArray[Any], str]:
    order = sorted(range(len(native)), key=lambda axis: "TZCYXS".index(native[axis]))
    return array.transpose(order), "".join(native[axis] for axis in order)


def _pixel_options(array: NDArray[Any], native: str, old: TiffMeta, *, same: bool) -> Options:
    samples = array.shape[native.index("S")] if "S" in native else 1
    if same and old.native_axes:
        photometric = "rgb" if old.photometric == "ycbcr" else old.photometric
        extra = old.extrasamples
    else:
        photometric = "rgb" if samples in (3, 4) else "minisblack"
        extra = (2,) * (samples - (3 if photometric == "rgb" else 1))
    options: Options = {"photometric": photometric}
    if photometric == "palette" or (same and old.colormap is not None):
        options["colormap"] = old.colormap
    if "S" in native:
        options["planarconfig"] = "contig" if native.endswith("S") else "separate"
        if extra:
            options["extrasamples"] = extra
    return options


def _compression(old: TiffMeta) -> tuple[Options, tuple[str, ...]]:
    if old.compression == "NONE":
        return {}, ()
    if old.compression not in _LOSSLESS:
        return {"compression": "zlib"}, (f"{old.compression} compression was replaced by zlib, which loses nothing",)
    return {"compression": old.compression, "predictor": old.predictor}, ()


def _page_options(old: TiffMeta, meta: Meta) -> Options:
    options: Options = {"software": old.software or KEYWORD, "extratags": list(old.tags)}
    if old.tile is not None and not any(side % 16 for side in old.tile):
        options["tile"] = old.tile
    elif old.rows_per_strip is not None:
        options["rowsperstrip"] = old.rows_per_strip
    if old.resolution is not None:
        options |= {"resolution": old.resolution, "resolutionunit": old.resolution_unit}
    elif meta.dpi is not None:
        options |= {"resolution": meta.dpi, "resolutionunit": 2}
    if meta.icc is not None:
        options["iccprofile"] = meta.icc
    if (orientation := _exif.orientation(meta.exif)) != 1:
        options["extratags"].append((274, 3, 1, orientation, True))
    return options


def _size_options(array: NDArray[Any], flavour: str, old: TiffMeta) -> Options:
    """BigTIFF where 32-bit offsets may not reach; ImageJ has its own way."""
    return {
        "byteorder": old.byteorder,
        "imagej": flavour == "imagej",
        "ome": flavour == "ome",
        "bigtiff": flavour != "imagej" and (old.bigtiff or _is_big(array)),
    }


def _is_big(array: NDArray[Any]) -> bool:
    return math.prod(array.shape) * array.itemsize > _BIG


def _text_options(
    flavour: str, kept: dict[str, Any], native: str, text: str | None, description: Description | None
) -> Options:
    """Where the description goes without breaking what the flavour keeps in ImageDescription."""
    axes = {} if "Q" in native else {"axes": native}
    if flavour == "imagej":
        info = added(kept.get("Info"), description)
        return {"metadata": kept | axes | ({"Info": info} if info else {})}
    if flavour == "ome":
        words = added(kept.get("Description"), description)
        return {"metadata": kept | {"axes": native} | ({"Description": words} if words else {})}
    if flavour == "shaped":
        return {"metadata": kept | axes | ({KEYWORD: description} if description is not None else {})}
    words = added(text, description)
    return {"metadata": None} | ({"description": words.encode()} if words else {})


def identity(array: NDArray[Any], metadata: Mapping[str, Any]) -> str:
    """Return the name that OME gives to every file: of what is in it, not of the time, so that it is the same again."""
    found = hashlib.sha256(json.dumps(metadata, default=str).encode())
    for plane in array.reshape(-1, *array.shape[-2:]):
        found.update(np.ascontiguousarray(plane).data)
    return str(uuid.uuid5(uuid.NAMESPACE_OID, found.hexdigest()))
