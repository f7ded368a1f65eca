"""The plugin's tour: from a damaged sample to a script that gives the same pixels, one screenshot for each step.

scripts/with_screen.sh .venv/bin/python docs/tour.py FOLDER [--theme light]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtWidgets import QApplication

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
from window import PLUGIN, dock_named, drag, open_dock, open_window, press, run, shoot, slide, wait_until, words

SAMPLE = "mixture"


def take_tour(folder: Path, theme: str) -> None:
    """Play the story in a window, and check what it promises."""
    viewer = open_window(theme)
    viewer.open_sample(PLUGIN, SAMPLE)
    shoot(viewer, folder / "1_sample.png")

    quality = open_dock(viewer, "Quality map")
    run(quality, "Map")
    shoot(viewer, folder / "2_quality_map.png")

    press(quality, "Restore low and medium")
    restore = dock_named(viewer, "Restore")
    run(restore, "Run")
    result = viewer.layers.selection.active
    shoot(viewer, folder / "3_restored.png")

    press(restore, "Swipe")
    drag(viewer, 0.5, 0.6)
    shoot(viewer, folder / "4_swipe.png")
    press(restore, "Swipe")

    full = np.asarray(result.data)
    slide(restore, "Strength", -50)
    wait_until(lambda: not np.array_equal(full, result.data))
    shoot(viewer, folder / "5_strength.png")

    quality.parent().raise_()
    wait_until(lambda: "…" not in words(quality))
    shoot(viewer, folder / "6_before_and_after.png")

    restore.parent().raise_()
    press(restore, "Copy as Python")
    shoot(viewer, folder / "7_copied.png")
    script = QApplication.clipboard().text()
    print(script)
    if not np.array_equal(run_script(script, viewer), result.data):
        raise AssertionError("what was copied gives other pixels")
    print("What was copied gives the same pixels.")
    viewer.close()


def run_script(script: str, viewer: Any) -> Any:
    """Run what was copied as napari's console does, and return the restored picture."""
    names = {"viewer": viewer}
    exec(script, names)
    return names["restored"]


def main() -> None:
    """Take the tour."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--theme", default="dark")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    take_tour(chosen.folder, chosen.theme)


if __name__ == "__main__":
    main()
