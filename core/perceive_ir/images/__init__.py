"""Any array in, float32 RGB planes for a network out, and residuals put back."""

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

__all__ = [
    "FILL_REACH",
    "Layout",
    "LazyArray",
    "Plane",
    "apply_residual",
    "check_array",
    "find_range",
    "parse_layout",
    "read_tile",
    "residual_dtype",
    "residual_to_plane",
    "to_network",
    "write_tile",
]
