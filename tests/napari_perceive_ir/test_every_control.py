"""Every control of every dock says what it is for, to eyes and to screen readers, and the keyboard reaches it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel as Model
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QAbstractButton, QApplication, QComboBox, QLabel, QSlider, QWidget

from napari_perceive_ir._batch_dock import BatchDock
from napari_perceive_ir._dock import RestoreDock
from napari_perceive_ir._map_dock import QualityMapDock
from tests.napari_perceive_ir.conftest import LONG, finish, picture

DOCKS = [RestoreDock, QualityMapDock, BatchDock]


@pytest.fixture
def viewer() -> Model:
    """Everything that a dock can offer: a stack, a shape, painted labels."""
    viewer = Model()
    viewer.add_image(picture(3, 64, 80), name="stack", axis_labels=("z", "y", "x"))
    viewer.add_shapes([np.array([(5, 5), (5, 30), (40, 30), (40, 5)])], name="box")
    viewer.add_labels(np.eye(64, 80, dtype=int), name="marks")
    return viewer


@pytest.fixture(params=DOCKS)
def dock(request: pytest.FixtureRequest, viewer: Model, qtbot: QtBot) -> Any:
    dock = request.param(viewer)
    qtbot.addWidget(dock)
    dock.resize(350, 900)
    dock.show()
    return dock


def controls(dock: QWidget) -> Iterator[QWidget]:
    """Return what the keyboard or the mouse can work on; parts of a control count as the control."""
    for widget in dock.findChildren(QWidget):
        focus = widget.focusPolicy() & Qt.FocusPolicy.TabFocus or isinstance(widget, QAbstractButton)
        if focus and not widget.objectName().startswith("qt_") and not isinstance(widget, QLabel):
            yield widget


def first(widget: QWidget, dock: QWidget, told: Any) -> str:
    """Return what a widget tells, or else the first around it that tells something, as Qt does for tooltips."""
    at: Any = widget
    while at is not None and at is not dock:
        if told(at):
            return str(told(at))
        at = at.parentWidget()
    return ""


def described(widget: QWidget) -> str:
    return f"{type(widget).__name__} {widget.accessibleName()!r} {getattr(widget, 'text', str)()!r}"


def test_every_control_says_what_it_is_for(dock: Any) -> None:
    silent = [described(one) for one in controls(dock) if not first(one, dock, lambda w: w.toolTip())]
    assert not silent
    assert sum(1 for _ in controls(dock)) > 5


def test_every_control_has_a_name(dock: Any) -> None:
    named = lambda w: w.accessibleName() or (w.text() if isinstance(w, QAbstractButton) else "")  # noqa: E731
    nameless = [described(one) for one in controls(dock) if not first(one, dock, named)]
    assert not nameless


def test_no_key_of_a_dock_is_given_twice(dock: Any) -> None:
    texts = [one.text() for one in dock.findChildren(QLabel) if one.buddy() is not None and one.isVisible()]
    texts += [one.text() for one in dock.findChildren(QAbstractButton) if one.isVisible()]
    keys = [text[text.index("&") + 1].lower() for text in texts if "&" in text]
    assert len(keys) == len(set(keys))


def test_the_keyboard_reaches_every_control_from_top_to_bottom(dock: Any, qtbot: QtBot) -> None:
    wanted = [one for one in controls(dock) if one.isVisible() and one.isEnabled() and one.focusProxy() is None]
    qtbot.waitActive(dock, timeout=LONG)
    dock.focusNextPrevChild(True)
    reached: list[QWidget] = []
    while dock.focusWidget() not in reached and len(reached) < 100:
        reached.append(dock.focusWidget())
        qtbot.keyClick(reached[-1], Qt.Key.Key_Tab)
    missed = [described(one) for one in wanted if not any(one is at or one.isAncestorOf(at) for at in reached)]
    assert not missed
    heights = [one.mapTo(dock, QPoint(0, one.height() // 2)).y() for one in reached if one in wanted]
    start = heights.index(min(heights))
    heights = heights[start:] + heights[:start]
    back = [(described(a), described(b)) for a, b, up in zip(reached, reached[1:], downs(heights), strict=False) if up]
    assert not back


def downs(heights: list[int]) -> list[bool]:
    """Say at which steps the keyboard goes up; what stands in one row may differ a little."""
    return [later < earlier - 12 for earlier, later in pairwise(heights)]


def test_tables_of_painted_labels_say_what_their_cells_are_for(viewer: Model, qtbot: QtBot) -> None:
    dock = RestoreDock(viewer)
    qtbot.addWidget(dock)
    dock.show()
    dock.controls.handling.value = "painted"
    qtbot.waitUntil(lambda: dock.controls.painted.present == (1,), timeout=LONG)
    cells = [one for one in controls(dock) if dock.controls.painted.isAncestorOf(one)]
    assert cells and all(first(one, dock, lambda w: w.toolTip()) for one in cells)


@pytest.mark.parametrize("held", [False, True])
def test_the_wheel_turns_only_a_control_that_has_the_keyboard(dock: Any, qtbot: QtBot, held: bool) -> None:
    qtbot.waitActive(dock, timeout=LONG)
    turned = [one for one in controls(dock) if isinstance(one, QComboBox | QSlider) and one.isVisible()]
    turned = [one for one in turned if not isinstance(one, QComboBox) or one.count() > 1]
    assert len(turned) > (0 if isinstance(dock, QualityMapDock) else 2)
    for one in turned:
        before = value_of(one)
        if held:
            one.setFocus()
        turn_wheel(one)
        assert (value_of(one) != before) == held, described(one)
        dock.setFocus()


def value_of(control: Any) -> Any:
    return control.currentIndex() if isinstance(control, QComboBox) else control.value()


def turn_wheel(widget: QWidget) -> None:
    """Turn the wheel towards the user by one notch."""
    middle, none = QPointF(widget.rect().center()), Qt.MouseButton.NoButton
    place = QPointF(widget.mapToGlobal(middle))
    phase, turn = Qt.ScrollPhase.NoScrollPhase, QPoint(0, -120)
    QApplication.sendEvent(
        widget, QWheelEvent(middle, place, QPoint(), turn, none, Qt.KeyboardModifier.NoModifier, phase, False)
    )


def test_what_comes_with_a_result_says_what_it_is_for(viewer: Model, qtbot: QtBot, tmp_path: Path) -> None:
    dock = QualityMapDock(viewer)
    qtbot.addWidget(dock)
    dock.show()
    dock.run()
    finish(qtbot, dock)
    silent = [described(one) for one in controls(dock) if not first(one, dock, lambda w: w.toolTip())]
    assert not silent
