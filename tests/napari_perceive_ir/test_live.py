"""The strength slider dragged with the mouse: what is on the canvas follows at once, the whole picture on release."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel as Model
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QStyle

from napari_perceive_ir import _moving
from napari_perceive_ir._compare import camera_of, grid_of
from napari_perceive_ir._dock import RestoreDock
from napari_perceive_ir._overlay import is_overlay
from napari_perceive_ir._run import same_but_strength
from perceive_ir import Recipe
from tests.napari_perceive_ir.conftest import LONG, docked, listed, picture

SHAPE = (150, 130)


@pytest.fixture
def viewer() -> Model:
    viewer = Model()
    viewer.add_image(picture(*SHAPE), name="cells", scale=(0.5, 0.25), rotate=20)
    viewer.fit_to_view()
    return viewer


def restored(viewer: Any, qtbot: QtBot, **fields: Any) -> tuple[RestoreDock, Any]:
    """Open a dock, restore, and return the result."""
    dock = docked(viewer, qtbot, task="denoise", severity=0.8, **fields)
    dock.resize(350, 700)
    qtbot.mouseClick(dock.run_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not dock.running, timeout=LONG)
    return dock, viewer.layers[-1]


class Drag:
    """The handle of a slider, held with the mouse."""

    def __init__(self, qtbot: QtBot, slider: Any) -> None:
        self.qtbot, self.slider = qtbot, slider.focusProxy()
        control, part = QStyle.ComplexControl.CC_Slider, QStyle.SubControl.SC_SliderHandle
        handle = self.slider.style().subControlRect(control, self.slider._styleOption, part, self.slider)
        self.at = handle.center()
        qtbot.mousePress(self.slider, Qt.MouseButton.LeftButton, pos=self.at)
        assert slider.isSliderDown()

    def move(self, across: int) -> None:
        self.at += QPoint(across, 0)
        self.qtbot.mouseMove(self.slider, self.at)

    def release(self) -> None:
        self.qtbot.mouseRelease(self.slider, Qt.MouseButton.LeftButton, pos=self.at)


def cover(viewer: Any) -> Any:
    """Return the layer that shows another strength, if there is one."""
    found = [layer for layer in viewer.layers if is_overlay(layer)]
    assert len(found) <= 1
    return found[0] if found else None


def borders(layer: Any) -> Any:
    """Return where a layer begins and ends, which is half a pixel outside its first and last one."""
    return layer.extent.world + np.array([[-0.5], [0.5]]) * layer.extent.step


def blended(qtbot: QtBot, dock: RestoreDock, layer: Any) -> None:
    """Wait until the whole result has the strength of the controls."""
    wanted = dock.controls.recipe()
    recipe: Callable[[], Recipe] = lambda: Recipe(**layer.metadata["perceive_ir"]["recipe"])  # noqa: E731
    qtbot.waitUntil(lambda: recipe().strength == wanted.strength, timeout=LONG)
    assert same_but_strength(wanted, recipe())


@pytest.mark.usefixtures("windowless_camera")
def test_a_dragged_slider_blends_what_is_seen_and_the_whole_on_release(viewer: Model, qtbot: QtBot) -> None:
    dock, layer = restored(viewer, qtbot)
    source, full = viewer.layers["cells"].data, layer.data.copy()
    camera_of(viewer).zoom, camera_of(viewer).center = 60.0, tuple(layer.data_to_world((70, 60)))
    drag = Drag(qtbot, dock.controls.strength)
    drag.move(-30)
    shown = cover(viewer)
    first = np.rint(layer.world_to_data(shown.data_to_world((0, 0)))).astype(int)
    box = tuple(slice(n, n + k) for n, k in zip(first, shown.data.shape, strict=True))
    assert all(0 < one.start < one.stop < n for one, n in zip(box, SHAPE, strict=True))
    strength = dock.controls.recipe().strength
    assert strength < 1
    np.testing.assert_allclose(shown.data, (source + strength * (full - source))[box], atol=1e-6)
    drag.move(-10)
    assert cover(viewer) is shown and dock.controls.recipe().strength < strength
    qtbot.wait(300)
    assert np.array_equal(layer.data, full)  # the whole waits for the release
    drag.release()
    blended(qtbot, dock, layer)
    qtbot.waitUntil(lambda: cover(viewer) is None, timeout=LONG)
    strength = dock.controls.recipe().strength
    np.testing.assert_allclose(layer.data, source + strength * (full - source), atol=1e-6)


def test_while_it_is_dragged_no_other_layer_stands_in_the_list(
    make_napari_viewer_proxy: Callable[..., Any], qtbot: QtBot
) -> None:
    viewer = make_napari_viewer_proxy()
    viewer.add_image(picture(*SHAPE), name="cells")
    dock, layer = restored(viewer, qtbot)
    viewer.window.add_dock_widget(dock)
    selected = set(viewer.layers.selection)
    drag = Drag(qtbot, dock.controls.strength)
    drag.move(-30)
    assert cover(viewer) is not None and listed(dock.window()) == ["cells", "cells denoised"]
    drag.release()
    blended(qtbot, dock, layer)
    qtbot.waitUntil(lambda: cover(viewer) is None, timeout=LONG)
    assert listed(dock.window()) == ["cells", "cells denoised"] and set(viewer.layers.selection) == selected
    viewer.add_image(picture(9, 9), name="next")
    assert listed(dock.window()) == ["cells", "cells denoised", "next"]


@pytest.mark.parametrize("colour", [False, True])
def test_of_many_pixels_every_second_is_blended(colour: bool, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_moving, "MOST_PIXELS", SHAPE[0] * SHAPE[1] // 4)
    viewer = Model()
    source = viewer.add_image((picture(*SHAPE, *[3] * colour) * 255).astype(np.uint8), rgb=colour, scale=(2, 3))
    dock, layer = restored(viewer, qtbot, handling="region", tier_strength={"low": 1, "medium": 1, "high": 1})
    drag = Drag(qtbot, dock.controls.tiers["medium"])
    drag.move(-40)
    shown = cover(viewer)
    assert shown.data.shape[:2] == (75, 65)
    assert np.allclose(borders(shown), borders(source))
    drag.release()
    qtbot.waitUntil(lambda: cover(viewer) is None, timeout=LONG)
    assert np.array_equal(layer.data[::2, ::2], shown.data)


def test_the_plane_that_is_shown_is_blended(qtbot: QtBot) -> None:
    viewer = Model()
    source = viewer.add_image(picture(3, *SHAPE), axis_labels=("z", "y", "x"), blending="additive")
    dock, layer = restored(viewer, qtbot)
    viewer.dims.set_current_step(0, 2)
    drag = Drag(qtbot, dock.controls.strength)
    drag.move(-30)
    shown, strength = cover(viewer), dock.controls.recipe().strength
    assert (shown.data_to_world((0, 0, 0))[0], layer.visible) == (2, False)
    expected = source.data[2] + strength * (layer.data[2] - source.data[2])
    np.testing.assert_allclose(shown.data[0], expected, atol=1e-6)
    drag.release()
    qtbot.waitUntil(lambda: cover(viewer) is None, timeout=LONG)
    assert layer.visible


def test_where_the_result_is_not_alone_on_the_canvas_the_whole_is_blended(viewer: Model, qtbot: QtBot) -> None:
    dock, layer = restored(viewer, qtbot)
    grid_of(viewer).enabled = True
    drag = Drag(qtbot, dock.controls.strength)
    drag.move(-30)
    assert cover(viewer) is None
    blended(qtbot, dock, layer)
    grid_of(viewer).enabled, layer.visible = False, False
    drag.move(-10)
    assert cover(viewer) is None
    blended(qtbot, dock, layer)
    drag.release()


def test_removing_the_result_while_the_slider_is_held(viewer: Model, qtbot: QtBot) -> None:
    dock, layer = restored(viewer, qtbot)
    drag = Drag(qtbot, dock.controls.strength)
    drag.move(-30)
    assert cover(viewer) is not None
    viewer.layers.remove(layer)
    qtbot.waitUntil(lambda: cover(viewer) is None, timeout=LONG)
    drag.move(-10)
    drag.release()
    assert [one.name for one in viewer.layers] == ["cells"]
