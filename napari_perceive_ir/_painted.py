"""The part of the Restore dock for painted labels: which layer they are in, and what each of them asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from magicgui.widgets import ComboBox
from napari.layers import Labels
from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QColor, QIcon, QPixmap, QShowEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QDoubleSpinBox,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import QSignalDebouncer

from napari_perceive_ir._background import Job
from napari_perceive_ir._forms import show_words, spare_from_wheel, wrapped
from napari_perceive_ir._labels import listing
from napari_perceive_ir._layers import is_map
from napari_perceive_ir._placement import level0
from napari_perceive_ir._region import changes_of
from napari_perceive_ir._run import MISTAKES, Event, Failed, Found
from napari_perceive_ir._words import TASK_TITLES, limits_of, sentence
from perceive_ir._vocabulary import TASKS

PAUSE = 300
"""Milliseconds without a stroke before the labels are looked through anew."""
MOST = 30
"""Labels that the table shows."""
SHOWN = 5
"""Rows of the table that are seen without scrolling."""
SWATCH = 12
"""Side of a patch of colour, in pixels."""
LEAVE = ""
NO_LABELS = "no labels layer yet: press napari's button for a new one, paint where the picture is bad, and choose it"


class PaintedPart(QWidget):
    """Chooses a Labels layer, and a task and a severity for each of its labels."""

    changed = Signal()
    """Another layer is chosen, other labels are there, or one asks for something else."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._watched: Labels | None = None
        self._job: Job | None = None
        self._wishes: dict[int, tuple[str, float]] = {}
        self.present: tuple[int, ...] = ()
        self.layer = ComboBox(choices=self._labels, tooltip="Where labels are painted over the picture.")
        self.table, self.hint = QTableWidget(0, 3), wrapped()
        self._pause = QSignalDebouncer(parent=self)
        self._pause.setTimeout(PAUSE)
        self._pause.triggered.connect(self._list)
        self.layer.changed.connect(lambda _: self._follow())
        self._lay_out()
        self._show(())
        self._follow()

    def wishes(self) -> dict[int, tuple[str, float]]:
        """Return task and severity of the labels that are there and ask for something."""
        return {label: self._wishes[label] for label in self.present if self._wishes[label][0] != LEAVE}

    def wish(self, wishes: Mapping[int, tuple[str, float]]) -> None:
        """Ask for these, and for nothing under other labels."""
        left = {label: (LEAVE, severity) for label, (_, severity) in self._wishes.items()}
        self._wishes = left | dict(wishes)
        present, self.present = self.present, ()
        self._show(present)

    def chosen(self) -> Labels:
        """Return the layer, or say what is lacking."""
        labels = self.layer.value
        if labels is None:
            raise ValueError(NO_LABELS)
        if not self.wishes():
            raise ValueError(f"no label of {labels.name!r} asks for a task: paint, and choose one in the table")
        return labels

    def refresh(self) -> None:
        """Offer the Labels layers that are there now."""
        self.layer.reset_choices()
        self._follow()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Look for labels only while they are asked for."""
        super().showEvent(event)
        self._list()

    def _labels(self, _: Any = None) -> list[tuple[str, Labels]]:
        layers = (layer for layer in self._viewer.layers if isinstance(layer, Labels))
        return [(layer.name, layer) for layer in layers if not is_map(layer)]

    def _follow(self) -> None:
        layer = self.layer.value
        if layer is self._watched:
            return
        for event in changes_of(self._watched):
            event.disconnect(self._painted)
        for event in changes_of(layer):
            event.connect(self._painted)
        self._watched = layer
        self._show(())
        self._list()

    def _painted(self, _: Any = None) -> None:
        self._pause.throttle()

    def _list(self) -> None:
        """Look through the labels in the background."""
        if self._job is not None:
            self._job.cancel()
            self._job = None
        if self._watched is None or not self.isVisible():
            return
        job = self._job = Job(self, "", listing, level0(self._watched), visible=False)
        job.happened.connect(self._happened)
        job.ended.connect(lambda: self._ended(job))
        job.start()

    def _happened(self, event: Event) -> None:
        if isinstance(event, Found) and event.all:
            self._show(event.labels)
        elif isinstance(event, Failed) and not isinstance(event.error, MISTAKES):
            raise event.error

    def _ended(self, job: Job) -> None:
        if job is self._job:
            self._job = None

    def _show(self, labels: Sequence[int]) -> None:
        """Show a row for each label; what was chosen for it before is chosen again."""
        if tuple(labels[:MOST]) != self.present:
            self.present = tuple(labels[:MOST])
            self.table.setRowCount(0)
            for label in self.present:
                self._add_row(label)
        self._hint(len(labels))
        self.table.setVisible(bool(self.present))
        rows = min(SHOWN, len(self.present))
        lines = sum(self.table.rowHeight(row) for row in range(rows))
        header: Any = self.table.horizontalHeader()
        self.table.setFixedHeight(header.sizeHint().height() + lines + 2)
        self.changed.emit()

    def _hint(self, count: int) -> None:
        layer = self._watched
        if layer is None:
            text = sentence(NO_LABELS)
        elif not count:
            text = f"Nothing is painted in “{layer.name}” yet."
        else:
            text = f"The first {MOST} of {count} labels; the others are left as they are." if count > MOST else ""
        show_words(self.hint, text)

    def _add_row(self, label: int) -> None:
        task, severity = self._wishes.setdefault(label, (TASKS[0], sum(limits_of("severity")) / 2))
        row = self.table.rowCount()
        self.table.insertRow(row)
        name = QTableWidgetItem(patch(self._watched, label), str(label))
        self.table.setItem(row, 0, name)
        tasks, amount = task_box(task), severity_box(severity)
        tasks.setAccessibleName(f"Task of label {label}")
        amount.setAccessibleName(f"Severity of label {label}")
        for box in (tasks, amount):
            spare_from_wheel(box)
        self.table.setCellWidget(row, 1, tasks)
        self.table.setCellWidget(row, 2, amount)

        def wish() -> None:
            self._wishes[label] = (tasks.currentData(), round(amount.value(), 2))
            amount.setEnabled(tasks.currentData() != LEAVE)
            self.changed.emit()

        tasks.currentIndexChanged.connect(lambda _: wish())
        amount.valueChanged.connect(lambda _: wish())
        amount.setEnabled(task != LEAVE)

    def _lay_out(self) -> None:
        self.layer.native.setPlaceholderText("no labels layer yet")
        self.layer.native.setMinimumWidth(1)
        table = self.table
        table.setHorizontalHeaderLabels(["Label", "Task", "Severity"])
        table.setAccessibleName("What each label asks for")
        table.setToolTip("What is restored under each label, and how severe the damage is there.")
        table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        header: Any = table.horizontalHeader()
        beside: Any = table.verticalHeader()
        beside.hide()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(table)
        layout.addWidget(self.hint)


def task_box(task: str) -> QComboBox:
    """Make a choice among the tasks, and to leave things as they are."""
    made = QComboBox()
    made.addItem("Leave as it is", LEAVE)
    for name in TASKS:
        made.addItem(name.capitalize(), name)
        made.setItemData(made.count() - 1, TASK_TITLES[name], Qt.ItemDataRole.ToolTipRole)
    made.setCurrentIndex(made.findData(task))
    made.setMinimumWidth(1)
    return made


def severity_box(severity: float) -> QDoubleSpinBox:
    """Make a box for a severity."""
    made = QDoubleSpinBox()
    made.setRange(*limits_of("severity"))
    made.setDecimals(2)
    made.setSingleStep(0.05)
    made.setValue(severity)
    return made


def patch(layer: Any, label: int) -> QIcon:
    """Make a patch of the colour of a label."""
    colour = np.asarray(layer.get_color(label), float)
    pixmap = QPixmap(SWATCH, SWATCH)
    pixmap.fill(QColor.fromRgbF(*(float(part) for part in colour)))
    return QIcon(pixmap)
