"""Perceive-IR: looks at a picture, says what is wrong with it, how badly and where, and restores it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perceive_ir._attach import Attached, attach
    from perceive_ir._catalogue import available, load, restore
    from perceive_ir._engine import Restorer
    from perceive_ir._errors import (
        ClusterError,
        FolderError,
        ImageFileError,
        MissingExtraError,
        NotEnoughMemoryError,
        PerceiveIRError,
        WeightsError,
    )
    from perceive_ir._foreign import add_model
    from perceive_ir._lazy import restore_lazy
    from perceive_ir._ome_zarr import restore_ome_zarr
    from perceive_ir._onnx import export_onnx
    from perceive_ir._perception import Perception
    from perceive_ir._quality_map import QualityMap
    from perceive_ir._recipe import Recipe
    from perceive_ir._result import Result, Step
    from perceive_ir._taps import taps
    from perceive_ir._vocabulary import TASKS, TIERS, TYPES
    from perceive_ir.degradations import degrade

_PLACES = {
    "Attached": "_attach", "attach": "_attach", "taps": "_taps",
    "available": "_catalogue", "load": "_catalogue", "restore": "_catalogue",
    "add_model": "_foreign", "export_onnx": "_onnx",
    "Restorer": "_engine", "Result": "_result", "Step": "_result",
    "restore_lazy": "_lazy", "restore_ome_zarr": "_ome_zarr",
    "ClusterError": "_errors", "FolderError": "_errors", "ImageFileError": "_errors", "MissingExtraError": "_errors",
    "NotEnoughMemoryError": "_errors", "PerceiveIRError": "_errors", "WeightsError": "_errors",
    "Perception": "_perception", "QualityMap": "_quality_map",
    "Recipe": "_recipe", "TASKS": "_vocabulary", "TIERS": "_vocabulary", "TYPES": "_vocabulary",
    "degrade": "degradations",
}  # fmt: skip

__all__ = [
    "TASKS", "TIERS", "TYPES", "Attached", "ClusterError", "FolderError", "ImageFileError", "MissingExtraError",
    "NotEnoughMemoryError", "PerceiveIRError", "Perception", "QualityMap", "Recipe", "Restorer", "Result", "Step",
    "WeightsError", "add_model", "attach", "available", "degrade", "export_onnx", "load", "restore", "restore_lazy",
    "restore_ome_zarr", "taps",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what is asked for only when it is asked for: torch is heavy."""
    if name not in _PLACES:
        raise AttributeError(f"module 'perceive_ir' has no attribute {name!r}")
    return getattr(import_module(f"perceive_ir.{_PLACES[name]}"), name)
