"""The windows in which a quality map looks at a picture: which sizes the perceiver can take."""

from __future__ import annotations

WINDOW, STRIDE = 128, 32
"""Side and step of the windows of a quality map, in pixels."""
WINDOW_STEP = 32
"""By what a window may grow, in pixels."""
NEIGHBOURS = 160
"""How far around a window counts for haze and low light there, in pixels."""


def check_window(window: int, stride: int) -> None:
    """Refuse windows that the tower's levels cannot share."""
    if stride < 16 or stride % 16:
        raise ValueError(f"expected a stride that is a multiple of 16, got {stride}")
    if window < stride or (window - stride) % WINDOW_STEP:
        raise ValueError(f"expected a window of stride + a multiple of {WINDOW_STEP} (stride {stride}), got {window}")
