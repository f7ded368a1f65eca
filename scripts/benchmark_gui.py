"""Measure the plugin in a real window: how soon it shows something, and what it costs over the library.

scripts/with_screen.sh .venv/bin/python scripts/benchmark_gui.py [--side 2000] [--repeats 3]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from qtpy.QtCore import QEventLoop
from qtpy.QtWidgets import QApplication

import perceive_ir as pir
from benchmark_engine import RECIPE, interleaved, timed
from perceive_ir.samples import load_sample
from window import PLUGIN, button, close, open_window, press, settle

MOVES = 20
"""Moves of the slider."""
SMALL, USUAL = 128, 512
"""Sides of the pictures that the model is loaded for, and that is previewed."""
IMPORTS = {
    "import of the plugin": ("", "import napari_perceive_ir"),
    "import of its docks, beyond napari, Qt and magicgui": (
        "import napari.layers, napari.qt.threading, magicgui.widgets, superqt.utils, qtpy.QtWidgets, perceive_ir",
        "import napari_perceive_ir._dock, napari_perceive_ir._map_dock",
    ),
}


def picture(side: int) -> np.ndarray[Any, Any]:
    """Return a noisy picture in colour: a sample, repeated as often as it takes."""
    noisy = pir.degrade(load_sample("tulips"), type="noise", severity=RECIPE["severity"], seed=1)
    height, width, _ = noisy.shape
    return np.ascontiguousarray(np.tile(noisy, (side // height + 1, side // width + 1, 1))[:side, :side])


def seconds_of(setup: str, code: str) -> float:
    """Seconds that a piece of code takes in a fresh process, the best of three."""
    program = f"import time\n{setup}\nt = time.perf_counter()\n{code}\nprint(time.perf_counter() - t)"
    command = [sys.executable, "-c", program]
    return min(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(3))


def work_until(done: Callable[[], object]) -> None:
    """Let napari work, asleep while nothing happens, until something is so."""
    while not done():
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)


def until_drawn(viewer: Any, change: Callable[[], object], there: Callable[[], object] = lambda: True) -> float:
    """Seconds from a change until the canvas has drawn, after something was there."""
    drawn: list[Any] = []
    events = viewer.window._qt_viewer.canvas._scene_canvas.events

    def draw(_: Any) -> None:
        if there():
            drawn.append(True)

    start = time.perf_counter()
    change()
    events.draw.connect(draw, position="last")
    work_until(lambda: drawn)
    events.draw.disconnect(draw)
    return time.perf_counter() - start


def open_restore(viewer: Any) -> Any:
    """Open the Restore dock anew."""
    viewer.window.remove_dock_widget("all")
    return viewer.window.add_plugin_dock_widget(PLUGIN, "Restore")[1]


def show(viewer: Any, image: Any) -> None:
    """Show another picture in the first layer; software OpenGL may not survive layers that are removed and added."""
    viewer.layers[0].data = image
    viewer.fit_to_view()
    settle()


def run(dock: Any) -> None:
    """Click Run and wait for the result."""
    button(dock, "Run").click()
    work_until(lambda: not dock.running)


def overhead(dock: Any, image: Any, repeats: int) -> str:
    """Say how much longer the dock takes than the library."""
    model = pir.load(device=dock.controls.recipe().device)
    calls = {"library": lambda: model.restore(image, axes="YXC", **RECIPE), "dock": lambda: run(dock)}
    times = interleaved(calls, repeats)
    extra = times["dock"] / times["library"] - 1
    return f"{times['library']:.2f} s · {times['dock']:.2f} s · {extra:+.1%}"


def frame(viewer: Any, slider: Any) -> str:
    """Say how long it takes until a move of a slider is seen, while it is dragged, and a drawing without any change."""
    slider.focusProxy().setSliderDown(True)
    until_drawn(viewer, lambda: slider.setValue(0.5))  # makes a layer
    times = [until_drawn(viewer, lambda n=n: slider.setValue(1 - n / 2 / MOVES)) for n in range(1, MOVES + 1)]
    canvas = viewer.window._qt_viewer.canvas._scene_canvas
    bare = [until_drawn(viewer, canvas.update) for _ in range(MOVES)]
    slider.focusProxy().setSliderDown(False)
    return f"{1000 * median(times):.0f} ms · {1000 * median(bare):.0f} ms"


def first_pixels(viewer: Any, dock: Any) -> str:
    """Say how long it takes from the click on Preview until something of it is drawn; the picture is not known yet."""
    times = []
    for seed in range(MOVES // 4):
        image = np.roll(picture(USUAL), seed, axis=0)
        show(viewer, image)
        times.append(until_drawn(viewer, button(dock, "P&review").click, lambda image=image: restored(dock, image)))
        work_until(lambda: not dock.preview.running)
        press(dock, "P&review")
    return f"{median(times):.2f} s"


def restored(dock: Any, image: Any) -> bool:
    """Whether a preview shows anything other than the picture."""
    layer = dock.preview.layer
    return layer is not None and bool((layer.data != image).any())


def measure(viewer: Any, side: int, repeats: int) -> dict[str, str]:
    """Return what was measured, each with its unit."""
    told = {name: f"{seconds_of(*codes):.2f} s" for name, codes in IMPORTS.items()}
    image = picture(side)
    viewer.add_image(picture(SMALL), name="small")
    told["the Restore dock opens, first"] = f"{timed(lambda: open_restore(viewer)):.2f} s"
    told["the Restore dock opens, again"] = f"{timed(lambda: open_restore(viewer)):.2f} s"
    dock = open_restore(viewer)
    dock.controls.show_recipe(pir.Recipe(**RECIPE))
    run(dock)  # loads the model
    told[f"first pixels of a preview, {USUAL}²"] = first_pixels(viewer, dock)
    show(viewer, image)
    told[f"library · dock · overhead, {side}²"] = overhead(dock, image, repeats)
    told[f"strength slider, one frame · a drawing without a change, {side}²"] = frame(viewer, dock.controls.strength)
    return told


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    print("| what | |\n|---|---|")
    viewer = open_window("dark")
    for name, value in measure(viewer, chosen.side, chosen.repeats).items():
        print(f"| {name} | {value} |")
    close(viewer)


if __name__ == "__main__":
    main()
