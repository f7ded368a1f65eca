"""Free sample pictures inside the package, clean; see the file NOTICE for where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

_FOLDER = Path(__file__).parent
_SUFFIXES = {".png", ".webp"}


def sample_names() -> tuple[str, ...]:
    """Return the names of the sample pictures."""
    return tuple(sorted(path.stem for path in _FOLDER.iterdir() if path.suffix in _SUFFIXES))


def load_sample(name: str) -> NDArray[Any]:
    """Return a sample picture, uint8, (h, w) or (h, w, 3)."""
    from perceive_ir.files import read_image

    if name not in sample_names():
        raise ValueError(f"expected a sample out of {', '.join(sample_names())}, got {name!r}")
    return read_image(next(path for path in _FOLDER.glob(f"{name}.*") if path.suffix in _SUFFIXES)).data
