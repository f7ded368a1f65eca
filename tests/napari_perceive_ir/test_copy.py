"""What is copied as Python or as a command gives the pixels of the run, whatever the layer is made of."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel as Model
from numpy.typing import NDArray
from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QApplication
from typer.testing import CliRunner

from napari_perceive_ir._dock import RestoreDock
from napari_perceive_ir._placement import level0
from perceive_ir import files
from perceive_ir.commands import app
from tests.napari_perceive_ir.conftest import click, docked, finish, picture

LAYERS: dict[str, Callable[[], dict[str, Any]]] = {
    "grey": lambda: {"data": (picture(50, 60) * 60_000).astype(np.uint16)},
    "colour": lambda: {"data": (picture(50, 60, 3) * 255).astype(np.uint8), "rgb": True},
    "pyramid": lambda: {"data": [p := picture(50, 60), p[::2, ::2]], "multiscale": True},
    "stack": lambda: {"data": picture(3, 50, 60), "axis_labels": ("z", "y", "x")},
    "dask": lambda: {"data": da.from_array(picture(3, 50, 60), chunks=(1, 25, 60)), "axis_labels": ("t", "y", "x")},
    "colours in time": lambda: {"data": (picture(2, 50, 60, 3) * 255).astype(np.uint8), "rgb": True},
}
CHOSEN: dict[str, Any] = {"task": "denoise", "severity": 0.7, "strength": 0.6}
RECIPES: dict[str, dict[str, Any]] = {
    "automatic": {},
    "chosen": CHOSEN,
    "by region": {"task": "deblur", "handling": "region", "tier_strength": {"low": 1.2, "medium": 0.4, "high": 0.1}},
}


def result(qtbot: QtBot, dock: RestoreDock, viewer: Model) -> NDArray[Any]:
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    data: NDArray[Any] = level0(viewer.layers[-1])
    return data


def copied(qtbot: QtBot, button: Any) -> str:
    click(qtbot, button)
    return str(QApplication.clipboard().text())


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("kind", LAYERS)
def test_what_is_copied_gives_the_same_pixels(
    kind: str, recipe: str, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = Model()
    source = viewer.add_image(**LAYERS[kind](), name="it's mine")
    dock = docked(viewer, qtbot, **RECIPES[recipe])
    whole = result(qtbot, dock, viewer)
    names: dict[str, Any] = {"viewer": viewer}
    exec(copied(qtbot, dock.copy.python_button), names)
    assert np.array_equal(names["restored"], whole)

    monkeypatch.chdir(tmp_path)
    words = shlex.split(copied(qtbot, dock.copy.command_button))
    assert dock.status.text() == f"Copied. First save “{source.name}” as {words[2]}."
    files.write_image(words[2], np.asarray(level0(source)))
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, done.output
    assert np.array_equal(tifffile.imread(words[4]), whole)


def test_every_selected_channel_is_copied(qtbot: QtBot) -> None:
    viewer = Model()
    for seed, name in enumerate(("DAPI", "GFP")):
        viewer.add_image(picture(40, 50, seed=seed), name=name)
    viewer.layers.selection = set(viewer.layers)
    dock = docked(viewer, qtbot, **CHOSEN)
    click(qtbot, dock.controls.pictures.several.native)
    text = copied(qtbot, dock.copy.python_button)
    result(qtbot, dock, viewer)
    for number, piece in enumerate(text.split("import perceive_ir as pir")[1:]):
        names: dict[str, Any] = {"viewer": viewer}
        exec("import perceive_ir as pir" + piece, names)
        assert np.array_equal(names["restored"], viewer.layers[2 + number].data)


@pytest.mark.parametrize("saved", ["plane alone", "stack of one"])
def test_the_command_of_a_plane_takes_it_however_it_was_saved(
    saved: str, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = Model()
    source = viewer.add_image(**LAYERS["stack"](), name="stack")
    dock = docked(viewer, qtbot, **CHOSEN)
    dock.controls.pictures.planes.value = "plane"
    viewer.dims.set_point(0, 2)
    whole = result(qtbot, dock, viewer)
    words = shlex.split(copied(qtbot, dock.copy.command_button))
    assert dock.status.text() == "Copied. First save Z 2 of “stack” as stack_Z_2.tif."
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite(words[2], source.data[2] if saved == "plane alone" else source.data[2:3])
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, done.output
    assert np.array_equal(np.squeeze(tifffile.imread(words[4])), whole[0])


def test_a_command_runs_in_a_terminal(qtbot: QtBot, tmp_path: Path) -> None:
    viewer = Model()
    source = viewer.add_image(picture(50, 60), name="two words & more")
    dock = docked(viewer, qtbot, **CHOSEN)
    whole = result(qtbot, dock, viewer)
    text = copied(qtbot, dock.copy.command_button)
    name = shlex.split(text)[2]
    files.write_image(tmp_path / name, source.data)
    own = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(text, shell=True, cwd=tmp_path, env=own, check=True, capture_output=True)
    assert np.array_equal(tifffile.imread(tmp_path / shlex.split(text)[4]), whole)
