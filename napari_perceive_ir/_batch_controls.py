"""The Batch dock's controls: the recipe's form, and which folders it is for."""

from napari_perceive_ir._folder_rows import FolderOptions, FolderRows
from napari_perceive_ir._recipe_form import RecipeForm
from perceive_ir.batch import Batch

WITHOUT = ("painted",)
"""Handlings that need something for each picture."""


class BatchControls(RecipeForm):
    """Chooses folders and a recipe."""

    def __init__(self) -> None:
        super().__init__(WITHOUT)
        self.folders, self.options = FolderRows(self._form), FolderOptions()
        self._form.addRow(self.options)
        self.add_what()
        self.add_how_much()

    def batch(self, *, retry_failed: bool = False) -> Batch | None:
        """Return what is to be done; None while a folder is missing."""
        source, output = self.folders.source.path, self.folders.output.path
        if source is None or output is None:
            return None
        return self.options.batch(source, output, self.recipe(), retry_failed=retry_failed)
