"""The napari plugin: docks over perceive_ir, and the same from the console."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_perceive_ir._layers import map_layer, restore_layer, restore_layer_data
    from napari_perceive_ir._lazy_layer import restore_layer_lazy

_PLACES = dict.fromkeys(("map_layer", "restore_layer", "restore_layer_data"), "_layers")
_PLACES |= {"restore_layer_lazy": "_lazy_layer"}

__all__ = ["map_layer", "restore_layer", "restore_layer_data", "restore_layer_lazy"]


def __getattr__(name: str) -> Any:
    """Import what is asked for only when it is asked for: discovering the plugin imports no napari, Qt or torch."""
    if name not in _PLACES:
        raise AttributeError(f"module 'napari_perceive_ir' has no attribute {name!r}")
    return getattr(import_module(f"napari_perceive_ir.{_PLACES[name]}"), name)
