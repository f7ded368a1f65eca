"""What the model sees as small bars: how likely each type of damage is, and how severe where it counts as present."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_perceive_ir._map_layers import TYPE_COLOURS
from perceive_ir._vocabulary import TYPE_TITLES, TYPES

if TYPE_CHECKING:
    from perceive_ir import Perception

INSET = 4
"""Pixels before the names, as before the dock's other texts."""
GAP = 8
"""Pixels between name, bar and severity."""
THICKNESS = 7
"""Height of a bar, in pixels."""
HEADINGS = ("", "probability", "severity")
EXPLANATION = "How likely each type of damage is. A solid bar counts as present and has a severity, 0 to 1."


@dataclass(frozen=True)
class SeenType:
    """A type of damage in the eyes of the model."""

    type: str
    probability: float
    severity: float | None
    """None where the type does not count as present."""

    def words(self) -> str:
        """Say it in words."""
        told = "absent" if self.severity is None else f"severity {self.severity:.2f}"
        return f"{TYPE_TITLES[self.type]} {self.probability:.0%}, {told}"


@dataclass(frozen=True)
class Reading:
    """What the model saw in a picture."""

    whose: str
    """The picture's name, where others were looked at too."""
    seen: Perception


def seen_types(seen: Perception) -> list[SeenType]:
    """Take every type from a perception, in the order of the vocabulary."""
    severities = {name: seen.severities[name] for name in seen.present}
    return [SeenType(name, seen.types[name], severities.get(name)) for name in TYPES]


class SeenBars(QWidget):
    """Shows one bar for each type; hidden while nothing is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: Sequence[SeenType] = ()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(EXPLANATION)
        self.show_types(())

    def show_types(self, types: Sequence[SeenType]) -> None:
        """Show what is seen, or nothing."""
        self.shown = types
        self.setAccessibleName("; ".join(one.words() for one in types))
        self.setVisible(bool(types))
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """Want one line of text for each type and the headings."""
        return QSize(200, (len(self.shown) + 1) * self._line())

    def track(self, row: int) -> QRectF:
        """Return where a bar would be if it were full."""
        text = self.fontMetrics()
        left = INSET + max(text.horizontalAdvance(title) for title in TYPE_TITLES.values()) + GAP
        right = self.width() - text.horizontalAdvance(HEADINGS[-1]) - GAP
        top = (row + 1) * self._line() + (self._line() - THICKNESS) / 2
        return QRectF(left, top, max(1, right - left), THICKNESS)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the headings, and for each type its name, bar and severity."""
        painter = QPainter(self)
        self._write(painter, -1, HEADINGS)
        for row, one in enumerate(self.shown):
            self._draw_bar(painter, row, one)
            told = "–" if one.severity is None else f"{one.severity:.2f}"
            self._write(painter, row, (TYPE_TITLES[one.type], "", told))

    def _draw_bar(self, painter: QPainter, row: int, one: SeenType) -> None:
        track, colour, ground = self.track(row), QColor(TYPE_COLOURS[one.type]), self._text_colour()
        ground.setAlphaF(0.12)
        painter.fillRect(track, ground)
        colour.setAlphaF(0.4 if one.severity is None else 1.0)
        track.setWidth(track.width() * one.probability)
        painter.fillRect(track, colour)

    def _write(self, painter: QPainter, row: int, texts: Sequence[str]) -> None:
        track, top = self.track(row), (row + 1) * self._line()
        lefts = (float(INSET), track.left(), track.right() + GAP)
        sides = (Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight)
        rights = (track.left(), track.right(), float(self.width()))
        painter.setPen(self._text_colour())
        for text, left, right, side in zip(texts, lefts, rights, sides, strict=True):
            painter.drawText(QRectF(left, top, right - left, self._line()), side | Qt.AlignmentFlag.AlignVCenter, text)

    def _text_colour(self) -> QColor:
        return QColor(self.palette().windowText().color())

    def _line(self) -> int:
        return self.fontMetrics().height() + 1
