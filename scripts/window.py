"""A window of napari that a script uses as a person would: with clicks on what can be seen, and pictures of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
from PIL import Image
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt, QThreadPool
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QApplication, QComboBox, QLabel, QSlider, QTableWidget, QWidget

DOCK_WIDTH = 350
LARGEST = 300_000
"""Bytes of a picture."""
LONGEST = 600
"""Seconds that anything may take."""
PLUGIN = "napari-perceive-ir"


def open_window(theme: str, size: tuple[int, int] = (1120, 860)) -> napari.Viewer:
    """Open napari."""
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.theme = theme
    viewer.window.resize(*size)
    return viewer


def close(viewer: napari.Viewer) -> None:
    """Close a window, and wait for what its docks began, which a script would else be torn from."""
    viewer.close()
    while not QThreadPool.globalInstance().waitForDone(50):  # type: ignore[union-attr]
        settle(0.05)
    settle()


def open_dock(viewer: napari.Viewer, name: str) -> Any:
    """Open a dock of the plugin by its name in the menu, as wide as docks are made for."""
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    widen(dock)
    return dock


def dock_named(viewer: napari.Viewer, start: str) -> Any:
    """Return an open dock whose name begins so."""
    return next(dock for name, dock in viewer.window.dock_widgets.items() if name.startswith(start))


def widen(dock: Any) -> None:
    """Give a dock its width."""
    dock.window().resizeDocks([dock.parent()], [DOCK_WIDTH], Qt.Orientation.Horizontal)
    settle()


def settle(seconds: float = 0.5) -> None:
    """Let the window draw."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def wait_until(done: Callable[[], bool]) -> None:
    """Let the window work until something is so."""
    end = time.monotonic() + LONGEST
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"nothing came of it within {LONGEST} s")
        settle(0.05)


def button(dock: QWidget, text: str) -> QAbstractButton:
    """Find a button by what stands on it."""
    found = [one for one in dock.findChildren(QAbstractButton) if one.text() == text]
    if len(found) != 1:
        known = ", ".join(repr(one.text()) for one in dock.findChildren(QAbstractButton))
        raise LookupError(f"expected one button {text!r}, found {len(found)} (buttons: {known})")
    return found[0]


def press(dock: QWidget, text: str) -> None:
    """Click a button."""
    click(button(dock, text))
    settle(0.2)


def click(found: QWidget) -> None:
    """Click near the left end, where the mark of a box is."""
    QTest.mouseClick(found, Qt.MouseButton.LeftButton, pos=QPoint(10, found.height() // 2))


def run(dock: QWidget, text: str) -> None:
    """Click a button that begins something, unless that is going on, and wait until it can be clicked again."""
    if button(dock, text).isEnabled():
        press(dock, text)
    wait_until(button(dock, text).isEnabled)
    settle()


def words(dock: QWidget) -> str:
    """Return all words that can be read in a dock's texts and tables."""
    labels = [label.text() for label in dock.findChildren(QLabel) if label.isVisible()]
    tables = [table for table in dock.findChildren(QTableWidget) if table.isVisible()]
    cells = [table.item(r, c) for table in tables for r in range(table.rowCount()) for c in range(table.columnCount())]
    return "\n".join([*labels, *(cell.text() for cell in cells if cell is not None)])


def choose(dock: QWidget, name: str, entry: str) -> None:
    """Choose an entry."""
    (box,) = [one for one in dock.findChildren(QComboBox) if one.accessibleName() == name]
    place = box.findText(entry)
    if place < 0:
        raise LookupError(f"no entry {entry!r} in {name!r}: {[box.itemText(n) for n in range(box.count())]}")
    box.setCurrentIndex(place)
    settle()


def slide(dock: QWidget, name: str, steps: int) -> None:
    """Move a slider with the arrow keys, to the left where steps are negative."""
    (found,) = [one for one in dock.findChildren(QWidget) if one.accessibleName() == name and one.isVisible()]
    slider = found if isinstance(found, QSlider) else found.focusProxy()
    slider.setFocus()
    for _ in range(abs(steps)):
        QTest.keyClick(slider, Qt.Key.Key_Right if steps > 0 else Qt.Key.Key_Left)
    settle()


def drag(viewer: napari.Viewer, start: float, end: float) -> None:
    """Drag with the mouse over the canvas, from one share of its width to another, at half its height."""
    left, none, kind = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton, QEvent.Type
    send_mouse(viewer, kind.MouseMove, start, none, none)
    send_mouse(viewer, kind.MouseButtonPress, start, left, left)
    for n in range(1, 11):
        send_mouse(viewer, kind.MouseMove, start + (end - start) * n / 10, none, left)
    send_mouse(viewer, kind.MouseButtonRelease, end, left, none)
    settle()


def send_mouse(
    viewer: napari.Viewer, kind: QEvent.Type, across: float, pressed: Qt.MouseButton, held: Qt.MouseButton
) -> None:
    """Send one event of the mouse to the canvas."""
    canvas = viewer.window._qt_viewer.canvas.native
    spot = QPointF(canvas.width() * across, canvas.height() / 2)
    event = QMouseEvent(kind, spot, QPointF(canvas.mapToGlobal(spot)), pressed, held, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(canvas, event)
    settle(0.02)


def shoot(viewer: napari.Viewer, path: Path) -> None:
    """Write what a person sees, with as many colours as fit, those of small legends among them."""
    settle()
    picture = Image.fromarray(viewer.screenshot(canvas_only=False, flash=False)[..., :3])
    for colours in (None, 256, 128, 64):
        fewer = picture.quantize(colours, Image.Quantize.FASTOCTREE) if colours else picture
        fewer.save(path, optimize=True)
        if path.stat().st_size <= LARGEST:
            break
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
