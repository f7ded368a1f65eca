"""The recipe of a restored layer is taken into the Restore dock and restores another picture as it did the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel as Model
from napari.layers import Image, Labels
from pytestqt.qtbot import QtBot

import perceive_ir as pir
from napari_perceive_ir import restore_layer
from napari_perceive_ir._dock import RestoreDock
from perceive_ir import Recipe
from tests.napari_perceive_ir.conftest import LONG, click, docked, finish, names, picture

RECIPES: list[dict[str, Any]] = [
    {"task": "denoise", "severity": 0.35, "strength": 0.6},
    {"handling": "region", "task": "dehaze", "tier_strength": {"low": 1.2, "medium": 0.3, "high": 0.1}},
    {"task": ("deblur", "denoise"), "overlap": "exact", "value_range": (-0.5, 2.0), "severity": 0.123},
]


@pytest.fixture
def viewer() -> Model:
    viewer = Model()
    viewer.add_image(picture(48, 40), name="cells")
    viewer.add_image(picture(60, 50, seed=1), name="other")
    return viewer


@pytest.fixture
def dock(viewer: Model, qtbot: QtBot) -> RestoreDock:
    return docked(viewer, qtbot)


def reapply(qtbot: QtBot, dock: RestoreDock, layer: Any) -> None:
    dock._viewer.layers.selection.active = layer
    click(qtbot, dock.copy.recipe_button)


@pytest.mark.parametrize("fields", RECIPES)
def test_the_recipe_of_a_result_restores_another_picture(
    fields: dict[str, Any], viewer: Model, dock: RestoreDock, qtbot: QtBot
) -> None:
    reapply(qtbot, dock, restore_layer(viewer, "cells", **fields))
    assert dock.controls.recipe() == Recipe(**fields)
    assert dock.status.text().startswith("The settings of “cells ")
    dock.controls.layer.value = viewer.layers["other"]
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    wanted = pir.restore(viewer.layers["other"].data, **fields)
    assert np.array_equal(viewer.layers[-1].data, wanted)


def test_what_has_no_control_is_shown_until_it_is_forgotten(viewer: Model, dock: RestoreDock, qtbot: QtBot) -> None:
    kept = dock.controls.kept
    assert not kept.isVisible()
    reapply(qtbot, dock, restore_layer(viewer, "cells", **RECIPES[2]))
    assert kept.isVisible() and kept.words.text() == (
        "Also task deblur and denoise, severity 0.123, value range -0.5 and 2.0, overlap exact."
    )
    dock.controls.task.value = "dehaze"
    assert dock.controls.recipe().task == "dehaze" and "overlap exact" in kept.words.text()
    click(qtbot, kept.button)
    assert not kept.isVisible() and dock.controls.recipe().overlap == "auto"


def test_painted_wishes_are_taken_too(viewer: Model, dock: RestoreDock, qtbot: QtBot) -> None:
    marks = np.zeros((48, 40), int)
    marks[:20], marks[30:] = 1, 2
    painted = {1: ("deblur", 0.4)}
    result = restore_layer(viewer, "cells", labels=marks, handling="painted", painted=painted)
    labels = viewer.add_layer(Labels(marks, name="marks"))
    dock.controls.layer.value = viewer.layers["cells"]
    dock.controls.handling.value = "painted"
    dock.controls.painted.layer.value = labels
    qtbot.waitUntil(lambda: dock.controls.painted.present == (1, 2), timeout=LONG)
    assert dock.controls.recipe().painted != painted
    reapply(qtbot, dock, result)
    assert dock.controls.recipe() == Recipe(handling="painted", painted=painted)
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    assert np.array_equal(viewer.layers[-1].data, result.data)


@pytest.mark.parametrize("beside", [False, True])
def test_the_recipe_is_found_in_the_file_that_a_layer_was_opened_from(
    beside: bool, viewer: Model, dock: RestoreDock, qtbot: QtBot, tmp_path: Path
) -> None:
    from napari.layers._source import layer_source

    from perceive_ir import files

    path, about = tmp_path / "restored.tif", {"recipe": Recipe(**RECIPES[0]).model_dump(mode="json")}
    files.write_image(path, picture(48, 40), description=None if beside else about)
    if beside:
        files.write_side_json(path, about)
    with layer_source(path=str(path)):
        opened = viewer.add_layer(Image(files.read_image(path).data, name="restored"))
    reapply(qtbot, dock, opened)
    assert dock.controls.recipe() == Recipe(**RECIPES[0])


def test_where_it_is_computed_stays_as_it_is_chosen(viewer: Model, dock: RestoreDock, qtbot: QtBot) -> None:
    result = restore_layer(viewer, "cells", task="denoise", severity=0.5, memory=1.5)
    dock.controls.compute.memory.setValue(3)
    reapply(qtbot, dock, result)
    assert dock.controls.recipe().memory == 3


@pytest.mark.parametrize("selected", ["cells", None])
def test_a_layer_without_a_recipe_is_refused(
    selected: str | None, viewer: Model, dock: RestoreDock, qtbot: QtBot, notices: list[str]
) -> None:
    reapply(qtbot, dock, selected and viewer.layers[selected])
    assert len(notices) == 1 and "select a restored layer first" in notices[0]
    assert dock.controls.recipe() == Recipe() and names(viewer) == ["cells", "other"]


def test_a_recipe_that_is_not_ours_is_refused_in_one_line(
    viewer: Model, dock: RestoreDock, qtbot: QtBot, notices: list[str]
) -> None:
    reapply(qtbot, dock, viewer.add_image(picture(9, 9), metadata={"perceive_ir": {"recipe": {"zoom": 2}}}))
    assert len(notices) == 1 and "unknown recipe field 'zoom'" in notices[0]
