"""The recipe with which a layer was restored: out of its metadata, or out of the file that it was opened from."""

from __future__ import annotations

from typing import Any

from napari_perceive_ir._copy import file_of
from napari_perceive_ir._layers import KEY
from perceive_ir import Recipe
from perceive_ir._recipe import make_recipe

NOTHING = "select a restored layer first: its recipe is taken from it"


def recipe_of(layer: Any) -> Recipe:
    """Return the recipe of a restored layer, or say that there is none."""
    if layer is None:
        raise ValueError(NOTHING)
    about = layer.metadata.get(KEY, {})
    if "recipe" not in about:
        about = described(file_of(layer))
    if "recipe" not in about:
        raise ValueError(f"layer {layer.name!r} holds no recipe; {NOTHING}")
    return make_recipe(about["recipe"])


def described(path: str | None) -> dict[str, Any]:
    """Return what a file, or the JSON beside it, says of how it was made."""
    from perceive_ir.files import read_description

    return {} if path is None else read_description(path) or {}
