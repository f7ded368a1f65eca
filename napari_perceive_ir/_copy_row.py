"""The row of the dock that copies what is chosen as text."""

from __future__ import annotations

from qtpy.QtWidgets import QApplication, QHBoxLayout, QPushButton, QWidget


class CopyRow(QWidget):
    """Asks for the text of a run and puts it on the clipboard."""

    def __init__(self) -> None:
        super().__init__()
        self.python_button, self.command_button = QPushButton("Copy as Python"), QPushButton("Copy as command")
        self.python_button.setToolTip("For napari's console: the same run on the same layer, with the same pixels.")
        self.command_button.setToolTip("For a terminal: the same run on files, with the same pixels.")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for button in (self.python_button, self.command_button):
            row.addWidget(button)

    def put(self, text: str) -> None:
        """Put a text on the clipboard."""
        clipboard = QApplication.clipboard()
        assert clipboard is not None
        clipboard.setText(text)
