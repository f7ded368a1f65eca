"""The Restore dock: the recipe's controls over a run in the background; what is decided is decided elsewhere."""

from dataclasses import dataclass
from typing import Any

from napari.layers import Image
from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget
from superqt.utils import QSignalDebouncer

from napari_perceive_ir._background import Job
from napari_perceive_ir._controls import RecipeControls
from napari_perceive_ir._layers import add_result, blend_into, plan_run
from napari_perceive_ir._run import (
    MISTAKES,
    Blended,
    Event,
    Failed,
    Finished,
    Progress,
    Ready,
    Seen,
    blending,
    restoring,
    same_but_strength,
    shown_severity,
)
from napari_perceive_ir._words import AUTOMATIC
from perceive_ir import Recipe, Result

PAUSE = 80
"""Milliseconds without a move of the strength slider before the result is blended anew."""


@dataclass
class Shown:
    """The result that the strength slider changes: where it came from, its layer, and what is in it."""

    source: Image
    layer: Image
    result: Result
    strength: float

    def follows(self, source: Image | None, recipe: Recipe, layers: Any) -> bool:
        """Whether the controls still speak of this result, and its layer still holds it."""
        untouched = self.layer in layers and self.layer.data is self.result.image
        return untouched and source == self.source and same_but_strength(recipe, self.result.recipe)
