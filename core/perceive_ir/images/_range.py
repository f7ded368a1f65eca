"""Which values of an image are black and white to the network; found once per image or stack, never per tile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perceive_ir.images._arrays import LazyArray
from perceive_ir.images._layout import Layout
from perceive_ir.images._planes import read_tile

_PERCENTILES = (0.1, 99.9)
_SAMPLE_VALUES = 4_000_000
_SAMPLE_PLANES = 64
# Wider than this, hi - lo would be infinite.
_LARGEST = float(np.finfo(np.float64).max) / 2


def find_range(array: LazyArray, layout: Layout, wish: str | Sequence[float] = "auto") -> tuple[float, float]:
    """Find the values that become 0 and 1.

    Parameters
    ----------
    array : array-like
        The image or stack. Its statistics come from at most 64 planes and 4 million values, the same every time;
        NaN and infinity do not count.
    layout : Layout
        The meaning of its axes.
    wish : {"auto", "dtype", "percentile"} or (float, float)
        ``"dtype"``: all that an integer can hold, (0, 1) for floats. ``"percentile"``: the 0.1st and the 99.9th
        percentile; the extremes where these coincide, and one unit where those do too. ``"auto"``: the dtype for
        uint8 and for colour integers, (0, 1) for colour floats inside it, else percentiles.

    Returns
    -------
    tuple of float
        lo and hi, with lo < hi.
    """
    if not isinstance(wish, str):
        return _given(wish)
    if wish not in ("auto", "dtype", "percentile"):
        raise ValueError(f"unknown value range {wish!r}: use 'auto', 'dtype', 'percentile' or (lo, hi)")
    dtype = np.dtype(array.dtype)
    if wish == "dtype" or (wish == "auto" and _uses_dtype(dtype, layout.colour)):
        return _dtype_range(dtype)
    sample = _sample(array, layout)
    if wish == "auto" and layout.colour and bool(np.all((sample >= 0) & (sample <= 1))):
        return 0.0, 1.0
    return _robust_range(sample)


def _given(wish: Sequence[float]) -> tuple[float, float]:
    try:
        lo, hi = (float(value) for value in wish)
    except (TypeError, ValueError):
        raise ValueError(f"expected a value range of two numbers, got {wish!r}: use (lo, hi) or 'auto'") from None
    if not (lo < hi and math.isfinite(hi - lo)):
        raise ValueError(f"expected a value range with finite lo < hi, got ({lo:g}, {hi:g}): exchange or widen it")
    return lo, hi


def _uses_dtype(dtype: np.dtype[Any], colour: bool) -> bool:
    return dtype == np.uint8 or (colour and dtype.kind in "iu")


def _dtype_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    if dtype.kind == "f":
        return 0.0, 1.0
    info = np.iinfo(dtype)
    return float(info.min), float(info.max)


def _sample(array: LazyArray, layout: Layout) -> NDArray[np.float64]:
    """Return finite values of the image, alpha left out, as one flat array that may be sorted in place."""
    numbers = _spread(layout.plane_count)
    rows, cols = _strides(layout, _SAMPLE_VALUES / len(numbers) / (3 if layout.colour else 1))
    parts = [_finite(read_tile(array, layout.plane(number), rows, cols)) for number in numbers]
    return np.concatenate(parts)


def _spread(count: int) -> list[int]:
    """Choose planes evenly, one at random in each of 64 parts: a regular step could miss every second channel."""
    if count <= _SAMPLE_PLANES:
        return list(range(count))
    jitter = np.random.default_rng(0).random(_SAMPLE_PLANES)
    return [int((n + jitter[n]) * count / _SAMPLE_PLANES) for n in range(_SAMPLE_PLANES)]


def _strides(layout: Layout, most: float) -> tuple[slice, slice]:
    """Choose rows and columns that meet in at most so many pixels, however long and thin the plane is."""
    cols = min(layout.width, max(math.sqrt(most), most / layout.height))
    rows = most / cols
    # Odd steps, so that interlaced lines and 2 × 2 sensor patterns are not seen from one side only.
    steps = (math.ceil(layout.height / rows) | 1, math.ceil(layout.width / cols) | 1)
    return slice(None, None, steps[0]), slice(None, None, steps[1])


def _finite(raw: NDArray[Any]) -> NDArray[np.float64]:
    values = (raw[..., :3] if raw.ndim == 3 else raw).ravel()
    finite: NDArray[np.float64] = values[np.isfinite(values)].astype(np.float64)  # casting a signalling NaN warns
    return finite


def _robust_range(sample: NDArray[np.float64]) -> tuple[float, float]:
    if sample.size == 0:
        return 0.0, 1.0
    sample = np.clip(sample, -_LARGEST, _LARGEST)
    lo, hi = (float(value) for value in np.percentile(sample, _PERCENTILES, method="nearest", overwrite_input=True))
    if lo == hi:
        lo, hi = float(sample.min()), float(sample.max())
    if lo == hi:
        hi = lo + max(1.0, abs(float(np.spacing(lo))))
    return lo, hi
