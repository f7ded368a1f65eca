"""The recipe as a form: its fields, their limits and their help, whatever the recipe is for."""

from collections.abc import Container
from typing import Any

from magicgui.widgets import CheckBox, ComboBox
from qtpy.QtCore import QEvent, QObject, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QHBoxLayout, QSlider, QWidget
from superqt import QLabeledDoubleSlider
from superqt.utils import signals_blocked

from napari_perceive_ir._compute import ComputePart
from napari_perceive_ir._forms import add_row, bare_form, show_row
from napari_perceive_ir._model_choice import ModelChoice
from napari_perceive_ir._words import AUTOMATIC, HANDLING_TITLES, TASK_TITLES, choices_of, help_of, limits_of
from perceive_ir import Recipe
from perceive_ir._recipe import make_recipe

BY_REGION = "region"
"""The handling that has a strength for each tier."""
AS_SEEN = sum(limits_of("severity")) / 2
"""The severity that leaves all that is seen as bad as it is seen."""
AUTOMATIC_HELP = "As bad as the model sees it. Moving the slider overrules it; a click here gives that back."


class RecipeForm(QWidget):
    """Chooses a recipe; a form over it adds rows of its own.

    Parameters
    ----------
    without
        Handlings that are not offered.
    """

    changed = Signal()
    """Something else is chosen."""
    cost_changed = Signal()
    """A run would cost something else, or might."""

    def __init__(self, without: Container[str] = ()) -> None:
        super().__init__()
        start = Recipe()
        self._form = bare_form(self)
        self.task = ComboBox(choices=[(title, task) for task, title in TASK_TITLES.items()], tooltip=help_of("task"))
        self.automatic = CheckBox(value=start.severity == AUTOMATIC, text="Auto", tooltip=AUTOMATIC_HELP)
        self.severity = slider("severity", AS_SEEN)
        self._severity = QWidget()
        self._seen: float | None = None
        handlings = [(HANDLING_TITLES[name], name) for name in choices_of("handling") if name not in without]
        self.handling = ComboBox(choices=handlings, value=start.handling, tooltip=help_of("handling"))
        self.strength = slider("strength", start.strength)
        sparing = make_recipe(handling=BY_REGION).tier_strength
        self.tiers = {tier: slider("tier_strength", value) for tier, value in sparing.items()}
        self.model, self.compute = ModelChoice(), ComputePart()

    def recipe(self) -> Recipe:
        """Return the recipe that is chosen."""
        severity = AUTOMATIC if self.automatic.value else round(self.severity.value(), 2)
        return make_recipe(task=self.task.value, severity=severity, **self.shared_fields())

    def shared_fields(self) -> dict[str, Any]:
        """Return the fields of the recipe that hold whoever says what is to be done."""
        fields: dict[str, Any] = {"handling": self.handling.value, "strength": round(self.strength.value(), 2)}
        fields["model"] = self.model.currentText()
        if self.handling.value == BY_REGION:
            fields["tier_strength"] = {tier: round(made.value(), 2) for tier, made in self.tiers.items()}
        return fields | self.compute.fields()

    def show_recipe(self, recipe: Recipe) -> None:
        """Choose what a recipe says; a value that has no entry here is left out."""
        for choice, value in ((self.task, recipe.task), (self.handling, recipe.handling)):
            if value in choice.choices:
                choice.value = value
        self.automatic.value = recipe.severity == AUTOMATIC
        if recipe.severity != AUTOMATIC:
            self.severity.setValue(recipe.severity)
        self.strength.setValue(recipe.strength)
        self.model.choose(recipe.model)
        self.compute.show_recipe(recipe)
        if recipe.handling == BY_REGION:
            for tier, strength in recipe.tier_strength.items():
                self.tiers[tier].setValue(strength)

    def show_seen(self, severity: float | None) -> None:
        """Show the severity that the model saw: the slider stands there until it is moved; None where there is none."""
        self._seen = severity
        self._follow_automatic()

    def add_what(self) -> None:
        """Add the rows that say what is to be done."""
        severity = QHBoxLayout(self._severity)
        severity.setContentsMargins(0, 0, 0, 0)
        severity.addWidget(self.automatic.native)
        severity.addWidget(self.severity, 1)
        for choice in (self.task, self.handling):
            choice.native.setMinimumWidth(1)  # long entries do not widen the dock
        add_row(self._form, "&Task", self.task.native)
        add_row(self._form, "Se&verity", self.automatic.native, self._severity)
        add_row(self._form, "H&andling", self.handling.native)

    def add_how_much(self) -> None:
        """Add the rows that say how much of it, and how it is computed; they follow what is chosen from now on."""
        add_row(self._form, "&Strength", self.strength)
        for tier, made in self.tiers.items():
            add_row(self._form, f"   in {tier}", made)
            made.setAccessibleName(f"Strength in {tier}")
        add_row(self._form, "Mod&el", self.model)
        self._form.addRow(self.compute)
        self._follow()

    def _follow(self) -> None:
        self.automatic.changed.connect(self._follow_automatic)
        self.severity.valueChanged.connect(self._take_over)
        self.handling.changed.connect(self._follow_handling)
        self.task.changed.connect(lambda _: self.show_seen(None))
        model = self.model.currentTextChanged
        for chosen in (self.task.changed, self.automatic.changed, self.handling.changed, model, self.compute.changed):
            chosen.connect(lambda *_: self.changed.emit())
        for moved in (self.severity, self.strength, *self.tiers.values()):
            moved.valueChanged.connect(lambda _: self.changed.emit())
        device = self.compute.device.currentTextChanged
        for costly in (self.task.changed, self.handling.changed, model, device, self.compute.changed):
            costly.connect(lambda *_: self.cost_changed.emit())
        self._follow_automatic()
        self._follow_handling()

    def _follow_automatic(self) -> None:
        automatic, seen = self.automatic.value, self._seen
        self.automatic.text = "Auto" if seen is None or not automatic else "Auto, as seen"
        self.severity.setVisible(not automatic or seen is not None)
        if automatic:
            with signals_blocked(self.severity):  # nothing else is chosen by that
                self.severity.setValue(AS_SEEN if seen is None else seen)

    def _take_over(self) -> None:
        self.automatic.value = False

    def _follow_handling(self) -> None:
        for made in self.tiers.values():
            show_row(self._form, made, self.handling.value == BY_REGION)


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
