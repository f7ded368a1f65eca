"""Damage an array: numpy in, numpy out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from perceive_ir._vocabulary import TYPES
from perceive_ir.degradations._mixture import Mixture
from perceive_ir.images import parse_layout


def degrade(
    image: NDArray[Any],
    type: str | Mapping[str, float],
    severity: float = 0.5,
    seed: int = 0,
    axes: str = "auto",
) -> NDArray[Any]:
    """Return a damaged copy of an image.

    Parameters
    ----------
    image : ndarray
        uint8, uint16 or floating; grey, RGB or RGBA, or a stack of planes, each of which gets damage of its own.
        Floating values within [0, 1] are taken as they are, others by their minimum and maximum.
    type : str or mapping
        Type of the damage, or several with a severity each: ``{"haze": 0.5, "noise": 0.2}``.
    severity : float
        Between 0 (nothing) and 1, for a single ``type``.
    seed : int
        The same seed gives the same damage, and another severity the same scene with more or less of it.
    axes : str
        One letter for each axis, such as ``"ZYX"`` or ``"TYXC"``. ``"auto"`` takes the last axis of a 3-D array for
        colour if it has 3 or 4 elements, and the last two axes for Y and X otherwise.

    Returns
    -------
    ndarray
        Same shape and dtype. Alpha is kept; channels other than RGB(A) are damaged one by one.
    """
    severities = _severities(type, severity)
    image = np.asarray(image)
    low, high = _range(image)
    layout = parse_layout(image.shape, axes)
    result = np.array(image)
    if not any(severities.values()):
        return result
    generator = torch.Generator().manual_seed(seed)
    for plane in layout.planes():
        part = result[plane.index]  # a view: what is written to it lands in the result
        colour = part[..., :3] if layout.colour else part[..., None]
        damaged = _damage(_scaled(colour, low, high), severities, generator, image.dtype == np.uint8)
        colour[...] = _unscaled(damaged, low, high, image.dtype)[..., : colour.shape[-1]]
    return result


def _severities(type: str | Mapping[str, float], severity: float) -> dict[str, float]:
    wanted = {type: severity} if isinstance(type, str) else dict(type)
    for name, value in wanted.items():
        if name not in TYPES:
            raise ValueError(f"expected a damage type out of {', '.join(TYPES)}, got {name!r}")
        if not 0 <= value <= 1:
            raise ValueError(f"expected a severity between 0 and 1 for {name}, got {value!r}")
    return wanted


def _range(image: NDArray[Any]) -> tuple[float, float]:
    """Return the values that stand for 0 and 1."""
    if image.size == 0:
        raise ValueError(f"expected an image with pixels, got shape {image.shape}")
    if image.dtype.kind == "u" and image.dtype.itemsize <= 2:
        return 0.0, float(np.iinfo(image.dtype).max)
    if not np.issubdtype(image.dtype, np.floating):
        raise TypeError(f"expected an image of dtype uint8, uint16 or float, got {image.dtype}: convert it first")
    low, high = float(image.min()), float(image.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("expected finite values, got NaN or infinity: replace them, for instance by numpy.nan_to_num")
    if 0 <= low and high <= 1:
        return 0.0, 1.0
    return (low, high) if high > low else (low, low + 1)


def _scaled(plane: NDArray[Any], low: float, high: float) -> torch.Tensor:
    """Return a plane (Y, X, 1 or 3) as (1, 3, Y, X) in [0, 1]."""
    values = (plane.astype(np.float64) - low) / (high - low)
    return torch.from_numpy(np.repeat(values, 3 // plane.shape[-1], -1).astype(np.float32)).permute(2, 0, 1)[None]


def _unscaled(damaged: NDArray[np.float64], low: float, high: float, dtype: np.dtype[Any]) -> NDArray[Any]:
    values = damaged * (high - low) + low
    return (np.rint(values) if np.issubdtype(dtype, np.integer) else values).astype(dtype)


def _damage(
    x: torch.Tensor, severities: Mapping[str, float], generator: torch.Generator, quantise: bool
) -> NDArray[np.float64]:
    """Return (Y, X, 3) in [0, 1]."""
    s = torch.tensor([[severities.get(name, 0.0) for name in TYPES]])
    shape = (1, 3, x.shape[2], x.shape[3])
    grey = (x[:, 0] == x[:, 1]).all() & (x[:, 0] == x[:, 2]).all()
    y = Mixture.draw(shape, s > 0, generator, grey=grey[None], varied=False).apply(x, s, quantise)
    values: NDArray[np.float64] = y.clamp(0, 1)[0].permute(1, 2, 0).numpy().astype(np.float64)
    return values
