"""Sample data of napari's menu: damaged pictures, each under its name, over a hidden clean twin; always the same.

Photographs and tissue are the free pictures of `perceive_ir.samples` (see its NOTICE); the nuclei are computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LayerData = tuple[NDArray[Any], dict[str, Any], str]
"""Data, arguments and type of a layer, as napari takes it from plugins."""
SEED = 4


def hazy() -> list[LayerData]:
    """Return a palace in haze."""
    return photo("palace", "haze", 0.45)


def rainy() -> list[LayerData]:
    """Return a van in the rain."""
    return photo("van", "rain", 0.4)


def noisy() -> list[LayerData]:
    """Return tulips at a camera's highest sensitivity."""
    return photo("tulips", "noise", 0.5)


def dark() -> list[LayerData]:
    """Return a lake at dusk."""
    return photo("lake", "lowlight", 0.6)


def blurred() -> list[LayerData]:
    """Return a palace from an unsteady hand."""
    return photo("palace", "blur", 0.35)


def mixture() -> list[LayerData]:
    """Return hills with haze above, noise on the right and blur below on the left; the middle is clean."""
    from perceive_ir.samples import load_sample

    clean = load_sample("hills")
    down, right = np.meshgrid(*(np.linspace(0, 1, side) for side in clean.shape[:2]), indexing="ij")
    maps = {
        "haze": 0.8 * np.clip(1 - 2 * down, 0, 1),
        "noise": 0.6 * np.clip(2 * right - 1, 0, 1),
        "blur": 0.3 * np.clip(2 * (down - right) - 0.5, 0, 1),
    }
    return twins("hills", "damaged", damage_by_maps(clean, maps), clean)


def stack() -> list[LayerData]:
    """Return nuclei in a confocal stack (ZYX, micrometres) that few photons made."""
    rng = np.random.default_rng(SEED)
    photons = 2 + 40 * draw_nuclei((20, 192, 256), rng)
    counts = rng.poisson(photons) + rng.normal(0, 1, photons.shape)
    clean, noisy = (as_camera_counts(light) for light in (photons, counts))
    place = {"scale": (0.6, 0.2, 0.2), "units": ("um", "um", "um"), "axis_labels": ("z", "y", "x")}
    return twins("nuclei", "noisy", noisy, clean, contrast_limits=(100, int(clean.max())), **place)


def timelapse() -> list[LayerData]:
    """Return stained tissue that drifts under the microscope (TYX and colour), noisy."""
    from perceive_ir import degrade
    from perceive_ir.samples import load_sample

    tissue = load_sample("tissue")
    starts = [(round(28 + 28 * np.sin(t / 2)), 6 * t) for t in range(12)]
    clean = np.stack([tissue[y : y + 200, x : x + 250] for y, x in starts])
    noisy = degrade(clean, "noise", 0.4, seed=SEED, axes="TYXC")
    place = {"scale": (2.0, 0.25, 0.25), "units": ("s", "um", "um"), "axis_labels": ("t", "y", "x")}
    return twins("tissue", "noisy", noisy, clean, **place)


def photo(name: str, type: str, severity: float) -> list[LayerData]:
    """Return a sample picture with damage of one type, over its clean twin."""
    from perceive_ir import degrade
    from perceive_ir._vocabulary import DAMAGES
    from perceive_ir.samples import load_sample

    clean = load_sample(name)
    adjective = next(damage.adjective for damage in DAMAGES if damage.type == type)
    return twins(name, adjective, degrade(clean, type, severity, seed=SEED), clean)


def twins(name: str, adjective: str, damaged: NDArray[Any], clean: NDArray[Any], **same: Any) -> list[LayerData]:
    """Return two layers that share their place: the damaged picture comes last, which napari shows and selects."""
    same = {"rgb": clean.shape[-1] == 3} | same
    return [
        (clean, {"name": f"clean {name}", "visible": False, **same}, "image"),
        (damaged, {"name": f"{adjective} {name}", **same}, "image"),
    ]


def damage_by_maps(clean: NDArray[np.uint8], maps: dict[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """Damage a picture (h, w, 3) with a severity that has a map (h, w) for each type."""
    import torch

    from perceive_ir import TYPES
    from perceive_ir.degradations import Mixture

    height, width = clean.shape[:2]
    x = torch.from_numpy(clean).permute(2, 0, 1)[None] / 255  # (1, 3, h, w)
    severities = torch.zeros(1, len(TYPES), height, width)
    for name, severity in maps.items():
        severities[0, TYPES.index(name)] = torch.from_numpy(severity)
    present = severities.amax((2, 3)) > 0
    generator = torch.Generator().manual_seed(SEED)
    mixture = Mixture.draw((1, 3, height, width), present, generator, varied=False)
    damaged: NDArray[np.uint8] = (mixture.apply(x, severities)[0] * 255).round().byte().permute(1, 2, 0).numpy()
    return damaged


def draw_nuclei(shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return nuclei as a microscope sees them, brightness in 0..1: grainy ellipsoids, a little soft."""
    from scipy.ndimage import gaussian_filter

    grain = gaussian_filter(rng.standard_normal(shape, np.float32), (1, 2, 2))
    grain = np.clip(0.7 + 0.15 * grain / grain.std(), 0, 1)
    bodies = np.zeros(shape, np.float32)
    for _ in range(16):
        np.maximum(bodies, ellipsoid(shape, rng) * rng.uniform(0.5, 1), out=bodies)
    blurred: NDArray[np.float32] = gaussian_filter(bodies * grain, (1.2, 1, 1))
    return blurred


def ellipsoid(shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return one body, somewhere, turned about the optical axis."""
    z, y, x = (side - rng.uniform(0, len_) for side, len_ in zip(np.ogrid[*map(slice, shape)], shape, strict=True))
    angle = rng.uniform(0, np.pi)
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    radii = rng.uniform((3, 16, 11), (6, 24, 15))
    inside: NDArray[np.bool_] = sum((d / r) ** 2 for d, r in zip((z, along, across), radii, strict=True)) < 1
    return inside


def as_camera_counts(light: NDArray[Any]) -> NDArray[np.uint16]:
    """Return what a camera with 20 counts a photon above a floor of 100 writes down."""
    counts: NDArray[np.uint16] = np.clip(100 + 20 * light, 0, 65535).astype(np.uint16)
    return counts
