"""Widgets of the Quality map dock that only show: legends, a table of numbers, and a plot of the score over planes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QColor, QImage, QMouseEvent, QPainter, QPaintEvent, QPen, QPixmap, QPolygonF
from qtpy.QtWidgets import (
    QAbstractItemView,
    QGridLayout,
    QHeaderView,
    QLabel,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_perceive_ir._layers import TIER_COLOURS
from napari_perceive_ir._map_layers import SCORE_COLORMAP, SCORE_VIEW, TIER_VIEW, TYPE_COLOURS, TYPE_VIEW
from perceive_ir._vocabulary import DAMAGES, TIERS

SWATCH = 12
"""Side of a patch of colour, in pixels."""
WORST = QColor(TIER_COLOURS["low"])


class Legend(QWidget):
    """Explains the colours of the view that is shown."""

    def __init__(self) -> None:
        super().__init__()
        self._pages = {TIER_VIEW: tier_legend(), SCORE_VIEW: score_legend(), TYPE_VIEW: type_legend()}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for page in self._pages.values():
            layout.addWidget(page)

    def show_view(self, view: str | None) -> None:
        """Show the legend of a view, or none."""
        self.setVisible(view is not None)
        for name, page in self._pages.items():
            page.setVisible(name == view)


def tier_legend() -> QWidget:
    """Explain the colours of the tiers."""
    notes = {tier: f"{tier} quality" for tier in TIERS} | {"high": "high quality: left clear"}
    return swatches([(TIER_COLOURS[tier], notes[tier], "") for tier in TIERS], columns=1)


def type_legend() -> QWidget:
    """Explain the colours of the types of damage."""
    entries = [(TYPE_COLOURS[d.type], d.title, f"The picture is {d.adjective} here.") for d in DAMAGES]
    return swatches(entries, columns=3)


def swatches(entries: Sequence[tuple[str, str, str]], columns: int) -> QWidget:
    """Lay out patches of colour with their names and tooltips."""
    page, grid = bare_grid()
    for n, (colour, name, tip) in enumerate(entries):
        patch, label = QLabel(), QLabel(name)
        patch.setPixmap(patch_of(colour))
        label.setToolTip(tip)
        grid.addWidget(patch, n // columns, 2 * (n % columns))
        grid.addWidget(label, n // columns, 2 * (n % columns) + 1)
        grid.setColumnStretch(2 * (n % columns) + 1, 1)
    return page


def score_legend() -> QWidget:
    """Explain the colours of the score."""
    page, grid = bare_grid()
    bar = QLabel()
    bar.setPixmap(gradient(SCORE_COLORMAP))
    bar.setScaledContents(True)
    bar.setMinimumWidth(1)
    bar.setFixedHeight(SWATCH)
    grid.addWidget(bar, 0, 0, 1, len(TIERS))
    sides = (Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignHCenter, Qt.AlignmentFlag.AlignRight)
    for n, (tier, side) in enumerate(zip(TIERS, sides, strict=True)):
        grid.addWidget(QLabel(f"{n} {tier}"), 1, n, side)
    return page


def bare_grid() -> tuple[QWidget, QGridLayout]:
    """Make a widget with a grid without margins."""
    page = QWidget()
    grid = QGridLayout(page)
    grid.setContentsMargins(0, 0, 0, 0)
    grid.setVerticalSpacing(2)
    return page, grid


def patch_of(colour: str) -> QPixmap:
    """Paint a patch of colour with a fine edge."""
    pixmap = QPixmap(SWATCH, SWATCH)
    pixmap.fill(QColor(colour))
    painter = QPainter(pixmap)
    painter.setPen(QColor("gray"))
    painter.drawRect(0, 0, SWATCH - 1, SWATCH - 1)
    painter.end()
    return pixmap


def gradient(colormap: str) -> QPixmap:
    """Paint a colormap of napari from its lowest value on the left."""
    from napari.utils.colormaps import ensure_colormap

    colours = (255 * ensure_colormap(colormap).map(np.linspace(0, 1, 256))).astype(np.uint8)
    line = np.ascontiguousarray(colours[None])
    return QPixmap.fromImage(QImage(line.tobytes(), line.shape[1], 1, QImage.Format.Format_RGBA8888))


class Table(QTableWidget):
    """Rows of text under given headings, as high as they are many, never scrolled."""

    def __init__(self, headings: Sequence[str]) -> None:
        super().__init__(0, len(headings))
        self.setHorizontalHeaderLabels(list(headings))
        heading: Any = self.horizontalHeader()
        heading.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        heading.setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        self._heading = heading
        beside: Any = self.verticalHeader()
        beside.hide()
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setTabKeyNavigation(False)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumWidth(0)

    def show_rows(self, rows: Sequence[Sequence[str]]) -> None:
        """Show rows of text."""
        self.setRowCount(len(rows))
        for r, row in enumerate(rows):
            for c, text in enumerate(row):
                self.setItem(r, c, QTableWidgetItem(text))
        self.resizeRowsToContents()
        height = sum(self.rowHeight(r) for r in range(len(rows)))
        self.setFixedHeight(height + self._heading.sizeHint().height() + 2 * self.frameWidth())

    def texts(self) -> list[list[str]]:
        """Return what is shown."""
        return [[self.text_at(r, c) for c in range(self.columnCount())] for r in range(self.rowCount())]

    def text_at(self, row: int, column: int) -> str:
        """Return what stands in a cell."""
        item: Any = self.item(row, column)
        return item.text() if item is not None else ""


class ScorePlot(QWidget):
    """Plots the score of the planes; a click goes to a plane."""

    picked = Signal(int)
    """The plane that was clicked."""

    def __init__(self) -> None:
        super().__init__()
        self._scores: NDArray[np.float64] = np.zeros(0)
        self._current = 0
        self.setMinimumHeight(90)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setCursor(Qt.CursorShape.PointingHandCursor)

    def show_scores(self, scores: NDArray[np.float64], current: int, title: str) -> None:
        """Show scores 0..2 over planes, the current one marked."""
        self._scores, self._current = scores, current
        worst = int(scores.argmin())
        told = f"Score along {title}: lowest {scores[worst]:.2f} at {worst}, here {scores[current]:.2f} at {current}"
        self.setAccessibleName(told)
        self.setToolTip(f"{told}. Click to go to a plane.")
        self.update()

    def sizeHint(self) -> QSize:
        """Want little height."""
        return QSize(200, 90)

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Go to the plane under the mouse."""
        if event is not None and len(self._scores):
            self.picked.emit(self.plane_under(event.position().x()))

    def plane_under(self, x: float) -> int:
        """Return the plane whose point is nearest to a place across the widget."""
        box = self._box()
        return int(np.clip(round((x - box.left()) / box.width() * (len(self._scores) - 1)), 0, len(self._scores) - 1))

    def place_of(self, plane: int) -> QPointF:
        """Return where the point of a plane is drawn."""
        box = self._box()
        across = plane / max(1, len(self._scores) - 1)
        up = float(self._scores[plane]) / (len(TIERS) - 1)
        return QPointF(box.left() + across * box.width(), box.bottom() - up * box.height())

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the tiers as lines across, the scores as a curve, where one is and what is worst."""
        if not len(self._scores):
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._draw_tiers(painter)
        self._draw_current(painter)
        self._draw_curve(painter)

    def _draw_tiers(self, painter: QPainter) -> None:
        box, text = self._box(), self.palette().windowText().color()
        faint = QColor(text)
        faint.setAlphaF(0.25)
        for n, tier in enumerate(TIERS):
            y = box.bottom() - n / (len(TIERS) - 1) * box.height()
            painter.setPen(faint)
            painter.drawLine(QPointF(box.left(), y), QPointF(box.right(), y))
            painter.setPen(text)
            field = QRectF(0, y - 10, box.left() - 6, 20)
            painter.drawText(field, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, tier)

    def _draw_current(self, painter: QPainter) -> None:
        box, x = self._box(), self.place_of(self._current).x()
        painter.setPen(QPen(self.palette().windowText().color(), 1, Qt.PenStyle.DashLine))
        painter.drawLine(QPointF(x, box.top()), QPointF(x, box.bottom()))

    def _draw_curve(self, painter: QPainter) -> None:
        points = [self.place_of(n) for n in range(len(self._scores))]
        painter.setPen(QPen(self.palette().windowText().color(), 1.5))
        painter.drawPolyline(QPolygonF(points))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(WORST)
        painter.drawEllipse(points[int(self._scores.argmin())], 4.5, 4.5)

    def _box(self) -> QRectF:
        left = self.fontMetrics().horizontalAdvance(max(TIERS, key=len)) + 10
        return QRectF(left, 10, max(1, self.width() - left - 10), self.height() - 20)
