"""A part of a plane: read, made ready for the network, and put back with a residual."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import avg_pool2d

from perceive_ir.images._arrays import LazyArray
from perceive_ir.images._layout import Plane

FILL_REACH = 7
"""How many pixels away a NaN or infinity is seen by what fills it: tiles that must agree exactly overlap by so much
more."""

# The network sees values a little outside its range; farther ones survive, since only a residual is added to them.
_SEEN = (-0.25, 1.25)
_MIDDLE = 0.5
# Scales between which float32 neither overflows nor vanishes.
_SINGLE = (1e-30, 1e30)
_FLOAT = np.dtype(np.float32)
# What a device takes and gives back bit for bit with float32 as its only arithmetic.
_PORTABLE = ("uint8", "int8", "uint16", "int16", "float32")


def read_tile(array: LazyArray, plane: Plane, rows: slice, cols: slice) -> NDArray[Any]:
    """Return a part of a plane as it is stored, (h, w) or (h, w, 3 or 4); nothing else of the array is read."""
    part = np.asarray(array[plane.at(rows, cols)])
    return part.swapaxes(0, 1) if plane.swapped else part


def write_tile(array: Any, plane: Plane, rows: slice, cols: slice, part: NDArray[Any]) -> None:
    """Write what :func:`read_tile` reads, in place."""
    array[plane.at(rows, cols)] = part.swapaxes(0, 1) if plane.swapped else part


def to_network(raw: NDArray[Any], lo: float, hi: float, device: torch.device | str = "cpu") -> torch.Tensor:
    """Make a part of a plane ready for the network.

    Parameters
    ----------
    raw : ndarray, (h, w) or (h, w, 3 or 4)
        Values as stored. Grey becomes three equal channels, alpha is left out.
    lo, hi : float
        The values that become 0 and 1; see `find_range`.
    device : torch.device or str
        Where the result lives.

    Returns
    -------
    Tensor, float32, (3, h, w)
        Values from -0.25 to 1.25. NaN and infinity are the mean of their finite neighbours in 15 × 15 pixels, or 0.5.
    """
    values = _upload(raw[..., :3] if raw.ndim == 3 else raw[..., None], hi - lo, device)
    plane = ((values - lo) / (hi - lo)).float().clamp(*_SEEN)
    if raw.dtype.kind == "f":
        plane = _fill(plane, values.isfinite())
    return plane.to(device).expand(3, -1, -1).contiguous()


def _upload(rgb: NDArray[Any], scale: float, device: torch.device | str) -> torch.Tensor:
    """Return (channels, h, w) in a dtype that holds the values; float64 stays here, as not every device has it."""
    work = _working_dtype(rgb.dtype, scale)
    single = work == np.float32
    # 8 bits travel as 8 bits: the way to the device is narrow.
    travel = np.dtype(np.uint8) if single and rgb.dtype == np.uint8 else work
    with np.errstate(invalid="ignore"):  # signalling NaN
        values = torch.from_numpy(np.array(rgb, dtype=travel, order="C"))
    return values.to(device if single else "cpu").permute(2, 0, 1)


def _working_dtype(dtype: np.dtype[Any], scale: float) -> np.dtype[Any]:
    """Return float64 where float32 would lose digits of the image or overflow, else float32."""
    wide = dtype.itemsize == 8 or (dtype.kind in "iu" and dtype.itemsize == 4)
    return np.dtype(np.float64 if wide or not _SINGLE[0] < scale < _SINGLE[1] else np.float32)


def _fill(plane: torch.Tensor, finite: torch.Tensor) -> torch.Tensor:  # both (channels, h, w)
    if bool(finite.all()):
        return plane
    total = _box(torch.where(finite, plane, 0.0))
    share = _box(finite.float())
    mean = torch.where(share > 0, total / share, _MIDDLE).clamp(*_SEEN)  # the quotient may be rounded out of it
    return torch.where(finite, plane, mean)


def _box(plane: torch.Tensor) -> torch.Tensor:
    return avg_pool2d(plane, 2 * FILL_REACH + 1, stride=1, padding=FILL_REACH)


def residual_to_plane(residual: torch.Tensor, colour: bool, dtype: np.dtype[Any] = _FLOAT) -> torch.Tensor:
    """Turn a residual (3, h, w) into a new (h, w, 3), or for grey planes into (h, w), the mean of the channels.

    It stays where it is; `dtype` is that of `residual_dtype`.
    """
    residual = residual.detach().float()
    plane = residual.permute(1, 2, 0) if colour else residual.mean(dim=0)
    kept = torch.float16 if dtype == np.float16 else torch.float32
    return plane.to(kept, memory_format=torch.contiguous_format, copy=True)


def residual_dtype(dtype: np.dtype[Any] | type | str) -> np.dtype[Any]:
    """Return the dtype that a residual is kept in: float16 for 8-bit images (error < 0.07 levels), else float32."""
    return np.dtype(np.float16 if np.dtype(dtype).itemsize == 1 else np.float32)


def apply_residual(
    raw: NDArray[Any], residual: NDArray[Any] | torch.Tensor, scale: float, strength: float | NDArray[Any] = 1.0
) -> NDArray[Any]:
    """Return ``raw + strength · scale · residual`` in the dtype of `raw`.

    Parameters
    ----------
    raw : ndarray, (h, w) or (h, w, 3 or 4)
        Values as stored.
    residual : ndarray or Tensor, (h, w) or (h, w, 3)
        What the network wants to change, in units of the value range. One on a GPU is added there, where the values
        allow; the bits are the same.
    scale : float
        ``hi - lo`` of the value range.
    strength : float or ndarray (h, w)
        How much of the residual is added.

    Returns
    -------
    ndarray
        A new array. Integers are rounded to the nearest and nothing is clipped but to what the dtype can hold. Alpha,
        NaN, infinity and every value whose change is exactly zero (or not a finite number) come back bit for bit.
    """
    work = _working_dtype(raw.dtype, scale)
    portable = work == _FLOAT and raw.dtype.newbyteorder("=").name in _PORTABLE
    out = np.array(raw, order="C")
    seen = out[..., : residual.shape[2]] if residual.ndim == 3 else out
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        weight = _weight(strength, scale, work, residual.ndim)
        if isinstance(residual, torch.Tensor) and portable and residual.device.type != "cpu":
            seen[...] = _added_there(seen, residual, weight)
        else:
            _add(seen, residual.cpu().numpy() if isinstance(residual, torch.Tensor) else residual, weight)
    return out


def _add(seen: NDArray[Any], residual: NDArray[Any], weight: NDArray[Any]) -> None:
    """Add in place, on the processor."""
    change = residual.astype(weight.dtype)
    change *= weight
    finite = np.isfinite(change)
    if seen.dtype.kind in "iu" and np.can_cast(seen.dtype, change.dtype) and finite.all():
        change += seen
        np.copyto(seen, _fit(change, seen.dtype), casting="unsafe")  # what nothing is added to stays as it is by itself
        return
    changed = (change != 0) & finite & np.isfinite(seen)
    np.copyto(seen, _fit(seen.astype(weight.dtype) + change, seen.dtype), where=changed, casting="unsafe")


def _added_there(seen: NDArray[Any], residual: torch.Tensor, weight: NDArray[Any]) -> NDArray[Any]:
    """Add on the device of the residual: the float32 operations of the processor, in their order, for the same bits."""
    travel = np.dtype(np.uint8) if seen.dtype == np.uint8 else _FLOAT  # 8 bits travel as 8 bits, both ways
    stored = torch.from_numpy(np.array(seen, dtype=travel, order="C")).to(residual.device)
    change = residual.float() * torch.from_numpy(weight).to(residual.device)
    changed = (change != 0) & change.isfinite() & stored.isfinite()
    sums = stored.float() + change
    limits = np.iinfo(seen.dtype) if seen.dtype.kind in "iu" else np.finfo(seen.dtype)
    whole = sums.round_() if seen.dtype.kind in "iu" else sums
    fitted = whole.clamp_(float(limits.min), float(limits.max)).to(stored.dtype)
    there: NDArray[Any] = torch.where(changed, fitted, stored).cpu().numpy()
    return there.astype(seen.dtype, copy=False)


def _weight(strength: float | NDArray[Any], scale: float, work: np.dtype[Any], ndim: int) -> NDArray[Any]:
    weight: NDArray[Any] = np.asarray(np.multiply(strength, scale, dtype=work))
    return weight[..., None] if weight.ndim == 2 and ndim == 3 else weight


def _fit(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round for integers, and clip to the finite values of `dtype`, in place."""
    if dtype.kind == "f":
        limits = np.finfo(dtype)
        return values.clip(limits.min, limits.max, out=values)
    bounds = np.iinfo(dtype)
    np.rint(values, out=values)
    return values.clip(bounds.min, bounds.max, out=values)
