"""The dock's controls, made from the recipe: its fields, their limits and their help."""

from typing import Any

from magicgui.widgets import CheckBox, ComboBox
from qtpy.QtCore import QEvent, QObject, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QHBoxLayout, QSlider, QWidget
from superqt import QLabeledDoubleSlider

from napari_perceive_ir._compute import ComputePart
from napari_perceive_ir._forms import add_row, bare_form, show_row
from napari_perceive_ir._painted import PaintedPart
from napari_perceive_ir._picture_rows import PictureRows
from napari_perceive_ir._words import AUTOMATIC, HANDLING_TITLES, TASK_TITLES, choices_of, help_of, limits_of
from perceive_ir import Recipe
from perceive_ir._recipe import make_recipe

BY_REGION = "region"
"""The handling that has a strength for each tier."""
PAINTED = "painted"
"""The handling whose labels say what to do, instead of task and severity."""


class RecipeControls(QWidget):
    """Chooses an image layer and a recipe."""

    changed = Signal()
    """Another picture or recipe is chosen."""
    cost_changed = Signal()
    """A run would cost something else, or might."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        start = Recipe()
        self._form = bare_form(self)
        self.pictures = PictureRows(viewer, self._form)
        self.layer = self.pictures.layer
        self.task = ComboBox(choices=[(title, task) for task, title in TASK_TITLES.items()], tooltip=help_of("task"))
        self.automatic = CheckBox(value=start.severity == AUTOMATIC, tooltip="Let the model see how bad it is.")
        self.severity = slider("severity", sum(limits_of("severity")) / 2)
        handlings = [(HANDLING_TITLES[name], name) for name in choices_of("handling")]
        self.handling = ComboBox(choices=handlings, value=start.handling, tooltip=help_of("handling"))
        self.strength = slider("strength", start.strength)
        sparing = make_recipe(handling=BY_REGION).tier_strength
        self.tiers = {tier: slider("tier_strength", value) for tier, value in sparing.items()}
        self.painted = PaintedPart(viewer)
        self.compute = ComputePart()
        self._lay_out()
        self.automatic.changed.connect(self._follow_automatic)
        self.handling.changed.connect(self._follow_handling)
        for choice in (self.layer, self.task):
            choice.changed.connect(lambda _: self.show_seen(None))
        for chosen in (self.task, self.automatic, self.handling):
            chosen.changed.connect(lambda _: self.changed.emit())
        for moved in (self.severity, self.strength, *self.tiers.values()):
            moved.valueChanged.connect(lambda _: self.changed.emit())
        for part in (self.pictures, self.painted, self.compute):
            part.changed.connect(lambda *_: self.changed.emit())
        self._follow_automatic()
        self._follow_handling()
        compute = self.compute
        for changed in (
            self.task.changed,
            self.handling.changed,
            self.pictures.changed,
            self.painted.changed,
            compute.device.currentTextChanged,
            compute.changed,
        ):
            changed.connect(lambda *_: self.cost_changed.emit())

    def recipe(self) -> Recipe:
        """Return the recipe that is chosen."""
        severity = AUTOMATIC if self.automatic.value else round(self.severity.value(), 2)
        fields: dict[str, Any] = {"handling": self.handling.value, "strength": round(self.strength.value(), 2)}
        if self.handling.value == BY_REGION:
            fields["tier_strength"] = {tier: round(made.value(), 2) for tier, made in self.tiers.items()}
        if self.handling.value == PAINTED:
            return make_recipe(painted=self.painted.wishes(), **fields, **self.compute.fields())
        return make_recipe(task=self.task.value, severity=severity, **fields, **self.compute.fields())

    def show_recipe(self, recipe: Recipe) -> None:
        """Choose what a recipe says; a value that has no entry here is left out."""
        for choice, value in ((self.task, recipe.task), (self.handling, recipe.handling)):
            if value in choice.choices:
                choice.value = value
        self.automatic.value = recipe.severity == AUTOMATIC
        if recipe.severity != AUTOMATIC:
            self.severity.setValue(recipe.severity)
        self.strength.setValue(recipe.strength)
        self.compute.show_recipe(recipe)
        if recipe.handling == BY_REGION:
            for tier, strength in recipe.tier_strength.items():
                self.tiers[tier].setValue(strength)

    def refresh_layers(self) -> None:
        """Offer the image layers that are there now; the chosen one stays chosen while it is there."""
        self.pictures.refresh()
        self.painted.refresh()

    def show_seen(self, severity: float | None) -> None:
        """Show the severity that the model saw; the slider starts from there when it takes over."""
        self.automatic.text = "Auto" if severity is None else f"Auto: {severity:.2f} is seen"
        if severity is not None and self.automatic.value:
            self.severity.setValue(severity)

    def _follow_automatic(self) -> None:
        self.show_seen(None)
        self.severity.setVisible(not self.automatic.value)

    def _follow_handling(self) -> None:
        for made in self.tiers.values():
            show_row(self._form, made, self.handling.value == BY_REGION)
        painted = self.handling.value == PAINTED
        self.painted.setVisible(painted)
        show_row(self._form, self.painted.layer.native, painted)
        show_row(self._form, self.task.native, not painted)
        show_row(self._form, self._severity, not painted)

    def _lay_out(self) -> None:
        form = self._form
        self._severity = QWidget()
        severity = QHBoxLayout(self._severity)
        severity.setContentsMargins(0, 0, 0, 0)
        severity.addWidget(self.automatic.native)
        severity.addWidget(self.severity, 1)
        for choice in (self.task, self.handling):
            choice.native.setMinimumWidth(1)  # long entries do not widen the dock
        add_row(form, "&Task", self.task.native)
        add_row(form, "Se&verity", self.automatic.native, self._severity)
        add_row(form, "H&andling", self.handling.native)
        add_row(form, "La&bels", self.painted.layer.native)
        form.addRow(self.painted)
        add_row(form, "&Strength", self.strength)
        for tier, made in self.tiers.items():
            add_row(form, f"   in {tier}", made)
        for tier, made in self.tiers.items():
            made.setAccessibleName(f"Strength in {tier}")
        form.addRow(self.compute)


def slider(field: str, value: float) -> Any:
    """Make a slider for a number of the recipe, with its limits and its help."""
    made: Any = QLabeledDoubleSlider(Qt.Orientation.Horizontal)  # it inherits annotations of int
    made.setRange(*limits_of(field))
    made.setDecimals(2)
    made.setSingleStep(0.01)
    made.setPageStep(0.1)
    made.setValue(value)
    made.setToolTip(help_of(field))
    made.setAccessibleName(field.capitalize())
    made.setFocusProxy(made.findChild(QSlider))
    made.focusProxy().installEventFilter(SliderKeys(made))
    return made


class SliderKeys(QObject):
    """Moves a slider with the keyboard, which superqt's sliders of decimal numbers do not follow."""

    def __init__(self, moved: Any) -> None:
        super().__init__(moved)
        key, step, page = Qt.Key, moved.singleStep(), moved.pageStep()
        self._moved = moved
        self._moves = {key.Key_Right: step, key.Key_Up: step, key.Key_PageUp: page}
        self._moves |= {key.Key_Left: -step, key.Key_Down: -step, key.Key_PageDown: -page}

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Take the keys that move the slider."""
        if not isinstance(event, QKeyEvent) or event.type() != QEvent.Type.KeyPress:
            return False
        move = self._moves.get(Qt.Key(event.key()))
        if move is not None:
            self._moved.setValue(self._moved.value() + move)
        return move is not None
