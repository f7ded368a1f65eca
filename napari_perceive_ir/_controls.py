"""The Restore dock's controls: the recipe's form, and which picture it is for."""

from typing import Any

from napari_perceive_ir._forms import add_row, show_row
from napari_perceive_ir._kept import KeptFields
from napari_perceive_ir._painted import PaintedPart
from napari_perceive_ir._picture_rows import PictureRows
from napari_perceive_ir._recipe_form import RecipeForm
from perceive_ir import Recipe
from perceive_ir._recipe import make_recipe

PAINTED = "painted"
"""The handling whose labels say what to do, instead of task and severity."""
TAKEN_ELSEWHERE = ("painted", "axes", "device", "precision", "memory")
"""Fields that a recipe of another picture does not settle."""


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
        self.kept = KeptFields()
        self._form.addRow(self.kept)
        self.task.changed.connect(lambda _: self.kept.drop("task"))
        self.layer.changed.connect(lambda _: self.show_seen(None))
        for part in (self.pictures, self.painted, self.kept):
            part.changed.connect(lambda *_: self.changed.emit())
            part.changed.connect(lambda *_: self.cost_changed.emit())

    def recipe(self) -> Recipe:
        """Return the recipe that is chosen."""
        painted = self.handling.value == PAINTED
        chosen = make_recipe(painted=self.painted.wishes(), **self.shared_fields()) if painted else super().recipe()
        return make_recipe(chosen, **self.kept.fields)

    def show_recipe(self, recipe: Recipe) -> None:
        """Choose what a recipe says; a value that has no entry here is left out."""
        self.kept.keep({})
        super().show_recipe(recipe)
        if recipe.handling == PAINTED:
            self.painted.wish(recipe.painted)

    def take_recipe(self, recipe: Recipe) -> None:
        """Choose what a recipe of another picture says; what has no control is kept beside them.

        The axes are those of the picture that is restored; where and how it is computed stays as it is.
        """
        self.show_recipe(make_recipe(recipe, **self.compute.fields()))
        chosen = self.recipe()
        others = [name for name in Recipe.model_fields if name not in TAKEN_ELSEWHERE]
        self.kept.keep({n: getattr(recipe, n) for n in others if getattr(recipe, n) != getattr(chosen, n)})

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
