"""Clean pictures in memory, and batches of crops from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

SUFFIXES = {".png", ".webp", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
HELD_BACK = 0.06
"""Share of every folder that never trains, by hash of the relative path."""
WAYS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
SMALLEST = 64
"""Pictures with a shorter side are left out."""


@dataclass(frozen=True)
class Picture:
    """A clean picture, uint8 (H, W, 3)."""

    name: str
    pixels: NDArray[np.uint8]
    grey: bool
    microscopy: bool = False


@dataclass(frozen=True)
class Crops:
    """Random crops of clean pictures."""

    pixels: Tensor
    """(B, 3, S, S) in [0, 1]."""
    grey: Tensor
    """(B,): the three channels are equal."""
    microscopy: NDArray[np.bool_]
    """(B,): not a photograph, so no weather and no darkness."""


@dataclass(frozen=True)
class Pictures:
    """The pictures of a training, by kind."""

    photos: tuple[Picture, ...]
    microscopy: tuple[Picture, ...] = ()
    procedural: tuple[Picture, ...] = ()
    """Drawn by formula; some of them are micrographs."""

    def draw(
        self,
        count: int,
        size: int,
        microscopy: float,
        random: np.random.Generator,
        procedural: float = 0.0,
        shrunk: float = 0.0,
    ) -> Crops:
        """Draw random crops, flipped and turned: a share of them procedural, and of the others a share micrographs.

        A share ``shrunk`` of all shows more of its scene: it comes from a picture made up to four times smaller.
        """
        chosen = []
        for _ in range(count):
            group = self.microscopy if self.microscopy and random.random() < microscopy else self.photos
            group = self.procedural if self.procedural and random.random() < procedural else group
            chosen.append(group[random.integers(len(group))])
        times = [random.uniform(1.5, 4) if shrunk and random.random() < shrunk else 1.0 for _ in chosen]
        squares = np.stack([crop(p.pixels, size, random, n) for p, n in zip(chosen, times, strict=True)])
        pixels = torch.from_numpy(squares).permute(0, 3, 1, 2).float().div_(255)
        return Crops(
            pixels.contiguous(memory_format=torch.channels_last),
            torch.tensor([picture.grey for picture in chosen]),
            np.array([picture.microscopy for picture in chosen]),
        )


def load_pictures(root: str | Path, *, held_back: bool = False) -> Pictures:
    """Read the folders ``photos`` and ``microscopy`` under ``root`` (or under ``root/train``) into memory.

    Parameters
    ----------
    root
        The data folder; if it has neither sub-folder, all its pictures count as photos.
    held_back
        Return the pictures that never train instead of those that do.
    """
    base = Path(root) / "train" if (Path(root) / "train").is_dir() else Path(root)
    folders = [base / "photos", base / "microscopy"]
    if not any(f.is_dir() for f in folders):
        folders = [base]
    groups = [read_folder(folder, held_back) for folder in folders if folder.is_dir()]
    if not groups or not groups[0]:
        raise ValueError(f"no pictures under {root}; expected photos/ (and microscopy/) with PNG, WebP, JPEG or TIFF")
    photos, *microscopy = groups
    return Pictures(photos, tuple(m for group in microscopy for p in group for m in as_microscopy(p)))


def as_microscopy(picture: Picture) -> tuple[Picture, ...]:
    """Show a micrograph as stored, and stretched by percentiles as a picture of more than 8 bits is shown."""
    low, high = np.percentile(picture.pixels, (0.1, 99.9))
    stretched = (picture.pixels - low) * (255 / max(high - low, 1.0))
    kept = replace(picture, microscopy=True)
    return kept, replace(kept, pixels=stretched.clip(0, 255).round().astype(np.uint8))


def read_folder(folder: Path, held_back: bool) -> tuple[Picture, ...]:
    """Read one folder, in the order of its names."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    chosen = [p for p in paths if is_held_back(p.relative_to(folder)) == held_back]
    pictures = (read_picture(p, str(p.relative_to(folder))) for p in chosen)
    return tuple(p for p in pictures if min(p.pixels.shape[:2]) >= SMALLEST)


def is_held_back(relative: Path) -> bool:
    """Decide by a hash of the relative path, so that the split survives a move of the folder."""
    value = int.from_bytes(hashlib.sha256(relative.as_posix().encode()).digest()[:4], "big")
    return value / 2**32 < HELD_BACK


def read_picture(path: Path, name: str) -> Picture:
    """Read one picture as RGB."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return Picture(name, pixels, bool((np.ptp(pixels, axis=2) == 0).all()))


def crop(pixels: NDArray[np.uint8], size: int, random: np.random.Generator, times: float = 1) -> NDArray[np.uint8]:
    """Cut a random square, reflected where the picture is too small, in one of eight orientations.

    It is cut out of the picture made ``times`` smaller, or less where the picture is too small for that, in one of the
    ways in which programs do it: some leave detail softer than others.
    """
    large = round(size * min(times, max(1, min(pixels.shape[:2]) / size)))
    if large > size:
        image, way = Image.fromarray(crop(pixels, large, random)), WAYS[random.integers(len(WAYS))]
        return np.asarray(image.resize((size, size), way))
    short = [max(0, size - n) for n in pixels.shape[:2]]
    if any(short):
        pixels = np.pad(pixels, ((0, short[0]), (0, short[1]), (0, 0)), mode="symmetric")
    y, x = (random.integers(n - size + 1) for n in pixels.shape[:2])
    square = np.rot90(pixels[y : y + size, x : x + size], int(random.integers(4)))
    return np.ascontiguousarray(square[:, ::-1] if random.random() < 0.5 else square)


def vary_detail(crops: Crops, share: float, random: np.random.Generator) -> Crops:
    """Sharpen a share of the crops, as cameras and programs do; a few become a little softer instead."""
    if not share:
        return crops
    count = len(crops.pixels)
    amount = np.where(random.random(count) < share, random.uniform(-0.15, 0.8, count), 0)
    rows = torch.from_numpy(amount).nonzero().flatten()
    chosen, strength = crops.pixels[rows], torch.from_numpy(amount).float()[rows, None, None, None]
    soft = F.avg_pool2d(F.avg_pool2d(F.pad(chosen, (2,) * 4, mode="replicate"), 3, 1), 3, 1)
    pixels = crops.pixels.clone()
    pixels[rows] = (chosen + strength * (chosen - soft)).clamp(0, 1).mul(255).round().div(255)
    return replace(crops, pixels=pixels)


def vary_tones(crops: Crops, share: float, random: np.random.Generator) -> Crops:
    """Give a share of the crops another curve, exposure, black level and cast, all of them slight; grey stays grey."""
    if not share:
        return crops
    count = len(crops.pixels)
    curve, exposure = np.exp(random.normal(0, 0.2, count)), np.exp(random.normal(-0.07, 0.18, count).clip(max=0.12))
    black, cast = random.uniform(-0.03, 0.05, count), np.exp(random.normal(0, 0.03, (count, 3)))
    cast[crops.grey.numpy()] = 1
    values = (curve, black, exposure[:, None] * cast)
    gamma, lift, gain = (torch.from_numpy(v).float().reshape(count, -1, 1, 1) for v in values)
    varied = (crops.pixels.pow(gamma) * gain + lift).clamp(0, 1).mul(255).round().div(255)
    chosen = torch.from_numpy(random.random(count) < share)[:, None, None, None]
    return replace(crops, pixels=torch.where(chosen, varied, crops.pixels))


def shrink(pictures: Sequence[Picture], longest: int) -> tuple[Picture, ...]:
    """Make thumbnails, as the perceiver sees a whole picture."""
    small = []
    for picture in pictures:
        image = Image.fromarray(picture.pixels)
        image.thumbnail((longest, longest), Image.Resampling.BOX)
        small.append(replace(picture, pixels=np.asarray(image)))
    return tuple(small)
