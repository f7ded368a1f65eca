"""Which arrays are images: numpy, dask, zarr, xarray and whatever else has a shape, a dtype and slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np

_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")


class LazyArray(Protocol):
    """What is asked of an array: nothing but slices of it is ever converted."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""

    @property
    def dtype(self) -> Any:
        """What ``numpy.dtype`` understands."""

    def __getitem__(self, key: Any, /) -> Any:
        """A part of the array, as something that ``numpy.asarray`` understands."""


def check_array(array: object) -> LazyArray:
    """Return `array` itself if it can be restored, else say in one line why not.

    Parameters
    ----------
    array : array-like
        Anything with ``shape``, ``dtype`` and slices: numpy, dask, zarr, xarray.

    Raises
    ------
    TypeError
        For a list, something that is not an array, or a dtype other than (u)int8-32 and float16-64.
    """
    if isinstance(array, Sequence):
        raise TypeError(_sequence_message(array))
    if not all(hasattr(array, name) for name in ("shape", "dtype", "__getitem__")):
        raise TypeError(f"expected an array, got {type(array).__name__}: convert with numpy.asarray(image)")
    lazy = cast(LazyArray, array)
    _check_dtype(lazy.dtype)
    return lazy


def _sequence_message(array: Sequence[object]) -> str:
    name = type(array).__name__
    if isinstance(array, str | bytes):
        return f"expected an array, got {name} {str(array)[:60]!r}: read the file first, or use `perceive-ir restore`"
    return f"expected one array, got a {name} of {len(array)}: give one level of a multiscale image, e.g. image[0]"


def _check_dtype(dtype: object) -> None:
    try:
        known = np.dtype(dtype)  # type: ignore[call-overload]
    except TypeError:
        raise TypeError(f"expected a numpy dtype, got {dtype}: convert with numpy.asarray(image)") from None
    if known.newbyteorder("=").name not in _DTYPES:
        raise TypeError(f"cannot restore {known.name} images: convert with .astype({_remedy(known)!r})")


def _remedy(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "b":
        return "uint8"
    return "float64" if dtype.kind in "iuf" else "float32"
