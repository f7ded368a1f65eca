"""The rows of the Batch dock that say which folder is restored, where the results go, and what of it is taken."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QFormLayout, QHBoxLayout, QLineEdit, QPushButton, QWidget

from napari_perceive_ir._forms import FoldedForm, add_row
from perceive_ir import Recipe
from perceive_ir.batch import FORMATS, Batch


class FolderRows(QObject):
    """Chooses the folders.

    Parameters
    ----------
    form
        Where the rows stand.
    """

    changed = Signal()
    """Another folder is chosen."""

    def __init__(self, form: QFormLayout) -> None:
        super().__init__(form)
        self._suggested = ""
        self.source = FolderField("The folder whose pictures are restored; they stay as they are.")
        self.output = FolderField("The folder for the results, with their journal and their report.")
        add_row(form, "&In", self.source.line, self.source)
        add_row(form, "&Out", self.output.line, self.output)
        self.source.changed.connect(self._suggest)
        for field in (self.source, self.output):
            field.changed.connect(self.changed.emit)

    @property
    def ready(self) -> bool:
        """Whether both are chosen."""
        return self.source.path is not None and self.output.path is not None

    def _suggest(self) -> None:
        """Put the results beside the pictures, unless a folder is chosen for them."""
        source, line = self.source.path, self.output.line
        if source is not None and line.text().strip() in ("", self._suggested):
            whole = source.absolute()
            self._suggested = shortened(whole.parent / f"{whole.name}_restored")
            line.setText(self._suggested)


class FolderField(QWidget):
    """A line for a folder, and a button that looks for one.

    Parameters
    ----------
    about
        What the folder is for.
    """

    changed = Signal()
    """Another folder is chosen."""

    def __init__(self, about: str) -> None:
        super().__init__()
        self.line, self.button = QLineEdit(), QPushButton("…")
        self.line.setToolTip(about)
        self.line.setPlaceholderText("no folder yet")
        self.button.setToolTip("Look for the folder.")
        self.button.setAccessibleName("Look for the folder")
        self.button.setMaximumWidth(2 * self.button.fontMetrics().horizontalAdvance("……"))
        self._known = ""
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.line, 1)
        row.addWidget(self.button)
        self.line.editingFinished.connect(self._notice)
        self.button.clicked.connect(self._browse)

    @property
    def path(self) -> Path | None:
        """The folder, or None."""
        text = self.line.text().strip()
        return Path(os.path.expanduser(text)) if text else None  # as it is where there is no such user

    def choose(self, folder: Path) -> None:
        """Choose a folder."""
        self.line.setText(shortened(folder))
        self._notice()

    def _browse(self) -> None:
        found = QFileDialog.getExistingDirectory(self, self.line.toolTip(), str(self.path or ""))
        if found:
            self.choose(Path(found))

    def _notice(self) -> None:
        if self.line.text() != self._known:
            self._known = self.line.text()
            self.changed.emit()


def shortened(folder: Path) -> str:
    """Write a folder of the user's as people do, with ~ for the home folder."""
    home = Path(os.path.expanduser("~"))
    return f"~{os.sep}{folder.relative_to(home)}" if home in folder.parents else str(folder)


class FolderOptions(FoldedForm):
    """Chooses which pictures of the folder are taken, and how results are called."""

    changed = Signal()
    """Something else is chosen."""

    def __init__(self) -> None:
        super().__init__("Files", "Which pictures of the folder are taken, and how results are called.")
        start = Batch(Path(), Path())
        self.pattern, self.name = QLineEdit(start.pattern), QLineEdit(start.name)
        self.pattern.setPlaceholderText("all pictures")
        self.pattern.setToolTip("Which files to take, such as *.tif; by default all that are named like pictures.")
        self.name.setToolTip("Name of a result, made of {stem}, {ext} and {task}.")
        self.format = QComboBox()
        self.format.addItems(FORMATS)
        self.format.setToolTip("How the names of results end; same: as their pictures.")
        self.recursive = QCheckBox("Folders inside too")
        self.recursive.setToolTip("Take the pictures of all folders inside, too; results keep their folders.")
        self.only_low = QCheckBox("Only pictures of low quality")
        self.only_low.setToolTip("Restore what the model takes for low quality; the rest is skipped and listed.")
        self.force = QCheckBox("Replace other files")
        self.force.setToolTip("Replace files in the folder for the results that are no results; never a picture.")
        for text, widget in (("&Pattern", self.pattern), ("For&mat", self.format), ("&Name", self.name)):
            add_row(self.form, text, widget)
        self.boxes = (self.recursive, self.only_low, self.force)
        for box in self.boxes:
            self.form.addRow("", box)
        self._connect()

    def batch(self, source: Path, output: Path, recipe: Recipe, *, retry_failed: bool = False) -> Batch:
        """Return what is to be done with a folder."""
        return Batch(
            source,
            output,
            recipe,
            pattern=self.pattern.text().strip(),
            recursive=self.recursive.isChecked(),
            format=self.format.currentText(),
            name=self.name.text().strip(),
            only_low=self.only_low.isChecked(),
            force=self.force.isChecked(),
            retry_failed=retry_failed,
        )

    def _connect(self) -> None:
        signals: list[Any] = [self.pattern.editingFinished, self.name.editingFinished, self.format.currentTextChanged]
        for changed in (*signals, *(box.toggled for box in self.boxes)):
            changed.connect(lambda *_: self.changed.emit())
