"""What papers report, and on which pictures: rows that a measurement of ours is put under. All PSNR in dB, RGB."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column of a table: a published test set, the task, and the noise that is added to clean pictures."""

    title: str
    set: str
    """A key of `papers.SETS`."""
    task: str
    sigma: int = 0


@dataclass(frozen=True)
class Suite:
    """A table that papers share: one model for all tasks, which is not told the task."""

    tests: tuple[Column, ...]
    rows: Mapping[str, tuple[float, ...]]
    """By model, in the order of the tests; last, the published average."""


SOTS = Column("SOTS outdoor", "sots-outdoor", "dehaze")
RAIN = Column("Rain100L", "rain100l-test", "derain")
NOISE = {sigma: Column(f"BSD68 σ{sigma}", "cbsd68", "denoise", sigma) for sigma in (15, 25, 50)}
GOPRO = Column("GoPro", "gopro-test", "deblur")
LOL = Column("LOL-v1", "lol-test", "brighten")

SUITES = {
    "three-task": Suite(
        (SOTS, RAIN, *NOISE.values()),
        {
            "NAFNet": (24.11, 33.64, 33.03, 30.47, 27.12, 29.67),
            "Restormer": (27.78, 33.78, 33.72, 30.67, 27.63, 30.75),
            "AirNet": (27.94, 34.90, 33.92, 31.26, 28.00, 31.20),
            "PromptIR": (30.58, 36.37, 33.98, 31.31, 28.06, 32.06),
            "InstructIR": (30.22, 37.98, 34.15, 31.52, 28.30, 32.43),
            "Perceive-IR": (30.87, 38.29, 34.13, 31.53, 28.31, 32.63),
            "AdaIR": (31.06, 38.64, 34.12, 31.45, 28.19, 32.69),
            "ClearAIR": (31.08, 38.61, 34.18, 31.50, 28.31, 32.74),
            "DFPIR": (31.87, 38.65, 34.14, 31.47, 28.25, 32.88),
        },
    ),
    "five-task": Suite(
        (SOTS, RAIN, NOISE[25], GOPRO, LOL),
        {
            "NAFNet": (25.23, 35.56, 31.02, 26.53, 20.49, 27.76),
            "Restormer": (24.09, 34.81, 31.49, 27.22, 20.41, 27.60),
            "AirNet": (21.04, 32.98, 30.91, 24.35, 18.18, 25.49),
            "PromptIR": (26.54, 36.37, 31.47, 28.71, 22.68, 29.15),
            "InstructIR": (27.10, 36.84, 31.40, 29.40, 23.00, 29.55),
            "Perceive-IR": (28.19, 37.25, 31.44, 29.46, 22.88, 29.84),
            "AdaIR": (30.53, 38.02, 31.35, 28.12, 23.00, 30.20),
            "ClearAIR": (30.12, 38.20, 31.53, 29.67, 22.83, 30.45),
            "MoCE-IR": (30.48, 38.04, 31.34, 30.05, 23.00, 30.58),
        },
    ),
}
