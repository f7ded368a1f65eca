"""How good a model is: PSNR and SSIM before and after on folders of pictures, automatically and with the task given.

Pictures are judged whole, in RGB, rounded to uint8. Noise is drawn with ``RandomState(0)``, clipped and rounded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perceive_ir import Restorer
from perceive_ir_training.classical import Pixels, methods_for
from perceive_ir_training.data import SUFFIXES, read_picture

SIGMAS = (15, 25, 50)
PAIRED = {
    "rain_light": "derain",
    "haze_indoor": "dehaze",
    "lowlight": "brighten",
    "blur": "deblur",
    "real_noise": "denoise",
    "microscopy_w2s": "denoise",
    "microscopy_confocal": "denoise",
}
"""Folders with ``input`` and ``target``, and the task of each."""
EQUAL = 100.0
"""PSNR in dB that equal pictures count as."""


@dataclass(frozen=True)
class Pair:
    """A damaged picture and what it should be."""

    name: str
    damaged: Pixels
    target: Pixels


@dataclass(frozen=True)
class Set:
    """Pictures with their targets, and the task that fits them; clean pictures have none."""

    name: str
    task: str | None
    pairs: Callable[[], Iterator[Pair]]
    microscopy: bool = False
    affine: bool = False
    """Fit an affine from target to output first: the pictures were stretched one by one."""


@dataclass(frozen=True)
class Mark:
    """How near a picture is to its target."""

    psnr: float
    ssim: float


@dataclass(frozen=True)
class PictureScore:
    """One picture: as it came, restored automatically and with the task given, and by classical methods."""

    name: str
    perceived: str
    megapixels: float
    seconds: float
    """Of the automatic mode, perception included."""
    untouched: bool
    """Whether the automatic mode left every pixel as it was."""
    marks: dict[str, Mark]
    """By way: "input", "auto", "given", and the names of classical methods."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "name": self.name,
            "perceived": self.perceived,
            "megapixels": self.megapixels,
            "seconds": round(self.seconds, 3),
            "untouched": self.untouched,
            **{way: plain(mark) for way, mark in self.marks.items()},
        }


@dataclass(frozen=True)
class SetScore:
    """The pictures of a set, and their means."""

    name: str
    task: str | None
    pictures: tuple[PictureScore, ...]

    @property
    def means(self) -> dict[str, Mark]:
        """Mean PSNR and SSIM of each way."""
        ways = list(dict.fromkeys(way for picture in self.pictures for way in picture.marks))
        return {way: mean([p.marks[way] for p in self.pictures]) for way in ways}

    @property
    def seconds_per_megapixel(self) -> float:
        """Of the automatic mode."""
        return sum(p.seconds for p in self.pictures) / sum(p.megapixels for p in self.pictures)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "task": self.task,
            "means": {way: plain(mark) for way, mark in self.means.items()},
            "seconds_per_megapixel": round(self.seconds_per_megapixel, 3),
            "worst_auto": round(min(p.marks["auto"].psnr for p in self.pictures), 3),
            "untouched": sum(p.untouched for p in self.pictures),
            "pictures": [picture.to_dict() for picture in self.pictures],
        }


def sets_in(root: str | Path) -> list[Set]:
    """Return the sets that a data folder holds: ``kodak24/clean`` and folders with ``input`` and ``target``."""
    base = Path(root) / "validate" if (Path(root) / "validate").is_dir() else Path(root)
    found = []
    clean = base / "kodak24" / "clean"
    if clean.is_dir():
        found += [Set(f"kodak24 noise {s}", "denoise", partial(noisy, clean, s)) for s in SIGMAS]
        found.append(Set("kodak24 clean", None, partial(undamaged, clean)))
    for name, task in PAIRED.items():
        if (base / name / "input").is_dir():
            pairs = partial(paired, base / name)
            found.append(Set(name, task, pairs, name.startswith("microscopy"), name.endswith("w2s")))
    return found


def measure(restorer: Restorer, data: Set, *, classical: bool = True, limit: int | None = None) -> SetScore:
    """Restore every picture of a set, or the first ``limit``."""
    scores = tuple(measure_picture(restorer, data, pair, classical) for pair in islice(data.pairs(), limit))
    if not scores:
        raise ValueError(f"{data.name} holds no pictures; expected some of {', '.join(sorted(SUFFIXES))}")
    return SetScore(data.name, data.task, scores)


def measure_picture(restorer: Restorer, data: Set, pair: Pair, classical: bool) -> PictureScore:
    """Restore one picture in every way."""
    start = time.perf_counter()
    seen = restorer.perceive(pair.damaged)
    ways = {"input": pair.damaged, "auto": restorer.restore(pair.damaged, perception=seen).image}
    seconds = time.perf_counter() - start
    if data.task:
        ways["given"] = restorer.restore(pair.damaged, task=data.task, perception=seen).image
    if classical:
        methods = methods_for(data.task, microscopy=data.microscopy)
        ways |= {name: method(pair.damaged) for name, method in methods.items()}
    marks = {way: compare(image, pair.target, data.affine) for way, image in ways.items()}
    megapixels, untouched = pair.damaged[..., 0].size / 1e6, np.array_equal(ways["auto"], pair.damaged)
    return PictureScore(pair.name, seen.words(), megapixels, seconds, untouched, marks)


def compare(image: Pixels, target: Pixels, affine: bool = False) -> Mark:
    """Find PSNR and SSIM of two uint8 pictures (H, W, 3)."""
    a, b = image.astype(np.float64), target.astype(np.float64)
    if affine:
        slope = float(np.mean((a - a.mean()) * (b - b.mean()))) / max(float(b.var()), 1e-12)
        b = a.mean() + slope * (b - b.mean())
    return Mark(psnr(a, b), ssim(a, b))


def psnr(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """PSNR in dB of values in 0..255; 100 at most, which equal ones have."""
    error = float(np.mean((a - b) ** 2))
    return EQUAL if error == 0 else min(EQUAL, 10 * math.log10(255**2 / error))


def ssim(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """SSIM of values in 0..255 with a Gaussian window, the mean over the channels (Wang et al. 2004)."""
    from skimage.metrics import structural_similarity

    similarity: Callable[..., Any] = structural_similarity
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(similarity(a, b, data_range=255, channel_axis=-1, **window))


def mean(marks: Sequence[Mark]) -> Mark:
    """Mean of PSNR and SSIM."""
    return Mark(float(np.mean([m.psnr for m in marks])), float(np.mean([m.ssim for m in marks])))


def plain(mark: Mark) -> dict[str, float]:
    """Round for files."""
    return {"psnr": round(mark.psnr, 3), "ssim": round(mark.ssim, 4)}


def noisy(folder: Path, sigma: int) -> Iterator[Pair]:
    """Clean pictures of a folder with Gaussian noise."""
    return with_noise(files(folder), sigma)


def with_noise(paths: Sequence[Path], sigma: int) -> Iterator[Pair]:
    """Clean pictures with Gaussian noise, clipped and rounded as a file is."""
    random = np.random.RandomState(0)
    for path in paths:
        clean = read(path)
        noise = random.standard_normal(clean.shape) * sigma
        yield Pair(path.name, (clean + noise).clip(0, 255).round().astype(np.uint8), clean)


def undamaged(folder: Path) -> Iterator[Pair]:
    """Clean pictures, which should come back as they are."""
    for path in files(folder):
        clean = read(path)
        yield Pair(path.name, clean, clean)


def paired(folder: Path) -> Iterator[Pair]:
    """Pairs of equal names in ``input`` and ``target``."""
    for path in files(folder / "input"):
        yield Pair(path.name, read(path), read(folder / "target" / path.name))


def files(folder: Path) -> list[Path]:
    """Pictures of a folder in the order of their names."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def read(path: Path) -> Pixels:
    """Read a picture as RGB."""
    return read_picture(path, path.name).pixels
