#!/usr/bin/env python
"""Takes the pictures of the docks in docs/images from a real window, with real clicks, so that they never go stale.

scripts/with_screen.sh .venv/bin/python scripts/take_screenshots.py [--folder docs/images] [--theme dark]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtTest import QTest

import perceive_ir as pir
from napari_perceive_ir._batch_dock import BatchDock
from napari_perceive_ir._commands import restore_dock
from napari_perceive_ir._map_dock import QualityMapDock
from napari_perceive_ir._samples import stack
from perceive_ir.files import write_image
from perceive_ir.samples import load_sample
from window import PLUGIN, click, open_window, settle, shoot, wait_until, widen

SIZE = (1120, 800)


def open_picture(theme: str, name: str, picture: Any) -> napari.Viewer:
    """Open a window with a picture."""
    viewer = open_window(theme, SIZE)
    viewer.add_image(picture, name=name, scale=(0.5, 0.5), units=("um", "um"))
    return viewer


def open_tulips(theme: str) -> napari.Viewer:
    """Open a window with a noisy picture."""
    clean = load_sample("tulips")[-384:, :256]
    return open_picture(theme, "tulips", pir.degrade(clean, type="noise", severity=0.5, seed=1))


def press(button: Any, busy: Callable[[], bool] = lambda: False) -> None:
    """Click, and wait while what it began is going on."""
    click(button)
    settle(0.05)
    while busy():
        settle(0.05)


def shoot_restore_dock(theme: str, folder: Path, name: str = "restore_dock") -> None:
    """Restore a noisy picture and compare before and after."""
    viewer = open_tulips(theme)
    dock = restore_dock(viewer)
    widen(dock)
    press(dock.run_button, lambda: dock.running)
    press(dock.compare.side_button)
    shoot(viewer, folder / f"{name}.png")
    viewer.close()


def shoot_light(theme: str, folder: Path) -> None:
    """Take the same in the light theme."""
    shoot_restore_dock("light", folder, "restore_dock_light")


def shoot_swipe(theme: str, folder: Path) -> None:
    """Drag a line over a restored picture."""
    viewer = open_tulips(theme)
    dock = restore_dock(viewer)
    widen(dock)
    press(dock.run_button, lambda: dock.running)
    press(dock.compare.swipe_button)
    shoot(viewer, folder / "swipe.png")
    viewer.close()


def shoot_running(theme: str, folder: Path) -> None:
    """Restore a stack, and look while it is being restored."""
    viewer = open_window(theme, SIZE)
    viewer.open_sample(PLUGIN, "timelapse")
    dock = restore_dock(viewer)
    widen(dock)
    dock.run(memory=0.1)  # a tile at a time, so that there are many steps
    wait_until(lambda: " left" in dock.status.text())
    shoot(viewer, folder / "running.png")
    wait_until(lambda: not dock.running)
    viewer.close()


def shoot_region(theme: str, folder: Path) -> None:
    """Restore the box around a drawn shape, and compare it within the picture."""
    viewer = open_tulips(theme)
    corners = [(70.0, 60.0), (70.0, 200.0), (250.0, 200.0), (250.0, 60.0)]
    look = {"edge_color": "yellow", "face_color": "transparent", "edge_width": 1, "units": ("um", "um")}
    drawn = viewer.add_shapes([np.array(corners) / 2], shape_type="rectangle", name="Shapes", **look)
    dock = restore_dock(viewer)
    widen(dock)
    dock.controls.pictures.region.value = drawn
    press(dock.run_button, lambda: dock.running)
    shoot(viewer, folder / "region.png")
    viewer.close()


def shoot_preview(theme: str, folder: Path) -> None:
    """Preview what is painted: one half is to be denoised, the other is left."""
    clean = load_sample("nuclei")
    viewer = open_picture(theme, "nuclei", pir.degrade(clean, type="noise", severity=0.5, seed=1))
    marks = np.zeros(clean.shape[:2], int)
    marks[:, : clean.shape[1] // 2] = 1
    viewer.add_labels(marks, name="where", scale=(0.5, 0.5), units=("um", "um"), opacity=0.15)
    dock = restore_dock(viewer)
    widen(dock)
    dock.controls.handling.value = "painted"
    wait_until(lambda: dock.controls.painted.present == (1,))
    press(dock.preview.box)
    wait_until(lambda: dock.preview.status.text().startswith("Previewed"))
    shoot(viewer, folder / "preview.png")
    press(dock.preview.box)
    viewer.close()


def shoot_batch_dock(theme: str, folder: Path) -> None:
    """Restore a folder, in which one file is none."""
    viewer = open_window(theme, SIZE)
    dock = BatchDock(viewer)
    viewer.window.add_dock_widget(dock, name="Restore a folder (Perceive-IR)")
    widen(dock)
    with TemporaryDirectory() as place:
        os.environ["HOME"] = place  # as in everybody's: ~/pictures
        pictures = Path(place) / "pictures"
        pictures.mkdir()
        for seed, name in enumerate(("hills", "lake", "palace", "tulips", "van")):
            bad = pir.degrade(load_sample(name)[:256, :256], type="noise", severity=0.1 + 0.15 * seed, seed=seed)
            write_image(pictures / f"{name}.png", bad)
        (pictures / "notes.png").write_text("no picture")
        dock.controls.folders.source.line.setText("~/pictures")
        QTest.keyClick(dock.controls.folders.source.line, Qt.Key.Key_Return)
        wait_until(lambda: dock.list.files.rowCount() == 6)
        press(dock.run_button, lambda: dock.running)
        dock.list.setCurrentIndex(dock.list.files.index(4))
        press(dock.try_button, lambda: dock.trial.running)
        shoot(viewer, folder / "batch_dock.png")
        viewer.close()
        wait_until(lambda: QThreadPool.globalInstance().waitForDone(50))


def shoot_map_dock(theme: str, folder: Path) -> None:
    """Map a picture that is noisy on its right, restore what is of low quality, and show the map over the picture."""
    clean = load_sample("nuclei")
    noisy = pir.degrade(clean, type="noise", severity=0.6, seed=1)
    share = np.linspace(-1, 2, clean.shape[1]).clip(0, 1)
    viewer = open_picture(theme, "nuclei", (clean * (1 - share) + noisy * share).astype(clean.dtype))
    dock = QualityMapDock(viewer)
    viewer.window.add_dock_widget(dock, name="Quality map (Perceive-IR)")
    widen(dock)
    press(dock.run_button, lambda: dock.running)
    press(dock.findings.low_button, lambda: restore_dock(viewer).running or dock.after.running)
    viewer.layers["nuclei restored"].visible = False
    dock.parent().raise_()
    shoot(viewer, folder / "map_dock.png")
    viewer.close()


def shoot_stack(theme: str, folder: Path) -> None:
    """Map a stack that is noisiest in the middle and on its right, and go to its worst plane."""
    (clean, place, _), (noisy, *_) = stack()
    share = np.multiply.outer(
        1 - abs(np.linspace(-1, 1, len(clean))), np.linspace(-0.5, 1.5, clean.shape[2]).clip(0, 1)
    )
    share = share[:, None]
    viewer = open_window(theme, SIZE)
    place = place | {"name": "nuclei", "visible": True}
    viewer.add_image((clean * (1 - share) + noisy * share).astype(clean.dtype), **place)
    dock = QualityMapDock(viewer)
    viewer.window.add_dock_widget(dock, name="Quality map (Perceive-IR)")
    widen(dock)
    press(dock.run_button, lambda: dock.running)
    press(dock.planes.worst_button)
    shoot(viewer, folder / "map_stack.png")
    viewer.close()


SHOTS: dict[str, Callable[[str, Path], None]] = {
    "restore_dock": shoot_restore_dock, "restore_dock_light": shoot_light, "running": shoot_running,
    "swipe": shoot_swipe, "region": shoot_region, "preview": shoot_preview, "map_dock": shoot_map_dock,
    "map_stack": shoot_stack, "batch_dock": shoot_batch_dock,
}  # fmt: skip


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parents[1] / "docs" / "images")
    parser.add_argument("--theme", default="dark")
    parser.add_argument("--only", action="append", choices=SHOTS, help="Take this one; may be given several times.")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for name in chosen.only or SHOTS:
        SHOTS[name](chosen.theme, chosen.folder)
    QThreadPool.globalInstance().waitForDone()  # as napari does when it is closed, which a script is not


if __name__ == "__main__":
    main()
