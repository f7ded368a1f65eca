"""Pairs of a damaged picture and the one that it should be, from folders, and batches of aligned crops from them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from perceive_ir._errors import ImageFileError
from perceive_ir._vocabulary import TYPES
from perceive_ir_training.data import SUFFIXES, crop, is_held_back

PathPair = tuple[Path, Path]
"""A damaged picture and its target."""


@dataclass(frozen=True)
class Pair:
    """A damaged picture and its target, which have the same size."""

    name: str
    """Relative path of the target."""
    damaged: Path
    target: Path
    held: NDArray[np.uint8] | None = None
    """The pixels, where they are kept in memory."""

    def read(self) -> NDArray[np.uint8]:
        """Return the pixels (H, W, 6): the damaged picture, then the target."""
        if self.held is not None:
            return self.held
        damaged, target = read_pixels(self.damaged), read_pixels(self.target)
        self.check_sizes(damaged.shape, target.shape)
        return np.concatenate([damaged, target], axis=2)

    def blank(self) -> NDArray[np.uint8]:
        """Return black pixels of the same shape (H, W, 6), without reading the pictures."""
        height, width = shape_of(self.target) if self.held is None else self.held.shape[:2]
        return np.broadcast_to(np.uint8(0), (height, width, 6))

    def check_sizes(self, damaged: tuple[int, ...], target: tuple[int, ...]) -> None:
        """Refuse a pair of different shapes (H, W, ...)."""
        if damaged != target:
            raise ValueError(
                f"{self.damaged} has {damaged[1]} × {damaged[0]} pixels and its target {self.target} has "
                f"{target[1]} × {target[0]}; make them equal or remove the pair"
            )


@dataclass(frozen=True)
class Pairs:
    """Pairs that show one type of damage; read from disk whenever they are drawn, or held in memory."""

    type: str
    """One of ``perceive_ir.TYPES``: what is to be removed."""
    pairs: tuple[Pair, ...]

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise ValueError(f"expected a damage type out of {', '.join(TYPES)}, got {self.type!r}")

    def in_memory(self) -> Pairs:
        """Return the same pairs with their pixels read."""
        return replace(self, pairs=tuple(replace(pair, held=pair.read()) for pair in self.pairs))

    def fit_into(self, room: int) -> bool:
        """Whether their pixels take no more than so many bytes; reads headers until they do."""
        sizes = (6 * math.prod(shape_of(pair.target)) for pair in self.pairs)
        return all(used <= room for used in accumulate(sizes))

    def draw(self, count: int, size: int, random: np.random.Generator, *, blank: bool = False) -> tuple[Tensor, Tensor]:
        """Draw damaged crops and their targets, (B, 3, S, S) in [0, 1]; both of a pair are cut and turned alike.

        ``blank`` takes the same random numbers, but gives black ones and reads no picture.
        """
        chosen = [self.pairs[n] for n in random.integers(len(self.pairs), size=count)]
        squares = np.stack([crop(pair.blank() if blank else pair.read(), size, random) for pair in chosen])
        both = torch.from_numpy(squares).permute(0, 3, 1, 2).float().div_(255)
        damaged, target = (half.contiguous(memory_format=torch.channels_last) for half in both.split(3, dim=1))
        return damaged, target


def load_pairs(folder: str | Path, type: str) -> Pairs:
    """Find the pairs to train on: pictures of equal names in ``input`` and ``target``, whose suffixes may differ."""
    damaged, clean = Path(folder) / "input", Path(folder) / "target"
    inputs, targets = pictures_in(damaged), pictures_in(clean)
    check_partners(inputs, targets, damaged, clean)
    check_partners(targets, inputs, clean, damaged)
    pairs = make_pairs([(path, targets[name]) for name, path in inputs.items()], type, clean)
    for pair in pairs.pairs:
        pair.check_sizes(shape_of(pair.damaged), shape_of(pair.target))
    return pairs


def make_pairs(paths: Iterable[PathPair], type: str, base: Path, *, whole: bool = False) -> Pairs:
    """Make pairs of files, all or those that train by the target's path under ``base``; reading checks their sizes."""
    pairs = [Pair(target.relative_to(base).as_posix(), damaged, target) for damaged, target in paths]
    chosen = tuple(p for p in pairs if whole or not is_held_back(Path(p.name)))
    if not chosen:
        raise ValueError(f"none of the {len(pairs)} pairs in {base} is left to train on; add more pairs")
    return Pairs(type, chosen)


def pictures_in(folder: Path) -> dict[str, Path]:
    """Find the pictures of a folder, by their relative paths without suffix, in order."""
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}; expected pictures of equal names in input/ and target/")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"no pictures in {folder}; expected PNG, WebP, JPEG, TIFF or BMP")
    found: dict[str, Path] = {}
    for path in paths:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise ValueError(f"{found[name].name} and {path.name} in {path.parent} differ by suffix only; remove one")
        found[name] = path
    return found


def check_partners(ours: dict[str, Path], theirs: dict[str, Path], here: Path, there: Path) -> None:
    """Refuse pictures without a partner of the same name."""
    alone = [path.name for name, path in ours.items() if name not in theirs]
    if alone:
        raise ValueError(
            f"{len(alone)} of {len(ours)} pictures in {here} have no partner in {there}, such as {alone[0]}; "
            "give both of a pair the same name, or remove what has no partner"
        )


def shape_of(path: Path) -> tuple[int, int]:
    """Read height and width of a picture from the header of its file."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except OSError as error:
        raise unreadable(path, error) from error


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """Read a picture as RGB (H, W, 3)."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> ImageFileError:
    """Say in one line that a file is no picture."""
    reason = str(error).splitlines()[0] if str(error) else "unknown reason"
    return ImageFileError(f"{path} cannot be read as a picture ({reason}); replace it or remove the pair")
