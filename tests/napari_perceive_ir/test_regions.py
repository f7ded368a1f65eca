"""A region of interest in the Restore dock: what the canvas shows, or the box around a drawn shape."""

from __future__ import annotations

import shlex
from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel as Model
from napari.layers import Image, Shapes
from numpy.typing import NDArray
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication
from typer.testing import CliRunner

import perceive_ir as pir
from napari_perceive_ir import restore_layer
from napari_perceive_ir._bounds import box_around
from napari_perceive_ir._compare import camera_of
from napari_perceive_ir._dock import RestoreDock
from napari_perceive_ir._picture_rows import VISIBLE, WHOLE
from napari_perceive_ir._visible import visible_box
from tests.napari_perceive_ir.conftest import LONG, click, docked, finish, names, picture

TOLERANCE = 1 / 512
SHAPE = (180, 160)
BOX = (slice(20, 61), slice(90, 131))
"""What a rectangle over these pixels touches."""
CORNERS = np.array([(20.2, 90), (20.2, 130.3), (60, 130.3), (60, 90)])
PLACES = [
    {},
    {"scale": (0.5, 0.25), "translate": (3, 5), "units": ("um", "um")},
    {"scale": (2, 0.5), "rotate": 30, "shear": (0.4,), "translate": (-7, 2)},
    {"affine": np.array([(1.0, 0.3, 4), (-0.2, 0.8, 1), (0, 0, 1)]), "scale": (0.5, 3), "rotate": -70},
]


@pytest.fixture(params=PLACES)
def viewer(request: pytest.FixtureRequest) -> Model:
    viewer = Model()
    viewer.add_image(picture(*SHAPE), name="cells", **request.param)
    viewer.fit_to_view()
    return viewer


@pytest.fixture
def plain() -> Model:
    viewer = Model()
    viewer.add_image(picture(*SHAPE), name="cells")
    viewer.fit_to_view()
    return viewer


def draw(viewer: Model, source: Image, corners: NDArray[Any] = CORNERS) -> Shapes:
    """Draw a rectangle over pixels of the last two axes of a layer, in a layer that knows only the world."""
    points = [source.data_to_world((*(0,) * (source.ndim - 2), *corner))[-2:] for corner in corners]
    shapes = Shapes([np.array(points)], shape_type="polygon", name="box", ndim=2)
    viewer.add_layer(shapes)
    shapes.selected_data = set()
    return shapes


def region(qtbot: QtBot, dock: RestoreDock, entry: int) -> None:
    """Choose a region with the keyboard."""
    box = dock.controls.pictures.region.native
    for _ in range(entry):
        qtbot.keyClick(box, Qt.Key.Key_Down)


def run(qtbot: QtBot, dock: RestoreDock) -> Any:
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    return dock._viewer.layers[-1]


def assert_on_its_place(result: Image, source: Image, corner: tuple[int, ...]) -> None:
    for pixel in np.vstack([np.zeros(source.ndim), np.eye(source.ndim) * 9]):
        assert np.allclose(result.data_to_world(pixel), source.data_to_world(np.add(corner, pixel)))
    assert result.units == source.units


# ---- what is restored, and where it lies


def test_a_drawn_box_is_restored_exactly_where_it_lies_as_in_the_whole(viewer: Model, qtbot: QtBot) -> None:
    source, dock = viewer.layers["cells"], docked(viewer, qtbot, task="denoise", severity=0.5)
    draw(viewer, source)
    region(qtbot, dock, 2)
    result = run(qtbot, dock)
    whole = pir.restore(source.data, axes="YX", task="denoise", severity=0.5)
    assert result.name == "cells denoised, region"
    assert result.data.shape == (41, 41) and np.abs(result.data - whole[BOX]).max() <= TOLERANCE
    assert not np.allclose(result.data, source.data[BOX], atol=0.01)
    assert_on_its_place(result, source, (20, 90))


@pytest.mark.usefixtures("windowless_camera")
def test_what_the_canvas_shows_is_restored_exactly_where_it_lies(viewer: Model, qtbot: QtBot) -> None:
    source, dock = viewer.layers["cells"], docked(viewer, qtbot, task="denoise", severity=0.5)
    camera_of(viewer).zoom *= 12
    box = visible_box(viewer, source, "YX")
    assert box is not None and all(0 < one.start and one.stop < n for one, n in zip(box, SHAPE, strict=True))
    region(qtbot, dock, 1)
    result = run(qtbot, dock)
    whole = pir.restore(source.data, axes="YX", task="denoise", severity=0.5)
    assert np.abs(result.data - whole[box]).max() <= TOLERANCE
    assert_on_its_place(result, source, (box[0].start, box[1].start))


def test_the_selected_shape_counts_else_all_of_them(plain: Model) -> None:
    source = plain.layers["cells"]
    shapes = draw(plain, source)
    shapes.add_ellipses(np.array([(100, 10), (100, 30), (120, 30), (120, 10)]))
    shapes.selected_data = set()
    assert box_around(shapes, source, "YX") == (slice(20, 121), slice(10, 131))
    shapes.selected_data = {1}
    assert box_around(shapes, source, "YX") == (slice(100, 121), slice(10, 31))


def test_a_box_that_reaches_beyond_the_picture_ends_with_it(plain: Model) -> None:
    source = plain.layers["cells"]
    shapes = draw(plain, source, np.array([(-50, 100), (-50, 400), (30.4, 400), (30.4, 100)]))
    assert box_around(shapes, source, "YX") == (slice(0, 31), slice(100, 160))


def lazy(data: NDArray[Any]) -> Any:
    return da.from_array(data, chunks=(1, 64, 64))


@pytest.mark.parametrize("kind", [np.asarray, lazy])
@pytest.mark.parametrize("plane", [False, True])
def test_of_a_stack_the_box_is_that_of_all_planes_or_of_the_shown_one(plane: bool, kind: Any, qtbot: QtBot) -> None:
    viewer, data = Model(), picture(3, *SHAPE)
    place = {"scale": (3, 0.5, 0.5), "axis_labels": ("z", "y", "x"), "units": ("um",) * 3}
    source = viewer.add_image(kind(data), name="cells", **place)
    dock = docked(viewer, qtbot, task="denoise", severity=0.5)
    draw(viewer, source)
    viewer.dims.set_point(0, 6)
    if plane:
        qtbot.keyClick(dock.controls.pictures.planes.native, Qt.Key.Key_Down)
    region(qtbot, dock, 2)
    result = run(qtbot, dock)
    seen = data[2:] if plane else data
    whole = pir.restore(seen, axes="ZYX", task="denoise", severity=0.5)
    assert np.abs(result.data - whole[:, *BOX]).max() <= TOLERANCE
    assert_on_its_place(result, source, (2 if plane else 0, 20, 90))
    assert result.name == f"cells denoised, {'Z 2, ' if plane else ''}region"


def test_every_selected_layer_has_its_own_pixels_of_the_box(plain: Model, qtbot: QtBot) -> None:
    half = plain.add_image(picture(90, 80), name="half", scale=(2, 2), translate=(0.5, 0.5))
    dock = docked(plain, qtbot, task="denoise", severity=0.5)
    draw(plain, plain.layers["cells"])
    plain.layers.selection = {plain.layers["cells"], half}
    click(qtbot, dock.controls.pictures.several.native)
    region(qtbot, dock, 2)
    run(qtbot, dock)
    assert [layer.data.shape for layer in list(plain.layers)[-2:]] == [(41, 41), (21, 21)]


def test_strength_is_live_on_a_region(plain: Model, qtbot: QtBot) -> None:
    source, dock = plain.layers["cells"], docked(plain, qtbot, task="denoise", severity=0.5)
    draw(plain, source)
    region(qtbot, dock, 2)
    result = run(qtbot, dock)
    full = result.data.copy()
    dock.controls.strength.setValue(0.5)
    qtbot.waitUntil(lambda: not np.array_equal(result.data, full), timeout=LONG)
    assert np.allclose(result.data - source.data[BOX], (full - source.data[BOX]) / 2, atol=1e-6)
    assert result.metadata["perceive_ir"]["region"] == {"rows": [20, 61], "columns": [90, 131]}


# ---- what is said of it


def test_the_copied_text_gives_the_same_pixels(plain: Model, qtbot: QtBot, tmp_path: Any, monkeypatch: Any) -> None:
    dock = docked(plain, qtbot, task="denoise", severity=0.5)
    draw(plain, plain.layers["cells"])
    region(qtbot, dock, 2)
    result = run(qtbot, dock)
    click(qtbot, dock.copy.python_button)
    around: dict[str, Any] = {"viewer": plain}
    exec(QApplication.clipboard().text(), around)  # what the user would do
    assert np.array_equal(around["restored"], result.data)

    from perceive_ir import files
    from perceive_ir.commands import app

    click(qtbot, dock.copy.command_button)
    monkeypatch.chdir(tmp_path)
    files.write_image("cells.tif", plain.layers["cells"].data)
    done = CliRunner().invoke(app, shlex.split(QApplication.clipboard().text())[1:])
    assert done.exit_code == 0 and np.array_equal(files.read_image("cells_restored.tif").data, result.data)


def test_the_console_takes_a_shapes_layer_or_slices(plain: Model) -> None:
    shapes = draw(plain, plain.layers["cells"])
    drawn = restore_layer(plain, "cells", region=shapes, task="denoise", severity=0.5)
    sliced = restore_layer(plain, "cells", region=BOX, task="denoise", severity=0.5)
    assert np.array_equal(drawn.data, sliced.data) and drawn.data.shape == (41, 41)


def test_the_estimate_follows_the_region(plain: Model, qtbot: QtBot) -> None:
    plain.layers["cells"].data = picture(1500, 1500)
    dock = docked(plain, qtbot, task="denoise", severity=0.5)
    qtbot.waitUntil(lambda: "9 tiles" in dock.estimate.text(), timeout=LONG)
    shapes = draw(plain, plain.layers["cells"])
    region(qtbot, dock, 2)
    qtbot.waitUntil(lambda: "1 tile " in dock.estimate.text(), timeout=LONG)
    shapes.data = [np.array([(20, 90), (20, 1400), (60, 1400), (60, 90)])]
    qtbot.waitUntil(lambda: "3 tiles" in dock.estimate.text(), timeout=LONG)


# ---- what can go wrong


@pytest.mark.parametrize(
    ("corners", "why"), [(None, "nothing is drawn in 'box'"), (CORNERS + 500, "'box' lies beside 'cells'")]
)
def test_a_region_without_pixels_is_refused(
    corners: Any, why: str, plain: Model, qtbot: QtBot, notices: list[str]
) -> None:
    dock = docked(plain, qtbot, task="denoise", severity=0.5)
    shapes = draw(plain, plain.layers["cells"], CORNERS if corners is None else corners)
    if corners is None:
        shapes.data = []
    region(qtbot, dock, 2)
    click(qtbot, dock.run_button)
    assert not dock.running and len(notices) == 1 and why in notices[0]
    assert names(plain) == ["cells", "box"]


@pytest.mark.usefixtures("windowless_camera")
def test_what_is_out_of_sight_is_refused(plain: Model, qtbot: QtBot, notices: list[str]) -> None:
    dock = docked(plain, qtbot, task="denoise", severity=0.5)
    region(qtbot, dock, 1)
    camera_of(plain).center = (0, 5000, 5000)
    click(qtbot, dock.run_button)
    assert not dock.running and "'cells' is out of sight" in notices[0]
    plain.dims.ndisplay = 3
    click(qtbot, dock.run_button)
    assert not dock.running and "no plane of Y and X" in notices[1]


def test_without_its_shapes_layer_the_whole_picture_is_meant(plain: Model, qtbot: QtBot) -> None:
    dock = docked(plain, qtbot, task="denoise", severity=0.5)
    draw(plain, plain.layers["cells"])
    region(qtbot, dock, 2)
    assert dock.controls.pictures.region.value is plain.layers["box"]
    plain.layers.remove("box")
    assert dock.controls.pictures.region.value == WHOLE


def test_one_click_means_the_whole_picture(plain: Model, qtbot: QtBot) -> None:
    dock = docked(plain, qtbot, task="denoise", severity=0.5)
    dock.controls.pictures.region.value = VISIBLE
    dock.run(plain.layers["cells"], "denoise")
    finish(qtbot, dock)
    assert plain.layers[-1].data.shape == SHAPE
