"""Clean pictures in memory, and batches of crops from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

SUFFIXES = {".png", ".webp", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
HELD_BACK = 0.06
"""Share of every folder that never trains, by hash of the relative path."""


@dataclass(frozen=True)
class Picture:
    """A clean picture, uint8 (H, W, 3)."""

    name: str
    pixels: NDArray[np.uint8]
    grey: bool


@dataclass(frozen=True)
class Pictures:
    """The pictures of a training, by kind."""

    photos: tuple[Picture, ...]
    microscopy: tuple[Picture, ...] = ()

    def draw(self, count: int, size: int, microscopy: float, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw random crops, flipped and turned: (B, 3, S, S) in [0, 1], and which of them are grey (B,)."""
        crops, grey = [], []
        for _ in range(count):
            group = self.microscopy if self.microscopy and random.random() < microscopy else self.photos
            picture = group[random.integers(len(group))]
            crops.append(crop(picture.pixels, size, random))
            grey.append(picture.grey)
        stacked = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().div_(255)
        return stacked.contiguous(memory_format=torch.channels_last), torch.tensor(grey)


def load_pictures(root: str | Path, *, held_back: bool = False, smallest: int = 64) -> Pictures:
    """Read the folders ``photos`` and ``microscopy`` under ``root`` (or under ``root/train``) into memory.

    Parameters
    ----------
    root
        The data folder; if it has neither sub-folder, all its pictures count as photos.
    held_back
        Return the pictures that never train instead of those that do.
    smallest
        Pictures with a shorter side are left out.
    """
    base = Path(root) / "train" if (Path(root) / "train").is_dir() else Path(root)
    folders = [base / "photos", base / "microscopy"]
    if not any(f.is_dir() for f in folders):
        folders = [base]
    groups = [read_folder(folder, held_back, smallest) for folder in folders if folder.is_dir()]
    if not groups or not groups[0]:
        raise ValueError(f"no pictures under {root}; expected photos/ (and microscopy/) with PNG, WebP, JPEG or TIFF")
    return Pictures(*groups)


def read_folder(folder: Path, held_back: bool, smallest: int) -> tuple[Picture, ...]:
    """Read one folder, in the order of its names."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    chosen = [p for p in paths if is_held_back(p.relative_to(folder)) == held_back]
    pictures = (read_picture(p, str(p.relative_to(folder))) for p in chosen)
    return tuple(p for p in pictures if min(p.pixels.shape[:2]) >= smallest)


def is_held_back(relative: Path) -> bool:
    """Decide by a hash of the relative path, so that the split survives a move of the folder."""
    value = int.from_bytes(hashlib.sha256(relative.as_posix().encode()).digest()[:4], "big")
    return value / 2**32 < HELD_BACK


def read_picture(path: Path, name: str) -> Picture:
    """Read one picture as RGB."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return Picture(name, pixels, bool((np.ptp(pixels, axis=2) == 0).all()))


def crop(pixels: NDArray[np.uint8], size: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Cut a random square, reflected where the picture is too small, in one of eight orientations."""
    short = [max(0, size - n) for n in pixels.shape[:2]]
    if any(short):
        pixels = np.pad(pixels, ((0, short[0]), (0, short[1]), (0, 0)), mode="symmetric")
    y, x = (random.integers(n - size + 1) for n in pixels.shape[:2])
    square = np.rot90(pixels[y : y + size, x : x + size], random.integers(4))
    return np.ascontiguousarray(square[:, ::-1] if random.random() < 0.5 else square)


def shrink(pictures: Sequence[Picture], longest: int) -> tuple[Picture, ...]:
    """Make thumbnails, as the perceiver sees a whole picture."""
    small = []
    for picture in pictures:
        image = Image.fromarray(picture.pixels)
        image.thumbnail((longest, longest), Image.Resampling.BOX)
        small.append(Picture(picture.name, np.asarray(image), picture.grey))
    return tuple(small)
