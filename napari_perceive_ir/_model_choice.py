"""Which model works: those that are here by name, and what a recipe names beside them."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox
from superqt.utils import signals_blocked

from napari_perceive_ir._words import help_of
from perceive_ir import Recipe, available


class ModelChoice(QComboBox):
    """Chooses a model; those that were added meanwhile are offered when it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.setToolTip(help_of("model"))
        self.setMinimumWidth(1)  # long names do not widen the dock
        self.choose(Recipe().model)
        self.offer()

    def choose(self, name: str) -> None:
        """Choose a model, which may be a path."""
        if self.findText(name) < 0:
            self.addItem(name)
        self.setCurrentText(name)

    def offer(self) -> None:
        """Offer what is here now; the chosen one stays chosen."""
        chosen = self.currentText()
        with signals_blocked(self):
            self.clear()
            self.addItems(sorted({chosen, *available()}))
            self.setCurrentText(chosen)

    def showPopup(self) -> None:
        """Look for models first."""
        self.offer()
        super().showPopup()
