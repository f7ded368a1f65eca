"""One-click commands of the menus: a task with automatic severity on the active layer, in the Restore dock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_perceive_ir._words import AUTOMATIC
from perceive_ir._vocabulary import TASKS

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_perceive_ir._dock import RestoreDock
    from napari_perceive_ir._map_layers import Judged

DOCK_NAME = "Restore (Perceive-IR)"
"""The name that napari's menus give to the dock, so that both open the same one."""


def one_click(task: str) -> Callable[[], None]:
    """Make the command of a task."""

    def command() -> None:
        run_task(task)

    command.__name__ = task
    return command


def run_task(task: str) -> None:
    """Restore the active layer of the current viewer in its Restore dock, which shows progress and can cancel."""
    import napari
    from napari.utils.notifications import show_error

    from napari_perceive_ir._picture_rows import pictures_in

    viewer = napari.current_viewer()
    layer = viewer.layers.selection.active if viewer is not None else None
    if layer is None or layer not in [picture for _, picture in pictures_in(viewer.layers)]:
        show_error("no picture is active: click an image layer in the layer list first")
        return
    run_in_dock(viewer, layer, task)


def run_in_dock(viewer: Any, layer: Image, task: str, judged: Judged | None = None, **recipe_fields: Any) -> None:
    """Restore a layer in the viewer's Restore dock, unless that is busy; its quality map may be known."""
    from napari.utils.notifications import show_error

    dock = restore_dock(viewer)
    if dock.running:
        show_error("the Restore dock is busy: wait for it or cancel it first")
        return
    dock.run(layer, task, judged, **recipe_fields)


def restore_dock(viewer: Any) -> RestoreDock:
    """Return the viewer's Restore dock, opened and raised."""
    from napari_perceive_ir._dock import RestoreDock

    known = opened_restore_dock(viewer)
    dock = known if known is not None else RestoreDock(viewer)
    if known is None:
        viewer.window.add_dock_widget(dock, name=DOCK_NAME, tabify=True)
    frame: Any = dock.parent()
    frame.show()
    frame.raise_()
    return dock


def opened_restore_dock(viewer: Any) -> RestoreDock | None:
    """Return the viewer's Restore dock, if it is open."""
    from napari_perceive_ir._dock import RestoreDock

    docks = viewer.window.dock_widgets.values() if hasattr(viewer, "window") else ()
    return next((dock for dock in docks if isinstance(dock, RestoreDock)), None)


restore: Callable[[], None] = one_click(AUTOMATIC)
globals().update({task: one_click(task) for task in TASKS})
