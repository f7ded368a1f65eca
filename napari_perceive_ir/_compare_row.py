"""The row of the dock that compares before and after: swipe, side by side, and a key that is held."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from napari.layers import Image, Layer
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from napari_perceive_ir._compare import Comparison, Flip, SideBySide, Swipe, is_cover, share_place
from napari_perceive_ir._dialogs import DialogWatch
from napari_perceive_ir._lazy_picture import is_lazy
from napari_perceive_ir._turn import end_passing

KEY = "H"
"""Held, it shows what was before; no command of napari has it."""


class CompareRow(QWidget):
    """Compares two selected layers that share their place, else the last result with its source.

    Visible while there is something to compare.

    Parameters
    ----------
    viewer
        The napari viewer.
    parent
        The dock.
    """

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._last: tuple[Image, ...] = ()
        self._on: Comparison | None = None
        self._flip: Comparison | None = None
        self._key_was: Any = None
        self._soon = QTimer(self)  # a child: gone with the row, as a single shot is not in PySide6
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self.stop)
        self.swipe_button = toggle("Swipe", "Drag a line over the picture: before on its left, after on its right.")
        self.side_button = toggle("Side by side", "Show before and after next to each other in napari's grid.")
        self._lay_out()
        self.swipe_button.clicked.connect(lambda on: self._compare(Swipe if on else None))
        self.side_button.clicked.connect(lambda on: self._compare(SideBySide if on else None))
        viewer.layers.selection.events.changed.connect(self._refresh)
        viewer.layers.events.removed.connect(self._refresh)
        self._dialogs = DialogWatch(self)
        self._dialogs.opened.connect(self.stop)  # else its layers would be saved
        self._take_key()
        self._refresh()

    def offer(self, before: Image, after: Image) -> None:
        """Compare another result from now on, which is shown as it is."""
        self._last = (before, after)
        self._take_key()
        end_passing(self._viewer)
        self.stop()

    def stop(self) -> None:
        """End what is on: every layer is as it was."""
        self._soon.stop()
        for comparison in (self._flip, self._on):
            if comparison is not None:
                comparison.stop()
        self._flip = self._on = None
        self._refresh()

    def leave(self) -> None:
        """End what is on and give the key back."""
        self.stop()
        held = self._viewer.bind_key(KEY, None)
        back = self._key_was if held == self._hold else held
        if back is not None:
            self._viewer.bind_key(KEY, back)

    def _compare(self, kind: type[Swipe] | type[SideBySide] | None) -> None:
        self.stop()
        pair = self._pair()
        if kind is not None and pair is not None:
            self._dialogs.watch()
            self._on = kind(self._viewer, *pair, lost=self._stop_soon)
        self._refresh()

    def _stop_soon(self) -> None:
        """Stop as soon as the list of layers is no longer being changed."""
        self._soon.start()

    def _pair(self) -> tuple[Image, Image] | None:
        """Return what is before and what is after."""
        if self._on is not None:
            return self._on.before, self._on.after
        layers = self._viewer.layers
        chosen = tuple(layer for layer in layers if layer in layers.selection)
        for pair in (chosen, self._last):
            if len(pair) == 2 and all(self._comparable(one) for one in pair) and share_place(*pair):
                return pair
        return None

    def _comparable(self, layer: Layer) -> bool:
        return isinstance(layer, Image) and layer in self._viewer.layers and not is_cover(layer)

    def _take_key(self) -> None:
        was = self._viewer.bind_key(KEY, self._hold, overwrite=True)
        row = getattr(was, "__self__", None)
        self._key_was = row._key_was if isinstance(row, CompareRow) else was  # the user's, never another dock's

    def _hold(self, viewer: Any) -> Iterator[None]:
        """Show what was before until the key is released."""
        pair = self._pair()
        if pair is None or isinstance(self._on, SideBySide):
            return
        if isinstance(self._on, Swipe):
            swipe, at = self._on, self._on.at
            swipe.move(1.0)
            yield
            swipe.move(at)
            return
        if self._flip is not None:  # its release was lost, for instance to another window
            self._flip.stop()
        self._flip = flip = Flip(self._viewer, *pair, lost=self._stop_soon)
        yield
        flip.stop()

    def _refresh(self, event: Any = None) -> None:
        pair = self._pair()
        self.setVisible(pair is not None)
        self.swipe_button.setVisible(
            not any(map(is_lazy, pair or ()))
        )  # it copies what it shows, which would not fill in
        self.swipe_button.setChecked(isinstance(self._on, Swipe))
        self.side_button.setChecked(isinstance(self._on, SideBySide))

    def _lay_out(self) -> None:
        hint = QLabel(f"Hold {KEY}: before")
        hint.setToolTip(f"While {KEY} is held down over the picture, it shows what was before.")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for widget in (self.swipe_button, self.side_button, hint):
            row.addWidget(widget)


def toggle(text: str, tip: str) -> QPushButton:
    """Make a button that stays down."""
    button = QPushButton(text)
    button.setCheckable(True)
    button.setToolTip(tip)
    return button
