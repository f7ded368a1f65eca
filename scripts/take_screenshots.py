#!/usr/bin/env python
"""Takes the pictures of the docks in docs/images from a real window, with real clicks, so that they never go stale.

scripts/with_screen.sh .venv/bin/python scripts/take_screenshots.py [--folder docs/images] [--theme dark]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import napari
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

import perceive_ir as pir
from napari_perceive_ir._commands import restore_dock
from perceive_ir.samples import load_sample

SIZE = (1120, 560)
DOCK_WIDTH = 350
LARGEST = 300_000
"""Bytes of a picture."""


def settle(seconds: float = 0.5) -> None:
    """Let the window draw."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def shoot(viewer: napari.Viewer, path: Path) -> None:
    """Write what a person sees, with as many colours as fit."""
    settle()
    picture = Image.fromarray(viewer.screenshot(canvas_only=False, flash=False)[..., :3])
    for colours in (None, 256, 128, 64):
        (picture.quantize(colours) if colours else picture).save(path, optimize=True)
        if path.stat().st_size <= LARGEST:
            break
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def open_sample(theme: str) -> tuple[napari.Viewer, Any]:
    """Open a noisy sample and the Restore dock."""
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.theme = theme
    viewer.window.resize(*SIZE)
    clean = load_sample("tulips")[-384:, :256]
    noisy = pir.degrade(clean, type="noise", severity=0.5, seed=1)
    viewer.add_image(noisy, name="tulips", scale=(0.5, 0.5), units=("um", "um"))
    dock = restore_dock(viewer)
    dock.window().resizeDocks([dock.parent()], [DOCK_WIDTH], Qt.Orientation.Horizontal)
    settle()
    return viewer, dock


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parents[1] / "docs" / "images")
    parser.add_argument("--theme", default="dark")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    viewer, dock = open_sample(chosen.theme)
    QTest.mouseClick(dock.run_button, Qt.MouseButton.LeftButton)
    while dock.running:
        settle(0.05)
    QTest.mouseClick(dock.compare.side_button, Qt.MouseButton.LeftButton)
    shoot(viewer, chosen.folder / "restore_dock.png")
    QTest.mouseClick(dock.compare.swipe_button, Qt.MouseButton.LeftButton)
    shoot(viewer, chosen.folder / "swipe.png")
    viewer.close()


if __name__ == "__main__":
    main()
