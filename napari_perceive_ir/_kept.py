"""Fields of a recipe that the dock has no control for, such as several tasks at once: kept, shown, and let go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_perceive_ir._forms import wrapped


class KeptFields(QWidget):
    """Keeps fields beside the controls; hidden while there are none."""

    changed = Signal()
    """Other fields are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, Any] = {}
        self.words, self.button = wrapped(), QPushButton("Forget")
        self.words.setToolTip("What the recipe says that has no control here; it holds for every run until forgotten.")
        self.button.setToolTip("Go back to the usual values of these.")
        self.button.clicked.connect(lambda: self.keep({}))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.words, 1)
        row.addWidget(self.button)
        self.hide()

    def keep(self, fields: Mapping[str, Any]) -> None:
        """Keep these fields and no others."""
        if fields == self.fields:
            return
        self.fields = dict(fields)
        self.words.setText("Also " + ", ".join(f"{told(name)} {told(value)}" for name, value in fields.items()) + ".")
        self.setVisible(bool(fields))
        self.changed.emit()

    def drop(self, name: str) -> None:
        """Let go of a field, because its control is used."""
        self.keep({one: value for one, value in self.fields.items() if one != name})


def told(value: Any) -> str:
    """Say a name or a value in words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {told(one)}" for name, one in value.items())
    return " and ".join(map(str, value)) if isinstance(value, tuple) else str(value).replace("_", " ")
