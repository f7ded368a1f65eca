"""The sample data: made offline, always the same, each damaged picture exactly over its hidden clean twin."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from napari.layers import Layer
from npe2 import PluginManifest

from napari_perceive_ir import _samples
from napari_perceive_ir._axes import layer_axes

SAMPLES = {
    entry.key: getattr(_samples, entry.key)
    for entry in PluginManifest.from_distribution("napari-perceive-ir").contributions.sample_data
}
each_sample = pytest.mark.parametrize("make", SAMPLES.values(), ids=SAMPLES)


def layers(make: Callable[[], Any]) -> tuple[Any, Any]:
    clean, damaged = (Layer.create(*layer_data) for layer_data in make())
    return clean, damaged


def test_all_that_was_promised_is_there() -> None:
    assert list(SAMPLES) == "hazy rainy noisy dark blurred mixture stack timelapse".split()


@each_sample
def test_the_clean_twin_is_hidden_and_lies_exactly_under_the_damaged_picture(make: Callable[[], Any]) -> None:
    clean, damaged = layers(make)
    assert (clean.visible, damaged.visible) == (False, True)
    assert clean.name.split() == ["clean", damaged.name.split()[1]]
    assert np.array_equal(clean.extent.world, damaged.extent.world)
    assert (clean.units, clean.axis_labels) == (damaged.units, damaged.axis_labels)
    assert (clean.data.shape, clean.data.dtype, clean.rgb) == (damaged.data.shape, damaged.data.dtype, damaged.rgb)
    assert clean.contrast_limits == damaged.contrast_limits


@each_sample
def test_a_sample_is_damaged_always_in_the_same_way_and_small(make: Callable[[], Any]) -> None:
    (clean, *_), (damaged, *_) = make()
    assert np.array_equal(damaged, make()[1][0])
    assert np.abs(damaged.astype(float) - clean).mean() > 0.02 * (clean.max() - clean.min())
    assert damaged.nbytes <= 2_000_000


def test_the_axes_of_stacks_are_known() -> None:
    assert [layer_axes(layers(make)[1]) for make in (_samples.stack, _samples.timelapse)] == ["ZYX", "TYXC"]
    assert str(layers(_samples.stack)[1].units[0]) == "micrometer"


def test_the_mixture_varies_over_the_picture() -> None:
    (clean, *_), (damaged, *_) = _samples.mixture()
    error = np.abs(damaged.astype(float) - clean).mean(-1)
    haze, noise, middle = error[:60, :200].mean(), error[250:350, -60:].mean(), error[230:260, 290:310]
    assert min(haze, noise) > 10 and not middle.any()


def test_every_plane_of_the_time_lapse_has_noise_of_its_own() -> None:
    (clean, *_), (damaged, *_) = _samples.timelapse()
    noise = damaged.astype(float) - clean
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05


def test_napari_opens_a_sample_with_the_damaged_picture_selected(make_napari_viewer_proxy: Callable[..., Any]) -> None:
    viewer = make_napari_viewer_proxy()
    viewer.open_sample("napari-perceive-ir", "stack")
    assert [layer.name for layer in viewer.layers] == ["clean nuclei", "noisy nuclei"]
    assert viewer.layers.selection.active.name == "noisy nuclei"


def test_looking_for_samples_imports_no_torch() -> None:
    code = "import sys, napari_perceive_ir._samples; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
