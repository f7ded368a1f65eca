"""Which files the user means: names, and patterns for shells that do not expand them."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path

from perceive_ir.files._atomic import PARTIAL_SUFFIX

_DIGITS = re.compile(r"(\d+)")


def collect(inputs: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Paths of all files that `inputs` name, in natural order (``2`` before ``10``), each once.

    Parameters
    ----------
    inputs
        Files, folders, and patterns of files such as ``"cells/*.tif"`` or ``"**/*.png"``.

    Returns
    -------
    list of Path
        A name that does not exist and a pattern that fits nothing stay in the list: reading them gives their error.
    """
    found: dict[str, Path] = {}
    for given in inputs:
        for path in _expand(os.fspath(given)):
            found.setdefault(os.path.realpath(path) if _exists(path) else str(path), path)
    return sorted(found.values(), key=natural)


def _expand(given: str) -> list[Path]:
    path = Path(given)
    if _exists(path) or not glob.has_magic(given):
        return [path]
    matches = map(Path, glob.iglob(given, recursive=True))
    return [match for match in matches if _is_file(match) and _is_ours_to_read(match)] or [path]


def _is_file(path: Path) -> bool:
    """Whether a path is a file, or a Zarr, which is a folder."""
    return os.path.isfile(path) or (path.suffix.lower() == ".zarr" and os.path.isdir(path))


def _is_ours_to_read(path: Path) -> bool:
    return not path.name.endswith(PARTIAL_SUFFIX)


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


def natural(path: Path) -> list[tuple[int, int | str]]:
    """Key to sort by: numbers in a name compare as numbers; the types never meet in one place of the key."""
    parts = _DIGITS.split(str(path).casefold())
    return [(1, int(part)) if part.isdecimal() else (0, part) for part in parts]
