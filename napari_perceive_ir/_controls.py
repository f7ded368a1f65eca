"""The dock's controls, made from the recipe: its fields, their limits and their help."""

from typing import Any

from magicgui.widgets import CheckBox, ComboBox, FloatSlider, Widget
from napari.layers import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLabel, QWidget

from napari_perceive_ir._words import AUTOMATIC, TASK_TITLES, help_of, limits_of
from perceive_ir import Recipe
from perceive_ir._recipe import make_recipe


class RecipeControls(QWidget):
    """Chooses an image layer and a recipe."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        start = Recipe()
        self.layer = ComboBox(choices=self._images, tooltip="The picture to restore; it stays as it is.")
        self.task = ComboBox(choices=[(title, task) for task, title in TASK_TITLES.items()], tooltip=help_of("task"))
        self.automatic = CheckBox(text="Auto", value=start.severity == AUTOMATIC, tooltip="Use what the model sees.")
        self.severity = slider("severity", sum(limits_of("severity")) / 2)
        self.strength = slider("strength", start.strength)
        self.automatic.changed.connect(self._follow_automatic)
        self._follow_automatic(self.automatic.value)
        self._lay_out()
        active = viewer.layers.selection.active
        if active in self.layer.choices:
            self.layer.value = active

    def recipe(self) -> Recipe:
        """Return the recipe that is chosen."""
        severity = AUTOMATIC if self.automatic.value else self.severity.value
        return make_recipe(task=self.task.value, severity=severity, strength=self.strength.value)

    def refresh_layers(self) -> None:
        """Offer the image layers that are there now; the chosen one stays chosen while it is there."""
        self.layer.reset_choices()

    def _images(self, _: Any = None) -> list[tuple[str, Image]]:
        return [(layer.name, layer) for layer in self._viewer.layers if isinstance(layer, Image)]

    def _follow_automatic(self, automatic: bool) -> None:
        self.severity.enabled = not automatic

    def _lay_out(self) -> None:
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        severity = QHBoxLayout()
        severity.addWidget(self.automatic.native)
        severity.addWidget(self.severity.native, 1)
        self.layer.native.setPlaceholderText("no image layer yet")
        self._add_row(form, "&Layer", self.layer, self.layer.native)
        self._add_row(form, "&Task", self.task, self.task.native)
        self._add_row(form, "Se&verity", self.automatic, severity)
        self._add_row(form, "&Strength", self.strength, self.strength.native)
        order = [self.layer, self.task, self.automatic, self.severity, self.strength]
        for first, second in zip(order, order[1:], strict=False):
            QWidget.setTabOrder(first.native, second.native)

    def _add_row(self, form: QFormLayout, text: str, control: Widget, field: Any) -> None:
        label = QLabel(text)
        label.setBuddy(control.native)
        label.setToolTip(control.tooltip)
        control.native.setAccessibleName(text.replace("&", ""))
        control.native.setMinimumWidth(0)
        form.addRow(label, field)


def slider(field: str, value: float) -> FloatSlider:
    """Make a slider for a number of the recipe, with its limits and its help."""
    low, high = limits_of(field)
    made = FloatSlider(value=value, min=low, max=high, step=0.01, tooltip=help_of(field))
    made.native.setOrientation(Qt.Orientation.Horizontal)
    return made
