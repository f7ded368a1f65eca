"""Where and how the network runs: a part of the dock that is folded until somebody asks."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSize
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFormLayout, QWidget
from superqt import QCollapsible

from napari_perceive_ir._words import AUTOMATIC, choices_of, help_of
from perceive_ir import Recipe

MOST_MEMORY = 1024
"""GiB."""


class ComputePart(QCollapsible):
    """Chooses device, precision and memory."""

    def __init__(self) -> None:
        super().__init__()
        self.toggleButton().setIconSize(QSize(0, 0))  # its icons ignore the theme
        self.device, self.precision = choice("device"), choice("precision")
        self.device.setEditable(True)  # for names such as cuda:1
        self.memory = memory_box()
        content = self._inside = QWidget()
        form = QFormLayout(content)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for text, widget in (("&Device", self.device), ("&Precision", self.precision), ("&Memory", self.memory)):
            widget.setAccessibleName(text.replace("&", ""))
            form.addRow(text, widget)
        self.setContent(content)
        around: Any = self.layout()
        around.setContentsMargins(0, 0, 0, 0)
        self.toggled.connect(self._follow)
        self.collapse(animate=False)
        self._follow(False)

    def _follow(self, unfolded: bool) -> None:
        self.setText("▾ Compute" if unfolded else "▸ Compute")
        self._inside.setVisible(unfolded)  # the keyboard does not go into what is folded

    def fields(self) -> dict[str, Any]:
        """Return what is chosen as fields of a recipe."""
        memory = self.memory.value() or AUTOMATIC
        return {"device": self.device.currentText(), "precision": self.precision.currentText(), "memory": memory}

    def show_recipe(self, recipe: Recipe) -> None:
        """Choose what a recipe says."""
        self.device.setCurrentText(recipe.device)
        self.precision.setCurrentText(recipe.precision)
        self.memory.setValue(0.0 if isinstance(recipe.memory, str) else recipe.memory)


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
