"""How good a model is: PSNR before and after on folders of pictures, automatically and with the task given.

Pictures are judged whole, in RGB, rounded to uint8. Noise is drawn with ``RandomState(0)``, clipped and rounded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from perceive_ir import Restorer

Picture = NDArray[np.uint8]
Pair = tuple[Picture, Picture]
SIGMAS = (15, 25, 50)


@dataclass(frozen=True)
class Set:
    """Pictures with their targets, and the task that fits them."""

    name: str
    task: str | None
    pairs: Callable[[], Iterator[Pair]]
    affine: bool = False
    """Fit an affine from target to output first: the pictures were stretched one by one."""


@dataclass(frozen=True)
class Score:
    """Mean PSNR in dB over a set; infinite values count as 100."""

    name: str
    count: int
    before: float
    auto: float
    given: float | None
    classical: float | None
    seconds: float
    """Seconds per megapixel of the automatic mode, perception included."""


def sets_in(root: str | Path) -> list[Set]:
    """Return the sets that a data folder holds: ``kodak24/clean`` and folders with ``input`` and ``target``."""
    base = Path(root) / "validate" if (Path(root) / "validate").is_dir() else Path(root)
    found = []
    if (base / "kodak24" / "clean").is_dir():
        clean = base / "kodak24" / "clean"
        found += [Set(f"kodak24 noise {s}", "denoise", partial(noisy, clean, s)) for s in SIGMAS]
        found.append(Set("kodak24 clean", None, lambda: ((p, p) for p in read_all(clean))))
    for name, task in PAIRED.items():
        if (base / name / "input").is_dir():
            folder = base / name
            found.append(Set(name, task, partial(paired, folder), affine=name.endswith("w2s")))
    if not found:
        raise ValueError(f"no validation sets under {root}; expected kodak24/clean or folders with input/ and target/")
    return found


PAIRED = {
    "rain_light": "derain",
    "haze_indoor": "dehaze",
    "lowlight": "brighten",
    "blur": "deblur",
    "real_noise": "denoise",
    "microscopy_w2s": "denoise",
    "microscopy_confocal": "denoise",
}


def measure(restorer: Restorer, data: Set, *, classical: bool = True) -> Score:
    """Restore every picture of a set."""
    before, auto, given, other = [], [], [], []
    seconds = pixels = 0.0
    for damaged, target in data.pairs():
        start = time.perf_counter()
        seen = restorer.perceive(damaged)
        restored = restorer.restore(damaged, perception=seen).image
        seconds += time.perf_counter() - start
        pixels += damaged.shape[0] * damaged.shape[1]
        before.append(psnr(damaged, target, data.affine))
        auto.append(psnr(restored, target, data.affine))
        if data.task:
            told = restorer.restore(damaged, task=data.task, perception=seen).image
            given.append(psnr(told, target, data.affine))
        if data.task == "denoise" and classical:
            other.append(psnr(non_local_means(damaged), target, data.affine))
    rate = seconds / (pixels / 1e6)
    return Score(data.name, len(before), mean(before), mean(auto), optional(given), optional(other), rate)


def mean(values: list[float]) -> float:
    """Mean of some PSNR."""
    return float(np.mean(values))


def optional(values: list[float]) -> float | None:
    """Mean, or nothing where nothing was measured."""
    return mean(values) if values else None


def psnr(image: Picture, target: Picture, affine: bool = False) -> float:
    """PSNR in dB of two uint8 pictures; 100 for equal ones."""
    a, b = image.astype(np.float64), target.astype(np.float64)
    if affine:
        slope, offset = np.polyfit(b.ravel(), a.ravel(), 1)
        b = slope * b + offset
    error = float(np.mean((a - b) ** 2))
    return 100.0 if error == 0 else 10 * math.log10(255**2 / error)


def non_local_means(image: Picture) -> Picture:
    """Denoise by scikit-image's fast non-local means, at the noise estimated from the picture."""
    from skimage.restoration import denoise_nl_means

    values = image / 255.0
    sigma = estimated_sigma(values)
    out: NDArray[np.float64] = denoise_nl_means(
        values, h=0.8 * sigma, sigma=sigma, patch_size=5, patch_distance=6, fast_mode=True, channel_axis=-1
    )
    rounded: Picture = (out.clip(0, 1) * 255).round().astype(np.uint8)
    return rounded


def estimated_sigma(values: NDArray[np.float64]) -> float:
    """Noise by the median of the diagonal Haar details, (H, W, C)."""
    h, w = (n // 2 * 2 for n in values.shape[:2])
    a, b, c, d = (values[y:h:2, x:w:2] for y in (0, 1) for x in (0, 1))
    return float(np.median(np.abs(a - b - c + d) / 2) / 0.6745)


def noisy(folder: Path, sigma: int) -> Iterator[Pair]:
    """Clean pictures with Gaussian noise, clipped and rounded as a file is."""
    random = np.random.RandomState(0)
    for clean in read_all(folder):
        noise = random.standard_normal(clean.shape) * sigma
        yield (clean + noise).clip(0, 255).round().astype(np.uint8), clean


def paired(folder: Path) -> Iterator[Pair]:
    """Pairs of equal names in ``input`` and ``target``."""
    for path in sorted((folder / "input").iterdir()):
        yield read(path), read(folder / "target" / path.name)


def read_all(folder: Path) -> Iterator[Picture]:
    """All pictures of a folder in the order of their names."""
    return (read(path) for path in sorted(folder.iterdir()))


def read(path: Path) -> Picture:
    """Read a picture as RGB."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def table(scores: list[Score]) -> str:
    """Write the scores as a Markdown table."""
    lines = [
        "| set | pictures | input | auto | task given | non-local means | s/MP |",
        "|---|---|---|---|---|---|---|",
    ]
    for s in scores:
        given, other = (f"{v:.2f}" if v is not None else "" for v in (s.given, s.classical))
        lines.append(f"| {s.name} | {s.count} | {s.before:.2f} | {s.auto:.2f} | {given} | {other} | {s.seconds:.2f} |")
    return "\n".join(lines)
