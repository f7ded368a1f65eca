"""The row of the dock that gives what is chosen away as text, and takes it from a restored layer."""

from __future__ import annotations

from qtpy.QtWidgets import QApplication, QGridLayout, QPushButton, QWidget


class CopyRow(QWidget):
    """Asks for the text of a run and puts it on the clipboard; asks for the recipe of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.python_button, self.command_button = QPushButton("Copy as Python"), QPushButton("Copy as command")
        self.python_button.setToolTip("For napari's console: the same run on the same layer, with the same pixels.")
        self.command_button.setToolTip("For a terminal: the same run on files, with the same pixels.")
        self.recipe_button = QPushButton("Re-apply recipe of the selected layer")
        self.recipe_button.setToolTip(
            "Takes over the settings of the restored layer that is selected, also of one opened from a file that "
            "perceive-ir wrote; then choose the picture to restore with them and press Run."
        )
        rows = QGridLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addWidget(self.python_button, 0, 0)
        rows.addWidget(self.command_button, 0, 1)
        rows.addWidget(self.recipe_button, 1, 0, 1, 2)

    def put(self, text: str) -> None:
        """Put a text on the clipboard."""
        clipboard = QApplication.clipboard()
        assert clipboard is not None
        clipboard.setText(text)
