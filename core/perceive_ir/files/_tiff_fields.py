"""What ImageJ, OME and tifffile's own TIFF say about a picture, in the form in which tifffile writes it again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

import tifffile

from perceive_ir.files._picture import TiffMeta

_COUNTED = ("ImageJ", "images", "channels", "slices", "frames", "order")
_PIXELS = (
    *("SignificantBits", "TimeIncrement", "TimeIncrementUnit", "DimensionOrder"),
    *(f"PhysicalSize{axis}{unit}" for axis in "XYZ" for unit in ("", "Unit")),
)
_CHANNEL = (
    *("Name", "AcquisitionMode", "Color", "ContrastMethod", "EmissionWavelength", "EmissionWavelengthUnit"),
    *("ExcitationWavelength", "ExcitationWavelengthUnit", "Fluor", "IlluminationType", "NDFilter"),
    *("PinholeSize", "PinholeSizeUnit", "PockelCellSetting"),
)
_PLANE = (
    *("DeltaT", "DeltaTUnit", "ExposureTime", "ExposureTimeUnit"),
    *(f"Position{axis}{unit}" for axis in "XYZ" for unit in ("", "Unit")),
)
_UNITS = {"um": "µm", "µm": "µm", "\\u00B5m": "µm", "micron": "µm", "microns": "µm", "nm": "nm", "mm": "mm", "cm": "cm"}


def fields(tif: tifffile.TiffFile, flavour: str) -> dict[str, Any]:
    """The properties of the first picture."""
    if flavour == "imagej":
        return {key: value for key, value in (tif.imagej_metadata or {}).items() if key not in _COUNTED}
    if flavour == "ome" and tif.ome_metadata:
        return _ome(ElementTree.fromstring(tif.ome_metadata))
    if flavour == "shaped" and tif.shaped_metadata:
        return {key: value for key, value in tif.shaped_metadata[0].items() if key not in ("shape", "truncated")}
    return {}


def without_planes(old: dict[str, Any]) -> dict[str, Any]:
    """What still holds if the shape or the type is another one."""
    planes = (
        "Labels",
        "LUTs",
        "Ranges",
        "ROI",
        "Overlays",
        "Plot",
        "mode",
        "Channel",
        "Plane",
        "DimensionOrder",
        "axes",
    )
    bound = (*planes, "min", "max", "SignificantBits")
    return {key: value for key, value in old.items() if key not in bound}


def imagej_as_ome(tiff: TiffMeta) -> dict[str, Any]:
    """The pixel size of an ImageJ picture in the words of OME."""
    unit = _UNITS.get(str(tiff.fields.get("unit", "")))
    if unit is None:
        return {}
    sizes: dict[str, Any] = {}
    for axis, (count, per) in zip("XY", tiff.resolution or (), strict=False):
        if count:
            sizes |= {f"PhysicalSize{axis}": per / count, f"PhysicalSize{axis}Unit": unit}
    if tiff.fields.get("spacing"):
        sizes |= {"PhysicalSizeZ": tiff.fields["spacing"], "PhysicalSizeZUnit": unit}
    return sizes


def _ome(root: ElementTree.Element) -> dict[str, Any]:
    image = root.find("{*}Image")
    pixels = None if image is None else image.find("{*}Pixels")
    if image is None or pixels is None:
        return {}
    found: dict[str, Any] = _picked(pixels, _PIXELS) | _picked(image, ("Name",))
    for name in ("AcquisitionDate", "Description"):
        if (text := image.findtext("{*}" + name)) is not None:
            found[name] = text
    channels = [_picked(channel, _CHANNEL) for channel in pixels.iterfind("{*}Channel")]
    if any(channels):
        found["Channel"] = channels
    planes = [_picked(plane, _PLANE) for plane in _in_order(pixels)]
    if any(planes):
        found["Plane"] = planes
    return found


def _picked(element: ElementTree.Element, names: Iterable[str]) -> dict[str, Any]:
    return {name: element.attrib[name] for name in names if name in element.attrib}


def _in_order(pixels: ElementTree.Element) -> list[ElementTree.Element]:
    """The Plane elements in the order in which the planes are stored."""
    order = pixels.attrib.get("DimensionOrder", "XYCZT")[:1:-1]
    return sorted(
        pixels.iterfind("{*}Plane"), key=lambda plane: tuple(int(plane.attrib.get(f"The{axis}", 0)) for axis in order)
    )
