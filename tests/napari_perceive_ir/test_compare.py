"""Before and after: what is seen is right, follows, and leaves no trace; then with a real mouse, keys and dock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari.components import ViewerModel as Model
from napari.layers import Image
from numpy.typing import NDArray
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from napari_perceive_ir._compare import Flip, SideBySide, Swipe, camera_of, grid_of, is_cover, share_place
from napari_perceive_ir._dock import RestoreDock
from napari_perceive_ir._halves import Halves
from napari_perceive_ir._overlay import Overlay
from tests.napari_perceive_ir.conftest import LONG, click, docked, picture, with_cells

AFFINE = np.array([[1.1, 0.3, 4.0], [-0.2, 0.9, 2.0], [0, 0, 1]])
PLACES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "plain": ((20, 30), {}),
    "scaled": ((20, 30), {"scale": (0.5, 0.25), "translate": (3, -7), "units": ("um", "um")}),
    "rotated": ((20, 30), {"rotate": 30, "scale": (2, 3)}),
    "sheared": ((20, 30), {"shear": [0.4], "translate": (1, 2)}),
    "affine": ((20, 30), {"affine": AFFINE, "rotate": 10}),
    "colour": ((20, 30, 3), {"rgb": True}),
    "stack": ((4, 20, 30), {"scale": (2.5, 0.5, 0.5), "units": ("um",) * 3, "axis_labels": ("z", "y", "x")}),
    "time-lapse": ((4, 20, 30, 3), {"rgb": True, "axis_labels": ("t", "y", "x")}),
    "added light": ((20, 30), {"blending": "additive", "colormap": "green", "opacity": 0.5}),
}
each_place = pytest.mark.parametrize(("shape", "place"), PLACES.values(), ids=PLACES)


def opened(viewer: Any, shape: tuple[int, ...] = (20, 30), **place: Any) -> Any:
    """Add a picture, another kind of layer, and the picture after; return the two."""
    before = viewer.add_image(picture(*shape), name="before", **place)
    viewer.add_points(np.zeros((1, before.ndim)), name="spots")
    return before, viewer.add_image(picture(*shape, seed=1), name="after", **place)


def state(viewer: Any) -> dict[str, Any]:
    """Return all that must be as it was."""
    layers = {layer.name: (id(layer.data), repr(layer.as_layer_data_tuple()[1])) for layer in viewer.layers}
    ranges = {one.name: one.contrast_limits_range for one in viewer.layers if isinstance(one, Image)}
    chosen = sorted(layer.name for layer in viewer.layers.selection)
    grid, camera = grid_of(viewer), camera_of(viewer)
    view = grid.enabled, grid.shape, grid.stride, camera.zoom, camera.center, camera.mouse_pan, viewer.dims.point
    callbacks = len(viewer.mouse_drag_callbacks), len(viewer.mouse_move_callbacks)
    return {"layers": layers, "ranges": ranges, "chosen": chosen, "view": view, "callbacks": callbacks}


def shown(swipe: Swipe) -> NDArray[Any]:
    return np.asarray(swipe.layer.data)


def names(viewer: Any, visible: bool = False) -> list[str]:
    return [layer.name for layer in viewer.layers if layer.visible or not visible]


keys = st.tuples(
    st.integers(-4, 3) | st.slices(4),
    st.slices(6).filter(lambda part: (part.step or 1) > 0) | st.integers(0, 5),
    st.slices(5),
)


@given(key=keys, length=st.integers(0, 3), axis=st.sampled_from([1, -2]), at=st.floats(0, 1))
def test_halves_give_what_the_joined_array_gives(key: tuple[Any, ...], length: int, axis: int, at: float) -> None:
    before, after = picture(4, 6, 5), picture(4, 6, 5, seed=1)
    halves = Halves(before, da.from_array(after), axis % 3, at)
    joined = np.concatenate([before[:, : halves.edge], after[:, halves.edge :]], axis=1)
    assert np.array_equal(halves[key[:length]], joined[key[:length]])
    assert np.array_equal(halves[(..., *key[3 - length :])], joined[(..., *key[3 - length :])])
    assert (halves.shape, halves.dtype, halves.ndim, halves.size) == (joined.shape, joined.dtype, 3, joined.size)


@each_place
@pytest.mark.parametrize("kind", [Swipe, Flip, SideBySide])
def test_no_trace_is_left(kind: Any, shape: tuple[int, ...], place: dict[str, Any]) -> None:
    viewer = Model()
    before, after = opened(viewer, shape, **place)
    before.visible = False
    was = state(viewer)
    comparison = kind(viewer, before, after)
    assert state(viewer) != was
    if kind is Swipe:
        comparison.move(0.3)
    comparison.stop()
    comparison.stop()
    assert state(viewer) == was


@each_place
def test_a_swipe_lies_on_both_and_shows_each_on_its_side(shape: tuple[int, ...], place: dict[str, Any]) -> None:
    viewer = Model()
    before, after = opened(viewer, shape, **place)
    swipe = Swipe(viewer, before, after, at=0.4)
    across = before.ndim - 1
    parts = np.split(before.data, [12], across)[0], np.split(after.data, [12], across)[1]
    assert np.array_equal(shown(swipe), np.concatenate(parts, across))
    assert share_place(swipe.layer, before)
    assert (before.visible, after.visible, swipe.layer.visible) == (False, False, True)
    assert swipe.layer.contrast_limits == after.contrast_limits
    assert (swipe.layer.blending, swipe.layer.colormap.name) == (after.blending, after.colormap.name)


@each_place
def test_the_line_stands_where_one_gives_way_to_the_other(shape: tuple[int, ...], place: dict[str, Any]) -> None:
    viewer = Model()
    before, after = opened(viewer, shape, **place)
    slices = [2] * (viewer.dims.ndim - 2)
    viewer.dims.point = before.data_to_world([*slices, 0, 0])
    swipe = Swipe(viewer, before, after, at=0.4)
    for end, row in zip(swipe.line.data[0], (-0.5, 19.5), strict=True):
        assert np.allclose(swipe.line.data_to_world(end), before.data_to_world([*slices, row, 11.5]))


@pytest.mark.parametrize("place", [{}, {"scale": (0.5, 2), "rotate": 30, "shear": (0.3,), "translate": (7, -1)}])
def test_a_swipe_over_a_restored_region_leaves_the_picture_around_it_in_sight(place: dict[str, Any]) -> None:
    viewer = Model()
    before = viewer.add_image(picture(20, 30), name="before", **place)
    corner = before.data_to_world((4, 9))
    after = viewer.add_image(picture(10, 12, seed=1), name="after", **place | {"translate": corner})
    swipe = Swipe(viewer, before, after)
    assert np.array_equal(shown(swipe), np.hstack([before.data[4:14, 9:15], after.data[:, 6:]]))
    assert np.allclose(swipe.layer.data_to_world((0, 0)), corner)
    assert (before.visible, after.visible) == (True, False)
    swipe.stop()
    assert names(viewer, visible=True) == ["before", "after"]
    with pytest.raises(ValueError, match="the same place"):
        Swipe(viewer, after, before)


@pytest.mark.parametrize(("at", "side"), [(-3, "after"), (0, "after"), (1, "before"), (2, "before")])
def test_the_edge_stays_in_the_picture(at: float, side: str) -> None:
    viewer = Model()
    swipe = Swipe(viewer, *opened(viewer))
    swipe.move(at)
    assert np.array_equal(shown(swipe), viewer.layers[side].data)


def test_a_swipe_goes_through_a_stack() -> None:
    viewer = Model()
    swipe = Swipe(viewer, *opened(viewer, (4, 20, 30)))
    viewer.dims.current_step = (3, 0, 0)
    assert {end[0] for end in swipe.line.data[0]} == {3}


def test_the_edge_runs_across_the_canvas_whatever_it_shows() -> None:
    viewer = Model()
    before, after = opened(viewer, (4, 20, 30))
    swipe = Swipe(viewer, before, after, at=0.25)
    viewer.dims.order = (2, 0, 1)
    assert np.array_equal(shown(swipe)[:, :5], before.data[:, :5])
    assert np.array_equal(shown(swipe)[:, 5:], after.data[:, 5:])
    assert np.array_equal(np.ptp(swipe.line.data[0], axis=0), (4, 0, 0))


def test_a_plane_is_swiped_beside_a_stack() -> None:
    viewer = Model()
    before, after = opened(viewer)
    viewer.add_image(picture(5, 20, 30))
    swipe = Swipe(viewer, before, after, at=0.2)
    assert np.array_equal(shown(swipe)[:, 6:], after.data[:, 6:])
    viewer.dims.current_step = (4, 0, 0)
    swipe.move(0.5)
    assert np.array_equal(swipe.line.data[0], [(-0.5, 14.5), (19.5, 14.5)])


def test_equal_pyramids_are_swiped_as_a_pyramid_and_others_at_full_size() -> None:
    viewer = Model()
    fine, coarse = picture(64, 96), picture(32, 48)
    one = viewer.add_image([fine, coarse], name="one", multiscale=True)
    two = viewer.add_image([1 - fine, 1 - coarse], name="two", multiscale=True)
    flat = viewer.add_image(1 - fine, name="flat")
    swipe = Swipe(viewer, one, two)
    assert [level.shape for level in swipe.layer.data] == [(64, 96), (32, 48)]
    assert np.array_equal(np.asarray(swipe.layer.data[1])[:, 24:], 1 - coarse[:, 24:])
    swipe.stop()
    swipe = Swipe(viewer, one, flat)
    assert not swipe.layer.multiscale
    assert np.array_equal(shown(swipe)[:, :48], fine[:, :48])


def test_only_what_is_shown_is_read() -> None:
    viewer = Model()
    asked: list[int] = []

    def plane(block_id: Any = None) -> NDArray[Any]:
        asked.append(block_id[0])
        return np.zeros((1, 20, 30))

    lazy = da.map_blocks(plane, chunks=((1,) * 9, (20,), (30,)), dtype=float)
    before = viewer.add_image(lazy, contrast_limits=(0, 1))
    after = viewer.add_image(np.ones((9, 20, 30)), contrast_limits=(0, 1))
    viewer.dims.current_step = (4, 0, 0)
    asked.clear()
    swipe = Swipe(viewer, before, after)
    swipe.move(0.7)
    assert set(asked) <= {0, 4}  # napari looks at the first plane of every new layer


def test_a_swipe_follows_contrast_and_data() -> None:
    viewer = Model()
    before, after = opened(viewer)
    swipe = Swipe(viewer, before, after)
    after.contrast_limits, after.gamma, after.colormap = (0.1, 0.4), 0.5, "red"
    assert (swipe.layer.contrast_limits, swipe.layer.gamma, swipe.layer.colormap.name) == ([0.1, 0.4], 0.5, "red")
    after.data = np.full((20, 30), 7, np.float32)
    assert (shown(swipe)[:, 15:] == 7).all() and np.array_equal(shown(swipe)[:, :15], before.data[:, :15])
    swipe.stop()
    after.contrast_limits = (0.2, 0.3)
    assert swipe.layer.contrast_limits == [0.1, 0.4]


@pytest.mark.parametrize("kind", [Swipe, Flip, SideBySide])
@pytest.mark.parametrize("name", ["before", "after", "before | after", "swipe line"])
def test_removing_a_layer_ends_it(kind: Any, name: str) -> None:
    viewer, told = Model(), []
    before, after = opened(viewer)
    comparison = kind(viewer, before, after, lost=lambda: told.append(True))
    if name not in viewer.layers:
        return
    viewer.layers.remove(name)
    comparison.stop()
    left = {"before": True, "spots": True, "after": True}
    left.pop(name, None)
    assert {layer.name: layer.visible for layer in viewer.layers} == left
    assert told == [True] and not grid_of(viewer).enabled


def test_all_layers_can_be_cleared_during_a_swipe() -> None:
    viewer = Model()
    swipe = Swipe(viewer, *opened(viewer))
    viewer.layers.clear()
    swipe.stop()
    assert not viewer.layers


def test_data_of_another_shape_end_a_swipe() -> None:
    viewer, told = Model(), []
    before, after = opened(viewer)
    swipe = Swipe(viewer, before, after, lost=lambda: told.append(True))
    before.data = picture(9, 9)
    swipe.stop()
    assert told == [True] and names(viewer, visible=True) == ["before", "spots", "after"]


def test_the_next_swipe_ends_the_one_before() -> None:
    viewer = Model()
    before, after = opened(viewer)
    first = Swipe(viewer, before, after)
    second = Swipe(viewer, before, after)
    first.stop()
    assert names(viewer) == ["before", "spots", "after", second.layer.name, second.line.name]
    assert names(viewer, visible=True) == ["spots", second.layer.name, second.line.name]
    second.stop()
    assert names(viewer, visible=True) == ["before", "spots", "after"]


@pytest.mark.parametrize(
    "other",
    [
        {"scale": (2, 2)},
        {"units": ("um", "um")},
        {"rotate": 5},
        {"shape": (20, 31)},
        {"shape": (20, 30, 3)},
        {"shape": (9, 9), "translate": (0.5, 0)},
    ],
    ids=str,
)
def test_pictures_in_other_places_are_refused(other: dict[str, Any]) -> None:
    viewer = Model()
    one = viewer.add_image(picture(20, 30), name="one")
    two = viewer.add_image(picture(*other.pop("shape", (20, 30))), name="two", **other)
    with pytest.raises(ValueError, match="expected two pictures in the same place, got 'one' and 'two'"):
        Swipe(viewer, one, two)
    assert len(viewer.layers) == 2 and one.visible and two.visible


@pytest.mark.parametrize("turned", [False, True])
def test_side_by_side_has_before_on_the_left_and_nothing_else(turned: bool) -> None:
    viewer = Model()
    before, after = opened(viewer)
    viewer.add_image(picture(20, 30), name="on top")
    if turned:
        viewer.layers.move(0, 3)
    SideBySide(viewer, before, after)
    layers, grid = viewer.layers, grid_of(viewer)
    new = hasattr(viewer, "canvas")
    if turned and not new:
        pytest.skip("before napari 0.9 a result that lies below its source may stand on the left")
    all_of_them = layers if new else len(layers)
    places = {layer.name: grid.position(n, all_of_them) for n, layer in enumerate(layers) if layer.visible}
    assert (places, grid.actual_shape(all_of_them)) == ({"before": (0, 0), "after": (0, 1)}, (1, 2))


def test_side_by_side_fits_the_whole_picture_and_keeps_a_detail() -> None:
    viewer = Model()
    before, after = opened(viewer)
    viewer.fit_to_view()
    whole = camera_of(viewer).zoom
    side = SideBySide(viewer, before, after)
    assert camera_of(viewer).zoom < whole
    side.stop()
    assert camera_of(viewer).zoom == whole
    camera_of(viewer).zoom = 10 * whole
    SideBySide(viewer, before, after)
    assert camera_of(viewer).zoom == 10 * whole


def test_leaving_the_grid_by_napari_ends_side_by_side() -> None:
    viewer, told = Model(), []
    SideBySide(viewer, *opened(viewer), lost=lambda: told.append(True))
    grid_of(viewer).enabled = False
    assert told == [True] and all(layer.visible for layer in viewer.layers)


def test_a_flip_shows_before_under_whatever_lies_over_it() -> None:
    viewer = Model()
    before, after = opened(viewer)
    viewer.add_image(picture(20, 30), name="on top")
    viewer.layers.move(3, 1)
    flip = Flip(viewer, before, after)
    assert names(viewer, visible=True) == ["before"]
    flip.stop()
    assert all(layer.visible for layer in viewer.layers)


@pytest.fixture
def window(make_napari_viewer: Callable[..., Any], qtbot: QtBot) -> Any:
    """A real window with a black picture before and a white one after."""
    viewer = make_napari_viewer(show=True)
    for name, value in (("before", 0), ("after", 255)):
        viewer.add_image(np.full((40, 60), value, np.uint8), name=name, contrast_limits=(0, 255), units=("um", "um"))
    viewer.fit_to_view()
    qtbot.wait(50)
    return viewer


class Mouse:
    """Real events of the mouse on the canvas, at columns of the picture."""

    def __init__(self, viewer: Any) -> None:
        self.camera = camera_of(viewer)
        self.canvas = viewer.window._qt_viewer.canvas.native

    def press(self, column: float) -> None:
        self.send(QEvent.Type.MouseButtonPress, column, Qt.MouseButton.LeftButton, Qt.MouseButton.LeftButton)

    def move(self, column: float, button: Qt.MouseButton = Qt.MouseButton.LeftButton) -> None:
        self.send(QEvent.Type.MouseMove, column, Qt.MouseButton.NoButton, button)

    def release(self, column: float) -> None:
        self.send(QEvent.Type.MouseButtonRelease, column, Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton)

    def send(self, kind: QEvent.Type, column: float, button: Qt.MouseButton, held: Qt.MouseButton) -> None:
        x = self.canvas.width() / 2 + (column - 0.5 - self.camera.center[2]) * self.camera.zoom
        spot = QPointF(x, self.canvas.height() / 2)
        event = QMouseEvent(
            kind, spot, QPointF(self.canvas.mapToGlobal(spot)), button, held, Qt.KeyboardModifier.NoModifier
        )
        QApplication.sendEvent(self.canvas, event)
        QApplication.processEvents()


def white_columns(viewer: Any) -> float:
    """Return how many columns of the picture are white on the screen."""
    row = viewer.screenshot(canvas_only=True, flash=False)
    middle = row[len(row) // 4, :, 0]
    return float((middle > 250).sum() / camera_of(viewer).zoom)


def test_the_line_is_dragged_with_the_mouse_and_the_view_stays(window: Any, qtbot: QtBot) -> None:
    swipe = Swipe(window, *window.layers[:2])
    mouse, center = Mouse(window), camera_of(window).center
    assert white_columns(window) == pytest.approx(30, abs=2)
    mouse.move(30, Qt.MouseButton.NoButton)
    assert window.cursor.style == "pointing"
    mouse.press(30)
    mouse.move(20)
    qtbot.wait(30)  # napari takes at most one move in 5 ms
    mouse.move(10)
    qtbot.wait(30)
    mouse.release(10)
    assert swipe.at == pytest.approx(1 / 6, abs=0.02)
    assert white_columns(window) == pytest.approx(50, abs=2)
    assert camera_of(window).center == center and camera_of(window).mouse_pan


def test_away_from_the_line_the_mouse_pans(window: Any, qtbot: QtBot) -> None:
    swipe = Swipe(window, *window.layers[:2])
    mouse, center = Mouse(window), camera_of(window).center
    mouse.move(45, Qt.MouseButton.NoButton)
    assert window.cursor.style == "standard"
    mouse.press(45)
    mouse.move(40)
    qtbot.wait(30)
    mouse.release(40)
    assert swipe.at == 0.5 and camera_of(window).center[2] > center[2]


@pytest.fixture
def dock(viewer: Model, qtbot: QtBot) -> RestoreDock:
    return docked(viewer, qtbot, task="denoise")


def restored(dock: RestoreDock, qtbot: QtBot) -> Any:
    """Run, and return the row that compares."""
    click(qtbot, dock.run_button)
    qtbot.waitUntil(lambda: not dock.running, timeout=LONG)
    assert dock.compare is not None
    return dock.compare


def test_the_row_appears_with_a_result(dock: RestoreDock, qtbot: QtBot) -> None:
    assert dock.compare is not None and not dock.compare.isVisible()
    assert restored(dock, qtbot).isVisible()


def test_clicks_turn_swipe_and_side_by_side_on_and_off(viewer: Model, dock: RestoreDock, qtbot: QtBot) -> None:
    row = restored(dock, qtbot)
    was = state(viewer)
    click(qtbot, row.swipe_button)
    assert names(viewer)[2:] == ["cells | cells denoised", "swipe line"] and row.swipe_button.isChecked()
    click(qtbot, row.side_button)
    assert grid_of(viewer).enabled and len(viewer.layers) == 2
    assert (row.swipe_button.isChecked(), row.side_button.isChecked()) == (False, True)
    click(qtbot, row.side_button)
    assert state(viewer) == was and not row.side_button.isChecked()


def test_a_swipe_is_no_picture_to_restore(viewer: Model, dock: RestoreDock, qtbot: QtBot) -> None:
    click(qtbot, restored(dock, qtbot).swipe_button)
    assert [layer.name for layer in dock.controls.layer.choices] == ["cells", "cells denoised"]


def test_the_strength_slider_is_seen_in_the_swipe(viewer: Model, dock: RestoreDock, qtbot: QtBot) -> None:
    click(qtbot, restored(dock, qtbot).swipe_button)
    dock.controls.strength.setValue(0.0)
    cover = next(layer for layer in viewer.layers if is_cover(layer))
    source = viewer.layers["cells"].data
    qtbot.waitUntil(lambda: np.allclose(np.asarray(cover.data), source, atol=1e-6), timeout=LONG)


def test_a_second_result_ends_the_swipe_and_is_compared_next(viewer: Model, dock: RestoreDock, qtbot: QtBot) -> None:
    row = restored(dock, qtbot)
    click(qtbot, row.swipe_button)
    dock.controls.task.value = "deblur"
    restored(dock, qtbot)
    assert names(viewer, visible=True) == ["cells", "cells denoised", "cells deblurred"] == names(viewer)
    assert not row.swipe_button.isChecked()
    click(qtbot, row.swipe_button)
    assert "cells | cells deblurred" in names(viewer)


@pytest.mark.parametrize("name", ["cells", "cells denoised", "cells | cells denoised", "swipe line"])
def test_deleting_a_layer_ends_the_swipe_of_the_dock(name: str, viewer: Model, dock: RestoreDock, qtbot: QtBot) -> None:
    row = restored(dock, qtbot)
    click(qtbot, row.swipe_button)
    viewer.layers.remove(name)
    left = [one for one in ("cells", "cells denoised") if one != name]
    qtbot.waitUntil(lambda: names(viewer) == left, timeout=LONG)
    assert names(viewer, visible=True) == left and not row.swipe_button.isChecked()
    assert row.isVisible() == (len(left) == 2)


@pytest.mark.parametrize("button", ["swipe_button", "side_button"])
def test_deleting_all_layers_ends_it(button: str, viewer: Model, dock: RestoreDock, qtbot: QtBot) -> None:
    row = restored(dock, qtbot)
    click(qtbot, getattr(row, button))
    del viewer.layers[:]
    qtbot.waitUntil(lambda: not row.isVisible(), timeout=LONG)
    assert not viewer.layers and not grid_of(viewer).enabled


def test_two_selected_layers_in_one_place_are_compared_before_the_last_result(
    viewer: Model, dock: RestoreDock, qtbot: QtBot
) -> None:
    row = restored(dock, qtbot)
    twin = viewer.add_image(picture(48, 40), name="twin", scale=(0.5, 0.25), units=("um", "um"))
    viewer.layers.selection = {viewer.layers["cells denoised"], twin}
    click(qtbot, row.swipe_button)
    assert "cells denoised | twin" in names(viewer)
    assert {layer.name for layer in viewer.layers.selection} == {"cells denoised", "twin"}


def test_two_docks_do_not_disturb_each_other(viewer: Model, dock: RestoreDock, qtbot: QtBot) -> None:
    other = docked(viewer, qtbot, task="denoise")
    rows = [restored(one, qtbot) for one in (dock, other)]
    for row in rows:
        click(qtbot, row.swipe_button)
    qtbot.waitUntil(lambda: [row.swipe_button.isChecked() for row in rows] == [False, True], timeout=LONG)
    assert len(viewer.layers) == 3 + 2
    click(qtbot, rows[1].swipe_button)
    assert names(viewer) == names(viewer, visible=True) == ["cells", "cells denoised", "cells denoised [1]"]


@pytest.fixture
def two_rows(viewer: Model, dock: RestoreDock, qtbot: QtBot) -> Iterator[list[Any]]:
    """The comparing rows of two docks that have a result each, among light that adds up."""
    other = docked(viewer, qtbot, task="denoise")
    viewer.layers["cells"].blending = "additive"
    viewer.add_points(np.zeros((1, 2)), name="spots")
    yield [restored(one, qtbot) for one in (dock, other)]


@pytest.mark.parametrize("last", ["first dock", "second dock", "layer removed", "first closed", "second closed"])
@pytest.mark.parametrize("second", ["swipe_button", "side_button"])
@pytest.mark.parametrize("first", ["swipe_button", "side_button"])
def test_whatever_two_docks_compare_no_trace_is_left(
    viewer: Model, two_rows: Any, qtbot: QtBot, first: str, second: str, last: str
) -> None:
    one, other = two_rows
    was = state(viewer)
    click(qtbot, getattr(one, first))
    click(qtbot, getattr(other, second))
    viewer.layers.selection.active = viewer.layers["spots"]
    if last == "layer removed":
        viewer.layers.remove(next((layer for layer in viewer.layers if is_cover(layer)), viewer.layers["spots"]))
    for row, word in ((one, "first"), (other, "second")):
        if last == f"{word} closed":
            row.leave()
    qtbot.wait(20)
    for row in two_rows if last.startswith("first") else (other, one):
        row.stop()
    viewer.layers.selection.active = viewer.layers["cells denoised [1]"]
    left = state(viewer)
    was["layers"] = {name: about for name, about in was["layers"].items() if name in viewer.layers}
    assert left == was and not any(map(is_cover, viewer.layers))


def test_a_result_of_another_dock_ends_the_swipe_and_nothing_shines_through(
    viewer: Model, dock: RestoreDock, two_rows: Any, qtbot: QtBot
) -> None:
    click(qtbot, two_rows[1].swipe_button)
    restored(dock, qtbot)
    assert not two_rows[1].swipe_button.isChecked()
    assert names(viewer, visible=True) == ["spots", "cells denoised [2]"]


@pytest.mark.parametrize("whose", [0, 1])
def test_a_preview_and_a_comparison_end_each_other(
    viewer: Model, dock: RestoreDock, two_rows: Any, qtbot: QtBot, whose: int
) -> None:
    row, was = two_rows[whose], names(viewer, visible=True)
    click(qtbot, dock.preview.box)
    click(qtbot, row.swipe_button)  # before the first pixels are there
    assert not dock.preview.box.isChecked() and row.swipe_button.isChecked()
    click(qtbot, dock.preview.box)
    qtbot.waitUntil(lambda: dock.preview.layer is not None and not row.swipe_button.isChecked(), timeout=LONG)
    click(qtbot, dock.preview.box)
    qtbot.waitUntil(lambda: not dock.preview.running, timeout=LONG)
    assert names(viewer, visible=True) == was


def test_a_slider_that_still_covers_the_result_leaves_it_in_sight_after_a_swipe(viewer: Model, two_rows: Any) -> None:
    result = viewer.layers["cells denoised [1]"]
    cover = Overlay(viewer, result, "at another strength")
    cover.show(np.array(result.data), (0, 0))
    swipe = Swipe(viewer, viewer.layers["cells"], result)
    cover.remove()
    assert not result.visible
    swipe.stop()
    assert names(viewer, visible=True) == ["spots", "cells denoised [1]"]


def test_the_key_of_the_user_comes_back_after_two_docks(viewer: Model, qtbot: QtBot) -> None:
    def mine(_: Any) -> None: ...

    viewer.bind_key("H", mine)
    docks = [docked(viewer, qtbot, task="denoise") for _ in range(2)]
    restored(docks[0], qtbot)
    for dock in docks:
        assert dock.compare is not None
        dock.compare.leave()
    assert list(viewer.keymap.values()) == [mine]


@pytest.fixture
def docked_window(make_napari_viewer_proxy: Callable[..., Any], qtbot: QtBot) -> Any:
    """A window as plugins get it, with the dock and a result."""
    viewer = with_cells(make_napari_viewer_proxy(show=True), 48, 40)
    dock = RestoreDock(viewer)
    dock.controls.task.value = "denoise"
    viewer.window.add_dock_widget(dock, name="Restore")
    restored(dock, qtbot)
    return viewer, dock


@pytest.mark.parametrize("swiping", [False, True])
def test_the_key_shows_what_was_before_while_it_is_held(docked_window: Any, qtbot: QtBot, swiping: bool) -> None:
    viewer, dock = docked_window
    if swiping:
        click(qtbot, dock.compare.swipe_button)
    qtbot.keyPress(dock, Qt.Key.Key_H)
    if swiping:
        cover = next(layer for layer in viewer.layers if is_cover(layer))
        assert np.array_equal(np.asarray(cover.data), viewer.layers["cells"].data)
    else:
        assert names(viewer, visible=True) == ["cells"]
    qtbot.keyRelease(dock, Qt.Key.Key_H)
    if swiping:
        assert not np.array_equal(np.asarray(cover.data), viewer.layers["cells"].data)
    else:
        assert names(viewer, visible=True) == ["cells", "cells denoised"]


def test_a_key_whose_release_was_lost_leaves_no_trace(docked_window: Any, qtbot: QtBot) -> None:
    viewer, dock = docked_window
    for press in (qtbot.keyPress, qtbot.keyPress, qtbot.keyRelease):
        press(dock, Qt.Key.Key_H)
    assert names(viewer, visible=True) == ["cells", "cells denoised"]


def test_closing_the_dock_ends_the_swipe_and_gives_the_key_back(docked_window: Any, qtbot: QtBot) -> None:
    viewer, dock = docked_window
    click(qtbot, dock.compare.swipe_button)
    viewer.window.remove_dock_widget(dock)
    assert names(viewer) == names(viewer, visible=True) == ["cells", "cells denoised"]
    assert not viewer.keymap
    viewer.window.add_dock_widget(dock)  # the window ends it, as napari's strict mode demands


def test_a_key_of_the_user_comes_back_with_the_dock_gone(viewer: Model, qtbot: QtBot) -> None:
    def mine(_: Any) -> None: ...

    viewer.bind_key("H", mine)
    dock = docked(viewer, qtbot, task="denoise")
    assert dock.compare is not None
    dock.compare.leave()
    assert list(viewer.keymap.values()) == [mine]


def test_closing_the_window_during_a_swipe_is_clean(docked_window: Any, qtbot: QtBot) -> None:
    viewer, dock = docked_window
    click(qtbot, dock.compare.swipe_button)
    viewer.close()
    qtbot.wait(50)
