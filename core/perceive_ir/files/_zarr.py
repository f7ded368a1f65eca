"""OME-Zarr: a folder that is one picture, of which only what is asked for is read."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perceive_ir._errors import ImageFileError, MissingExtraError
from perceive_ir.files._description import KEYWORD
from perceive_ir.files._faults import reading

Array = NDArray[Any]

SUFFIX = ".zarr"
ABOUT = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
"""Files of a Zarr that hold no pixels."""


def is_ome_zarr(folder: Path) -> bool:
    """Whether a path is a folder with a Zarr in it."""
    return any(os.path.isfile(folder / name) for name in ("zarr.json", ".zgroup", ".zarray"))  # no if it is locked


def zarr_suffix(path: Path) -> str:
    """Return how the name of an OME-Zarr ends, as it is spelled; "" for any other."""
    known = next((ending for ending in (".ome.zarr", SUFFIX) if path.name.lower().endswith(ending)), "")
    return path.name[len(path.name) - len(known) :]


def description_of(folder: Path) -> dict[str, Any] | None:
    """Return how an OME-Zarr was made, if it was made here."""
    found = opened(folder, "r").attrs.get(KEYWORD)
    return found if isinstance(found, dict) else None


@dataclass(frozen=True)
class Multiscale:
    """The first picture of an OME-Zarr: one array for each level, the finest first."""

    folder: Path
    axes: str
    paths: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> Multiscale:
        """Read what the metadata say."""
        attributes = opened(folder, "r").attrs.asdict()
        about = attributes.get("ome", attributes)
        found = about.get("multiscales")
        if not found:
            inside = " such as A/1/0" if "plate" in about else " such as 0"
            raise ImageFileError(f"{folder} is not a single OME-Zarr picture; give one that lies in it,{inside}")
        axes = [axis["name"] if isinstance(axis, dict) else axis for axis in found[0].get("axes", "TCZYX")]
        if any(len(name) != 1 for name in axes):
            raise ImageFileError(f"{folder} has axes with long names, {', '.join(axes)}; name them by single letters")
        return cls(folder, "".join(axes).upper(), tuple(level["path"] for level in found[0]["datasets"]))

    def levels(self, mode: str) -> list[Any]:
        """Return the arrays."""
        group = opened(self.folder, mode)
        lost = [path for path in self.paths if path not in group]
        if lost:
            raise ImageFileError(f"{self.folder} lacks its level {lost[0]}; get it again")
        return [group[path] for path in self.paths]

    @property
    def source(self) -> Source:
        """The finest level, to be read."""
        return Source(self.levels("r")[0], self.folder)

    def copy(self, folder: Path) -> None:
        """Copy everything but the pixels."""
        levels = {os.path.normpath(self.folder / path) for path in self.paths}

        def left_out(where: str, names: list[str]) -> set[str]:
            return set(names) - set(ABOUT) if os.path.normpath(where) in levels else set()

        shutil.copytree(self.folder, folder, ignore=left_out)

    @cached_property
    def identity(self) -> str:
        """What changes when a file of it does: a hash of their names, sizes and times."""
        found = hashlib.sha256()
        for where, folders, names in os.walk(self.folder):
            folders.sort()
            for name in sorted(names):
                about = os.stat(os.path.join(where, name))
                found.update(
                    f"{os.path.relpath(where, self.folder)}/{name} {about.st_size} {about.st_mtime_ns}\n".encode()
                )
        return found.hexdigest()


class Source:
    """An array whose damage is told in one line.

    Parameters
    ----------
    array
        The array of a Zarr.
    folder
        Where it is.
    """

    def __init__(self, array: Any, folder: Path) -> None:
        self.array, self.folder = array, folder
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.dtype = np.dtype(array.dtype)
        self.chunks = stored_in(array)

    def __getitem__(self, key: Any) -> Array:
        with reading(self.folder):
            part: Array = np.asarray(self.array[key])
        return part


def stored_in(array: Any) -> Any:
    """Return how long the pieces are along each axis that an array is stored in; None if it does not say."""
    return getattr(array, "shards", None) or getattr(array, "chunks", None)  # zarr writes shards whole


def opened(folder: Path, mode: str) -> Any:
    """Return the group of a folder."""
    try:
        import zarr
    except ImportError:
        raise MissingExtraError('OME-Zarr needs zarr: pip install "napari-perceive-ir[zarr]"') from None
    try:
        return zarr.open_group(folder, mode=mode, use_consolidated=False)  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImageFileError(f"{folder} cannot be read as a Zarr group ({error}); check its name") from error
