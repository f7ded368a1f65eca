"""The Restore dock on several layers, on one plane of a stack, with axes that are asked for, and with planes kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel as Model
from numpy.typing import NDArray
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt

import perceive_ir as pir
from napari_perceive_ir._dock import RestoreDock
from tests.napari_perceive_ir.conftest import LONG, click, docked, finish, hold, names, picture

CHANNELS = ["DAPI", "GFP", "RFP"]


@pytest.fixture
def viewer() -> Model:
    """Three channels on one place."""
    viewer = Model()
    for seed, name in enumerate(CHANNELS):
        viewer.add_image(picture(48, 40, seed=seed), name=name, scale=(0.5, 0.25), units=("um", "um"))
    return viewer


@pytest.fixture
def stacked() -> Model:
    """A time-lapse of volumes, turned and moved."""
    viewer = Model()
    place = {"scale": (3, 2, 0.5, 0.5), "translate": (5, 1, 7, 9), "units": ("s", "um", "um", "um")}
    viewer.add_image(picture(4, 3, 40, 50), name="cells", **place)
    return viewer


@pytest.fixture
def dock(viewer: Model, qtbot: QtBot) -> RestoreDock:
    return docked(viewer, qtbot, task="denoise", severity=0.5)


@pytest.fixture
def deep(stacked: Model, qtbot: QtBot) -> RestoreDock:
    return docked(stacked, qtbot, task="denoise", severity=0.5)


def select(viewer: Model, *chosen: str) -> None:
    viewer.layers.selection = {viewer.layers[name] for name in chosen}


def all_selected(qtbot: QtBot, dock: RestoreDock, viewer: Model) -> None:
    select(viewer, *CHANNELS)
    click(qtbot, dock.controls.pictures.several.native)
    assert dock.controls.pictures.sources == [viewer.layers[name] for name in CHANNELS]


# ---- several layers


def test_all_selected_images_are_offered_only_where_there_are_several(viewer: Model, dock: RestoreDock) -> None:
    box = dock.controls.pictures.several
    select(viewer, "GFP")
    assert not box.native.isVisible()
    select(viewer, "GFP", "RFP")
    assert (box.native.isVisible(), box.text) == (True, "All 2 selected images")
    viewer.add_points(np.zeros((1, 2)), name="spots")
    assert not box.native.isVisible()
    select(viewer, "GFP", "RFP", "spots")
    assert box.text == "All 2 selected images"
    assert dock.controls.layer.enabled


def test_two_layers_that_are_selected_to_compare_them_are_not_the_next_to_restore(
    viewer: Model, dock: RestoreDock, qtbot: QtBot
) -> None:
    all_selected(qtbot, dock, viewer)
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    select(viewer, "GFP", "GFP denoised")
    assert dock.compare.isVisible()
    assert dock.controls.pictures.sources == [dock.controls.layer.value] and dock.controls.layer.enabled


def test_every_selected_layer_gets_its_own_result(viewer: Model, dock: RestoreDock, qtbot: QtBot) -> None:
    all_selected(qtbot, dock, viewer)
    assert not dock.controls.layer.enabled
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    assert names(viewer) == [*CHANNELS, *(f"{name} denoised" for name in CHANNELS)]
    for name in CHANNELS:
        source, result = viewer.layers[name], viewer.layers[f"{name} denoised"]
        alone = pir.restore(source.data, axes="YX", task="denoise", severity=0.5)
        assert np.array_equal(result.data, alone)
        assert np.array_equal(result.extent.world, source.extent.world)
    assert [line.split(":")[0] for line in dock.seen.text().splitlines()] == ["“DAPI”", "“GFP”", "“RFP”"]
    assert dock.status.text().startswith("Added 3 layers after ")


def test_the_bars_say_whose_they_are_and_follow_the_active_layer(
    viewer: Model, dock: RestoreDock, qtbot: QtBot
) -> None:
    all_selected(qtbot, dock, viewer)
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    assert dock.whose.text() == "Seen in “RFP”:" and dock.whose.isVisible()
    shown = set()
    for name in CHANNELS:
        for layer in (viewer.layers[name], viewer.layers[f"{name} denoised"]):
            viewer.layers.selection.active = layer
            kept = viewer.layers[f"{name} denoised"].metadata["perceive_ir"]["perception"]["types"]
            assert {one.type: round(one.probability, 4) for one in dock.bars.shown} == kept
            assert dock.whose.text() == f"Seen in “{name}”:"
        shown.add(tuple(kept.values()))
    assert len(shown) == len(CHANNELS)
    viewer.layers.remove("RFP denoised")
    select(viewer, "DAPI")
    assert dock.whose.text() == "Seen in “DAPI”:"
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    assert not dock.whose.isVisible() and dock.bars.isVisible()


def test_of_several_layers_none_has_the_severity_of_all(viewer: Model, dock: RestoreDock, qtbot: QtBot) -> None:
    click(qtbot, dock.controls.automatic.native)
    all_selected(qtbot, dock, viewer)
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    assert (dock.controls.automatic.text, dock.controls.severity.isVisible()) == ("Auto", False)


def test_progress_goes_over_all_layers(viewer: Model, dock: RestoreDock, qtbot: QtBot, gate: Any) -> None:
    viewer.layers["RFP"].data = picture(1200, 600)  # two tiles
    gate.at = "Progress"
    all_selected(qtbot, dock, viewer)
    hold(qtbot, dock, gate)
    qtbot.waitUntil(lambda: dock.progress.maximum() > 1, timeout=LONG)
    assert dock.progress.value() == 1 and dock.progress.maximum() >= 4
    assert dock.status.text() == f"Layer 1 of 3 · Restoring: 1 of {dock.progress.maximum()} tiles"
    gate.opened.set()
    finish(qtbot, dock)
    assert gate.seen.count("Finished") == 3


def first_is_done(qtbot: QtBot, dock: RestoreDock, viewer: Model, gate: Any) -> None:
    """Run until the first of the selected layers is restored, and hold it there."""
    gate.at = "Finished"
    all_selected(qtbot, dock, viewer)
    hold(qtbot, dock, gate)
    qtbot.waitUntil(lambda: len(viewer.layers) == 4, timeout=LONG)


def test_cancel_keeps_the_layers_that_are_done(viewer: Model, dock: RestoreDock, qtbot: QtBot, gate: Any) -> None:
    first_is_done(qtbot, dock, viewer, gate)
    click(qtbot, dock.cancel_button)
    gate.opened.set()
    finish(qtbot, dock)
    assert names(viewer) == [*CHANNELS, "DAPI denoised"]
    assert dock.status.text() == "Cancelled: 1 of 3 layers are done and stay."


@pytest.mark.parametrize(("removed", "results"), [("DAPI", 3), ("RFP", 1)])
def test_only_removing_a_layer_that_is_not_done_stops_the_rest(
    removed: str, results: int, viewer: Model, dock: RestoreDock, qtbot: QtBot, gate: Any
) -> None:
    first_is_done(qtbot, dock, viewer, gate)
    viewer.layers.remove(removed)
    gate.opened.set()
    finish(qtbot, dock)
    assert sum(name.endswith("denoised") for name in names(viewer)) == results


def test_a_layer_that_cannot_be_restored_is_refused_before_any_is(
    viewer: Model, dock: RestoreDock, qtbot: QtBot, notices: list[str]
) -> None:
    viewer.layers["RFP"].data = picture(48, 40) > 0.5
    all_selected(qtbot, dock, viewer)
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    assert names(viewer) == CHANNELS
    assert len(notices) == 1 and "bool" in notices[0]


def test_what_is_selected_later_does_not_join_a_run(viewer: Model, dock: RestoreDock, qtbot: QtBot, gate: Any) -> None:
    first_is_done(qtbot, dock, viewer, gate)
    select(viewer, "DAPI")
    gate.opened.set()
    finish(qtbot, dock)
    assert len(viewer.layers) == 6


# ---- planes of stacks


def test_planes_are_a_choice_only_of_stacks(stacked: Model, deep: RestoreDock, qtbot: QtBot) -> None:
    rows = deep.controls.pictures
    assert rows.planes.native.isVisible() and rows.axes.isVisible() and rows.keep.native.isVisible()
    rows.layer.value = stacked.add_image(picture(20, 30, 3), name="photo", rgb=True)
    assert not (rows.planes.native.isVisible() or rows.axes.isVisible() or rows.keep.native.isVisible())


def one_plane(qtbot: QtBot, dock: RestoreDock) -> None:
    """Choose the plane that is shown, with the keyboard."""
    qtbot.keyClick(dock.controls.pictures.planes.native, Qt.Key.Key_Down)
    assert dock.controls.pictures.point is not None


def lazy(data: NDArray[Any]) -> Any:
    return da.from_array(data, chunks=(1, 1, 40, 50))


@pytest.mark.parametrize("kind", [np.asarray, lazy])
@pytest.mark.parametrize("place", [{}, {"rotate": 20}, {"affine": np.diag([1, 1, 2, 2, 1.0])}])
@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
def test_a_plane_is_restored_alone_exactly_where_it_is(kind: Any, place: Any, stacked: Model, qtbot: QtBot) -> None:
    source = stacked.layers["cells"]
    if place:
        stacked.layers.clear()
        angles = {"rotate": np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0.8, -0.6], [0, 0, 0.6, 0.8]])}
        place = angles if "rotate" in place else place
        source = stacked.add_image(kind(picture(4, 3, 40, 50)), name="cells", scale=(3, 2, 0.5, 0.5), **place)
    else:
        source.data = kind(source.data)
    dock = docked(stacked, qtbot, task="denoise", severity=0.5)
    stacked.dims.set_point((0, 1), source.data_to_world((2, 1, 0, 0))[:2])
    one_plane(qtbot, dock)
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    result = stacked.layers[-1]
    alone = pir.restore(np.asarray(source.data[2:3, 1:2]), axes="OQYX", task="denoise", severity=0.5)
    assert result.data.shape == (1, 1, 40, 50) and np.array_equal(result.data, alone)
    assert np.allclose(result.data_to_world((0, 0, 7, 9)), source.data_to_world((2, 1, 7, 9)))
    assert result.name == "cells denoised, plane 2, 1"
    assert list(result.metadata["perceive_ir"]["plane"].values()) == [2, 1]


def test_the_metadata_of_a_plane_stay_when_it_is_blended_anew(stacked: Model, deep: RestoreDock, qtbot: QtBot) -> None:
    one_plane(qtbot, deep)
    click(qtbot, deep.run_button)
    finish(qtbot, deep)
    result = stacked.layers[-1]
    deep.controls.strength.setValue(0.5)
    qtbot.waitUntil(lambda: result.metadata["perceive_ir"]["recipe"]["strength"] == 0.5, timeout=LONG)
    assert "plane" in result.metadata["perceive_ir"]


def test_a_place_without_a_plane_is_refused(
    stacked: Model, deep: RestoreDock, qtbot: QtBot, notices: list[str]
) -> None:
    stacked.add_image(picture(20, 3, 40, 50), name="longer", scale=(3, 2, 0.5, 0.5))
    stacked.dims.set_point(0, 50)
    one_plane(qtbot, deep)
    click(qtbot, deep.run_button)
    assert not deep.running and "'cells' has no plane where the sliders stand" in notices[0]


def test_a_plane_is_named_by_its_axis_where_that_has_a_name(stacked: Model, deep: RestoreDock, qtbot: QtBot) -> None:
    source = stacked.layers["cells"]
    source.axis_labels = ("t", "z", "y", "x")
    stacked.dims.set_point((0, 1), source.data_to_world((2, 1, 0, 0))[:2])
    one_plane(qtbot, deep)
    click(qtbot, deep.run_button)
    finish(qtbot, deep)
    assert stacked.layers[-1].name == "cells denoised, T 2, Z 1"


# ---- channels whose light adds up


@pytest.mark.parametrize("planes", ["stack", "plane"])
def test_what_would_shine_through_its_result_is_hidden_and_that_is_said(
    planes: str, stacked: Model, deep: RestoreDock, qtbot: QtBot
) -> None:
    source = stacked.layers["cells"]
    source.blending = "additive"
    deep.controls.pictures.planes.value = planes
    click(qtbot, deep.run_button)
    finish(qtbot, deep)
    assert (source.visible, stacked.layers[-1].visible, stacked.layers[-1].blending) == (False, True, "additive")
    assert deep.note.text() == "The original is hidden: it would shine through."
    click(qtbot, deep.compare.side_button)
    assert source.visible
    click(qtbot, deep.compare.side_button)
    assert not source.visible


def test_that_several_originals_are_hidden_is_said_once(viewer: Model, qtbot: QtBot) -> None:
    for layer in viewer.layers:
        layer.blending = "additive"
    dock = docked(viewer, qtbot, task="denoise", severity=0.5)
    viewer.layers.selection = set(viewer.layers)
    click(qtbot, dock.controls.pictures.several.native)
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    assert dock.note.text().splitlines() == ["The originals are hidden: they would shine through."]


def test_an_earlier_result_does_not_shine_through_either_but_other_channels_do(viewer: Model, qtbot: QtBot) -> None:
    for layer in viewer.layers:
        layer.blending = "additive"
    dock = docked(viewer, qtbot, task="denoise", severity=0.5)
    dock.controls.layer.value = viewer.layers["GFP"]
    for _ in range(2):
        click(qtbot, dock.run_button)
        finish(qtbot, dock)
    assert [layer.name for layer in viewer.layers if layer.visible] == ["DAPI", "RFP", "GFP denoised [1]"]
    dock.controls.layer.value = viewer.layers["GFP denoised"]
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    assert [layer.name for layer in viewer.layers if layer.visible] == ["DAPI", "RFP", "GFP denoised denoised"]


def test_around_a_region_the_picture_stays_in_sight(stacked: Model, deep: RestoreDock, qtbot: QtBot) -> None:
    stacked.layers["cells"].blending = "additive"
    stacked.add_shapes([np.array([(5, 5), (5, 15), (20, 15), (20, 5)])])
    deep.controls.pictures.region.value = stacked.layers["Shapes"]
    click(qtbot, deep.run_button)
    finish(qtbot, deep)
    assert stacked.layers["cells"].visible and len(stacked.layers) == 3


# ---- axes


def test_axes_are_filled_in_from_labels_that_mean_something_and_asked_for_where_not(
    stacked: Model, deep: RestoreDock
) -> None:
    field = deep.controls.pictures.axes
    assert field.text() == "" and "what is the first axis?" in field.placeholderText()
    stacked.layers["cells"].axis_labels = ("t", "z", "y", "x")
    assert field.text() == "TZYX"
    film = stacked.add_image(picture(5, 20, 30, 3), name="film", rgb=True, axis_labels=("time", "y", "x"))
    deep.controls.layer.value = film
    assert field.text() == "TYXC"


def test_axes_that_are_typed_are_used(stacked: Model, deep: RestoreDock, qtbot: QtBot) -> None:
    film = stacked.add_image(picture(2, 40, 50), name="film")
    deep.controls.layer.value = film
    qtbot.keyClicks(deep.controls.pictures.axes, "xty")
    qtbot.keyClick(deep.controls.pictures.axes, Qt.Key.Key_Return)
    click(qtbot, deep.run_button)
    finish(qtbot, deep)
    assert stacked.layers[-1].metadata["perceive_ir"]["recipe"]["axes"] == "XTY"
    assert np.array_equal(stacked.layers[-1].data, pir.restore(film.data, axes="XTY", task="denoise", severity=0.5))


def test_axes_that_do_not_fit_are_refused_in_one_line(
    stacked: Model, deep: RestoreDock, qtbot: QtBot, notices: list[str]
) -> None:
    qtbot.keyClicks(deep.controls.pictures.axes, "zyx")
    qtbot.keyClick(deep.controls.pictures.axes, Qt.Key.Key_Return)
    click(qtbot, deep.run_button)
    finish(qtbot, deep)
    assert len(notices) == 1 and "axes 'ZYX' do not fit shape (4, 3, 40, 50)" in notices[0]
    assert names(stacked) == ["cells"]


# ---- a stack that is cancelled


@pytest.fixture
def single_tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every batch has one tile, so that a stack is finished plane by plane."""
    from perceive_ir import _engine
    from perceive_ir._tiles import TileChoice, pick_tile

    def one_by_one(*args: Any, **wishes: Any) -> TileChoice:
        return TileChoice(pick_tile(*args, **wishes).tile, 1)

    monkeypatch.setattr(_engine, "pick_tile", one_by_one)
    yield


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.usefixtures("single_tiles")
def test_a_cancelled_stack_keeps_its_finished_planes_or_nothing(
    keep: bool, stacked: Model, deep: RestoreDock, qtbot: QtBot, gate: Any
) -> None:
    if keep:
        click(qtbot, deep.controls.pictures.keep.native)
    gate.at, gate.after = "Progress", 7  # of 12 planes, three for each time: two times are whole
    hold(qtbot, deep, gate)
    qtbot.waitUntil(lambda: deep.progress.value() == 7, timeout=LONG)
    click(qtbot, deep.cancel_button)
    gate.opened.set()
    finish(qtbot, deep)
    if not keep:
        assert (names(stacked), deep.status.text()) == (["cells"], "Cancelled: nothing was added.")
        return
    source, result = stacked.layers
    assert result.name == "cells denoised (stopped)" and result.data.shape == (2, 3, 40, 50)
    whole = pir.restore(source.data, axes="OQYX", task="denoise", severity=0.5)
    assert np.array_equal(result.data, whole[:2])
    assert np.allclose(result.data_to_world((1, 2, 3, 4)), source.data_to_world((1, 2, 3, 4)))
    assert deep.note.text() == "Stopped: the first 6 of 12 planes are restored."
