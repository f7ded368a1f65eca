"""Where and how the network runs: a part of the dock that is folded until somebody asks."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox
from superqt.utils import signals_blocked

from napari_perceive_ir._forms import FoldedForm, add_row
from napari_perceive_ir._preferences import remember, remembered, settings
from napari_perceive_ir._words import AUTOMATIC, choices_of, help_of
from perceive_ir import Recipe
from perceive_ir._recipe import make_recipe

MOST_MEMORY = 1024
"""GiB."""


class ComputePart(FoldedForm):
    """Chooses device, precision and memory."""

    changed = Signal()
    """Something else is chosen, completely."""

    def __init__(self) -> None:
        super().__init__("Compute", "Where and how the network runs, which is remembered.")
        self.device, self.precision = choice("device"), choice("precision")
        self.device.setEditable(True)  # for names such as cuda:1
        self.memory = memory_box()
        for text, widget in (("&Device", self.device), ("&Precision", self.precision), ("&Memory", self.memory)):
            add_row(self.form, text, widget)
        self._take_remembered()
        self._connect()

    def fields(self) -> dict[str, Any]:
        """Return what is chosen as fields of a recipe."""
        memory = self.memory.value() or AUTOMATIC
        return {"device": self.device.currentText(), "precision": self.precision.currentText(), "memory": memory}

    def show_recipe(self, recipe: Recipe) -> None:
        """Choose what a recipe says, for this time."""
        with signals_blocked(self.precision), signals_blocked(self.memory):
            self.device.setCurrentText(recipe.device)
            self.precision.setCurrentText(recipe.precision)
            self.memory.setValue(0.0 if isinstance(recipe.memory, str) else recipe.memory)
        self.changed.emit()

    def _connect(self) -> None:
        line: Any = self.device.lineEdit()
        line.editingFinished.connect(self._remember)  # half a name is no device
        for changed in (self.device.activated, self.precision.currentTextChanged, self.memory.valueChanged):
            changed.connect(self._remember)
        kept = settings()
        if kept is not None:
            kept.events.connect(self._take_remembered)
            self.destroyed.connect(lambda: kept.events.disconnect(self._take_remembered))

    def _take_remembered(self, _: Any = None) -> None:
        fields = self.fields() | remembered()
        if fields != self.fields():
            self.show_recipe(make_recipe(**fields))

    def _remember(self, _: Any = None) -> None:
        remember(self.fields())
        self.changed.emit()


def choice(field: str) -> QComboBox:
    """Make a choice among the words that the recipe takes for a field."""
    made = QComboBox()
    made.addItems(choices_of(field))
    made.setToolTip(help_of(field))
    return made


def memory_box() -> QDoubleSpinBox:
    """Make a box for GiB, in which nothing is "auto"."""
    made = QDoubleSpinBox()
    made.setRange(0, MOST_MEMORY)
    made.setDecimals(1)
    made.setSingleStep(0.5)
    made.setSuffix(" GiB")
    made.setSpecialValueText(AUTOMATIC)
    made.setToolTip(help_of("memory"))
    return made
