"""Painted handling with real clicks: a Labels layer, a table of what its labels ask for, and runs copied as text."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel as Model
from napari.layers import Image, Labels
from numpy.typing import NDArray
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

import perceive_ir as pir
from napari_perceive_ir import restore_layer
from napari_perceive_ir._dock import RestoreDock
from napari_perceive_ir._labels import labels_on, listing
from napari_perceive_ir._painted import MOST
from napari_perceive_ir._placement import level0
from perceive_ir import Recipe
from tests.napari_perceive_ir.conftest import LONG, click, docked, finish, hold, names, picture

PLACE: dict[str, Any] = {"scale": (0.5, 0.25), "translate": (3, 4), "units": ("um", "um")}


def halves(height: int = 64, width: int = 80) -> NDArray[np.int32]:
    """Labels 2 on the left and 5 on the right, nothing at the top."""
    marks = np.zeros((height, width), np.int32)
    marks[16:, : width // 2], marks[16:, width // 2 :] = 2, 5
    return marks


@pytest.fixture
def viewer() -> Model:
    viewer = Model()
    viewer.add_image(picture(64, 80), name="cells", **PLACE)
    viewer.add_labels(halves(), name="marks", **PLACE)
    viewer.layers.selection.active = viewer.layers["cells"]
    return viewer


@pytest.fixture
def dock(viewer: Model, qtbot: QtBot) -> RestoreDock:
    """A dock in which painted labels are chosen with the keyboard, and are listed."""
    dock = docked(viewer, qtbot)
    qtbot.keyClick(dock.controls.handling.native, Qt.Key.Key_End)
    assert dock.controls.handling.value == "painted"
    listed(qtbot, dock, (2, 5))
    return dock


def listed(qtbot: QtBot, dock: RestoreDock, labels: tuple[int, ...]) -> None:
    qtbot.waitUntil(lambda: dock.controls.painted.present == labels, timeout=LONG)


def wish(dock: RestoreDock, row: int, task: str, severity: float) -> None:
    """Choose what a row of the table asks for."""
    table = dock.controls.painted.table
    tasks: Any = table.cellWidget(row, 1)
    amount: Any = table.cellWidget(row, 2)
    tasks.setCurrentIndex(tasks.findData(task))
    amount.setValue(severity)


def test_the_table_is_filled_with_the_labels_that_are_there(dock: RestoreDock) -> None:
    painted = dock.controls.painted
    assert [painted.table.item(row, 0).text() for row in range(2)] == ["2", "5"]
    assert dock.controls.recipe() == Recipe(handling="painted", painted={2: ("denoise", 0.5), 5: ("denoise", 0.5)})
    assert painted.table.isVisible() and not painted.hint.isVisible()
    assert not dock.controls.task.native.isVisible() and not dock.controls.automatic.native.isVisible()


def test_each_label_gets_what_the_table_says(viewer: Model, dock: RestoreDock, qtbot: QtBot) -> None:
    wish(dock, 0, "deblur", 0.8)
    wish(dock, 1, "", 0.8)
    assert dict(dock.controls.recipe().painted) == {2: ("deblur", 0.8)}
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    wanted = pir.restore(picture(64, 80), axes="YX", handling="painted", painted={2: ("deblur", 0.8)}, labels=halves())
    assert np.array_equal(viewer.layers[-1].data, wanted)
    recipe = Recipe(**viewer.layers[-1].metadata["perceive_ir"]["recipe"])
    assert dict(recipe.painted) == {2: ("deblur", 0.8)}


def test_the_table_follows_the_brush_and_keeps_what_was_chosen(viewer: Model, dock: RestoreDock, qtbot: QtBot) -> None:
    wish(dock, 1, "dehaze", 0.3)
    viewer.layers["marks"].paint((4, 4), 7)
    listed(qtbot, dock, (2, 5, 7))
    viewer.layers["marks"].data = np.where(halves() == 2, 0, halves())
    listed(qtbot, dock, (5,))
    assert dict(dock.controls.recipe().painted) == {5: ("dehaze", 0.3)}


def test_only_layers_that_somebody_painted_are_offered(viewer: Model, dock: RestoreDock) -> None:
    from napari_perceive_ir import map_layer

    map_layer(viewer, "cells")
    assert [layer.name for layer in dock.controls.painted.layer.choices] == ["marks"]
    viewer.layers.remove("marks")
    assert dock.controls.painted.hint.text().startswith("No labels layer yet: press napari's button")


def test_without_a_labels_layer_there_is_a_hint_instead_of_a_table(qtbot: QtBot) -> None:
    viewer = Model()
    viewer.add_image(picture(64, 80), name="cells")
    dock = docked(viewer, qtbot)
    qtbot.keyClick(dock.controls.handling.native, Qt.Key.Key_End)
    painted = dock.controls.painted
    assert painted.hint.isVisible() and not painted.table.isVisible()
    viewer.add_labels(halves(), name="marks")
    listed(qtbot, dock, (2, 5))
    assert painted.table.isVisible() and not painted.hint.isVisible()


def test_without_labels_a_run_says_what_to_do(
    viewer: Model, dock: RestoreDock, qtbot: QtBot, notices: list[str]
) -> None:
    viewer.layers["marks"].data = np.zeros((64, 80), int)
    listed(qtbot, dock, ())
    click(qtbot, dock.run_button)
    viewer.layers.remove("marks")
    click(qtbot, dock.run_button)
    assert not dock.running and len(notices) == 2
    assert "no label of 'marks' asks for a task: paint" in notices[0] and "no labels layer yet" in notices[1]


@pytest.mark.parametrize(
    ("marks", "place", "words"),
    [
        ((20, 20), PLACE, "labels 'other' of shape (20, 20) do not fit 'cells' of (64, 80)"),
        ((64, 80), {}, "labels 'other' do not lie where 'cells' lies"),
        ((64, 80), PLACE | {"translate": (3, 5)}, "labels 'other' do not lie where 'cells' lies"),
    ],
)
def test_labels_elsewhere_are_refused_in_one_line_with_the_remedy(
    marks: Any, place: Any, words: str, viewer: Model, dock: RestoreDock, qtbot: QtBot, notices: list[str]
) -> None:
    dock.controls.painted.layer.value = viewer.add_labels(np.full(marks, 2), name="other", **place)
    listed(qtbot, dock, (2,))
    click(qtbot, dock.run_button)
    assert not dock.running and len(notices) == 1
    assert words in notices[0] and "press napari's button for a new labels layer" in notices[0]


def test_the_remedy_helps(viewer: Model) -> None:
    viewer.layers.selection.active = viewer.layers["cells"]
    viewer._new_labels()
    made = viewer.layers[-1]
    made.data = halves()
    assert np.array_equal(labels_on(made, viewer.layers["cells"], "YX"), halves())


def test_deleting_or_painting_labels_during_a_run_does_not_disturb_it(
    viewer: Model, dock: RestoreDock, qtbot: QtBot, gate: Any
) -> None:
    hold(qtbot, dock, gate)
    viewer.layers["marks"].data[:] = 0
    viewer.layers.remove("marks")
    gate.opened.set()
    finish(qtbot, dock)
    wanted = pir.restore(
        picture(64, 80), axes="YX", handling="painted", labels=halves(),
        painted={2: ("denoise", 0.5), 5: ("denoise", 0.5)},
    )  # fmt: skip
    assert np.array_equal(viewer.layers["cells restored"].data, wanted)


def test_two_docks_have_tables_of_their_own(viewer: Model, dock: RestoreDock, qtbot: QtBot) -> None:
    other = docked(viewer, qtbot)
    qtbot.keyClick(other.controls.handling.native, Qt.Key.Key_End)
    listed(qtbot, other, (2, 5))
    wish(other, 0, "deblur", 0.9)
    assert dict(dock.controls.recipe().painted)[2] == ("denoise", 0.5)


def test_very_many_labels_do_not_fill_the_dock(viewer: Model, dock: RestoreDock, qtbot: QtBot) -> None:
    viewer.layers["marks"].data = np.arange(64 * 80).reshape(64, 80)
    listed(qtbot, dock, tuple(range(1, MOST + 1)))
    assert dock.controls.painted.hint.text().startswith(f"The first {MOST} of {64 * 80 - 1} labels")
    assert dock.minimumSizeHint().width() <= 350


# ---- labels of stacks


def test_labels_of_a_plane_hold_for_the_stack_and_those_of_the_stack_for_its_planes() -> None:
    from napari_perceive_ir._part import part_of

    source = Image(picture(3, 64, 80), scale=(2, 0.5, 0.5), name="stack")
    flat = Labels(halves(), scale=(0.5, 0.5))
    deep = Labels(np.stack([halves() * n for n in range(3)]), scale=(2, 0.5, 0.5))
    part = part_of(source, "ZYX", (4, 0, 0))
    assert np.array_equal(labels_on(flat, source, "ZYX"), halves())
    assert np.array_equal(labels_on(flat, source, "ZYX", part), halves())
    assert labels_on(deep, source, "ZYX").shape == (3, 64, 80)
    assert np.array_equal(labels_on(deep, source, "ZYX", part), halves()[None] * 2)


def test_labels_follow_the_order_of_the_axes() -> None:
    source = Image(picture(80, 3, 64))
    marks = Labels(np.broadcast_to(halves().T[:, None], (80, 3, 64)).copy())
    assert np.array_equal(labels_on(marks, source, "XZY")[1], halves())


def test_lazy_labels_are_listed_part_by_part() -> None:
    *_, last = listing(da.from_array(np.repeat(halves(), 20, axis=0), chunks=(100, 80)))
    assert (last.labels, last.all) == ((2, 5), True)


def test_the_console_refuses_labels_elsewhere(viewer: Model) -> None:
    marks = viewer.add_labels(halves(), name="elsewhere")
    with pytest.raises(ValueError, match="do not lie where 'cells' lies: select the image"):
        restore_layer(viewer, "cells", labels=marks, handling="painted", painted={2: ("denoise", 0.5)})


# ---- copied as text


def clipboard() -> str:
    return str(QApplication.clipboard().text())


def result_of(qtbot: QtBot, dock: RestoreDock, viewer: Model) -> NDArray[Any]:
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    data: NDArray[Any] = level0(viewer.layers[-1])
    return data


def pasted(viewer: Model) -> NDArray[Any]:
    """Run what was copied, as in napari's console."""
    around: dict[str, Any] = {"viewer": viewer}
    exec(clipboard(), around)  # what the user would do
    restored: NDArray[Any] = around["restored"]
    return restored


def test_copied_python_gives_the_same_pixels(viewer: Model, dock: RestoreDock, qtbot: QtBot) -> None:
    wish(dock, 0, "deblur", 0.8)
    click(qtbot, dock.copy.python_button)
    assert np.array_equal(pasted(viewer), result_of(qtbot, dock, viewer))


def test_copied_python_of_a_plane_gives_the_same_pixels(viewer: Model, dock: RestoreDock, qtbot: QtBot) -> None:
    data = picture(3, 64, 80)
    stack = viewer.add_image([data, data[:, ::2, ::2]], multiscale=True, name="a 'stack'")
    dock.controls.layer.value = stack
    dock.controls.painted.layer.value = viewer.add_labels(np.stack([halves()] * 3), name="deep")
    listed(qtbot, dock, (2, 5))
    qtbot.keyClick(dock.controls.pictures.planes.native, Qt.Key.Key_Down)
    viewer.dims.set_point(0, 2)
    click(qtbot, dock.copy.python_button)
    assert "data[0][2:3, :, :]" in clipboard()
    assert np.array_equal(pasted(viewer), result_of(qtbot, dock, viewer))


def test_a_copied_command_says_what_to_save_and_gives_the_same_pixels(
    viewer: Model, dock: RestoreDock, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from perceive_ir.commands._app import app

    click(qtbot, dock.copy.command_button)
    assert dock.status.text() == "Copied. First save “cells” as cells.tif and “marks” as marks.tif."
    monkeypatch.chdir(tmp_path)
    for name in ("cells", "marks"):
        tifffile.imwrite(f"{name}.tif", viewer.layers[name].data)
    words = shlex.split(clipboard())
    assert words[0] == "perceive-ir"
    ran = CliRunner().invoke(app, words[1:])
    assert ran.exit_code == 0, ran.output
    assert np.array_equal(tifffile.imread("cells_restored.tif"), result_of(qtbot, dock, viewer))
    assert names(viewer) == ["cells", "marks", "cells restored"]
