"""Forms and texts of the docks: rows of a label and a field, which can be hidden, and words that break lines."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QFormLayout,
    QLabel,
    QLayout,
    QScrollBar,
    QWidget,
)
from superqt import QCollapsible

WIDEST = "Window "
"""Labels of a form are at least as wide as this, so that forms below each other align."""


def bare_form(parent: QWidget) -> QFormLayout:
    """Make a form without margins, whose fields take all the width."""
    form = QFormLayout(parent)
    form.setContentsMargins(0, 0, 0, 0)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return form


def add_row(form: QFormLayout, text: str, widget: QWidget, field: QWidget | QLayout | None = None) -> None:
    """Add a widget with its label, which has a key of its own and the same tooltip.

    The widget is the row's field, or stands in it.
    """
    label = QLabel(text)
    label.setBuddy(widget)
    label.setToolTip(widget.toolTip())
    label.setMinimumWidth(label.fontMetrics().horizontalAdvance(WIDEST))
    widget.setAccessibleName(text.replace("&", "").strip())
    form.addRow(label, widget if field is None else field)


def show_row(form: QFormLayout, field: QWidget, shown: bool) -> None:
    """Show or hide a field with its label."""
    label: Any = form.labelForField(field)
    for widget in (label, field):
        widget.setVisible(shown)


class FoldedForm(QCollapsible):
    """A form that is folded until somebody asks.

    Parameters
    ----------
    title
        What stands over it.
    tip
        What is in it.
    """

    def __init__(self, title: str, tip: str) -> None:
        super().__init__()
        self._name = title
        self.toggleButton().setToolTip(tip)
        self.toggleButton().setIconSize(QSize(0, 0))  # its icons ignore the theme
        self._inside = QWidget()
        self.form = bare_form(self._inside)
        self.setContent(self._inside)
        around: Any = self.layout()
        around.setContentsMargins(0, 0, 0, 0)
        self.toggled.connect(self._follow)
        self.collapse(animate=False)
        self._follow(False)

    def _follow(self, unfolded: bool) -> None:
        self.setText(f"▾ {self._name}" if unfolded else f"▸ {self._name}")
        self._inside.setVisible(unfolded)  # the keyboard does not go into what is folded


class WheelGuard(QObject):
    """Leaves the wheel to what scrolls, unless the control under the mouse has the keyboard too."""

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Take the wheel away from a control that nobody chose."""
        if event is None or event.type() != QEvent.Type.Wheel:
            return False
        chosen: Any = watched
        spared = chosen.window().focusWidget() is not chosen
        if spared:
            event.ignore()
        return spared


def spare_from_wheel(around: QWidget) -> None:
    """Let nobody who scrolls past change a choice, a number or a slider by mistake."""
    for one in [around, *around.findChildren(QWidget)]:
        if isinstance(one, QComboBox | QAbstractSpinBox | QAbstractSlider) and not isinstance(one, QScrollBar):
            one.installEventFilter(WheelGuard(one))
            if one.focusPolicy() == Qt.FocusPolicy.WheelFocus:
                one.setFocusPolicy(Qt.FocusPolicy.StrongFocus)


def wrapped(text: str = "") -> QLabel:
    """Make a label that breaks lines rather than widen the dock."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setMinimumWidth(0)
    return label


def show_words(label: QLabel, text: str) -> None:
    """Show a text, or hide the label where there is none."""
    label.setText(text)
    label.setVisible(bool(text))
