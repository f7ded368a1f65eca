"""The list of layers in napari's window: a layer that is there for a moment need not stand in it."""

from __future__ import annotations

from itertools import chain
from typing import Any

from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QListView, QMainWindow


def hide_in_list(layer: Layer) -> None:
    """Hide the row of a layer for as long as it is there, in every list of layers that there is."""
    windows = [window for window in QApplication.topLevelWidgets() if isinstance(window, QMainWindow)]
    for view in chain.from_iterable(window.findChildren(QListView) for window in windows):
        model: Any = view.model()
        if model is None or not isinstance(held(model, 0), Layer):
            continue  # a list of something else, such as files
        for row in range(model.rowCount()):
            if held(model, row) is layer:
                view.setRowHidden(row, True)


def held(model: Any, row: int) -> Any:
    """Return what stands in a row."""
    return model.index(row, 0).data(Qt.ItemDataRole.UserRole)
