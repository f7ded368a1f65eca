"""What strict readers say of a file's metadata is the same before and after ``batch``, in every format."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from perceive_ir import Recipe, Restorer
from perceive_ir.batch import Batch, run

UM = 25_400 / 0.25
"""Dots per inch of pixels of 0.25 µm."""
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(*shape: int, dtype: str = "uint8", high: float = 200) -> NDArray[Any]:
    return (np.random.default_rng(0).random(shape) * high).astype(dtype)


def exif() -> bytes:
    made = Image.Exif()
    made[ExifTags.Base.Make], made[ExifTags.Base.Orientation] = "Lens & Co", 6
    made.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] = 0.02
    return made.tobytes()


def text_chunks() -> PngImagePlugin.PngInfo:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Author", "somebody")
    return chunks


def tiff(pixels: NDArray[Any], **how: Any) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, pixels, **how)


def pillow(pixels: NDArray[Any], **how: Any) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(pixels).save(path, **how)


IMAGEJ = {"imagej": True, "resolution": (4, 4), "metadata": {"unit": "um", "spacing": 0.5, "finterval": 2.0}}
OME = {
    "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 0.5, "Channel": {"Name": ["nuclei", "actin"]},
    "TimeIncrement": 3.0,
}  # fmt: skip
CASES = {
    "imagej_stack.tif": tiff(
        noise(2, 3, 2, 24, 32, dtype="uint16", high=60_000),
        **(IMAGEJ | {"metadata": {"axes": "TZCYX", **IMAGEJ["metadata"], "Labels": [str(n) for n in range(12)]}}),  # type: ignore[dict-item]
    ),
    "imagej_float.tif": tiff(noise(24, 32, dtype="float32", high=3), **IMAGEJ),
    "hyperstack.ome.tif": tiff(
        noise(2, 2, 3, 24, 32, dtype="uint16", high=4000), ome=True, metadata={"axes": "TCZYX", **OME}
    ),
    "pyramid_free.ome.tiff": tiff(
        noise(24, 32, 3), ome=True, photometric="rgb", compression="zlib", metadata={"axes": "YXS"}
    ),
    "plain_lzw.tif": tiff(
        noise(24, 32, dtype="uint16", high=60_000), compression="lzw", predictor=True, resolution=(UM, UM),
        resolutionunit="INCH", description="slide 7",
    ),
    "plain_tiles.tif": tiff(
        noise(40, 48, 3), photometric="rgb", compression="zstd", tile=(16, 32), resolution=(300, 300),
        resolutionunit="CENTIMETER", iccprofile=ICC,
    ),
    "plain_pages.tif": tiff(noise(5, 24, 32, dtype="float32", high=1), metadata=None, photometric="minisblack"),
    "big.tif": tiff(noise(24, 32, dtype="int16"), bigtiff=True, byteorder=">", compression="deflate", rowsperstrip=8),
    "shaped.tif": tiff(noise(4, 24, 32), metadata={"axes": "ZYX", "note": "kept"}),
    "eight.png": pillow(noise(24, 32, 3), dpi=(300, 300), icc_profile=ICC, exif=exif(), pnginfo=text_chunks()),
    "sixteen.png": pillow(noise(24, 32, dtype="uint16", high=60_000), dpi=(150, 150)),
    "alpha.png": pillow(noise(24, 32, 4), icc_profile=ICC),
    "photo.jpg": pillow(noise(24, 32, 3), quality=92, dpi=(300, 300), icc_profile=ICC, exif=exif()),
    "grey.jpeg": pillow(noise(24, 32), quality=92, dpi=(72, 72)),
    "lossless.webp": pillow(noise(24, 32, 3), lossless=True, icc_profile=ICC, exif=exif()),
    "lossy.webp": pillow(noise(24, 32, 3), quality=90, exif=exif()),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_model: Restorer) -> Batch:
    """Return a folder with one file of each kind, restored."""
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "in").mkdir()
    for name, make in CASES.items():
        make(folder / "in" / name)
    batch = Batch(folder / "in", folder / "out", Recipe(task="denoise", severity=0.9))
    ended = {event.name: event for event in run(batch, tiny_model)}
    assert {name: ended[name].state for name in CASES} == dict.fromkeys(CASES, "done")
    return batch


@pytest.mark.parametrize("name", CASES)
def test_strict_readers_say_the_same_before_and_after(name: str, folders: Batch, caplog: Any) -> None:
    say = about_tiff if name.endswith(("tif", "tiff")) else about_pillow
    caplog.set_level(logging.WARNING)
    before, after = say(folders.source / name), say(folders.output / name)
    assert not caplog.records
    assert not np.array_equal(after.pop("pixels"), before.pop("pixels"))
    assert after == before


@pytest.mark.parametrize("name", CASES)
def test_a_file_that_is_made_again_has_the_same_bytes(name: str, folders: Batch, tiny_model: Restorer) -> None:
    before = (folders.output / name).read_bytes()
    (folders.output / name).unlink()
    ended = {event.name: event for event in run(folders, tiny_model)}
    assert not ended[name].earlier
    assert (folders.output / name).read_bytes() == before


def about_tiff(path: Path) -> dict[str, Any]:
    """Return all that tifffile says of a file but where in it things stand, and our own line."""
    with tifffile.TiffFile(path) as file:
        (series,) = file.series
        page = file.pages.first
        tags = {tag.name: tag.value for tag in page.tags if tag.name not in PLACES}
        return {
            "kind": (file.is_imagej, file.is_ome, file.is_shaped, file.is_bigtiff, file.byteorder),
            "series": (series.axes, series.shape, series.dtype, series.kind),
            "planes": len(file.pages),
            "tags": tags,
            "imagej": {name: value for name, value in (file.imagej_metadata or {}).items() if name != "Info"},
            "ome": ome_facts(file.ome_metadata),
            "pixels": file.asarray(),
        }


PLACES = {
    "StripOffsets", "StripByteCounts", "TileOffsets", "TileByteCounts", "ImageDescription", "IJMetadata",
    "IJMetadataByteCounts", "DateTime", "Software",
}  # fmt: skip
"""Tags whose values depend on the pixels or name who wrote the file; descriptions are compared by what is in them."""


def about_pillow(path: Path) -> dict[str, Any]:
    """Return all that Pillow says of a file, which it checks first."""
    with Image.open(path) as file:
        file.verify()
    with Image.open(path) as file:
        file.load()
        found = {name: value for name, value in file.info.items() if name not in ("perceive_ir", "exif", "comment")}
        made = file.getexif()
        inner = dict(made.get_ifd(ExifTags.IFD.Exif))
        ours = (ExifTags.Base.UserComment, ExifTags.Base.ImageDescription)
        return {
            "format": (file.format, file.mode, file.size),
            "info": found,
            "text": {name: text for name, text in getattr(file, "text", {}).items() if name != "perceive_ir"},
            "exif": {n: v for n, v in made.items() if n not in (*ours, ExifTags.IFD.Exif)},
            "inner_exif": {n: v for n, v in inner.items() if n not in ours},
            "pixels": np.asarray(file),
        }


def ome_facts(xml: str | None) -> Any:
    """Return all elements of OME's XML with their attributes, but the name of the file and our own line."""
    if xml is None:
        return None
    elements = [(one.tag.partition("}")[2], dict(one.attrib), one.text) for one in ElementTree.fromstring(xml).iter()]
    elements[0][1].pop("UUID")
    return [one for one in elements if not (one[0] == "Description" and "perceive_ir = {" in (one[2] or ""))]
