"""Pictures go into files and come back: pixels exactly, metadata as they were, and never half a file."""

from __future__ import annotations

import errno
import io
import logging
import os
import struct
import threading
import warnings
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

import perceive_ir.files as files
from perceive_ir._errors import ImageFileError
from perceive_ir.files import _exif, _faults, _tiff_read

RECIPE = {"recipe": {"task": "denoise", "strength": 0.5}, "model": "compact", "sha256": "ab<&>\"'é"}


POSIX = pytest.mark.skipif(os.name != "posix", reason="links, pipes and permissions are those of POSIX")


def pixels(*shape: int, dtype: str = "uint8") -> NDArray[Any]:
    values = np.random.default_rng(0).integers(0, 120, shape)
    if np.dtype(dtype).kind == "f":
        return (values / 7).astype(dtype)
    return (values * np.iinfo(dtype).max // 120).astype(dtype)


def restored(source: Path, target: Path, **options: Any) -> files.Picture:
    """Read, write to another name with a description, and read that."""
    picture = files.read_image(source)
    files.write_image(target, picture.data, picture, description=RECIPE, **options)
    assert files.read_description(target) == RECIPE
    again = files.read_image(target)
    assert again.axes == picture.axes
    return again


def exif(orientation: int, **texts: str) -> bytes:
    block = Image.Exif()
    block[_exif.ORIENTATION] = orientation
    block[0x010F] = "a camera"
    for tag, text in texts.items():
        (block if tag == "description" else block.get_ifd(_exif.EXIF_IFD))[
            _exif.IMAGE_DESCRIPTION if tag == "description" else _exif.USER_COMMENT
        ] = text
    return block.tobytes()


@cache  # its bytes hold the time of its making
def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


# -- pixels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", "uint8 int8 uint16 int16 uint32 int32 float16 float32 float64".split())
@pytest.mark.parametrize(("shape", "axes"), [((5, 7), "YX"), ((5, 7, 3), "YXC"), ((2, 3, 5, 7), "TZYX")])
def test_a_tiff_gives_back_every_type_exactly(tmp_path: Path, dtype: str, shape: tuple[int, ...], axes: str) -> None:
    array = pixels(*shape, dtype=dtype)
    files.write_image(tmp_path / "a.tif", array, axes=axes)
    picture = files.read_image(tmp_path / "a.tif")
    assert picture.axes == axes and picture.data.dtype == array.dtype
    np.testing.assert_array_equal(picture.data, array)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), array)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4), (1, 1)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_png_gives_back_8_and_16_bits_exactly(tmp_path: Path, dtype: str, shape: tuple[int, ...], order: str) -> None:
    array = pixels(*shape, dtype=dtype).astype(np.dtype(dtype).newbyteorder(order))
    files.write_image(tmp_path / "a.png", array)
    picture = files.read_image(tmp_path / "a.png")
    assert picture.kind == "png" and picture.data.dtype.name == dtype
    np.testing.assert_array_equal(picture.data, array)
    with Image.open(tmp_path / "a.png") as seen:
        assert seen.size == (shape[1], shape[0])


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7, 4)])
def test_a_webp_of_an_array_loses_nothing(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = pixels(*shape)
    files.write_image(tmp_path / "a.webp", array)
    picture = files.read_image(tmp_path / "a.webp")
    assert picture.meta.lossless
    np.testing.assert_array_equal(picture.data, array)


def test_a_big_uncompressed_tiff_is_mapped_and_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tiff_read, "LAZY_BYTES", 1000)
    array = pixels(3, 40, 50, dtype="uint16")
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"axes": "ZYX"})
    assert isinstance(files.read_image(tmp_path / "a.tif").data, np.memmap)
    np.testing.assert_array_equal(restored(tmp_path / "a.tif", tmp_path / "b.tif").data, array)
    restored(tmp_path / "a.tif", tmp_path / "a.tif", force=True)


# -- TIFF ------------------------------------------------------------------------------------------------------------


def test_an_imagej_hyperstack_keeps_what_imagej_says(tmp_path: Path) -> None:
    array = pixels(2, 3, 2, 8, 9, dtype="uint16")
    said = {"spacing": 0.5, "unit": "um", "finterval": 2.5, "Info": "my notes", "mode": "composite", "min": 3.0}
    said |= {"Labels": [f"plane {i}" for i in range(12)], "Ranges": (0.0, 9.0, 1.0, 8.0)}
    said |= {"LUTs": [np.tile(np.arange(256, dtype=np.uint8), (3, 1))] * 2}
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, resolution=(10.0, 20.0), metadata={"axes": "TZCYX"} | said)
    assert restored(tmp_path / "a.tif", tmp_path / "b.tif").axes == "TZCYX"
    with tifffile.TiffFile(tmp_path / "a.tif") as a, tifffile.TiffFile(tmp_path / "b.tif") as b:
        assert a.imagej_metadata and b.imagej_metadata and b.is_imagej
        np.testing.assert_array_equal(b.asarray(), array)
        assert a.byteorder == b.byteorder and b.series[0].axes == "TZCYX"
        assert b.pages.first.resolution == a.pages.first.resolution == (10.0, 20.0)
        assert str(b.imagej_metadata.pop("Info")).startswith("my notes\nperceive_ir = {")
        a.imagej_metadata.pop("Info")
        np.testing.assert_array_equal(b.imagej_metadata.pop("LUTs"), a.imagej_metadata.pop("LUTs"))
        assert b.imagej_metadata == a.imagej_metadata


def test_an_imagej_picture_with_a_lookup_table_keeps_its_intensities(tmp_path: Path) -> None:
    table = np.random.default_rng(1).integers(0, 2**16, (3, 256)).astype(np.uint16)
    array = pixels(8, 9)
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, colormap=table)
    np.testing.assert_array_equal(restored(tmp_path / "a.tif", tmp_path / "b.tif").data, array)
    with tifffile.TiffFile(tmp_path / "b.tif") as b:
        np.testing.assert_array_equal(b.pages.first.colormap, table)


def test_an_ome_tiff_keeps_sizes_names_and_positions(tmp_path: Path) -> None:
    array = pixels(2, 3, 8, 9, dtype="uint16")
    said: dict[str, Any] = {"axes": "CZYX", "PhysicalSizeX": 0.1, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.2}
    said |= {
        "PhysicalSizeZ": 1.5,
        "Channel": {"Name": ["DAPI", "1e5"], "Color": [255, -1]},
        "Description": "cells & co",
    }
    said |= {"Plane": {"PositionX": [float(i) for i in range(6)]}, "TimeIncrement": 3.0, "Name": "007"}
    tifffile.imwrite(tmp_path / "a.ome.tif", array, ome=True, metadata=said)
    picture = restored(tmp_path / "a.ome.tif", tmp_path / "b.ome.tif")
    np.testing.assert_array_equal(picture.data, array)
    first = files.read_image(tmp_path / "a.ome.tif")
    assert picture.axes == "CZYX" and first.meta.tiff and picture.meta.tiff
    words = picture.meta.tiff.fields.pop("Description")
    assert words.startswith(first.meta.tiff.fields.pop("Description") + "\nperceive_ir = {")
    assert picture.meta.tiff.fields == first.meta.tiff.fields
    assert [channel["Name"] for channel in picture.meta.tiff.fields["Channel"]] == ["DAPI", "1e5"]
    assert picture.meta.tiff.fields["PhysicalSizeX"] == "0.1"


def test_an_imagej_picture_becomes_an_ome_tiff_with_its_pixel_size(tmp_path: Path) -> None:
    array = pixels(3, 8, 9)
    said = {"axes": "ZYX", "unit": "um", "spacing": 2.0}
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, resolution=(4.0, 5.0), metadata=said)
    picture = restored(tmp_path / "a.tif", tmp_path / "b.ome.tif")
    assert picture.meta.tiff and picture.meta.tiff.flavour == "ome"
    assert picture.meta.tiff.fields["PhysicalSizeX"] == "0.25" and picture.meta.tiff.fields["PhysicalSizeZ"] == "2.0"


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "adobe_deflate", "zstd", "packbits"])
@pytest.mark.parametrize("layout", [{"tile": (16, 32)}, {"rowsperstrip": 8}, {}])
def test_a_plain_tiff_keeps_compression_layout_and_tags(tmp_path: Path, compression: Any, layout: Any) -> None:
    array = pixels(40, 50, 3, dtype="uint16")
    options = {} if compression in (None, "packbits") else {"predictor": True}
    tifffile.imwrite(
        tmp_path / "a.tif",
        array,
        photometric="rgb",
        compression=compression,
        description="by hand",
        metadata=None,
        resolution=(300, 200),
        resolutionunit="CENTIMETER",
        datetime="2020:01:02 03:04:05",
        iccprofile=profile(),
        extratags=[(315, 2, 0, "the author", True), (274, 3, 1, 6, True)],
        **options,
        **layout,
    )
    np.testing.assert_array_equal(restored(tmp_path / "a.tif", tmp_path / "b.tif").data, array)
    with tifffile.TiffFile(tmp_path / "a.tif") as a, tifffile.TiffFile(tmp_path / "b.tif") as b:
        one, two = a.pages.first, b.pages.first
        np.testing.assert_array_equal(b.asarray(), array)
        names = {tag.name for tag in one.tags} - {"ImageDescription"}
        moving = {name for name in names if name.endswith(("Offsets", "ByteCounts"))}
        assert {n: two.tags[n].value for n in names - moving} == {n: one.tags[n].value for n in names - moving}
        assert two.description.startswith("by hand\nperceive_ir = {")


def test_a_second_description_takes_the_place_of_the_first(tmp_path: Path) -> None:
    for name, options in {"a.tif": {"imagej": True}, "b.tif": {"metadata": None}, "c.tif": {"ome": True}}.items():
        tifffile.imwrite(tmp_path / name, pixels(8, 9), **options)
        picture = restored(tmp_path / name, tmp_path / f"1{name}")
        files.write_image(tmp_path / f"2{name}", picture.data, picture, description={"second": 2})
        assert files.read_description(tmp_path / f"2{name}") == {"second": 2}
        assert b"sha256" not in (tmp_path / f"2{name}").read_bytes().replace(b"\0", b"")


def test_planes_of_colour_stay_planes_in_the_file(tmp_path: Path) -> None:
    array = pixels(3, 8, 9)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", planarconfig="separate", metadata=None)
    picture = restored(tmp_path / "a.tif", tmp_path / "b.tif")
    np.testing.assert_array_equal(picture.data, np.moveaxis(array, 0, -1))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), array)


def test_where_zero_is_white_the_pixels_are_turned_and_turned_back(tmp_path: Path) -> None:
    array = pixels(8, 9, dtype="uint16")
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="miniswhite", metadata=None)
    np.testing.assert_array_equal(restored(tmp_path / "a.tif", tmp_path / "b.tif").data, 65535 - array)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), array)


def test_pages_palettes_and_bits_are_read_sensibly(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "pages.tif", pixels(3, 8, 9), photometric="minisblack", metadata=None)
    assert restored(tmp_path / "pages.tif", tmp_path / "pages2.tif").data.shape == (3, 8, 9)
    tifffile.imwrite(tmp_path / "bits.tif", pixels(8, 9) > 9, metadata=None)
    bits = files.read_image(tmp_path / "bits.tif")
    assert bits.notes == ("1-bit became 8-bit grey",) and set(np.unique(bits.data)) == {0, 255}
    Image.fromarray(pixels(8, 9)).convert("P").save(tmp_path / "palette.tif")
    palette = restored(tmp_path / "palette.tif", tmp_path / "palette2.tif")
    assert palette.axes == "YXC" and palette.data.dtype == np.uint8


@pytest.mark.parametrize(
    ("native", "ours"),
    [("YX", "YX"), ("YXS", "YXC"), ("SYX", "YXC"), ("TZCYX", "TZCYX"), ("CYXS", "IYXC"), ("QQYX", "QIYX")],
)
def test_every_axis_has_a_letter_of_its_own(native: str, ours: str) -> None:
    assert _tiff_read.our_axes(native) == ours


def test_an_unnamed_stack_and_a_stack_of_colours_come_back(tmp_path: Path) -> None:
    for name, array in {"a.tif": pixels(2, 3, 8, 9), "b.tif": pixels(2, 3, 2, 8, 9, dtype="float64")}.items():
        files.write_image(tmp_path / name, array)
        np.testing.assert_array_equal(restored(tmp_path / name, tmp_path / f"1{name}").data, array)
    tifffile.imwrite(tmp_path / "c.tif", pixels(4, 8, 9, 3), imagej=True, metadata={"axes": "CYXS"})
    assert restored(tmp_path / "c.tif", tmp_path / "d.tif").axes == "IYXC"
    with tifffile.TiffFile(tmp_path / "d.tif") as tif:
        assert tif.series[0].axes == "CYXS"


def test_a_score_map_keeps_the_scale_of_its_colour_picture(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels(8, 9, 3), photometric="rgb", resolution=(300, 300), metadata=None)
    picture = files.read_image(tmp_path / "a.tif")
    files.write_image(tmp_path / "b.tif", pixels(8, 9, dtype="float32"), picture)
    score = files.read_image(tmp_path / "b.tif")
    assert score.axes == "YX" and score.meta.dpi == (300, 300)


def test_lossy_compression_in_a_tiff_is_replaced_and_said(tmp_path: Path) -> None:
    Image.fromarray(pixels(32, 32, 3)).save(tmp_path / "a.tif", compression="jpeg")
    picture = files.read_image(tmp_path / "a.tif")
    notes = files.write_image(tmp_path / "b.tif", picture.data, picture)
    assert notes == ("JPEG compression was replaced by zlib, which loses nothing",)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), picture.data)


# -- PNG, JPEG, WebP -------------------------------------------------------------------------------------------------


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_png_keeps_its_chunks(tmp_path: Path, dtype: str) -> None:
    files.write_image(tmp_path / "plain.png", pixels(8, 9, 3, dtype=dtype))
    plain = (tmp_path / "plain.png").read_bytes()
    texts = chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"tEXt", b"Author\0me") + chunk(b"iTXt", b"k\0\0\0\0\0v")
    common = chunk(b"pHYs", struct.pack(">IIB", 11811, 2835, 1)) + chunk(b"eXIf", exif(6).removeprefix(b"Exif\0\0"))
    icc = chunk(b"iCCP", b"name\0\0" + zlib.compress(profile()))
    (tmp_path / "a.png").write_bytes(plain[:33] + texts + common + icc + plain[33:])
    picture = restored(tmp_path / "a.png", tmp_path / "b.png")
    np.testing.assert_array_equal(picture.data, pixels(8, 9, 3, dtype=dtype))
    with Image.open(tmp_path / "b.png") as seen:
        seen.load()
        assert seen.info["gamma"] == 0.45455 and seen.info["dpi"] == (11811 * 0.0254, 2835 * 0.0254)
        assert seen.info["Author"] == "me" and seen.info["k"] == "v"
        assert seen.info["icc_profile"] == profile() and seen.getexif()[_exif.ORIENTATION] == 6


@pytest.mark.parametrize("mode", ["1", "P", "LA"])
def test_unusual_pngs_are_converted_and_say_so(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(pixels(8, 9)).convert(mode)
    image.save(tmp_path / "a.png")
    picture = files.read_image(tmp_path / "a.png")
    expected = {"1": "L", "P": "RGB", "LA": "RGBA"}[mode]
    np.testing.assert_array_equal(picture.data, np.asarray(image.convert(expected)))
    assert len(picture.notes) == 1


def test_a_jpeg_keeps_exif_orientation_profile_and_density(tmp_path: Path) -> None:
    Image.fromarray(pixels(32, 48, 3)).save(
        tmp_path / "a.jpg", exif=exif(6), icc_profile=profile(), dpi=(300, 300), comment=b"hello"
    )
    picture = restored(tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert picture.data.shape == (32, 48, 3)
    with Image.open(tmp_path / "b.jpg") as seen:
        assert seen.getexif()[_exif.ORIENTATION] == 6 and seen.getexif()[0x010F] == "a camera"
        assert seen.getexif().get_ifd(_exif.EXIF_IFD)[_exif.USER_COMMENT].startswith(b"ASCII\0\0\0perceive_ir = {")
        assert seen.info["icc_profile"] == profile() and seen.info["dpi"] == (300, 300)
        assert seen.info["comment"] == b"hello"
        assert {layer[1:3] for layer in seen.layer} == {(1, 1)}  # type: ignore[attr-defined]
    error = np.abs(picture.data.astype(int) - files.read_image(tmp_path / "a.jpg").data)
    assert error.mean() < 3


def test_a_grey_jpeg_stays_grey(tmp_path: Path) -> None:
    Image.fromarray(pixels(16, 16)).save(tmp_path / "a.jpg")
    assert restored(tmp_path / "a.jpg", tmp_path / "b.jpeg").data.shape == (16, 16)


def test_a_taken_comment_sends_the_description_elsewhere(tmp_path: Path) -> None:
    array = pixels(16, 16, 3)
    Image.fromarray(array).save(tmp_path / "a.jpg", exif=exif(1, comment="ASCII\0\0\0mine"))
    restored(tmp_path / "a.jpg", tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as seen:
        assert seen.getexif()[_exif.IMAGE_DESCRIPTION].startswith("perceive_ir = {")
    Image.fromarray(array).save(tmp_path / "c.jpg", exif=exif(1, comment="ASCII\0\0\0mine", description="mine too"))
    picture = files.read_image(tmp_path / "c.jpg")
    notes = files.write_image(tmp_path / "d.jpg", array, picture, description=RECIPE)
    assert notes == ("the description is in d.jpg.json",)
    assert files.read_description(tmp_path / "d.jpg") == RECIPE
    assert files.read_image(tmp_path / "d.jpg").meta.exif == picture.meta.exif


@pytest.mark.parametrize("lossless", [True, False])
def test_a_webp_keeps_losslessness_exif_and_profile(tmp_path: Path, lossless: bool) -> None:
    array = pixels(16, 16, 3)
    Image.fromarray(array).save(tmp_path / "a.webp", lossless=lossless, exif=exif(8), icc_profile=profile())
    picture = restored(tmp_path / "a.webp", tmp_path / "b.webp")
    assert picture.meta.lossless is lossless and picture.meta.icc == profile()
    assert _exif.orientation(picture.meta.exif) == 8
    if lossless:
        np.testing.assert_array_equal(picture.data, array)


def test_resolution_profile_and_orientation_follow_into_another_format(tmp_path: Path) -> None:
    Image.fromarray(pixels(16, 24, 3)).save(tmp_path / "a.jpg", exif=exif(6), icc_profile=profile(), dpi=(300, 300))
    for name in ("a.tif", "a.png", "a.webp", "b.jpg"):
        picture = restored(tmp_path / ("a.jpg" if name == "a.tif" else "a.tif"), tmp_path / name)
        assert _exif.orientation(picture.meta.exif) == 6 and picture.meta.icc == profile()
        if name != "a.webp":
            np.testing.assert_allclose(picture.meta.dpi or (), (300, 300), rtol=1e-4)


def test_big_pictures_are_not_taken_for_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for name in ("a.png", "a.jpg", "a.webp"):
        files.write_image(tmp_path / name, pixels(16, 16, 3))
        assert files.read_image(tmp_path / name).data.shape == (16, 16, 3)


# -- whole or not at all ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg", "a.webp"])
def test_a_write_that_fails_half_way_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, failure: BaseException
) -> None:
    files.write_image(tmp_path / name, pixels(8, 9, 3))
    before = (tmp_path / name).read_bytes()

    def fail(*_: Any) -> None:
        assert len(list(tmp_path.iterdir())) == 2
        raise failure

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else ImageFileError):
        files.write_image(tmp_path / name, pixels(8, 9, 3), force=True)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg", "a.webp"])
def test_an_encoder_that_fails_after_some_bytes_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail(path: Any, *_: Any, **__: Any) -> None:
        path.write(b"half") if hasattr(path, "write") else Path(path).write_bytes(b"half")
        raise OSError(errno.EIO, "no more")

    monkeypatch.setattr(tifffile, "imwrite", fail)
    monkeypatch.setattr(files._write, "encode_png", lambda *_: fail(io.BytesIO()))
    monkeypatch.setattr(Image.Image, "save", lambda _, file, *__, **___: fail(file))
    with pytest.raises(ImageFileError, match=f"{name} cannot be written: Input/output error"):
        files.write_image(tmp_path / name, pixels(8, 9, 3))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    files.write_image(tmp_path / "a.png", pixels(8, 9))
    before = (tmp_path / "a.png").read_bytes()
    picture = files.read_image(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png exists; give --force to overwrite"):
        files.write_image(tmp_path / "a.png", pixels(4, 4))
    with pytest.raises(ValueError, match="is the input itself"):
        files.check_output(tmp_path / "a.png", picture)
    assert (tmp_path / "a.png").read_bytes() == before
    files.write_image(tmp_path / "a.png", pixels(4, 4), force=True)
    assert files.read_image(tmp_path / "a.png").data.shape == (4, 4)


def test_a_file_that_appears_while_writing_is_not_overwritten(tmp_path: Path) -> None:
    from perceive_ir.files._atomic import replacing

    with pytest.raises(ValueError, match="exists"), replacing(tmp_path / "a.txt") as partial:
        partial.write_text("mine")
        (tmp_path / "a.txt").write_text("theirs")
    assert (tmp_path / "a.txt").read_text() == "theirs" and len(list(tmp_path.iterdir())) == 1


@POSIX
def test_a_link_stays_a_link_and_permissions_stay(tmp_path: Path) -> None:
    files.write_image(tmp_path / "a.png", pixels(8, 9))
    (tmp_path / "a.png").chmod(0o640)
    (tmp_path / "link.png").symlink_to("a.png")
    files.write_image(tmp_path / "link.png", pixels(4, 4), force=True)
    assert (tmp_path / "link.png").is_symlink() and files.read_image(tmp_path / "a.png").data.shape == (4, 4)
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o640


REFUSED = {
    "a.png float": ("a.png", pixels(4, 4, dtype="float32"), None, r"PNG holds uint8 and uint16, not float32; .*\.tif"),
    "a.jpg 16 bit": ("a.jpg", pixels(4, 4, dtype="uint16"), None, r"JPEG holds uint8, not uint16; write a \.tif"),
    "a.webp 16 bit": ("a.webp", pixels(4, 4, 3, dtype="uint16"), None, "WebP holds uint8, not uint16"),
    "a stack": ("a.png", pixels(5, 4, 4), "ZYX", "PNG holds one picture, not a stack with the axes ZYX"),
    "alpha": ("a.jpg", pixels(4, 4, 4), None, r"JPEG does not hold 4 channels; write a \.png or \.tif"),
    "a wide one": ("a.webp", pixels(1, 16384, 3), None, "WebP holds at most 16383 pixels a side, not 16384"),
    "unknown": (
        "a.xyz",
        pixels(4, 4),
        None,
        r"a\.xyz has the unknown file type '\.xyz'; known are .*\.ome\.tif .*\.png",
    ),
    "no suffix": ("a", pixels(4, 4), None, "unknown file type ''"),
    "half in OME": ("a.ome.tif", pixels(4, 4, dtype="float16"), None, "OME-TIFF does not hold float16"),
    "complex": ("a.tif", np.ones((4, 4), complex), None, "expected integers or floats, got complex128"),
    "bool": ("a.tif", np.ones((4, 4), bool), None, "expected integers or floats, got bool"),
    "no pixels": ("a.tif", np.ones((0, 4)), None, "expected a picture with pixels"),
    "a line": ("a.tif", np.ones(4), None, "expected a picture with pixels"),
    "axes": ("a.tif", np.ones((4, 4)), "ZYX", "the axes ZYX do not fit the shape"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_lose_data_is_refused_with_the_remedy(tmp_path: Path, case: str) -> None:
    name, array, axes, words = REFUSED[case]
    with pytest.raises(ValueError, match=words) as caught:
        files.write_image(tmp_path / name, array, axes=axes)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x" * 300 + ".tif", "no/such/folder/a.png", "a\nb/c.png", "a\0b.png"])
def test_a_name_that_cannot_be_written_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageFileError, match=r"cannot be written.*; ") as caught:
        files.write_image(tmp_path / name, pixels(4, 4))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x" * 251 + ".tif", "ünï cødé 顕微鏡 🔬.png", "a[1].jpg", "two  words.webp", ".tif"])
def test_names_of_any_kind_and_length_are_written(tmp_path: Path, name: str) -> None:
    files.write_image(tmp_path / name, pixels(16, 16, 3), description=RECIPE)
    assert files.read_image(tmp_path / name).data.shape == (16, 16, 3)
    assert files.read_description(tmp_path / name) == RECIPE
    assert files.collect([tmp_path / name]) == [tmp_path / name]


# -- bad files -------------------------------------------------------------------------------------------------------


def encoded(name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    if name == "tif":
        tifffile.imwrite(buffer, pixels(40, 40, 3), photometric="rgb", **options)
    elif name == "stack":
        tifffile.imwrite(buffer, pixels(4, 30, 30), compression="packbits", **options)
    else:
        Image.fromarray(pixels(40, 40, 3)).save(buffer, name, **options)
    return buffer.getvalue()


GOOD = {
    "plain": encoded("tif"),
    "zlib": encoded("tif", compression="zlib", rowsperstrip=4),
    "lzw tiles": encoded("tif", compression="lzw", tile=(16, 16)),
    "stack": encoded("stack"),
    "pages": encoded("stack", metadata=None),
    "imagej": encoded("stack", imagej=True),
    "ome": encoded("stack", ome=True),
    "png": encoded("PNG"),
    "jpeg": encoded("JPEG"),
    "webp": encoded("WEBP"),
    "gif": encoded("GIF"),
    "bmp": encoded("BMP"),
}

BAD = {
    "empty": b"",
    "text": b"this is not a picture, whatever its name says\n",
    "zeros": bytes(1000),
    "only a TIFF header": b"II*\0\x08\0\0\0",
    "TIFF without pages": b"II*\0\0\0\0\0",
    "TIFF that bites its tail": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "only a PNG signature": b"\x89PNG\r\n\x1a\n",
    "only a JPEG start": b"\xff\xd8\xff\xe0",
    "RIFF without WebP": b"RIFF\x04\0\0\0WEBP",
    "a big claim": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)),
    **{
        f"{name} cut at {part} %": data[: len(data) * part // 100]
        for name, data in GOOD.items()
        for part in (3, 30, 90)
    },
    "ome without the end of its text": GOOD["ome"][:-1],
    "ome without its text": GOOD["ome"][:-500],
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_line(tmp_path: Path, case: str) -> None:
    path = tmp_path / "picture.tif"
    path.write_bytes(BAD[case])
    with pytest.raises(ImageFileError, match=r"picture\.tif (is|cannot).*; (get it again|save it as)") as caught:
        files.read_image(path)
    assert "\n" not in str(caught.value)


def ome_set(folder: Path, planes: NDArray[Any]) -> list[Path]:
    """Write each plane into a file of its own, whose text names all of them; the later ones are longer."""
    names = [f"p{n}.ome.tif" for n in range(len(planes))]
    data = "".join(
        f'<TiffData FirstZ="{n}" IFD="{2 * n}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{n}</UUID></TiffData>'
        for n, name in enumerate(names)
    )
    for n, name in enumerate(names):
        text = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{n}"><Image ID="Image:0">'
            f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="{planes.shape[2]}" '
            f'SizeY="{planes.shape[1]}" SizeZ="{len(planes)}" SizeC="1" SizeT="1">'
            f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{data}</Pixels></Image></OME>'
        )
        pages = np.broadcast_to(planes[n], (2 * n + 1, *planes.shape[1:]))
        tifffile.imwrite(folder / name, pages, photometric="minisblack", description=text, metadata=None)
    return [folder / name for name in names]


def test_a_picture_in_several_files_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    planes = pixels(3, 40, 50)
    paths = ome_set(tmp_path, planes)
    picture = files.read_image(paths[0])
    assert picture.axes == "ZYX"
    np.testing.assert_array_equal(picture.data, planes)
    for ruin in (lambda path: path.write_bytes(path.read_bytes()[:3000]), Path.unlink):
        ruin(paths[1])
        with pytest.raises(ImageFileError, match=r"p0\.ome\.tif lacks 1 of its 3 planes; put the files .* beside it"):
            files.read_image(paths[0])


def test_no_noise_in_a_file_trips_anything_but_the_one_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(3)
    for good in GOOD.values():
        for _ in range(15):
            data = np.frombuffer(good, np.uint8).copy()
            data[random.integers(0, min(len(data), 400), 4)] = random.integers(0, 256, 4)
            (tmp_path / "a").write_bytes(data.tobytes())
            try:
                files.read_image(tmp_path / "a")
            except ImageFileError as error:
                assert "\n" not in str(error)
    assert capfd.readouterr() == ("", "")


def test_what_is_no_file_or_no_picture_of_numbers_is_refused_by_name(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((8, 9, 3), 50 * i, np.uint8)) for i in range(3)]
    for kind in ("gif", "webp", "png"):
        frames[0].save(tmp_path / f"animation.{kind}", save_all=True, append_images=frames[1:])
    Image.fromarray(pixels(8, 9, 3)).convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(pixels(8, 9, 3)).convert("CMYK").save(tmp_path / "cmyk.tif")
    tifffile.imwrite(tmp_path / "complex.tif", np.ones((4, 4), complex))
    expected = {
        "animation.gif": "an animation of 3 frames",
        "animation.webp": "an animation",
        "animation.png": "an animation",
        "cmyk.jpg": "CMYK pixels",
        "cmyk.tif": "SEPARATED colours",
        "complex.tif": "pixels of type complex128",
        "missing.tif": "does not exist",
        "": "is a folder",
        "a\0b": "cannot be read: embedded null",
    }
    for name, words in expected.items():
        with pytest.raises(ImageFileError, match=f"{words}.*; ") as caught:
            files.read_image(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_broken_description_says_where_it_is_and_what_to_do(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels(8, 9), metadata=None, description="perceive_ir = {broken")
    with pytest.raises(ImageFileError, match=r"a\.tif .*: the description inside is broken .*; get it again"):
        files.read_description(tmp_path / "a.tif")


@POSIX
def test_what_posix_has_beyond_files_is_refused_too(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    files.write_image(tmp_path / "a.tif", pixels(4, 4))
    named = {"pipe.tif": "not a regular file", "a.tif/b.png": "Not a directory", "x" * 300: "File name too long"}
    for name, words in named.items():
        with pytest.raises(ImageFileError, match=f"{words}.*; "):
            files.read_image(tmp_path / name)


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_one_line(tmp_path: Path) -> None:
    files.write_image(tmp_path / "a.tif", pixels(4, 4))
    (tmp_path / "a.tif").chmod(0)
    with pytest.raises(ImageFileError, match=r"a\.tif cannot be read: Permission denied"):
        files.read_image(tmp_path / "a.tif")


# -- descriptions and collections ------------------------------------------------------------------------------------


def test_a_description_beside_the_picture_is_found(tmp_path: Path) -> None:
    files.write_image(tmp_path / "a.png", pixels(4, 4))
    assert files.read_description(tmp_path / "a.png") is None
    assert files.write_side_json(tmp_path / "a.png", RECIPE) == tmp_path / "a.png.json"
    files.write_side_json(tmp_path / "a.png", RECIPE | {"again": True})
    assert files.read_description(tmp_path / "a.png") == RECIPE | {"again": True}
    (tmp_path / "b.png.json").write_text("[1]")
    with pytest.raises(ValueError, match="exists"):
        files.write_side_json(tmp_path / "b.png", RECIPE)


def test_a_description_that_json_cannot_hold_writes_nothing(tmp_path: Path) -> None:
    for bad in ({"a": float("nan")}, {"a": object()}):
        with pytest.raises((ValueError, TypeError)):
            files.write_image(tmp_path / "a.png", pixels(4, 4), description=bad)
    assert list(tmp_path.iterdir()) == []


def test_the_text_in_exif_leaves_every_old_byte_in_place() -> None:
    for block in (_exif.strip(exif(3, comment="")), _exif.with_orientation(5), b"MM\0*\0\0\0\x08" + bytes(6)):
        added = _exif.with_text(block, "ours = 1", "ours")
        assert block and added and _exif.texts(added) == ["ours = 1"]
        assert added[8 : len(block)] == block[8:] and _exif.orientation(added) == _exif.orientation(block)
    assert _exif.with_text(b"nonsense", "ours = 1", "ours") is None
    assert _exif.with_text(None, "ours" * 20_000, "ours") is None


def test_collect_expands_sorts_naturally_and_names_each_file_once(tmp_path: Path) -> None:
    for name in ("a10.tif", "a2.tif", "b.png", "sub/a1.tif", "x[1].tif", f".1{files.PARTIAL_SUFFIX}"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = files.collect([str(tmp_path / "*.tif"), tmp_path / "a2.tif", tmp_path / "sub" / ".." / "a10.tif"])
    assert [path.name for path in found] == ["a2.tif", "a10.tif", "x[1].tif"]
    assert files.collect([tmp_path / "x[1].tif"]) == [tmp_path / "x[1].tif"]
    found = files.collect([str(tmp_path / "**" / "a*.tif")])
    assert [path.name for path in found] == ["a2.tif", "a10.tif", "a1.tif"]
    assert files.collect([tmp_path]) == [tmp_path]


def test_collect_leaves_what_is_missing_to_give_its_error(tmp_path: Path) -> None:
    for path in files.collect([tmp_path / "missing.tif", str(tmp_path / "*.nothing")]):
        with pytest.raises(ImageFileError, match="does not exist"):
            files.read_image(path)
    assert len(files.collect([tmp_path / "missing.tif"] * 2)) == 1


def test_what_is_said_of_a_file_stays_with_it_when_several_are_read_at_once() -> None:
    inside, told = threading.Event(), threading.Event()
    good: list[object] = []

    def read_good() -> None:
        with _faults.quiet() as records:
            inside.set()
            assert told.wait(10)
            good.append(list(records))

    other = threading.Thread(target=read_good)
    other.start()
    assert inside.wait(10)
    with _faults.quiet() as records:
        logging.getLogger("tifffile").warning("TiffPages @8 is damaged")
    told.set()
    other.join()
    assert [record.getMessage() for record in records] == ["TiffPages @8 is damaged"] and good == [[]]


def test_warnings_are_heard_again_after_several_files_were_read_at_once() -> None:
    before = list(warnings.filters)
    one, other = _faults.quiet(), _faults.quiet()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    warnings.warn("not heard", stacklevel=1)  # an error, if it were
    other.__exit__(None, None, None)
    assert list(warnings.filters) == before
