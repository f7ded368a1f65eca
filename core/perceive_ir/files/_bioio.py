"""What bioio reads: the formats of microscopes, each through one of its plugins; it is written as OME-TIFF."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perceive_ir._errors import ImageFileError, MissingExtraError
from perceive_ir.files._faults import GET_AGAIN, one_line, quiet
from perceive_ir.files._picture import Meta, TiffMeta

if TYPE_CHECKING:
    from bioio_base.reader import Reader

PLUGINS = {
    ".czi": "bioio-czi",
    ".dv": "bioio-dv",
    ".r3d": "bioio-dv",
    ".lif": "bioio-lif",
    ".nd2": "bioio-nd2",
    ".sldy": "bioio-sldy",
    ".vsi": "bioio-bioformats",
    ".oib": "bioio-bioformats",
    ".oif": "bioio-bioformats",
    ".ims": "bioio-bioformats",
}
"""Which plugin reads a format, for those who have none yet."""
KIND = "bioio"


@cache
def suffixes() -> tuple[str, ...]:
    """How the names end that the plugins which are installed here read; none without bioio."""
    if find_spec("bioio") is None:
        return ()
    with quiet():
        from bioio.plugins import get_plugins

        return tuple(get_plugins(use_cache=True))


def is_readable(path: Path) -> bool:
    """Whether a plugin reads files of such a name; for a known format that none reads, say what to install."""
    if path.name.lower().endswith(suffixes()):
        return True
    plugin = PLUGINS.get(path.suffix.lower())
    if plugin is not None:
        extra = "" if find_spec("bioio") else '"napari-perceive-ir[bioio]" '
        raise MissingExtraError(one_line(f"{path} needs bioio's plugin for {path.suffix}: pip install {extra}{plugin}"))
    return False


def read_bioio(path: Path) -> tuple[NDArray[Any], str, Meta, tuple[str, ...]]:
    """Pixels of the first picture in a file, their axes, what the file says, and notes."""
    from bioio import BioImage
    from bioio_base.exceptions import UnsupportedFileFormatError

    try:
        reader = BioImage(path).reader
    except UnsupportedFileFormatError:
        raise ImageFileError(
            one_line(f"{path} cannot be read: it is not what bioio knows as {path.suffix}; {GET_AGAIN}")
        ) from None
    order = reader.dims.order
    if "M" in order:
        raise ImageFileError(one_line(f"{path} is a mosaic of {reader.dims.M} tiles; stitch it first"))
    native = "".join(axis for axis in "TCZYX" if axis != "C" or "S" not in order) + "S" * ("S" in order)
    data = np.asarray(reader.get_image_data(native))
    scenes = len(reader.scenes)
    notes = (f"the file holds {scenes} pictures; only the first is read",) if scenes > 1 else ()
    photometric = "rgb" if "S" in order else "minisblack"
    meta = TiffMeta(flavour="ome", native_axes=native, photometric=photometric, fields=fields(reader))
    return data, native.replace("S", "C"), Meta(tiff=meta), notes


def fields(reader: Reader) -> dict[str, Any]:
    """Return pixel sizes, time step and channel names in the words of OME; a length without a unit is in µm there."""
    found: dict[str, Any] = {}
    for axis, name in (("X", "PhysicalSizeX"), ("Y", "PhysicalSizeY"), ("Z", "PhysicalSizeZ"), ("T", "TimeIncrement")):
        size, unit = getattr(reader.scale, axis), getattr(reader.dimension_properties, axis).unit
        if size:
            found |= {name: float(size)} | ({f"{name}Unit": f"{unit:~}"} if unit is not None else {})
    names = reader.channel_names or ()
    if names and all(isinstance(name, str) for name in names) and "S" not in reader.dims.order:
        found["Channel"] = [{"Name": str(name)} for name in names]
    return found
