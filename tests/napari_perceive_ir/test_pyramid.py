"""The result of a multiscale layer is multiscale again."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel as Model
from numpy.typing import NDArray
from pytestqt.qtbot import QtBot

import perceive_ir as pir
from napari_perceive_ir import _pyramid, restore_layer
from napari_perceive_ir._compare import Swipe
from napari_perceive_ir._pyramid import coarser
from tests.napari_perceive_ir.conftest import LONG, click, docked, finish, picture

DENOISE = {"task": "denoise", "severity": 0.5}


def halves(image: NDArray[Any], axes: tuple[int, ...]) -> NDArray[Any]:
    """Take every second pixel, as some writers of pyramids do; so a result cannot be right by chance."""
    return image[tuple(slice(None, None, 2) if n in axes else slice(None) for n in range(image.ndim))]


def levels(image: NDArray[Any], axes: tuple[int, ...], count: int = 3) -> list[NDArray[Any]]:
    made = [image]
    while len(made) < count:
        made.append(halves(made[-1], axes))
    return made


@pytest.mark.parametrize("kind", [np.asarray, da.from_array])
@pytest.mark.parametrize(
    ("shape", "axes", "dtype", "look"),
    [
        ((96, 80), (0, 1), "float32", {}),
        ((96, 80, 3), (0, 1), "uint8", {"rgb": True}),
        ((4, 96, 80), (1, 2), "uint16", {}),
        ((4, 96, 80), (0, 1, 2), "float32", {}),
        ((97, 83), (0, 1), "int16", {}),
    ],
)
def test_the_result_has_the_levels_of_its_source_from_its_own_pixels(
    kind: Any, shape: tuple[int, ...], axes: tuple[int, ...], dtype: str, look: dict[str, Any]
) -> None:
    viewer, data = Model(), levels((picture(*shape) * 200).astype(dtype), axes)
    source = viewer.add_image([kind(one) for one in data], multiscale=True, name="cells", scale=(0.5,) * 2, **look)
    result = restore_layer(viewer, "cells", **DENOISE)
    assert result.multiscale and [one.shape for one in result.data] == [one.shape for one in data]
    assert {one.dtype for one in result.data} == {np.dtype(dtype)}
    assert np.array_equal(result.extent.world, source.extent.world)
    finest = result.data[0]
    assert np.array_equal(finest, pir.restore(data[0], axes=axes_of(shape, look), **DENOISE))
    if not any(n % 2 for n in shape[-2:]):
        cells = finest.reshape([m for n, k in enumerate(shape) for m in ((k // 2, 2) if n in axes else (k, 1))])
        means = cells.astype(float).mean(axis=tuple(range(1, 2 * len(shape), 2)))
        assert np.abs(result.data[1] - means).max() <= (1e-4 if dtype == "float32" else 0.5)


def axes_of(shape: tuple[int, ...], look: dict[str, Any]) -> str:
    return "YXC" if look else "QYX"[-len(shape) :]


@settings(deadline=None)
@given(shape=st.tuples(st.integers(1, 9), st.integers(1, 30)), seed=st.integers(0, 99), data=st.data())
def test_means_of_whole_pixels_keep_the_sum(shape: tuple[int, int], seed: int, data: Any) -> None:
    factors = data.draw(st.tuples(*(st.sampled_from([k for k in range(1, n + 1) if n % k == 0]) for n in shape)))
    small = tuple(n // k for n, k in zip(shape, factors, strict=True))
    image = picture(*shape, seed=seed)
    made = coarser(image, [shape, small])
    assert made == [] if small == shape else np.isclose(made[0].mean(), image.mean(), atol=1e-6)


def test_in_small_portions_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    image, shapes = picture(61, 40, 3), [(61, 40, 3), (30, 20, 3), (15, 10, 3)]
    at_once = coarser(image, shapes)
    monkeypatch.setattr(_pyramid, "AT_ONCE", 500)
    assert all(np.allclose(one, other) for one, other in zip(coarser(image, shapes), at_once, strict=True))


@pytest.fixture
def viewer() -> Model:
    viewer = Model()
    viewer.add_image(levels(picture(96, 80), (0, 1)), multiscale=True, name="cells")
    return viewer


def test_a_region_of_it_is_multiscale_too(viewer: Model) -> None:
    result = restore_layer(viewer, "cells", region=np.s_[10:50, 20:61], **DENOISE)
    assert [one.shape for one in result.data] == [(40, 41), (20, 20), (10, 10)]


def test_all_levels_follow_the_strength(viewer: Model, qtbot: QtBot) -> None:
    dock = docked(viewer, qtbot, task="denoise")
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    result = viewer.layers[-1]
    assert result.multiscale
    before = [one.copy() for one in result.data]
    dock.controls.strength.setValue(0)
    qtbot.waitUntil(lambda: not np.array_equal(result.data[2], before[2]), timeout=LONG)
    assert np.array_equal(result.data[0], viewer.layers["cells"].data[0])
    assert np.allclose(result.data[1], coarser(result.data[0], [(96, 80), (48, 40)])[0])


def test_a_swipe_shows_all_levels(viewer: Model) -> None:
    result = restore_layer(viewer, "cells", **DENOISE)
    swipe = Swipe(viewer, viewer.layers["cells"], result)
    assert [one.shape for one in swipe.layer.data] == [(96, 80), (48, 40), (24, 20)]
