"""Dialogs that wait for an answer, such as the one that saves all layers: what is passing makes way for them."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QObject, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QApplication, QWidget


def dialog_open() -> bool:
    """Whether a dialog waits for an answer, and no window can be used."""
    return QApplication.activeModalWidget() is not None


class DialogWatch(QObject):
    """Tells when such a dialog opens and when it is closed.

    Parameters
    ----------
    around
        A widget in the window that cannot be used meanwhile.
    """

    opened = Signal()
    closed = Signal()
    """What the dialog was for, such as saving, is done before the next event."""

    def __init__(self, around: QWidget) -> None:
        super().__init__(around)
        self._around = around

    def watch(self) -> None:
        """Watch the window in which the widget is now."""
        window: Any = self._around.window()
        window.installEventFilter(self)  # a second time does nothing

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """See the window being blocked."""
        if event is not None and watched is self._around.window():
            if event.type() == QEvent.Type.WindowBlocked:
                self.opened.emit()
            elif event.type() == QEvent.Type.WindowUnblocked:
                self.closed.emit()
        return False
