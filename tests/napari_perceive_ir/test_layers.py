"""Restoring and mapping layers, whatever they are made of; no window is needed for that."""

from __future__ import annotations

from typing import Any

import dask.array
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from numpy.typing import NDArray

from napari_perceive_ir import map_layer, restore_layer
from napari_perceive_ir._axes import layer_axes, read_axes, spread_cells
from napari_perceive_ir._words import TASK_TITLES, limits_of, result_name
from perceive_ir import TASKS

DENOISE = {"task": "denoise", "severity": 0.5}


def picture(*shape: int, dtype: str = "uint8") -> NDArray[Any]:
    values = np.random.default_rng(0).random(shape)
    return values.astype(dtype) if dtype.startswith("f") else (values * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize(
    ("data", "rgb"),
    [
        (picture(40, 33), False),
        (picture(40, 33, dtype="uint16"), False),
        (picture(40, 33, dtype="float32"), False),
        (picture(40, 33, 3), True),
        (picture(40, 33, 4), True),
        (picture(2, 40, 33, dtype="uint16"), False),
        (picture(2, 40, 33, 3), True),
        (picture(40, 33, 3), False),
        (dask.array.from_array(picture(2, 40, 33), chunks=(1, 20, 33)), False),
    ],
    ids=["grey", "uint16", "float", "rgb", "rgba", "stack", "rgb stack", "narrow stack", "dask"],
)
def test_restoring_a_layer_gives_its_shape_and_dtype(data: Any, rgb: bool) -> None:
    viewer = ViewerModel()
    source = viewer.add_image(data, name="cells", rgb=rgb)
    source.contrast_limits = (3, 200)
    result = restore_layer(viewer, "cells", **DENOISE)
    assert isinstance(result.data, np.ndarray)
    assert (result.data.shape, result.data.dtype, result.rgb) == (data.shape, data.dtype, rgb)
    assert result.contrast_limits == source.contrast_limits
    assert (result.name, list(viewer.layers)) == ("cells denoised", [source, result])


def test_a_multiscale_layer_is_restored_at_its_finest_level() -> None:
    viewer, data = ViewerModel(), picture(64, 48)
    source = viewer.add_image([data, data[::2, ::2], data[::4, ::4]], multiscale=True, scale=(0.5, 0.5))
    result = restore_layer(viewer, source, **DENOISE)
    assert [level.shape for level in result.data] == [(64, 48), (32, 24), (16, 12)]
    assert np.array_equal(result.extent.world, source.extent.world)


def test_only_the_finest_level_is_read() -> None:
    def never(block: NDArray[Any]) -> NDArray[Any]:
        raise AssertionError("a coarse level was read")

    fine = dask.array.from_array(picture(64, 48), chunks=32)
    viewer = ViewerModel()
    source = Image([fine, fine[::2, ::2]], multiscale=True, contrast_limits=(0, 255))
    source._data = [fine, fine[::2, ::2].map_blocks(never, dtype="uint8", meta=np.empty((0, 0), "uint8"))]
    result = restore_layer(viewer, source, **DENOISE)
    assert result.data.shape == (64, 48)


def test_the_look_of_the_source_is_kept() -> None:
    viewer = ViewerModel()
    look = {"colormap": "magma", "gamma": 0.7, "blending": "additive", "interpolation2d": "cubic", "opacity": 0.6}
    source = viewer.add_image(picture(40, 33), metadata={"stain": "DAPI"}, **look)
    result = restore_layer(viewer, source, **DENOISE)
    assert {name: str(getattr(result, name)) for name in look} == {n: str(getattr(source, n)) for n in look}
    assert (result.colormap.name, result.metadata["stain"]) == ("magma", "DAPI")


def test_the_metadata_say_how_a_result_was_made() -> None:
    viewer = ViewerModel()
    result = restore_layer(viewer, viewer.add_image(picture(40, 33), axis_labels="yx"), **DENOISE, strength=0.5)
    about = result.metadata["perceive_ir"]
    assert about["recipe"] | {"task": "denoise", "strength": 0.5, "axes": "YX"} == about["recipe"]
    assert (about["model"]["name"], len(about["model"]["sha256"])) == ("compact", 64)


def test_the_layer_is_what_the_library_gives() -> None:
    import perceive_ir as pir

    viewer, data = ViewerModel(), picture(40, 33, dtype="float32")
    result = restore_layer(viewer, viewer.add_image(data), **DENOISE)
    assert np.array_equal(result.data, pir.restore(data, axes="YX", **DENOISE))
    assert not np.array_equal(result.data, data)


def test_painted_labels_may_be_a_layer() -> None:
    viewer, data = ViewerModel(), picture(64, 64, dtype="float32")
    source, marks = viewer.add_image(data), viewer.add_labels(np.ones((64, 64), int))
    result = restore_layer(viewer, source, labels=marks, handling="painted", painted={1: ("denoise", 0.5)})
    assert result.name == f"{source.name} restored"


@pytest.mark.parametrize(
    ("layer", "fields", "error", "words"),
    [
        ("none", {}, ValueError, "no layer 'none'.*'grey'"),
        ("marks", {}, TypeError, "expected an image layer"),
        ("grey", {"task": "polish"}, ValueError, "expected 'auto' or tasks"),
        ("grey", {"axes": "ZYX"}, ValueError, "do not fit"),
        ("yes or no", {}, TypeError, "bool"),
    ],
)
def test_mistakes_are_one_line_and_add_nothing(layer: str, fields: Any, error: type[Exception], words: str) -> None:
    viewer = ViewerModel()
    viewer.add_image(picture(20, 20), name="grey")
    viewer.add_image(picture(20, 20) > 9, name="yes or no", contrast_limits=(0, 1))
    viewer.add_labels(np.zeros((20, 20), int), name="marks")
    with pytest.raises(error, match=words) as caught:
        restore_layer(viewer, layer, **fields)
    assert ("\n" in str(caught.value), len(viewer.layers)) == (False, 3)


def test_a_map_shows_tiers_on_the_picture() -> None:
    viewer = ViewerModel()
    source = viewer.add_image(picture(2, 100, 70, 3), name="cells", rgb=True, scale=(2, 0.5, 0.5), units=("um",) * 3)
    tiers = map_layer(viewer, source)
    assert (tiers.data.shape, tiers.data.dtype, tiers.name) == ((2, 4, 3), np.uint8, "cells quality")
    assert set(np.unique(tiers.data)) <= {1, 2, 3}
    assert np.allclose(tiers.data_to_world((0, 0, 0)), source.data_to_world((0, 15.5, 15.5)))
    assert (tiers.units, list(viewer.layers)) == (source.units, [source, tiers])


def test_a_map_names_its_tiers_and_shows_only_what_is_not_good() -> None:
    viewer = ViewerModel()
    tiers = map_layer(viewer, viewer.add_image(picture(100, 70)), window=80, stride=16)
    assert list(tiers.features["tier"]) == ["low", "medium", "high"]
    assert tiers.features["share"].sum() == pytest.approx(1, abs=1e-3)
    assert tiers.get_color(3)[3] == 0
    assert np.allclose(tiers.get_color(1)[:3], np.array([0xD5, 0x5E, 0x00]) / 255, atol=0.01)
    tiers.data = np.ones_like(tiers.data)
    assert "tier: low" in tiers.get_status((20, 20), world=True)["value"]
    assert tiers.metadata["perceive_ir"]["quality_map"] == {"window": 80, "stride": 16}


def test_axes_are_read_from_labels_where_they_mean_something() -> None:
    assert read_axes(("-2", "-1"), rgb=False) == "YX"
    assert read_axes(("-3", "-2", "-1"), rgb=False) == "QYX"
    assert read_axes(("-3", "-2", "-1"), rgb=True) == "QYXC"
    assert read_axes(("z", "y", "x"), rgb=False) == "ZYX"
    assert read_axes(("Time", "channel", "y", "x"), rgb=False) == "TCYX"
    assert read_axes(("c", "y", "x"), rgb=True) == "CYXS"
    assert read_axes(("x", "y"), rgb=False) == "XY"
    assert read_axes(("row", "column"), rgb=False) == "YX"
    assert read_axes(("y", "y"), rgb=False) == "YX"


def test_a_grey_stack_with_three_columns_is_no_colour() -> None:
    assert layer_axes(Image(picture(9, 8, 3), rgb=False)) == "QYX"


def test_cells_follow_the_order_of_the_axes() -> None:
    cells = np.arange(24).reshape(2, 3, 4)  # Z, Y, X
    assert np.array_equal(spread_cells(cells, "ZYX", (2, 96, 128)), cells)
    assert np.array_equal(spread_cells(cells, "XZY", (128, 2, 96)), cells.transpose(2, 0, 1))
    assert np.array_equal(spread_cells(cells[0], "YXC", (96, 128, 3))[..., 1], cells[0])


def test_names_and_limits_are_those_of_the_vocabulary() -> None:
    assert list(TASK_TITLES) == ["auto", *TASKS]
    assert result_name("cells", ()) == "cells restored"
    assert [result_name("", (task,)).strip() for task in TASKS] == [
        "denoised", "dehazed", "derained", "desnowed", "deblurred", "brightened", "dejpegged", "sharpened",
    ]  # fmt: skip
    assert result_name("cells", ("denoise", "deblur")) == "cells denoised and deblurred"
    assert (limits_of("strength"), limits_of("severity")) == ((0, 1.5), (0, 1))
