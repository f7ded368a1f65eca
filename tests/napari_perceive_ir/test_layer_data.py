"""The restored layer as data, for plugins and workflows without a viewer; magicgui reads annotations of this file."""

from typing import Any

import numpy as np
import pytest
from magicgui import magicgui
from napari.components import ViewerModel
from napari.layers import Image, Layer
from napari.types import LayerDataTuple

from napari_perceive_ir import restore_layer, restore_layer_data
from tests.napari_perceive_ir.conftest import names, picture

DENOISE: dict[str, Any] = {"task": "denoise", "severity": 0.5}


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("given", ["layer", "data"])
def test_the_layer_as_data_is_the_layer_that_would_be_added(given: str, levels: int) -> None:
    viewer, data = ViewerModel(), (picture(64, 48) * 900).astype(np.uint16)
    place = {"scale": (0.5, 0.25), "rotate": 20, "units": ("um", "um"), "axis_labels": ("y", "x"), "colormap": "magma"}
    pyramid = [data, data[::2, ::2]] if levels == 2 else data
    source = viewer.add_image(pyramid, name="cells", multiscale=levels == 2, contrast_limits=(5, 900), **place)
    source.metadata["sample"] = 7
    returned = restore_layer_data(source if given == "layer" else source.as_layer_data_tuple(), **DENOISE)
    made, added = Layer.create(*returned), restore_layer(viewer, source, **DENOISE)
    assert isinstance(made, Image) and made.multiscale == (levels == 2)
    np.testing.assert_equal(made.as_layer_data_tuple()[1], added.as_layer_data_tuple()[1])
    for one, other in zip(*[layer.data if levels == 2 else [layer.data] for layer in (made, added)], strict=True):
        assert np.array_equal(one, other)
    assert made.metadata["sample"] == 7 and made.metadata["perceive_ir"]["recipe"]["task"] == "denoise"


def test_the_layer_as_data_takes_a_region_and_refuses_other_layers() -> None:
    source = Image(picture(64, 48), name="cells", scale=(2, 2))
    data, about, kind = restore_layer_data(source, region=(slice(8, 40), slice(4, 20)), **DENOISE)
    assert (data.shape, tuple(about["translate"]), kind) == ((32, 16), (16, 8), "image")
    with pytest.raises(TypeError, match="expected an image layer"):
        restore_layer_data((np.zeros((9, 9), int), {}, "labels"), **DENOISE)


def test_a_function_of_another_plugin_adds_the_layer(make_napari_viewer_proxy: Any) -> None:
    @magicgui
    def mend(cells: Image) -> LayerDataTuple:
        return restore_layer_data(cells, **DENOISE)

    viewer = make_napari_viewer_proxy()
    source = viewer.add_image(picture(40, 33), name="cells", scale=(0.5, 0.5))
    viewer.window.add_dock_widget(mend)
    mend()
    assert names(viewer) == ["cells", "cells denoised"]
    assert np.array_equal(viewer.layers[1].extent.world, source.extent.world)
