"""How far a training is, on pictures that never train: numbers for its log, and a sheet to look at."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from perceive_ir._perception import PRESENT
from perceive_ir._vocabulary import TYPES
from perceive_ir.networks import Perceiver, System
from perceive_ir_training.config import MixConfig
from perceive_ir_training.curves import INK, PAPER, font
from perceive_ir_training.data import Pictures
from perceive_ir_training.perceptual import psnr
from perceive_ir_training.sampling import OF_A_MICROSCOPE, draw_mixture, of_one_type

EACH, SIDE = 3, 128
"""Pictures of each type, and their side."""
SEVERITIES = (0.2, 0.45, 0.8)
MARGIN, HEAD, NAME = 6, 26, 90


@dataclass(frozen=True)
class Panel:
    """Fixed pictures with one type of damage each, type by type, from slight to strong."""

    damaged: Tensor
    clean: Tensor
    told: Tensor


def make_panel(pictures: Pictures) -> Panel | None:
    """Damage held-back pictures, always in the same way; None where none is held back."""
    if not pictures.photos:
        return None
    parts = []
    for number, name in enumerate(TYPES):
        random = np.random.default_rng([7, number])
        only = replace(of_one_type(MixConfig(), name), microscopy=0.5 * (name in OF_A_MICROSCOPE))
        parts.append(damage(pictures, number, only, random))
    return Panel(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def damage(
    pictures: Pictures, number: int, mix: MixConfig, random: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Damage some crops with one type, from slight to strong: damaged, clean and severities."""
    crops = pictures.draw(EACH, SIDE, mix.microscopy, random)
    severities = np.zeros((EACH, len(TYPES)), np.float32)
    severities[:, number] = SEVERITIES
    told = torch.from_numpy(severities)
    return draw_mixture(crops, severities, random).apply(crops.pixels, told), crops.pixels, told


@torch.no_grad()
def restore_panel(system: System, panel: Panel, device: torch.device | str = "cpu") -> Tensor:
    """Restore the panel with the truth told."""
    parts = [
        system.restorer(damaged.to(device), system.signals(damaged.to(device), told.to(device))).float().cpu()
        for damaged, told in zip(panel.damaged.split(EACH), panel.told.split(EACH), strict=True)
    ]
    return torch.cat(parts).clamp(0, 1)


def judge_restorer(panel: Panel, restored: Tensor) -> dict[str, float]:
    """Mean gain in PSNR of every type, in dB."""
    gains = (psnr(restored, panel.clean) - psnr(panel.damaged, panel.clean)).reshape(len(TYPES), EACH).mean(dim=1)
    return {f"gain_{name}": round(float(gain), 3) for name, gain in zip(TYPES, gains, strict=True)}


@torch.no_grad()
def judge_perceiver(perceiver: Perceiver, panel: Panel, device: torch.device | str = "cpu") -> dict[str, float]:
    """Share of pictures whose type is seen as the likeliest, of types that count as present, and severity errors."""
    reading = perceiver(panel.damaged.to(device))
    likely, found = reading.type_logits.cpu(), reading.severities.cpu()
    true = panel.told.argmax(dim=1)
    rows = torch.arange(len(true))
    return {
        "right_type": round(float((likely.argmax(dim=1) == true).float().mean()), 4),
        "noticed": round(float((likely.sigmoid()[rows, true] >= PRESENT).float().mean()), 4),
        "severity_error": round(float((found - panel.told)[rows, true].abs().mean()), 4),
    }


def draw_sheet(panel: Panel, restored: Tensor) -> Image.Image:
    """Show every picture of the panel: damaged, restored, clean; one row per type."""
    cell = SIDE + MARGIN
    sheet = Image.new("RGB", (NAME + 3 * EACH * cell + 2 * MARGIN, HEAD + len(TYPES) * cell), PAPER)
    pen = ImageDraw.Draw(sheet)
    for number in range(EACH):
        for column, word in enumerate(("damaged", "restored", "clean")):
            pen.text((NAME + (3 * number + column) * cell + number * MARGIN, 6), word, INK, font(14))
    triplets = zip(panel.damaged, restored, panel.clean, strict=True)
    for number, pictures in enumerate(triplets):
        row, place = divmod(number, EACH)
        if place == 0:
            pen.text((MARGIN, HEAD + row * cell + SIDE // 2), TYPES[row], INK, font(15))
        for column, picture in enumerate(pictures):
            x = NAME + (3 * place + column) * cell + place * MARGIN
            sheet.paste(as_image(picture), (x, HEAD + row * cell))
    return sheet


def as_image(picture: Tensor) -> Image.Image:
    """Turn a picture (3, H, W) in [0, 1] into an image."""
    return Image.fromarray((picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())
