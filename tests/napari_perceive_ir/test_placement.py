"""A result lies exactly on its source and looks like it, however the source is placed and whatever it is made of."""

from __future__ import annotations

from typing import Any

import dask.array
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels
from numpy.typing import NDArray

from napari_perceive_ir import restore_layer
from napari_perceive_ir._placement import cell_placement, level0

pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")  # napari, of any layer rotated in 3-D

SHAPES = {"plane": (18, 25), "rgb": (18, 25, 3), "rgba": (18, 25, 4)}
SHAPES |= {"stack": (2, 18, 25), "rgb stack": (2, 18, 25, 3), "time-lapse": (2, 2, 18, 25)}
DTYPES = ("uint8", "uint16", "int16", "float32", "float64")
UNITS = ("nm", "um", "mm", "pixel")
LABELS = (("t", "z", "y", "x"), ("time", "depth", "row", "column"), ("-4", "-3", "-2", "-1"), ("t", "z", "x", "y"))
LOOKS = ("colormap", "contrast_limits", "contrast_limits_range", "gamma", "blending", "opacity", "interpolation2d")
PLACES = ("units", "axis_labels", "rgb", "ndim")


def random_placement(random: np.random.Generator, ndim: int) -> dict[str, Any]:
    affine = np.eye(ndim + 1)
    affine[:ndim] += random.normal(0, 0.2, (ndim, ndim + 1))
    turned = {2: random.uniform(-180, 180), 3: tuple(random.uniform(-90, 90, 3))}
    return {
        "scale": random.uniform(0.1, 4, ndim) * random.choice([-1, 1], ndim),
        "translate": random.normal(0, 50, ndim),
        "rotate": turned.get(ndim, np.linalg.qr(random.normal(size=(ndim, ndim)))[0]),
        "shear": random.normal(0, 0.3, ndim * (ndim - 1) // 2),
        "affine": affine,
        "units": tuple(random.choice(UNITS, ndim)),
        "axis_labels": LABELS[random.integers(len(LABELS))][-ndim:],
    }


def random_look(random: np.random.Generator) -> dict[str, Any]:
    low, high = sorted(random.uniform(1, 100, 2))
    return {
        "contrast_limits": (low, high + 1),
        "gamma": random.uniform(0.3, 2),
        "opacity": random.uniform(0.2, 1),
        "blending": random.choice(["translucent", "additive", "opaque", "minimum"]),
        "interpolation2d": random.choice(["nearest", "linear", "cubic"]),
    }


def random_array(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    return (random.random(shape) * 101).astype(random.choice(DTYPES))


def in_container(container: str, data: NDArray[Any]) -> Any:
    if container == "multiscale":
        rows = data.ndim - 2 - (data.shape[-1] in (3, 4))
        half = data[(*[slice(None)] * rows, slice(None, None, 2), slice(None, None, 2))]
        return [data, half]
    return dask.array.from_array(data) if container == "dask" else data


def corners(layer: Image) -> NDArray[np.float64]:
    """World coordinates of the outer corners of a layer's pixels."""
    shape = level0(layer).shape[: layer.ndim]
    places = np.stack(np.meshgrid(*[(-0.5, n - 0.5) for n in shape]), -1).reshape(-1, layer.ndim)
    return np.array([layer.data_to_world(place) for place in places])


def random_layer(seed: int) -> Image:
    random = np.random.default_rng(seed)
    kind, container = list(SHAPES)[seed % len(SHAPES)], ("numpy", "multiscale", "dask")[seed // len(SHAPES) % 3]
    data, rgb = random_array(random, SHAPES[kind]), "rgb" in kind
    look = random_look(random) | ({} if rgb else {"colormap": random.choice(["magma", "viridis", "bop blue"])})
    place = random_placement(random, data.ndim - rgb)
    return Image(in_container(container, data), rgb=rgb, multiscale=container == "multiscale", **place, **look)


@pytest.mark.parametrize("seed", range(30))
def test_a_result_overlays_its_source_for_any_placement(seed: int) -> None:
    viewer, source = ViewerModel(), random_layer(seed)
    viewer.add_layer(source)
    result = restore_layer(viewer, source, task="denoise", severity=0.5)
    assert np.array_equal(corners(result), corners(source))
    assert np.array_equal(result.extent.world, source.extent.world)
    for name in PLACES + LOOKS:
        assert getattr(result, name) == getattr(source, name), name
    restored, data = level0(result), level0(source)
    assert (restored.shape, restored.dtype) == (data.shape, data.dtype)
    assert not np.array_equal(restored, np.asarray(data))


@pytest.mark.parametrize("seed", range(10))
def test_a_cell_lies_on_the_pixels_that_it_covers(seed: int) -> None:
    place = random_placement(np.random.default_rng(seed), 3)
    source = Image(np.zeros((3, 64, 96), "uint8"), rgb=False, **place)
    cells = Labels(np.zeros((3, 2, 3), int), **cell_placement(source, {1: 32, 2: 32}))
    pixels = [source.data_to_world((2, y, x)) for y in range(32, 64) for x in range(64, 96)]
    assert np.allclose(cells.data_to_world((2, 1, 2)), np.mean(pixels, axis=0))
