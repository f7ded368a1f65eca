"""Any array in, float32 RGB planes for a network out, and residuals put back."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perceive_ir.images._arrays import LazyArray, check_array
    from perceive_ir.images._layout import Layout, Plane, parse_layout
    from perceive_ir.images._planes import (
        FILL_REACH,
        apply_residual,
        read_tile,
        residual_dtype,
        residual_to_plane,
        to_network,
        write_tile,
    )
    from perceive_ir.images._range import find_range
    from perceive_ir.images._shrink import mean_of, starts_along

_PLACES = {
    "LazyArray": "_arrays", "check_array": "_arrays",
    "Layout": "_layout", "Plane": "_layout", "parse_layout": "_layout",
    "find_range": "_range", "mean_of": "_shrink", "starts_along": "_shrink",
}  # fmt: skip

__all__ = [
    "FILL_REACH",
    "Layout",
    "LazyArray",
    "Plane",
    "apply_residual",
    "check_array",
    "find_range",
    "mean_of",
    "parse_layout",
    "read_tile",
    "residual_dtype",
    "residual_to_plane",
    "starts_along",
    "to_network",
    "write_tile",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for only when it is asked for: planes need torch, axes do not."""
    if name not in __all__:
        raise AttributeError(f"module 'perceive_ir.images' has no attribute {name!r}")
    return getattr(import_module(f"perceive_ir.images.{_PLACES.get(name, '_planes')}"), name)
