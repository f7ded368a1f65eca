#!/usr/bin/env python
"""Draws docs/images/degradations.jpg: every type of damage at rising severities, and variants as training draws them.

.venv/bin/python scripts/draw_degradations.py [--output docs/images/degradations.jpg]
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from perceive_ir import TYPES, degrade
from perceive_ir.degradations import ORDER, Mixture
from perceive_ir.samples import load_sample

SEVERITIES = (0.1, 0.3, 0.6, 1.0)
VARIANTS, VARIED, SEED = 3, 0.6, 19
"""How many variants of a row are shown, their severity, and a seed that draws unlike ones."""
SIDE, GAP, LEFT, TOP = 128, 2, 70, 18
LARGEST = 300_000
"""Bytes of the picture."""
PLACES = {"palace": (90, 250), "van": (150, 190), "hills": (235, 150), "tulips": (250, 60), "nuclei": (136, 32)}
"""Row and column of what is shown of a sample, at its own resolution."""
SAMPLES = {
    "haze": "hills", "rain": "van", "snow": "van", "lowlight": "palace",
    "blur": "van", "lowres": "tulips", "noise": "tulips", "jpeg": "palace",
}  # fmt: skip
ROWS = [*((name, SAMPLES[name]) for name in ORDER), ("noise", "nuclei"), ("blur", "nuclei")]

Pixels = NDArray[np.uint8]


def cut(sample: str) -> Pixels:
    """Return a square of a sample, (h, w, 3)."""
    top, left = PLACES[sample]
    part = load_sample(sample)[top : top + SIDE, left : left + SIDE]
    return part if part.ndim == 3 else np.repeat(part[..., None], 3, axis=2)


def variants(clean: Pixels, name: str) -> list[Pixels]:
    """Damage a picture in several ways of one type, as training does."""
    x = torch.from_numpy(clean.copy()).permute(2, 0, 1)[None].repeat(VARIANTS, 1, 1, 1) / 255
    severities = torch.zeros(VARIANTS, len(TYPES))
    severities[:, TYPES.index(name)] = VARIED
    grey = torch.full((VARIANTS,), bool((clean == clean[..., :1]).all()))
    size = (VARIANTS, 3, *clean.shape[:2])
    mixture = Mixture.draw(size, severities > 0, torch.Generator().manual_seed(SEED), grey=grey)
    damaged = mixture.apply(x, severities).clamp(0, 1).mul(255).round().byte()
    return list(damaged.permute(0, 2, 3, 1).numpy())


def row(name: str, sample: str) -> list[Pixels]:
    """Return one row of the sheet: clean, rising severities, variants."""
    clean = cut(sample)
    return [clean, *(degrade(clean, name, s, seed=2) for s in SEVERITIES), *variants(clean, name)]


def sheet() -> Image.Image:
    """Draw everything."""
    titles = ["clean", *(f"severity {s:g}" for s in SEVERITIES), *[f"variant, {VARIED:g}"] * VARIANTS]
    step = SIDE + GAP
    canvas = Image.new("RGB", (LEFT + len(titles) * step, TOP + len(ROWS) * step), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for column, title in enumerate(titles):
        draw.text((LEFT + column * step, 1), title, "black", font)
    for number, (name, sample) in enumerate(ROWS):
        top = TOP + number * step
        draw.text((4, top + SIDE // 2 - 8), name, "black", font)
        for column, picture in enumerate(row(name, sample)):
            canvas.paste(Image.fromarray(picture), (LEFT + column * step, top))
    return canvas


def encoded(picture: Image.Image) -> bytes:
    """Return a JPEG of the best quality that is small enough."""
    for quality in range(95, 20, -3):
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=quality, optimize=True)
        if stream.tell() <= LARGEST:
            break
    return stream.getvalue()


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    folder = Path(__file__).parents[1] / "docs" / "images"
    parser.add_argument("--output", type=Path, default=folder / "degradations.jpg")
    path = parser.parse_args().output
    path.write_bytes(encoded(sheet()))
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
