"""What a run will cost is said before it begins, follows what is chosen, and gives way to what is measured."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel as Model
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt

from napari_perceive_ir import _estimate, _layer_dock, _run
from napari_perceive_ir._dock import RestoreDock
from napari_perceive_ir._estimate import SPEEDS, Estimate, Speed, duration, estimate
from napari_perceive_ir._layers import plan_run
from napari_perceive_ir._run import Progress, model_of, restoring
from perceive_ir._recipe import make_recipe
from tests.napari_perceive_ir.conftest import LONG, click, docked, finish, hold, picture

DENOISE = make_recipe(task="denoise", severity=0.5)


@pytest.fixture(autouse=True)
def nothing_is_known() -> Iterator[None]:
    SPEEDS.clear()
    yield
    SPEEDS.clear()


@pytest.fixture
def viewer() -> Model:
    viewer = Model()
    viewer.add_image(picture(3, 48, 40), name="cells", axis_labels=("z", "y", "x"))
    viewer.add_image(picture(48, 40), name="other")
    viewer.layers.selection.active = viewer.layers["cells"]
    return viewer


@pytest.fixture
def dock(viewer: Model, qtbot: QtBot) -> RestoreDock:
    return docked(viewer, qtbot, task="denoise", severity=0.5)


def said(qtbot: QtBot, dock: RestoreDock, words: str) -> str:
    """Wait until the line says something, and return it."""
    qtbot.waitUntil(lambda: words in dock.estimate.text() and dock.estimate.isVisible(), timeout=LONG)
    return dock.estimate.text()


def test_an_estimate_is_said_in_words() -> None:
    assert Estimate(12.3, False, 6, 512, 0.84e9).words() == "about 12 s · 6 tiles of 512 · 0.8 GB"
    assert Estimate(200, True, 1, 512, 3e6).words() == "up to 3 min · 1 tile · 0.1 GB"
    assert [duration(seconds) for seconds in (0.2, 89, 90, 5399, 5400)] == ["1 s", "89 s", "2 min", "90 min", "1.5 h"]


@pytest.mark.parametrize("shape", [(48, 40), (3, 48, 40), (700, 1100)])
def test_the_tiles_are_those_of_the_run(shape: Any, viewer: Model) -> None:
    plan = plan_run(viewer.add_image(picture(*shape)), DENOISE)
    *_, last = (event for event in restoring(plan) if isinstance(event, Progress))
    assert estimate(model_of(DENOISE), Speed(0, 0), (plan,)).tiles == last.total


def test_time_grows_with_the_pixels_and_the_pictures() -> None:
    restorer, speed = model_of(DENOISE), Speed(0.5, 1e-6)
    viewer = Model()
    small, large = (plan_run(viewer.add_image(picture(side, side)), DENOISE) for side in (256, 512))
    one = estimate(restorer, speed, (small,))
    assert one.seconds == pytest.approx(0.5 + 256 * 256 * 1e-6)
    assert estimate(restorer, speed, (small, small)).seconds == pytest.approx(2 * one.seconds)
    assert estimate(restorer, speed, (large,)).seconds == pytest.approx(0.5 + 512 * 512 * 1e-6)
    assert estimate(restorer, speed, (large,)).memory > one.memory > 256 * 256 * 8


def test_the_line_follows_what_is_chosen(viewer: Model, dock: RestoreDock, qtbot: QtBot) -> None:
    assert said(qtbot, dock, "3 tiles").startswith("A run takes about ")
    qtbot.keyClick(dock.controls.pictures.planes.native, Qt.Key.Key_Down)
    said(qtbot, dock, "1 tile ·")
    qtbot.keyClick(dock.controls.pictures.planes.native, Qt.Key.Key_Up)
    viewer.layers.selection = set(viewer.layers)
    click(qtbot, dock.controls.pictures.several.native)
    said(qtbot, dock, "4 tiles")
    viewer.layers.selection.active = viewer.layers["cells"]
    viewer.layers["cells"].data = picture(5, 48, 40)
    said(qtbot, dock, "5 tiles")
    dock.controls.task.value = "auto"
    assert said(qtbot, dock, "up to ").endswith("GB")
    viewer.layers.clear()
    qtbot.waitUntil(lambda: not dock.estimate.isVisible(), timeout=LONG)


def test_the_model_is_loaded_and_measured_once_and_never_in_the_main_thread(
    request: pytest.FixtureRequest, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perceive_ir import _catalogue

    threads: list[Any] = []
    monkeypatch.setattr(_estimate, "measured", noted(_estimate.measured, threads))
    monkeypatch.setattr(_catalogue, "load", noted(_catalogue.load, threads))
    dock: RestoreDock = request.getfixturevalue("dock")  # it loads the model as soon as it opens
    said(qtbot, dock, "3 tiles")
    qtbot.keyClick(dock.controls.pictures.planes.native, Qt.Key.Key_Down)
    said(qtbot, dock, "1 tile ·")
    assert len(threads) == 2 and threading.main_thread() not in threads


def noted(function: Any, threads: list[Any]) -> Any:
    """Remember in which threads a function is called."""

    def call(*args: Any, **kwargs: Any) -> Any:
        threads.append(threading.current_thread())
        return function(*args, **kwargs)

    return call


def test_what_cannot_be_run_has_no_estimate_and_is_told_only_by_run(
    viewer: Model, dock: RestoreDock, qtbot: QtBot, notices: list[str]
) -> None:
    said(qtbot, dock, "3 tiles")
    viewer.layers["cells"].data = picture(3, 48, 40) > 0.5
    qtbot.waitUntil(lambda: not dock.estimate.isVisible(), timeout=LONG)
    qtbot.keyClicks(dock.controls.pictures.axes, "w")
    qtbot.keyClick(dock.controls.pictures.axes, Qt.Key.Key_Return)
    qtbot.wait(600)
    assert not dock.estimate.isVisible() and not notices


def test_a_run_replaces_the_estimate_and_teaches_it(viewer: Model, dock: RestoreDock, qtbot: QtBot, gate: Any) -> None:
    said(qtbot, dock, "3 tiles")
    (before,) = SPEEDS.values()
    hold(qtbot, dock, gate)
    assert not dock.estimate.isVisible()
    gate.opened.set()
    finish(qtbot, dock)
    (after,) = SPEEDS.values()
    assert after.look == before.look and after.per_pixel != before.per_pixel


def test_after_a_run_only_what_it_took_is_said_until_something_else_is_chosen(
    viewer: Model, dock: RestoreDock, qtbot: QtBot
) -> None:
    said(qtbot, dock, "3 tiles")
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    qtbot.wait(600)
    assert " after " in dock.status.text() and not dock.estimate.isVisible()
    qtbot.keyClick(dock.controls.pictures.planes.native, Qt.Key.Key_Down)
    said(qtbot, dock, "1 tile ·")


def test_a_run_that_was_cancelled_is_estimated_again(dock: RestoreDock, qtbot: QtBot, gate: Any) -> None:
    said(qtbot, dock, "3 tiles")
    hold(qtbot, dock, gate)
    click(qtbot, dock.cancel_button)
    gate.opened.set()
    finish(qtbot, dock)
    said(qtbot, dock, "3 tiles")


def test_what_is_left_is_measured_since_the_first_step(dock: RestoreDock, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 104.0, 106.0])
    monkeypatch.setattr(_layer_dock, "perf_counter", lambda: next(clock))
    texts = []
    for done in (2, 4, 10):
        dock._happened(Progress(done, 10))
        texts.append(dock.status.text())
    assert texts == [
        "Restoring: 2 of 10 tiles", "Restoring: 4 of 10 tiles · about 12 s left", "Restoring: 10 of 10 tiles",
    ]  # fmt: skip


def test_the_speed_that_is_measured_is_that_of_the_chosen_tasks() -> None:
    for fields, most in (({"task": "denoise"}, False), ({}, True), ({"handling": "region"}, True)):
        recipe = make_recipe(**fields)
        speed = _estimate.measured(_run.model_of(recipe), recipe)
        assert speed.most == most and speed.per_pixel > 0 and np.isfinite(speed.look)
