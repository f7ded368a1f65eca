"""What napari's Preferences keep of the plugin; before napari 0.9 there are none, and nothing is remembered."""

from __future__ import annotations

from typing import Any

from napari_perceive_ir._words import AUTOMATIC

PLUGIN = "napari-perceive-ir"
COMPUTE = ("device", "precision", "memory")
"""Fields of the recipe under ``compute`` in the manifest; there, a memory of 0 is "auto"."""


def settings() -> Any:
    """Return the settings under ``compute``, which save themselves when they change, or None."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return None
    try:
        return get_plugin_settings(PLUGIN).compute
    except KeyError:  # napari does not know the plugin: it is disabled, or used without being installed
        return None


def remembered() -> dict[str, Any]:
    """Return fields of a recipe as they were left."""
    kept = settings()
    if kept is None:
        return {}
    return {name: getattr(kept, name) or AUTOMATIC for name in COMPUTE}


def remember(fields: dict[str, Any]) -> None:
    """Keep fields of a recipe for the next time."""
    kept = settings()
    if kept is not None:
        memory = fields["memory"]
        kept.update(fields | {"memory": 0.0 if memory == AUTOMATIC else memory})
