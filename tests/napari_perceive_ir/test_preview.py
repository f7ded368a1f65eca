"""The preview of the Restore dock, with real clicks and a real, tiny model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel as Model
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QEvent, QThreadPool, QTimer
from qtpy.QtWidgets import QApplication, QDialogButtonBox

import perceive_ir as pir
from napari_perceive_ir import _preview, _preview_row
from napari_perceive_ir._compare import Swipe, camera_of
from napari_perceive_ir._dock import RestoreDock
from napari_perceive_ir._map_dock import QualityMapDock
from napari_perceive_ir._overlay import is_overlay
from napari_perceive_ir._preview import CELL, MOST_PIXELS, box_of, cells_in, lumps, middle
from napari_perceive_ir._visible import kept_corners, visible_part
from perceive_ir import Restorer
from perceive_ir._part import Whole
from tests.napari_perceive_ir.conftest import LONG, click, docked, listed, names, picture

SHAPE = (300, 260)
TOLERANCE = 1 / 512


@pytest.fixture
def viewer() -> Model:
    """A viewer without a window, which most of the preview does not need."""
    viewer = Model()
    viewer.add_image(picture(*SHAPE), name="cells", scale=(0.5, 0.25), translate=(3, 5), rotate=20, units=("um", "um"))
    viewer.fit_to_view()
    return viewer


@pytest.fixture
def window(make_napari_viewer_proxy: Callable[..., Any]) -> Any:
    viewer = make_napari_viewer_proxy()
    viewer.add_image(picture(*SHAPE), name="cells")
    return viewer


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, Any]]:
    """What is restored: planes and boxes."""
    restored: list[tuple[int, Any]] = []
    real = Whole.restore

    def remember(self: Whole, number: int, box: Any, *more: Any) -> Any:
        restored.append((number, box))
        return real(self, number, box, *more)

    monkeypatch.setattr(Whole, "restore", remember)
    return restored


def opened(viewer: Any, qtbot: QtBot, **fields: Any) -> RestoreDock:
    return docked(viewer, qtbot, task="denoise", severity=0.8, **fields)


def settled(qtbot: QtBot, dock: RestoreDock) -> None:
    """Wait until the preview shows what is to be seen."""
    row = dock.preview
    qtbot.waitUntil(lambda: not (row._pause.isActive() or row.running), timeout=LONG)


def previewed(qtbot: QtBot, dock: RestoreDock) -> Any:
    """Switch the preview on and return its layer."""
    click(qtbot, dock.preview.box)
    settled(qtbot, dock)
    return dock.preview.layer


def restored(qtbot: QtBot, dock: RestoreDock, viewer: Any) -> Any:
    """Press Run and return the whole result."""
    click(qtbot, dock.run_button)
    qtbot.waitUntil(lambda: not dock.running, timeout=LONG)
    return viewer.layers[-1]


def look_at(viewer: Any, source: Any, centre: tuple[float, ...], zoom: float) -> None:
    """Move the camera to a pixel of a layer."""
    camera = camera_of(viewer)
    camera.zoom, camera.center = zoom, tuple(source.data_to_world(centre))[-2:]


def agree(shown: Any, source: Any, result: Any) -> None:
    """Check that a preview lies on whole pixels of its source and shows the result's pixels there."""
    first = np.array(source.world_to_data(shown.data_to_world([0] * source.ndim)))
    assert np.allclose(first, np.rint(first), atol=1e-6)
    box = tuple(slice(n, n + k) for n, k in zip(np.rint(first).astype(int), shown.data.shape, strict=False))
    last = np.array([k - 1 for k in shown.data.shape[: source.ndim]])
    assert np.allclose(source.world_to_data(shown.data_to_world(last)), np.rint(first) + last, atol=1e-6)
    data = result.data[0] if result.multiscale else result.data
    before = source.data[0] if source.multiscale else source.data
    low, high = (255.0, 0.0) if data.dtype == np.uint8 else np.percentile(np.asarray(before), (0.1, 99.9))
    difference = np.abs(np.asarray(data[box], float) - shown.data)
    assert difference.max() <= TOLERANCE * abs(high - low) + (data.dtype.kind in "iu")
    assert shown.data.dtype == data.dtype
    assert not np.array_equal(shown.data, np.asarray(before[box]))


@pytest.mark.usefixtures("windowless_camera")
def test_the_preview_shows_the_pixels_of_the_result_in_their_place(viewer: Model, qtbot: QtBot) -> None:
    dock = opened(viewer, qtbot)
    look_at(viewer, viewer.layers["cells"], (140, 120), 20.0)
    shown = previewed(qtbot, dock)
    assert names(viewer) == ["cells", "cells preview"] and dock.preview.status.text() == "Previewed."
    assert shown.units == viewer.layers["cells"].units
    assert all(k < n for k, n in zip(shown.data.shape, SHAPE, strict=True))
    agree(shown, viewer.layers["cells"], restored(qtbot, dock, viewer))
    assert names(viewer) == ["cells", "cells denoised"] and not dock.preview.box.isChecked()


def dask_stack() -> Any:
    from dask import array

    return array.from_array(picture(3, *SHAPE), chunks=(1, 100, 100))


PICTURES = {
    "colour": (lambda: {"data": (picture(*SHAPE, 3) * 255).astype(np.uint8)}),
    "sixteen bits": (lambda: {"data": (picture(*SHAPE) * 60_000).astype(np.uint16)}),
    "dask": (lambda: {"data": dask_stack()}),
    "turned": (lambda: {"data": picture(3, 260, 300), "axis_labels": ("z", "x", "y")}),
    "colours in time": (lambda: {"data": picture(2, *SHAPE, 4), "rgb": True}),
    "pyramid": (lambda: {"data": [p := picture(*SHAPE), p[::2, ::2]], "multiscale": True}),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_all_kinds_of_pictures_are_previewed(kind: str, qtbot: QtBot) -> None:
    viewer = Model()
    source = viewer.add_image(**PICTURES[kind](), name="it")
    dock = opened(viewer, qtbot)
    look_at(viewer, source, tuple(n / 2 for n in source.extent.data[1]), 6.0)
    shown = previewed(qtbot, dock)
    agree(shown, source, restored(qtbot, dock, viewer))


def test_region_by_region_the_map_of_the_whole_plane_counts(
    viewer: Model, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perceive_ir import QualityMap

    real = Restorer.map_steps

    def motley(self: Restorer, *args: Any, **more: Any) -> Iterator[Any]:
        for step in real(self, *args, **more):
            if isinstance(step.map, QualityMap):  # the tiny model sees the same everywhere
                step.map.probabilities[:] = (
                    np.random.default_rng(1)
                    .dirichlet([1, 1, 1], step.map.score.shape)
                    .T.reshape(step.map.probabilities.shape)
                )
            yield step

    monkeypatch.setattr(Restorer, "map_steps", motley)
    dock = opened(viewer, qtbot, handling="region", tier_strength={"low": 1.5, "medium": 0.5, "high": 0.0})
    look_at(viewer, viewer.layers["cells"], (140, 120), 20.0)
    shown = previewed(qtbot, dock)
    agree(shown, viewer.layers["cells"], restored(qtbot, dock, viewer))


@pytest.mark.usefixtures("windowless_camera")
def test_the_nearest_cells_come_first_and_panning_restores_only_what_is_new(
    viewer: Model, qtbot: QtBot, parts: list[Any]
) -> None:
    viewer.layers["cells"].data = picture(700, 700)
    dock, source = opened(viewer, qtbot), viewer.layers["cells"]
    look_at(viewer, source, (320, 320), 8.0)
    shown = previewed(qtbot, dock)
    assert parts[0] == (0, (slice(256, 384), slice(256, 384)))
    before = len(parts)
    look_at(viewer, source, (322, 318), 8.0)
    settled(qtbot, dock)
    assert len(parts) == before and dock.preview.layer is shown
    look_at(viewer, source, (322, 450), 8.0)
    settled(qtbot, dock)
    new = parts[before:]
    assert new and all(columns.start >= 256 for _, (_, columns) in new)
    assert dock.preview.layer is shown


def test_another_strength_does_not_run_the_network(viewer: Model, qtbot: QtBot, parts: list[Any]) -> None:
    dock, source = opened(viewer, qtbot), viewer.layers["cells"]
    shown = previewed(qtbot, dock)
    before, full = len(parts), shown.data - source.data
    dock.controls.strength.setValue(0.5)
    settled(qtbot, dock)
    assert len(parts) == before
    np.testing.assert_allclose(shown.data - source.data, full / 2, atol=1e-6)


def test_scrolling_previews_the_plane_and_looks_at_the_stack_once(
    viewer: Model, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Any] = []
    real = Restorer.perceive
    monkeypatch.setattr(Restorer, "perceive", lambda *args: looks.append(args[1].shape) or real(*args))
    viewer.layers.clear()
    source = viewer.add_image(picture(4, *SHAPE), name="stack", scale=(2, 1, 1), axis_labels=("z", "y", "x"))
    dock = opened(viewer, qtbot)
    viewer.dims.set_current_step(0, 1)
    shown = previewed(qtbot, dock)
    assert shown.data_to_world((0, 0, 0))[0] == 2
    viewer.dims.set_current_step(0, 3)
    settled(qtbot, dock)
    assert (shown.data_to_world((0, 0, 0))[0], dock.preview.layer) == (6, shown)
    assert looks.count((4, *SHAPE)) == 1  # the estimate may look at noise of its own
    agree(shown, source, restored(qtbot, dock, viewer))


def test_what_is_stale_is_stopped(
    viewer: Model, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, parts: list[Any], put_gate: Any
) -> None:
    held = put_gate(_preview_row, "previewing", at="Previewed")
    dock = opened(viewer, qtbot)
    click(qtbot, dock.preview.box)
    qtbot.waitUntil(lambda: "Previewed" in held.seen, timeout=LONG)
    dock.controls.severity.setValue(0.2)
    qtbot.wait(2 * _preview_row.PAUSE)
    assert held.seen.count("Ready") == 1  # one after the other
    held.opened.set()
    settled(qtbot, dock)
    assert held.seen.count("Ready") == 2
    box = (slice(0, SHAPE[0]), slice(0, SHAPE[1]))
    assert len(parts) <= 2 + len(lumps(cells_in(box), box))  # of what is stale, one patch more than was waited for
    agree(dock.preview.layer, viewer.layers["cells"], restored(qtbot, dock, viewer))


def test_its_own_layer_does_not_begin_the_preview_anew(viewer: Model, qtbot: QtBot, put_gate: Any) -> None:
    held = put_gate(_preview_row, "previewing", at="Seen")
    held.opened.set()
    dock = opened(viewer, qtbot)
    previewed(qtbot, dock)
    assert held.seen.count("Ready") == 1
    dock.controls.severity.setValue(0.2)
    settled(qtbot, dock)
    assert held.seen.count("Ready") == 2


def test_switching_off_takes_the_layer_away(viewer: Model, qtbot: QtBot) -> None:
    dock = opened(viewer, qtbot)
    chosen = viewer.layers.selection.active
    previewed(qtbot, dock)
    assert viewer.layers.selection.active is chosen
    click(qtbot, dock.preview.box)
    assert names(viewer) == ["cells"] and dock.preview.status.text() == ""
    look_at(viewer, viewer.layers["cells"], (10, 10), 3.0)
    qtbot.wait(2 * _preview_row.PAUSE)
    assert names(viewer) == ["cells"]


def test_while_the_picture_is_looked_at_its_layer_is_there_already(viewer: Model, qtbot: QtBot, put_gate: Any) -> None:
    held = put_gate(_preview_row, "previewing", at="Previewed")
    dock, source = opened(viewer, qtbot), viewer.layers["cells"]
    click(qtbot, dock.preview.box)
    qtbot.waitUntil(lambda: dock.preview.layer is not None, timeout=LONG)
    assert held.seen == ["Ready", "Previewed"] and "Looking" in dock.preview.status.text()
    shown = dock.preview.layer
    assert np.array_equal(shown.data, source.data)
    own = shown.data
    held.opened.set()
    settled(qtbot, dock)
    assert dock.preview.layer is shown and shown.data is own and not np.array_equal(own, source.data)


def test_saving_all_layers_saves_the_users_layers_alone(
    make_napari_viewer: Callable[..., Any], qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[str] = []

    def save(path: str, layers: list[Any], **more: Any) -> list[str]:
        saved.extend(map(str, layers))
        return [path]

    monkeypatch.setattr("napari.plugins.io.save_layers", save)
    viewer = make_napari_viewer(show=True)
    viewer.add_image(picture(*SHAPE), name="cells")
    dock = opened(viewer, qtbot)
    viewer.window.add_dock_widget(dock)
    previewed(qtbot, dock)
    assert listed(dock.window()) == ["cells"] and names(viewer) == ["cells", "cells preview"]

    def answer() -> None:
        dialog: Any = QApplication.activeModalWidget()
        if dialog is not None:
            asked.stop()
            dialog.selectFile(str(tmp_path / "all"))
            dialog.findChild(QDialogButtonBox).button(QDialogButtonBox.StandardButton.Save).click()

    asked = QTimer()
    asked.timeout.connect(answer)
    asked.start(2 * _preview_row.PAUSE)
    viewer.window._qt_viewer._save_layers_dialog()
    assert saved == ["cells"]
    settled(qtbot, dock)
    assert names(viewer) == ["cells", "cells preview"]


def test_switching_off_in_the_midst_leaves_nothing(viewer: Model, qtbot: QtBot, put_gate: Any) -> None:
    held = put_gate(_preview_row, "previewing", at="Previewed")
    dock = opened(viewer, qtbot)
    click(qtbot, dock.preview.box)
    qtbot.waitUntil(lambda: "Previewed" in held.seen, timeout=LONG)
    click(qtbot, dock.preview.box)
    held.opened.set()
    settled(qtbot, dock)
    assert names(viewer) == ["cells"]


def test_the_preview_is_no_picture_to_restore_or_to_judge(viewer: Model, qtbot: QtBot) -> None:
    dock, judging = opened(viewer, qtbot), QualityMapDock(viewer)
    qtbot.addWidget(judging)
    shown = previewed(qtbot, dock)
    assert is_overlay(shown)
    for choices in (dock.controls.layer.choices, judging.controls.layer.choices):
        assert [layer.name for layer in choices] == ["cells"]


def test_removing_the_source_or_the_preview_ends_it(viewer: Model, qtbot: QtBot) -> None:
    other = viewer.add_image(picture(200, 200), name="other")
    dock = opened(viewer, qtbot)
    dock.controls.layer.value = viewer.layers["cells"]
    previewed(qtbot, dock)
    viewer.layers.remove("cells")
    qtbot.waitUntil(lambda: names(viewer) == ["other", "other preview"], timeout=LONG)
    settled(qtbot, dock)
    viewer.layers.remove("other preview")
    assert not dock.preview.box.isChecked()
    settled(qtbot, dock)
    click(qtbot, dock.preview.box)
    settled(qtbot, dock)
    viewer.layers.remove(other)
    qtbot.waitUntil(lambda: "no picture" in dock.preview.status.text(), timeout=LONG)
    assert names(viewer) == []


def test_replaced_data_are_looked_at_anew(viewer: Model, qtbot: QtBot) -> None:
    dock, source = opened(viewer, qtbot), viewer.layers["cells"]
    shown = previewed(qtbot, dock)
    source.data = picture(*SHAPE)[::-1] * 7
    settled(qtbot, dock)
    assert dock.preview.layer is shown
    agree(shown, source, restored(qtbot, dock, viewer))


def test_the_preview_follows_look_and_place_of_its_source(viewer: Model, qtbot: QtBot) -> None:
    dock, source = opened(viewer, qtbot), viewer.layers["cells"]
    shown = previewed(qtbot, dock)
    source.contrast_limits, source.gamma, source.scale = (0.2, 0.6), 0.5, (1, 3)
    assert (tuple(shown.contrast_limits), shown.gamma) == ((0.2, 0.6), 0.5)
    assert np.allclose(shown.extent.world, source.extent.world)


def test_what_shines_through_is_hidden_meanwhile(viewer: Model, qtbot: QtBot) -> None:
    viewer.layers["cells"].blending = "additive"
    dock = opened(viewer, qtbot)
    assert previewed(qtbot, dock).blending == "additive"
    assert not viewer.layers["cells"].visible
    click(qtbot, dock.preview.box)
    assert viewer.layers["cells"].visible


def test_over_channels_the_canvas_shows_what_a_run_would_show(
    make_napari_viewer: Callable[..., Any], qtbot: QtBot
) -> None:
    viewer = make_napari_viewer(show=True)
    noisy, other = picture(*SHAPE) * 0.4, np.zeros(SHAPE, np.float32)
    other[:100] = 0.4
    for name, data in (("cells", noisy), ("other", other)):
        viewer.add_image(data, name=name, blending="additive", contrast_limits=(0, 1))
    dock = opened(viewer, qtbot)
    viewer.window.add_dock_widget(dock)
    dock.controls.layer.value = viewer.layers["cells"]
    result = restored(qtbot, dock, viewer)
    after = viewer.screenshot(canvas_only=True, flash=False).astype(int)
    assert result.visible and not viewer.layers["cells"].visible
    for chosen in ("cells", result.name):
        dock.controls.layer.value = viewer.layers[chosen]
        previewed(qtbot, dock)
        shown = viewer.screenshot(canvas_only=True, flash=False).astype(int)
        if chosen == "cells":
            assert np.abs(shown - after).mean() < 1
        assert abs(shown.mean() - after.mean()) < 2
        click(qtbot, dock.preview.box)
    assert result.visible and not viewer.layers["cells"].visible and viewer.layers["other"].visible


def test_the_preview_lies_under_the_light_of_others_and_over_what_hides_its_picture(
    viewer: Model, qtbot: QtBot
) -> None:
    viewer.add_image(picture(*SHAPE), name="light", blending="additive")
    dock = opened(viewer, qtbot)
    dock.controls.layer.value = viewer.layers["cells"]
    previewed(qtbot, dock)
    assert names(viewer) == ["cells", "cells preview", "light"]
    click(qtbot, dock.preview.box)
    viewer.add_image(picture(*SHAPE), name="wall")
    previewed(qtbot, dock)
    assert names(viewer) == ["cells", "light", "wall", "cells preview"]


def test_where_there_is_no_plane_the_preview_waits(viewer: Model, qtbot: QtBot, notices: list[str]) -> None:
    viewer.layers.clear()
    short = viewer.add_image(picture(2, 140, 130), name="short")
    viewer.add_image(picture(5, 140, 130), name="long")
    viewer.dims.set_current_step(0, 0)
    dock = opened(viewer, qtbot)
    dock.controls.layer.value = short
    dock.controls.pictures.planes.value = "plane"
    assert previewed(qtbot, dock) is not None
    viewer.dims.set_current_step(0, 4)
    settled(qtbot, dock)
    assert (dock.preview.layer, "'short' has no plane" in dock.preview.status.text()) == (None, True)
    viewer.dims.set_current_step(0, 1)
    settled(qtbot, dock)
    assert dock.preview.layer is not None and not notices


def test_a_preview_ends_a_swipe(viewer: Model, qtbot: QtBot) -> None:
    dock = opened(viewer, qtbot)
    restored(qtbot, dock, viewer)
    click(qtbot, dock.compare.swipe_button)
    assert len(viewer.layers) == 4
    previewed(qtbot, dock)
    assert not dock.compare.swipe_button.isChecked()
    assert names(viewer) == ["cells", "cells denoised", "cells preview"]
    assert viewer.layers["cells"].visible and viewer.layers["cells denoised"].visible


def test_a_preview_ends_that_of_another_dock(viewer: Model, qtbot: QtBot) -> None:
    viewer.layers["cells"].blending = "additive"
    docks = [opened(viewer, qtbot) for _ in range(2)]
    for dock in docks:
        previewed(qtbot, dock)
    assert [dock.preview.box.isChecked() for dock in docks] == [False, True]
    assert names(viewer) == ["cells", "cells preview"] and not viewer.layers["cells"].visible
    click(qtbot, docks[1].preview.box)
    assert viewer.layers["cells"].visible and names(viewer) == ["cells"]


def test_a_swipe_ends_the_preview(viewer: Model, qtbot: QtBot) -> None:
    source = viewer.layers["cells"]
    other = viewer.add_image(
        source.data / 2, scale=source.scale, translate=source.translate, rotate=20, units=source.units
    )
    dock = opened(viewer, qtbot)
    previewed(qtbot, dock)
    Swipe(viewer, source, other).stop()
    assert not dock.preview.box.isChecked() and names(viewer) == ["cells", "Image"]


def test_of_a_large_picture_the_middle_is_previewed(
    viewer: Model, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_preview, "MOST_PIXELS", CELL**2)
    dock = opened(viewer, qtbot)
    shown = previewed(qtbot, dock)
    assert 0.9 * CELL**2 <= shown.data.size <= CELL**2
    middles = [layer.extent.world.mean(axis=0) for layer in (shown, viewer.layers["cells"])]
    assert np.allclose(*middles, atol=1)
    assert dock.preview.status.text().endswith("zoom in for the rest.")


def test_the_middle_of_a_box() -> None:
    assert middle((slice(5, 1005), slice(0, 2000))) == (slice(5, 1005), slice(0, 2000))
    rows, columns = middle((slice(0, 4000), slice(1000, 9000)))
    assert (rows.start + rows.stop, columns.start + columns.stop) == (4000, 10_000)
    assert MOST_PIXELS * 0.99 < (rows.stop - rows.start) * (columns.stop - columns.start) <= MOST_PIXELS


def test_lumps_cover_every_cell_once_and_begin_in_the_middle() -> None:
    box = (slice(100, 900), slice(0, 500))
    cells = cells_in(box)
    groups = lumps(cells, box)
    assert groups[0] == [(3, 1)] or groups[0] == [(3, 2)]
    assert sorted(cell for group in groups for cell in group) == sorted(cells)
    assert all(len(group) <= 4 for group in groups)
    assert box_of([(6, 3), (7, 3)], (900, 500)) == (slice(768, 900), slice(384, 500))


@pytest.mark.usefixtures("windowless_camera")
def test_what_cannot_be_previewed_is_said_in_one_line(viewer: Model, qtbot: QtBot, notices: list[str]) -> None:
    viewer.layers.clear()
    viewer.add_image(picture(5, 140, 130), name="stack")
    dock = opened(viewer, qtbot)
    previewed(qtbot, dock)
    viewer.dims.ndisplay = 3
    settled(qtbot, dock)
    assert (dock.preview.layer, "2D view" in dock.preview.status.text()) == (None, True)
    viewer.dims.ndisplay = 2
    viewer.dims.order = (1, 0, 2)
    settled(qtbot, dock)
    assert (dock.preview.layer, "turn the axes back" in dock.preview.status.text()) == (None, True)
    viewer.dims.order = (0, 1, 2)
    look_at(viewer, viewer.layers["stack"], (0, 9000, 9000), 1.0)
    settled(qtbot, dock)
    assert (dock.preview.layer, "out of sight" in dock.preview.status.text()) == (None, True)
    viewer.reset_view()
    settled(qtbot, dock)
    assert names(viewer) == ["stack", "stack preview"] and not notices


def test_a_mistake_is_told_once_and_ends_the_preview(viewer: Model, qtbot: QtBot, notices: list[str]) -> None:
    viewer.layers["cells"].data = picture(*SHAPE) > 0.5
    dock = opened(viewer, qtbot)
    click(qtbot, dock.preview.box)
    qtbot.waitUntil(lambda: bool(notices), timeout=LONG)
    settled(qtbot, dock)
    assert len(notices) == 1 and "cannot restore bool images" in notices[0]
    assert not dock.preview.box.isChecked()


def test_what_napari_notes_when_it_draws_is_what_the_camera_shows(
    make_napari_viewer_proxy: Callable[..., Any], qtbot: QtBot
) -> None:
    viewer = make_napari_viewer_proxy(show=True)
    source = viewer.add_image(picture(*SHAPE), scale=(0.5, 0.5))
    look_at(viewer, source, (100, 150), 18.0)
    qtbot.waitUntil(lambda: kept_corners(source)[0].min() > 0, timeout=LONG)
    part = visible_part(viewer, source)
    first, last = kept_corners(source)
    for axis, one in part.items():
        assert 0 < one.start < one.stop < SHAPE[axis]
        assert abs(one.start - first[axis]) <= 1 and abs(one.stop - 1 - last[axis]) <= 1


def test_closing_the_window_in_the_midst_is_clean(window: Any, qtbot: QtBot, put_gate: Any) -> None:
    held = put_gate(_preview_row, "previewing", at="Previewed")
    dock = RestoreDock(window)
    window.window.add_dock_widget(dock, name="Restore")
    click(qtbot, dock.preview.box)
    qtbot.waitUntil(lambda: "Previewed" in held.seen, timeout=LONG)
    window.close()
    held.opened.set()
    assert QThreadPool.globalInstance().waitForDone(LONG)


def test_a_dock_that_is_deleted_begins_nothing_anew(viewer: Model, qtbot: QtBot) -> None:
    dock = RestoreDock(viewer)
    dock.preview.box.setChecked(True)
    qtbot.waitUntil(lambda: dock.preview.layer is not None, timeout=LONG)
    viewer.layers.remove("cells")
    dock.deleteLater()
    QApplication.sendPostedEvents(dock, QEvent.Type.DeferredDelete)
    qtbot.wait(50)  # what raises in the event loop fails the test
    assert QThreadPool.globalInstance().waitForDone(LONG)


def test_closing_the_dock_takes_the_preview_away(window: Any, qtbot: QtBot, delete_after: Any) -> None:
    dock = RestoreDock(window)
    window.window.add_dock_widget(dock, name="Restore")
    previewed(qtbot, dock)
    assert names(window) == ["cells", "cells preview"]
    delete_after(dock)
    window.window.remove_dock_widget(dock)
    assert names(window) == ["cells"]


def test_opening_the_dock_loads_the_model_for_the_preview(viewer: Model, qtbot: QtBot) -> None:
    from perceive_ir._catalogue import loaded

    dock = RestoreDock(viewer)
    qtbot.addWidget(dock)
    qtbot.waitUntil(lambda: loaded.cache_info().currsize == 1, timeout=LONG)
    previewed(qtbot, dock)
    assert loaded.cache_info().misses == 1


def test_a_model_that_is_missing_is_told_when_it_is_needed(
    viewer: Model, qtbot: QtBot, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perceive_ir._catalogue.folders", list)
    dock = RestoreDock(viewer)
    qtbot.addWidget(dock)
    dock.show()
    assert QThreadPool.globalInstance().waitForDone(LONG)
    qtbot.wait(100)
    assert not notices
    click(qtbot, dock.preview.box)
    qtbot.waitUntil(lambda: bool(notices), timeout=LONG)
    assert len(notices) == 1 and "no model 'compact' here" in notices[0]


def test_a_bug_while_loading_is_not_swallowed(viewer: Model, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("perceive_ir._catalogue.loaded", broken)
    with qtbot.capture_exceptions() as caught:
        qtbot.addWidget(RestoreDock(viewer))
        qtbot.waitUntil(lambda: bool(caught), timeout=LONG)
    assert [str(error) for _, error, _ in caught] == ["a bug"]


def test_the_window_does_not_wait_for_torch_when_the_dock_opens() -> None:
    code = """
import sys
import numpy
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication, QDialogButtonBox
from napari_perceive_ir import _dock
app, viewer = QApplication([]), ViewerModel()
_dock.load_early = lambda *args: None
viewer.add_image(numpy.zeros((3, 9, 9)), axis_labels=("z", "y", "x"))
dock = _dock.RestoreDock(viewer)
print("torch" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def painting(viewer: Model, qtbot: QtBot) -> tuple[RestoreDock, Any]:
    """Choose the handling for painted labels, of which there are none yet."""
    place = {name: getattr(viewer.layers["cells"], name) for name in ("scale", "translate", "rotate", "units")}
    labels = viewer.add_labels(np.zeros(SHAPE, int), name="marks", **place)
    dock = opened(viewer, qtbot)
    dock.controls.layer.value = viewer.layers["cells"]
    dock.controls.handling.value = "painted"
    return dock, labels


def paint(qtbot: QtBot, dock: RestoreDock, labels: Any, *where: slice) -> None:
    """Paint, and wait until the dock knows."""
    labels.data[where] = 1
    labels.refresh()
    labels.events.set_data()
    qtbot.waitUntil(lambda: dock.controls.painted.present == (1,), timeout=LONG)
    qtbot.wait(600)


def test_what_is_painted_is_previewed(viewer: Model, qtbot: QtBot, parts: list[Any], notices: list[str]) -> None:
    dock, labels = painting(viewer, qtbot)
    assert previewed(qtbot, dock) is None
    assert "asks for a task" in dock.preview.status.text() and not notices
    paint(qtbot, dock, labels, slice(0, 60), slice(0, 60))
    settled(qtbot, dock)
    assert names(viewer) == ["cells", "cells preview", "marks"]  # one sees what one paints
    first = len(parts)
    assert first and dock.preview.status.text().startswith("Previewed")
    paint(qtbot, dock, labels, slice(0, 70), slice(0, 70))
    settled(qtbot, dock)
    assert first < len(parts) < 2 * first  # what is far from the stroke is not restored again
    shown, source = dock.preview.layer, viewer.layers["cells"]
    data, place = shown.data.copy(), shown.data_to_world((0, 0))
    result = restored(qtbot, dock, viewer)
    first_pixel = np.rint(source.world_to_data(place)).astype(int)
    box = tuple(slice(n, n + k) for n, k in zip(first_pixel, data.shape, strict=True))
    assert np.abs(result.data[box] - data).max() <= TOLERANCE
    assert np.abs(result.data[:60, :60] - source.data[:60, :60]).max() > 0.01


def test_what_the_model_sees_for_the_preview_is_said(viewer: Model, qtbot: QtBot, parts: list[Any]) -> None:
    dock = opened(viewer, qtbot)
    click(qtbot, dock.controls.automatic.native)
    assert dock.controls.recipe().severity == "auto" and not dock.bars.isVisible()
    previewed(qtbot, dock)
    assert dock.seen.text().startswith("The model sees ") and dock.bars.isVisible()
    seen = pir.load().perceive(viewer.layers["cells"].data).severities["noise"]
    assert dock.controls.severity.value() == pytest.approx(seen, abs=0.01)
    assert dock.controls.recipe().severity == "auto"
    assert len(parts) == len({str(part) for part in parts})  # showing it does not begin the preview anew
