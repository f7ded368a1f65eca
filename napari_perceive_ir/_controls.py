"""The Restore dock's controls: the recipe's form, and which picture it is for."""

from typing import Any

from napari_perceive_ir._forms import add_row, show_row
from napari_perceive_ir._painted import PaintedPart
from napari_perceive_ir._picture_rows import PictureRows
from napari_perceive_ir._recipe_form import RecipeForm
from perceive_ir import Recipe
from perceive_ir._recipe import make_recipe

PAINTED = "painted"
"""The handling whose labels say what to do, instead of task and severity."""


class RecipeControls(RecipeForm):
    """Chooses an image layer and a recipe."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.pictures = PictureRows(viewer, self._form)
        self.layer = self.pictures.layer
        self.painted = PaintedPart(viewer)
        self.add_what()
        add_row(self._form, "La&bels", self.painted.layer.native)
        self._form.addRow(self.painted)
        self.add_how_much()
        self.layer.changed.connect(lambda _: self.show_seen(None))
        for part in (self.pictures, self.painted):
            part.changed.connect(lambda *_: self.changed.emit())
            part.changed.connect(lambda *_: self.cost_changed.emit())

    def recipe(self) -> Recipe:
        """Return the recipe that is chosen."""
        if self.handling.value == PAINTED:
            return make_recipe(painted=self.painted.wishes(), **self.shared_fields())
        return super().recipe()

    def refresh_layers(self) -> None:
        """Offer the image layers that are there now; the chosen one stays chosen while it is there."""
        self.pictures.refresh()
        self.painted.refresh()

    def _follow_handling(self) -> None:
        super()._follow_handling()
        painted = self.handling.value == PAINTED
        self.painted.setVisible(painted)
        show_row(self._form, self.painted.layer.native, painted)
        show_row(self._form, self.task.native, not painted)
        show_row(self._form, self._severity, not painted)
