"""Writing: the suffix decides the format, and a format that would lose data is refused."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perceive_ir.files import _exif
from perceive_ir.files._atomic import check_target, replacing
from perceive_ir.files._bioio import KIND
from perceive_ir.files._description import KEYWORD, MARK, Description, check_side_json, dump, line, write_side_json
from perceive_ir.files._faults import one_line, writing
from perceive_ir.files._picture import Meta, Picture
from perceive_ir.files._pillow import encode_jpeg, encode_webp
from perceive_ir.files._png import encode_png, has_text
from perceive_ir.files._tiff_read import our_axes
from perceive_ir.files._tiff_write import holds_ome, write_tiff

SUFFIXES = {
    ".ome.tiff": "ome",
    ".ome.tif": "ome",
    ".tiff": "tiff",
    ".tif": "tiff",
    ".png": "png",
    ".jpeg": "jpeg",
    ".jpg": "jpeg",
    ".webp": "webp",
}
"""The format that a name asks for; upper case accepted."""

_TYPES = {"png": ("uint8", "uint16"), "jpeg": ("uint8",), "webp": ("uint8",)}
_SAMPLES = {"png": (1, 2, 3, 4), "jpeg": (1, 3), "webp": (1, 3, 4)}
_LONGEST_SIDE = {"png": 1_000_000, "jpeg": 65_500, "webp": 16_383}
_NAMES = {"png": "PNG", "jpeg": "JPEG", "webp": "WebP"}


def write_image(
    path: str | os.PathLike[str],
    array: NDArray[Any],
    like: Picture | None = None,
    *,
    axes: str | None = None,
    description: Description | None = None,
    force: bool = False,
) -> tuple[str, ...]:
    """Write `array` whole or not at all.

    Parameters
    ----------
    path
        Its suffix decides the format: see `SUFFIXES`.
    array
        Pixels; TIFF holds any integers and floats, PNG uint8 and uint16, JPEG and WebP uint8.
    like
        The picture that `array` was made from; its metadata, compression and the like are kept.
    axes
        One letter per axis; by default those of `like`, or else ``YX``, ``YXC`` or a stack of planes.
    description
        How the picture was made, JSON-able; `read_description` finds it again.
    force
        Whether an existing file may be replaced.

    Returns
    -------
    tuple of str
        Notes on what could not be kept.

    Raises
    ------
    ValueError
        The file exists, its suffix is unknown, or the format would lose data.
    ImageFileError
        The disk or the encoder refuses.
    """
    path, array = Path(path), np.asarray(array)
    axes = (axes or _axes(array, like)).upper()
    _check_array(array, axes)
    kind = _kind(path, array.dtype, axes, array.shape)
    if description is not None:
        dump(description)  # a value that JSON cannot hold is refused before anything is written
    meta = like.meta if like is not None else Meta()
    if kind in ("tiff", "ome"):
        same = like is not None and like.axes == axes and _are_alike(like.data, array)
        with writing(path), replacing(path, force=force) as partial:
            return write_tiff(partial, array, axes, meta, ome=kind == "ome", same=same, description=description)
    return _write_plain(path, kind, array, meta, description, force=force)


def check_output(path: str | os.PathLike[str], like: Picture, *, force: bool = False) -> None:
    """Raise before the work what `write_image` would raise after it, for a result of the shape and type of `like`."""
    path = Path(path)
    _kind(path, like.data.dtype, like.axes, like.data.shape)
    if not force and _is_same(path, like.path):
        raise ValueError(one_line(f"{path} is the input itself; give --force to overwrite it"))
    check_target(path, force=force)


def suffix_of(path: Path) -> str:
    """Return how the name of a file that can be written ends (``.ome.tif``), as it is spelled; "" for any other."""
    known = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")
    return path.name[len(path.name) - len(known) :]


def writable_name(source: Path, kind: str) -> str:
    """Return the same name; with another suffix where the format of the input is only read (BMP, GIF, LSM, bioio)."""
    if suffix_of(source) or kind == "zarr":
        return source.name
    return source.with_suffix({"tiff": ".tif", KIND: ".ome.tif"}.get(kind, ".png")).name


def _write_plain(
    path: Path, kind: str, array: NDArray[Any], meta: Meta, text: Description | None, *, force: bool
) -> tuple[str, ...]:
    """PNG, JPEG or WebP; a description that finds no place inside goes into the JSON file beside."""
    notes = _lost(kind, array, meta)
    array = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    meta, beside = _described(kind, meta, text)
    if beside:
        check_side_json(path, force=force)
    with writing(path), replacing(path, force=force) as partial, open(partial, "wb") as file:
        if kind == "png":
            file.write(encode_png(array, meta, None if text is None else (KEYWORD, dump(text))))
        elif kind == "jpeg":
            encode_jpeg(file, array, meta)
        else:
            encode_webp(file, array, meta)
    if beside and text is not None:
        side = write_side_json(path, text, force=force)
        notes += (f"the description is in {side.name}",)
    return notes


def _described(kind: str, meta: Meta, text: Description | None) -> tuple[Meta, bool]:
    """The metadata with the description in the EXIF, or whether it must go beside the file."""
    if text is None or kind == "png":
        return meta, False
    exif = _exif.with_text(meta.exif, line(text), MARK)
    return (meta, True) if exif is None else (replace(meta, exif=exif), False)


def _lost(kind: str, array: NDArray[Any], meta: Meta) -> tuple[str, ...]:
    notes = []
    if kind != "png" and has_text(meta.chunks):
        notes.append("the texts of the PNG are left out")
    if kind == "webp" and (array.ndim == 2 or array.shape[-1] == 1):
        notes.append("WebP has no grey; three equal channels are written")
    if meta.tiff is not None and meta.tiff.flavour != "plain":
        notes.append(f"the {meta.tiff.flavour} metadata of the TIFF are left out")
    return tuple(notes)


def _axes(array: NDArray[Any], like: Picture | None) -> str:
    """Those of the source; without its colours if the array has none; else by the shape."""
    if like is not None and array.ndim == like.data.ndim:
        return like.axes
    if like is not None and like.axes.endswith("XC") and array.shape == like.data.shape[:-1]:
        return like.axes[:-1]
    if array.ndim == 3 and array.shape[-1] in (3, 4):
        return "YXC"
    return our_axes("Q" * (array.ndim - 2) + "YX")


def _check_array(array: NDArray[Any], axes: str) -> None:
    if array.dtype.kind not in "iuf":
        raise ValueError(f"expected integers or floats, got {array.dtype}; convert with .astype")
    if array.ndim < 2 or 0 in array.shape:
        raise ValueError(f"expected a picture with pixels in at least 2 axes, got the shape {array.shape}")
    if len(axes) != array.ndim or "YX" not in axes:
        raise ValueError(f"the axes {axes} do not fit the shape {array.shape}; give one letter per axis, with YX in it")


def _kind(path: Path, dtype: np.dtype[Any], axes: str, shape: tuple[int, ...]) -> str:
    """The format of `path`, if it holds such a picture without loss."""
    kind = SUFFIXES.get(suffix_of(path).lower())
    if kind is None:
        known = " ".join(sorted(SUFFIXES))
        raise ValueError(one_line(f"{path.name} has the unknown file type '{path.suffix}'; known are {known}"))
    if kind == "ome" and not holds_ome(dtype, axes):
        raise ValueError(f"OME-TIFF does not hold {dtype} pixels with the axes {axes}; write a .tif")
    if kind in _TYPES:
        _refuse_loss(kind, dtype, axes, shape)
    return kind


def _refuse_loss(kind: str, dtype: np.dtype[Any], axes: str, shape: tuple[int, ...]) -> None:
    name = _NAMES[kind]
    if axes not in ("YX", "YXC"):
        raise ValueError(f"{name} holds one picture, not a stack with the axes {axes}; write a .tif")
    if dtype.name not in _TYPES[kind]:
        raise ValueError(f"{name} holds {' and '.join(_TYPES[kind])}, not {dtype}; write a .tif")
    samples = shape[2] if len(shape) == 3 else 1
    if samples not in _SAMPLES[kind]:
        raise ValueError(f"{name} does not hold {samples} channels; write a {'.png or ' * (samples == 4)}.tif")
    if max(shape[:2]) > _LONGEST_SIDE[kind]:
        raise ValueError(
            f"{name} holds at most {_LONGEST_SIDE[kind]} pixels a side, not {max(shape[:2])}; write a .tif"
        )


def _are_alike(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.shape == other.shape and one.dtype.name == other.dtype.name  # whatever their byte orders


def _is_same(path: Path, source: Path) -> bool:
    try:
        return path.samefile(source)
    except (OSError, ValueError):  # ValueError: a null character in the name
        return False
