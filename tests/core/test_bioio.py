"""Files of microscopes: read through bioio and its plugins, restored, and written as OME-TIFF with their metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mrc
import numpy as np
import pytest
import tifffile
from bioio_base.types import DimensionProperties, DimensionProperty, Scale, ureg
from numpy.typing import NDArray
from typer.testing import CliRunner

import perceive_ir as pir
from perceive_ir import MissingExtraError, Restorer
from perceive_ir._errors import ImageFileError
from perceive_ir.batch import Batch, overview, run
from perceive_ir.commands import app
from perceive_ir.files import _bioio, read_image, write_image
from perceive_ir.files._tiff_fields import fields as ome_fields

SHAPE = (2, 3, 40, 50)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    _bioio.suffixes.cache_clear()
    yield
    _bioio.suffixes.cache_clear()


def cells() -> NDArray[np.uint16]:
    return np.random.default_rng(0).integers(0, 4000, SHAPE).astype(np.uint16)


@pytest.fixture
def deltavision(tmp_path: Path) -> Path:
    """A DeltaVision file of two channels and three planes, which none of our own readers knows."""
    path = tmp_path / "in" / "cells.dv"
    path.parent.mkdir()
    mrc.imsave(str(path), cells(), metadata={"dx": 0.125, "dy": 0.125, "dz": 0.5, "wave": [525, 605, 0, 0, 0]})
    return path


def said(path: Path) -> dict[str, Any]:
    """Return what tifffile, as a strict reader, finds in an OME-TIFF."""
    with tifffile.TiffFile(path) as tif:
        assert tif.is_ome
        return {"axes": tif.series[0].axes, "shape": tif.series[0].shape} | ome_fields(tif, "ome")


def test_a_file_of_a_microscope_is_read_with_its_axes_and_pixel_sizes(deltavision: Path) -> None:
    picture = read_image(deltavision)
    assert (picture.kind, picture.axes, picture.data.dtype) == ("bioio", "TCZYX", np.uint16)
    assert np.array_equal(picture.data[0], cells())
    assert picture.meta.tiff is not None
    sizes = picture.meta.tiff.fields
    assert sizes == {"PhysicalSizeX": 0.125, "PhysicalSizeY": 0.125, "PhysicalSizeZ": 0.5}


def test_it_is_written_as_ome_tiff_with_what_it_said(deltavision: Path, tmp_path: Path) -> None:
    picture, path = read_image(deltavision), tmp_path / "out.ome.tif"
    assert write_image(path, picture.data, picture, description={"recipe": {}}) == ()
    about = said(path)
    assert (about["axes"], about["shape"]) == ("CZYX", SHAPE)
    assert [float(about[f"PhysicalSize{axis}"]) for axis in "XYZ"] == [0.125, 0.125, 0.5]
    assert np.array_equal(tifffile.imread(path), cells())


def test_batch_restores_it_and_names_it_after_what_it_is_then(
    deltavision: Path, tmp_path: Path, tiny_model: Restorer
) -> None:
    (deltavision.parent / "notes.txt").write_text("not a picture")
    batch = Batch(deltavision.parent, tmp_path / "out", pir.Recipe(task="denoise", severity=0.8, device="cpu"))
    list(run(batch, restorer=tiny_model))
    made = tmp_path / "out" / "cells.ome.tif"
    expected = tiny_model.restore(cells()[None], task="denoise", severity=0.8, axes="TCZYX").image
    assert np.array_equal(tifffile.imread(made), expected[0]) and (expected[0] != cells()).any()
    assert float(said(made)["PhysicalSizeZ"]) == 0.5
    assert [path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")] == ["cells.ome.tif"]


def test_batch_tells_what_is_missing_for_a_file_and_does_the_others(
    deltavision: Path, tmp_path: Path, tiny_model: Restorer
) -> None:
    (deltavision.parent / "stack.czi").write_bytes(b"ZISRAWFILE" + bytes(100))
    batch = Batch(deltavision.parent, tmp_path / "out", pir.Recipe(task="denoise", severity=0.8, device="cpu"))
    list(run(batch, restorer=tiny_model))
    found = {entry.target.name: row for entry, row in overview(batch)}
    assert {name: row.state for name, row in found.items()} == {"cells.ome.tif": "done", "stack.ome.tif": "failed"}
    assert found["stack.ome.tif"].words.endswith("needs bioio's plugin for .czi: pip install bioio-czi")


def test_restore_on_the_command_line_takes_it(deltavision: Path, tmp_path: Path, tiny_weights: Path) -> None:
    out = f"{tmp_path / 'out'}/"
    done = CliRunner().invoke(app, ["restore", str(deltavision), "-o", out, "--model", str(tiny_weights), "--json"])
    assert done.exit_code == 0
    (report,) = json.loads(done.stdout)
    assert report["output"] == f"{tmp_path / 'out' / 'cells.ome.tif'}" and Path(report["output"]).is_file()


class Reader:
    """What bioio's readers promise, with what this one is made of."""

    def __init__(self, **about: Any) -> None:
        self.dims = SimpleNamespace(order="TCZYX", M=4)
        self.scale = Scale(T=2.5, C=None, Z=None, Y=65.0, X=65.0)
        none = DimensionProperty(None, None)
        space = DimensionProperty("space", ureg.nanometer)
        self.dimension_properties = DimensionProperties(
            DimensionProperty("time", ureg.second), none, none, space, space
        )
        self.channel_names: list[str] | None = ["nuclei", "actin"]
        self.scenes = ("Image:0",)
        self.data = np.zeros((1, 2, 1, 8, 9), np.uint16)
        self.time_interval = timedelta(seconds=2.5)
        self.__dict__ |= about

    def get_image_data(self, order: str) -> NDArray[Any]:
        return self.data


def reading(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **about: Any) -> Path:
    """Make a file that is read with such a reader."""
    path = tmp_path / "some.dv"
    path.write_bytes(b"content that nobody knows")
    monkeypatch.setattr("bioio.BioImage", lambda path: SimpleNamespace(reader=Reader(**about)))
    return path


def test_units_time_steps_and_channel_names_reach_the_ome_tiff(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    picture = read_image(reading(monkeypatch, tmp_path, scenes=("A1", "A2")))
    assert picture.notes == ("the file holds 2 pictures; only the first is read",)
    write_image(tmp_path / "out.ome.tif", picture.data, picture)
    about = said(tmp_path / "out.ome.tif")
    assert (float(about["PhysicalSizeX"]), about["PhysicalSizeXUnit"]) == (65.0, "nm")
    assert (float(about["TimeIncrement"]), about["TimeIncrementUnit"]) == (2.5, "s")
    assert [channel["Name"] for channel in about["Channel"]] == ["nuclei", "actin"]


def test_colours_are_colours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (1, 2, 8, 9, 3)).astype(np.uint8)
    order = SimpleNamespace(order="TCZYXS")
    picture = read_image(reading(monkeypatch, tmp_path, dims=order, data=pixels))
    assert picture.axes == "TZYXC"
    write_image(tmp_path / "out.ome.tif", picture.data, picture)
    assert np.array_equal(read_image(tmp_path / "out.ome.tif").data.squeeze(), pixels.squeeze())


def test_a_mosaic_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = reading(monkeypatch, tmp_path, dims=SimpleNamespace(order="MTCZYX", M=4))
    with pytest.raises(ImageFileError, match="is a mosaic of 4 tiles; stitch it first"):
        read_image(path)


def test_a_damaged_file_is_told_in_one_line(deltavision: Path) -> None:
    deltavision.write_bytes(b"no DeltaVision at all" * 100)
    with pytest.raises(ImageFileError, match=r"cells\.dv cannot be read: it is not what bioio knows as \.dv") as told:
        read_image(deltavision)
    assert len(str(told.value).splitlines()) == 1


def test_a_file_that_ends_early_is_told_in_one_line(deltavision: Path) -> None:
    deltavision.write_bytes(deltavision.read_bytes()[:3000])
    with pytest.raises(ImageFileError, match=r"cells\.dv cannot be read: ") as told:
        read_image(deltavision)
    assert len(str(told.value).splitlines()) == 1


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "stack.czi"
    path.write_bytes(b"ZISRAWFILE" + bytes(100))
    with pytest.raises(MissingExtraError, match=r"needs bioio's plugin for \.czi: pip install bioio-czi$"):
        read_image(path)
    monkeypatch.setattr(_bioio, "find_spec", lambda name: None)
    _bioio.suffixes.cache_clear()
    with pytest.raises(MissingExtraError, match=r'pip install "napari-perceive-ir\[bioio\]" bioio-czi$'):
        read_image(path)
    unknown = tmp_path / "stack.xyz"
    unknown.write_bytes(b"whatever it is")
    with pytest.raises(ImageFileError, match="save it as one of these first"):
        read_image(unknown)
