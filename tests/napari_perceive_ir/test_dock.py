"""The Restore dock with real clicks and a real, tiny model: what it does in a window of napari, and by itself."""

from __future__ import annotations

from collections.abc import Iterator
from errno import ENOENT
from typing import Any

import numpy as np
import pytest
import torch
from napari.components import ViewerModel as Model
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtGui import QMovie
from qtpy.QtWidgets import QScrollArea

import perceive_ir as pir
from napari_perceive_ir import _commands, _indicator, map_layer, restore_layer
from napari_perceive_ir._controls import RecipeControls
from napari_perceive_ir._dock import RestoreDock
from napari_perceive_ir._map_dock import QualityMapDock
from napari_perceive_ir._recipe_form import AS_SEEN
from tests.napari_perceive_ir.conftest import LONG, click, docked, finish, hold, names, picture

SCROLL_BAR = 16
"""Pixels that a scroll bar takes where the window is low."""


@pytest.fixture
def dock(viewer: Model, qtbot: QtBot) -> RestoreDock:
    return docked(viewer, qtbot, task="denoise", severity=0.5)


def opened(window: Any, name: str = "Restore") -> RestoreDock:
    """Open a dock in a window."""
    dock = RestoreDock(window)
    window.window.add_dock_widget(dock, name=name)
    choose(dock, task="denoise", severity=0.5)
    return dock


def choose(dock: RestoreDock, task: str, severity: float) -> None:
    dock.controls.task.value = task
    dock.controls.automatic.value = False
    dock.controls.severity.setValue(severity)


def test_run_adds_the_result_on_its_source_and_says_so(window: Any, qtbot: QtBot) -> None:
    dock = opened(window)
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    source, result = window.layers
    assert (source.name, result.name) == ("cells", "cells denoised")
    assert np.array_equal(result.extent.world, source.extent.world)
    assert (result.units, result.data.dtype) == (source.units, source.data.dtype)
    assert not np.array_equal(result.data, source.data)
    assert "cells denoised" in dock.status.text()
    assert dock.seen.text().startswith("The model sees ")
    assert dock.run_button.isEnabled() and not dock.cancel_button.isEnabled()


def test_the_severity_that_is_seen_is_shown_until_the_slider_is_moved_and_a_click_gives_it_back(
    viewer: Model, dock: RestoreDock, qtbot: QtBot
) -> None:
    controls, slider = dock.controls, dock.controls.severity
    seen = pir.load().perceive(viewer.layers["cells"].data).severities["noise"]
    click(qtbot, controls.automatic.native)
    assert (controls.recipe().severity, controls.automatic.text, slider.isVisible()) == ("auto", "Auto", False)
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    assert controls.recipe().severity == "auto" and slider.value() == pytest.approx(seen, abs=0.01)
    assert controls.automatic.text == "Auto, as seen" and slider.isVisible()
    qtbot.keyClick(slider.focusProxy(), Qt.Key.Key_PageUp)
    assert not controls.automatic.value and controls.automatic.text == "Auto"
    assert controls.recipe().severity == pytest.approx(seen + 0.1, abs=0.01)
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    assert slider.value() == pytest.approx(seen + 0.1, abs=0.01)
    click(qtbot, controls.automatic.native)
    assert controls.recipe().severity == "auto" and slider.value() == pytest.approx(seen, abs=0.01)
    controls.task.value = "deblur"
    assert (controls.automatic.text, slider.isVisible()) == ("Auto", False)
    click(qtbot, controls.automatic.native)
    assert slider.isVisible() and controls.recipe().severity == AS_SEEN


def test_a_note_is_shown(dock: RestoreDock, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    from perceive_ir import Perception

    monkeypatch.setattr(Perception, "tier", "high")
    dock.controls.task.value = "auto"
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    assert dock.note.text() == "Unchanged: the picture is perceived as of high quality."


@pytest.mark.parametrize("at", ["Ready", "Seen", "Progress"])
def test_cancel_adds_nothing(at: str, viewer: Model, dock: RestoreDock, qtbot: QtBot, gate: Any) -> None:
    gate.at = at
    hold(qtbot, dock, gate)
    click(qtbot, dock.cancel_button)
    assert not dock.cancel_button.isEnabled() and not dock.run_button.isEnabled()
    gate.opened.set()
    finish(qtbot, dock)
    assert len(gate.seen) <= ["Ready", "Seen", "Progress"].index(at) + 2  # at most one event more
    assert (names(viewer), dock.status.text()) == (["cells"], "Cancelled: nothing was added.")
    assert dock.run_button.isEnabled()


def test_after_a_cancel_the_next_run_works(viewer: Model, dock: RestoreDock, qtbot: QtBot, gate: Any) -> None:
    hold(qtbot, dock, gate)
    click(qtbot, dock.cancel_button)
    gate.opened.set()
    finish(qtbot, dock)
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    assert names(viewer) == ["cells", "cells denoised"]


def test_progress_is_shown_in_the_dock_and_in_the_activity_dock(
    viewer: Model, dock: RestoreDock, qtbot: QtBot, gate: Any
) -> None:
    from napari.utils import progress

    gate.at = "Progress"
    hold(qtbot, dock, gate)
    qtbot.waitUntil(lambda: "1 of 1 tiles" in dock.status.text(), timeout=LONG)
    assert (dock.progress.value(), dock.progress.maximum(), dock.progress.isHidden()) == (1, 1, False)
    assert [bar.desc.strip(": ") for bar in progress._all_instances] == ["Restoring cells"]
    gate.opened.set()
    finish(qtbot, dock)
    assert dock.progress.isHidden() and not progress._all_instances


def test_while_a_run_is_on_the_sign_in_the_status_bar_moves_with_it_alone(window: Any, qtbot: QtBot, gate: Any) -> None:
    dock, (sign,), state = opened(window), _indicator.signs(), QMovie.MovieState
    for gate.at in ("Seen", "Progress"):
        hold(qtbot, dock, gate)
        qtbot.waitUntil(lambda: sign.state() == state.Paused, timeout=LONG)
        gate.opened.set()
        finish(qtbot, dock)
        qtbot.waitUntil(lambda: sign.state() == state.NotRunning, timeout=LONG)
        gate.seen.clear()
        gate.opened.clear()


def test_the_sign_turns_by_one_picture_and_goes_on_where_others_are_at_work(window: Any) -> None:
    from napari.utils import progress

    (sign,), state = _indicator.signs(), QMovie.MovieState
    with progress(total=1):
        assert sign.state() == state.Running
        before = sign.currentFrameNumber()
        _indicator.turn()
        assert (sign.state(), sign.currentFrameNumber()) == (state.Paused, before + 1)
        _indicator.let_go()
        assert sign.state() == state.Running
    sign.stop()
    _indicator.turn()
    _indicator.let_go()
    assert sign.state() == state.NotRunning


def test_removing_the_layer_stops_the_run(viewer: Model, dock: RestoreDock, qtbot: QtBot, gate: Any) -> None:
    hold(qtbot, dock, gate)
    viewer.layers.remove("cells")
    gate.opened.set()
    finish(qtbot, dock)
    assert (names(viewer), dock.status.text()) == ([], "Stopped, because the layer was removed: nothing was added.")
    assert not dock.run_button.isEnabled()


def test_removing_another_layer_does_not(viewer: Model, dock: RestoreDock, qtbot: QtBot, gate: Any) -> None:
    viewer.add_image(picture(20, 20), name="other")
    hold(qtbot, dock, gate)
    viewer.layers.remove("other")
    gate.opened.set()
    finish(qtbot, dock)
    assert names(viewer) == ["cells", "cells denoised"]


def test_data_that_change_during_a_run_do_not_disturb_it(
    viewer: Model, dock: RestoreDock, qtbot: QtBot, gate: Any
) -> None:
    hold(qtbot, dock, gate)
    before = viewer.layers["cells"].extent.world
    viewer.layers["cells"].data = picture(2, 30, 70)
    gate.opened.set()
    finish(qtbot, dock)
    result = viewer.layers["cells denoised"]
    assert (result.data.shape, np.array_equal(result.extent.world, before)) == ((48, 40), True)
    assert "replaced meanwhile" in dock.note.text()


@pytest.mark.parametrize("edited", [True, False])
def test_an_edit_in_place_during_a_run_is_told(
    viewer: Model, dock: RestoreDock, qtbot: QtBot, gate: Any, edited: bool
) -> None:
    hold(qtbot, dock, gate)
    if edited:
        viewer.layers["cells"].data[-1, -1] += 1
    gate.opened.set()
    finish(qtbot, dock)
    assert ("edited meanwhile" in dock.note.text()) == edited


def test_closing_the_viewer_stops_the_run(window: Any, qtbot: QtBot, gate: Any) -> None:
    hold(qtbot, opened(window), gate)
    window.close()
    gate.opened.set()
    assert QThreadPool.globalInstance().waitForDone(LONG)
    assert "Finished" not in gate.seen


def test_closing_the_dock_stops_the_run(window: Any, qtbot: QtBot, gate: Any, delete_after: Any) -> None:
    dock = opened(window)
    hold(qtbot, dock, gate)
    delete_after(dock)
    window.window.remove_dock_widget(dock)
    gate.opened.set()
    finish(qtbot, dock)
    assert (names(window), "Finished" in gate.seen) == (["cells"], False)


@pytest.fixture
def single_core() -> Iterator[None]:
    """napari's threads as they are on a machine with one core."""
    pool = QThreadPool.globalInstance()
    usual = pool.maxThreadCount()
    pool.setMaxThreadCount(1)
    yield
    pool.setMaxThreadCount(usual)


@pytest.mark.usefixtures("single_core")
def test_two_docks_run_at_once_even_on_one_core(window: Any, qtbot: QtBot, gate: Any) -> None:
    window.add_image(picture(20, 30), name="other")
    first, second = opened(window), opened(window, "Another")
    choose(second, task="deblur", severity=0.5)
    first.controls.layer.value, second.controls.layer.value = window.layers
    for dock in (first, second):
        click(qtbot, dock.run_button)
    qtbot.waitUntil(lambda: gate.seen.count("Seen") == 2, timeout=LONG)
    gate.opened.set()
    finish(qtbot, first, second)
    assert sorted(names(window)) == ["cells", "cells denoised", "other", "other deblurred"]


def test_the_strength_slider_blends_the_result_anew(viewer: Model, dock: RestoreDock, qtbot: QtBot, gate: Any) -> None:
    gate.opened.set()
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    source, result = viewer.layers
    full = result.data.copy()
    dock.controls.strength.setValue(0.5)
    qtbot.waitUntil(lambda: not np.array_equal(result.data, full), timeout=LONG)
    assert np.allclose(result.data - source.data, (full - source.data) / 2, atol=1e-6)
    assert result.metadata["perceive_ir"]["recipe"]["strength"] == 0.5
    assert gate.seen.count("Finished") == 1


def test_the_slider_leaves_a_result_alone_that_is_no_longer_meant(
    viewer: Model, dock: RestoreDock, qtbot: QtBot
) -> None:
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    data = viewer.layers["cells denoised"].data
    dock.controls.task.value = "deblur"
    dock.controls.strength.setValue(0.5)
    qtbot.wait(300)
    assert viewer.layers["cells denoised"].data is data
    dock.controls.task.value = "denoise"
    viewer.layers.remove("cells denoised")
    dock.controls.strength.setValue(0.7)
    qtbot.wait(300)
    assert names(viewer) == ["cells"]


def test_a_mistake_shows_one_notification_and_keeps_its_traceback_in_the_log(
    viewer: Model, dock: RestoreDock, qtbot: QtBot, notices: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "perceive_ir")
    viewer.layers["cells"].data = picture(48, 40) > 0.5
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    assert len(notices) == 1 and "cannot restore bool images: convert with .astype('uint8')" in notices[0]
    assert (names(viewer), dock.status.text()) == (["cells"], "Failed: nothing was added.")
    (kept,) = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert isinstance(kept, TypeError) and kept.__traceback__ is not None


def test_when_memory_is_short_smaller_tiles_are_taken_and_it_is_said(
    viewer: Model, dock: RestoreDock, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, notices: list[str]
) -> None:
    whole, real = viewer.layers["cells"], pir.Restorer.residuals
    whole.data = picture(300, 260)

    def hungry(self: pir.Restorer, images: torch.Tensor, signals: Any) -> Any:
        if max(images.shape[-2:]) > 260:
            raise torch.OutOfMemoryError("too large")
        return real(self, images, signals)

    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    monkeypatch.setattr(pir.Restorer, "residuals", hungry)
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    assert dock.note.text().startswith("Memory was short: tiles of ") and not notices
    assert names(viewer) == ["cells", "cells denoised", "cells denoised [1]"]
    assert np.abs(viewer.layers[2].data - viewer.layers[1].data).max() < 1 / 512


@pytest.mark.parametrize(
    ("where", "error", "told"),
    [
        ("residuals", torch.OutOfMemoryError(), "even tiles of 16 pixels do not fit into memory: free some"),
        ("perceive_all", MemoryError(), "there is not enough memory; free some, or give smaller pictures"),
        ("perceive_all", FileNotFoundError(ENOENT, "No such file", "gone"), "gone: No such file; check its name"),
    ],
)
def test_what_the_world_does_is_told_in_one_line_with_the_remedy(
    where: str,
    error: Exception,
    told: str,
    viewer: Model,
    dock: RestoreDock,
    qtbot: QtBot,
    monkeypatch: Any,
    notices: Any,
) -> None:
    def fail(*args: Any) -> None:
        raise error

    monkeypatch.setattr(pir.Restorer, where, fail)
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    assert len(notices) == 1 and told in notices[0]
    assert (names(viewer), dock.status.text()) == (["cells"], "Failed: nothing was added.")


def test_a_missing_model_shows_one_notification(
    dock: RestoreDock, qtbot: QtBot, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from perceive_ir import WeightsError, _catalogue

    def missing(model: str) -> None:
        raise WeightsError(f"no model {model!r} here")

    qtbot.waitUntil(lambda: _catalogue.loaded.cache_info().currsize == 1, timeout=LONG)
    _catalogue.loaded.cache_clear()
    monkeypatch.setattr(_catalogue, "find", missing)
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    assert len(notices) == 1 and "no model 'compact' here" in notices[0]


def test_a_bug_is_not_swallowed(dock: RestoreDock, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_perceive_ir import _dock

    def broken(plan: Any) -> Iterator[Any]:
        yield from ()
        raise RuntimeError("a bug")

    monkeypatch.setattr(_dock, "restoring", broken)
    with qtbot.capture_exceptions() as caught:
        click(qtbot, dock.run_button)
        finish(qtbot, dock)
    assert [str(error) for _, error, _ in caught] == ["a bug"]
    assert dock.run_button.isEnabled()


def test_without_an_image_layer_there_is_nothing_to_run(viewer: Model, qtbot: QtBot, notices: list[str]) -> None:
    viewer.layers.clear()
    viewer.add_labels(np.zeros((9, 9), int))
    dock = RestoreDock(viewer)
    qtbot.addWidget(dock)
    assert (dock.controls.layer.choices, dock.run_button.isEnabled()) == ((), False)
    dock.run()
    assert "open a picture first" in notices[0]


@pytest.mark.parametrize("kind", [RestoreDock, QualityMapDock])
def test_the_topmost_picture_that_can_be_seen_is_chosen_first(kind: type, viewer: Model, qtbot: QtBot) -> None:
    viewer.layers["cells"].visible = False
    viewer.add_image(picture(9, 9), name="seen")
    viewer.add_labels(np.zeros((9, 9), int))  # and made active
    dock = kind(viewer)
    qtbot.addWidget(dock)
    assert dock.controls.layer.value.name == "seen"


def test_the_layers_offered_follow_the_viewer(viewer: Model, dock: RestoreDock) -> None:
    viewer.add_image(picture(9, 9), name="more")
    viewer.add_points(np.zeros((1, 2)), name="spots")
    viewer.layers["more"].name = "much more"
    combo = dock.controls.layer.native
    assert [combo.itemText(n) for n in range(combo.count())] == ["cells", "much more"]
    assert dock.controls.layer.value.name == "cells"
    viewer.layers.remove("cells")
    assert dock.controls.layer.value.name == "much more"


def test_the_controls_speak_the_recipe(dock: RestoreDock, viewer: Model, qtbot: QtBot) -> None:
    from perceive_ir import Recipe

    fresh = RecipeControls(viewer)
    qtbot.addWidget(fresh)
    assert fresh.recipe() == Recipe()
    assert fresh.strength.toolTip() == Recipe.model_fields["strength"].description
    assert fresh.layer.value.name == "cells"
    dock.controls.strength.setValue(0.8)
    assert dock.controls.recipe() == Recipe(task="denoise", severity=0.5, strength=0.8)


def test_the_keyboard_goes_from_top_to_bottom(dock: RestoreDock, qtbot: QtBot) -> None:
    controls = dock.controls
    order = [controls.layer.native, controls.task.native, controls.automatic.native, controls.severity.focusProxy()]
    order += [controls.strength.focusProxy(), dock.preview.box, dock.run_button]
    qtbot.waitActive(dock, timeout=LONG)
    order[0].setFocus()
    reached = []
    while dock.run_button not in reached and len(reached) < 12:
        reached.append(dock.focusWidget())
        qtbot.keyClick(reached[-1], Qt.Key.Key_Tab)
    assert [widget for widget in reached if widget in order] == order


def test_the_dock_fits_into_350_pixels(dock: RestoreDock, viewer: Model, qtbot: QtBot) -> None:
    viewer.layers["cells"].name = "a very long name of a layer, as readers of files make them " * 3
    dock.controls.automatic.value = True
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    (area,) = dock.findChildren(QScrollArea)
    assert area.widget().minimumSizeHint().width() <= 350 - SCROLL_BAR


def test_one_click_restores_the_active_layer_in_one_dock(window: Any, qtbot: QtBot) -> None:
    window.add_image(picture(30, 20), name="second")
    window.layers.selection.active = window.layers["cells"]
    _commands.brighten()
    dock = _commands.restore_dock(window)
    _commands.denoise()  # busy: says so and does nothing
    finish(qtbot, dock)
    assert names(window) == ["cells", "second", "cells brightened"]
    assert list(window.window.dock_widgets) == [_commands.DOCK_NAME]


def test_the_menu_entries_share_a_dock(window: Any, qtbot: QtBot) -> None:
    from napari._app_model import get_app_model

    commands = get_app_model().commands
    names_of_it = ("napari-perceive-ir.restore_dock", "napari-perceive-ir:Restore")  # the second in napari 0.7
    commands.execute_command(next(name for name in names_of_it if name in commands))
    commands.execute_command("napari-perceive-ir.denoise")
    finish(qtbot, _commands.restore_dock(window))
    assert names(window) == ["cells", "cells denoised"]
    assert list(window.window.dock_widgets) == [_commands.DOCK_NAME]


def test_the_console_restores_and_maps_without_a_dock(window: Any) -> None:
    restored = restore_layer(window, window.layers["cells"], task="denoise", severity=0.5)
    tiers = map_layer(window, "cells")
    assert names(window) == ["cells", "cells denoised", "cells quality"]
    assert restored.units == tiers.units == window.layers["cells"].units


def test_one_click_on_no_image_says_so(window: Any, notices: list[str]) -> None:
    window.add_labels(np.zeros((9, 9), int))
    _commands.restore()
    assert [notice for notice in notices if "no picture is active" in notice]
    assert not window.window.dock_widgets


def test_one_click_on_a_score_says_so(window: Any, qtbot: QtBot, notices: list[str]) -> None:
    judging = QualityMapDock(window)
    window.window.add_dock_widget(judging)
    click(qtbot, judging.run_button)
    finish(qtbot, judging)
    judging.findings.view.value = "Score"
    assert window.layers.selection.active.name == "cells score"
    _commands.denoise()
    assert len(notices) == 1 and "no picture is active" in notices[0]
