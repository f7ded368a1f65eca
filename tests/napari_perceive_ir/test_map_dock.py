"""The Quality map dock with real clicks and a real, tiny model; its numbers and regions on maps made by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel as Model
from napari.layers import Image, Labels, Shapes
from numpy.typing import NDArray
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt, QThreadPool

import perceive_ir as pir
from napari_perceive_ir import _commands, _map_dock, restore_layer
from napari_perceive_ir import _statistics as statistics
from napari_perceive_ir._after import PAUSE
from napari_perceive_ir._dock import RestoreDock
from napari_perceive_ir._map_dock import QualityMapDock
from napari_perceive_ir._map_layers import SCORE_VIEW, TIER_VIEW, TYPE_COLOURS, TYPE_VIEW, lies_on, results_on
from napari_perceive_ir._region import region_weights
from napari_perceive_ir._run import mapping
from perceive_ir import TIERS, TYPES, QualityMap
from perceive_ir._windows import check_window
from tests.napari_perceive_ir.conftest import LONG, click, hold, names, picture

# napari hides this warning of scikit-image, but not while one of its threads ends.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB")

VIEWS = ["cells score", "cells damage", "cells quality"]


def map_of(tiers: Any, types: Any, size: tuple[int, int], severity: float = 0.5) -> QualityMap:
    """Make a map with these tiers (1..3) and types (0 for none, else counted from 1)."""
    tiers, types = np.asarray(tiers), np.asarray(types)
    probabilities = np.stack([tiers == n for n in (1, 2, 3)]).astype(np.float32)
    present = np.stack([types == n for n in range(1, len(TYPES) + 1)]).astype(np.float32)
    return QualityMap(probabilities, present, np.full_like(present, severity), 32, 128, size)


@pytest.fixture
def size() -> tuple[int, int]:
    return 70, 100


@pytest.fixture
def dock(viewer: Model, qtbot: QtBot) -> QualityMapDock:
    return shown(viewer, qtbot)


@pytest.fixture
def gate(gate: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Holds a map after its event ``at``, instead of a restoration."""
    held = type(gate)(mapping)
    held.at = "Ready"
    monkeypatch.setattr(_map_dock, "mapping", held)
    yield held
    held.opened.set()


def shown(viewer: Model, qtbot: QtBot) -> QualityMapDock:
    dock = QualityMapDock(viewer)
    qtbot.addWidget(dock)
    dock.resize(350, 700)
    dock.show()
    return dock


def opened(window: Any) -> QualityMapDock:
    """Open a dock in a window."""
    dock = QualityMapDock(window)
    window.window.add_dock_widget(dock, name="Quality map")
    return dock


def finish(qtbot: QtBot, dock: QualityMapDock) -> None:
    qtbot.waitUntil(lambda: not dock.running and not dock.after.running, timeout=LONG)


def mapped(qtbot: QtBot, dock: QualityMapDock) -> QualityMapDock:
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    return dock


# ---- numbers


def test_a_map_is_summed_up_by_the_pixels_that_its_cells_cover() -> None:
    qmap = map_of([[1, 3], [2, 3]], [[1, 0], [1, 0]], (48, 40))  # cells of 32 x 32, 32 x 8, 16 x 32 and 16 x 8
    found = statistics.measure(qmap)
    assert found is not None and found.area == 48 * 40
    assert found.shares == pytest.approx({"low": 1024 / 1920, "medium": 512 / 1920, "high": 384 / 1920})
    assert found.score == pytest.approx((512 * 1 + 384 * 2) / 1920)
    assert (found.type, found.severity) == (TYPES[0], 0.5)


def test_weights_choose_a_region_and_no_region_has_no_numbers() -> None:
    qmap = map_of([[1, 3]], [[1, 0]], (32, 64))
    right = statistics.measure(qmap, np.array([[0.0, 0.5]]))
    assert right == statistics.Statistics(512, {"low": 0, "medium": 0, "high": 1}, 2, "none", 0)
    assert statistics.measure(qmap, np.zeros((1, 2))) is None


def test_features_tell_what_is_in_each_tier_and_type() -> None:
    qmap = map_of([[1, 1, 1, 3]], [[2, 2, 3, 0]], (32, 128), severity=0.25)
    tiers, types = statistics.tier_features(qmap), statistics.type_features(qmap)
    assert list(tiers) == ["index", "tier", "share", "score", "type", "severity"]
    assert (tiers["share"].tolist(), tiers["type"].tolist()) == ([0.75, 0, 0.25], [TYPES[1], "none", "none"])
    assert np.array_equal(tiers["score"], [0, np.nan, 2], equal_nan=True)
    assert np.array_equal(tiers["severity"], [0.25, np.nan, 0], equal_nan=True)
    assert list(types["type"]) == ["none", *TYPES]
    assert types["share"].tolist() == [0.25, 0, 0.5, 0.25, 0, 0, 0, 0, 0]


def test_planes_are_scored_one_by_one_and_the_worst_is_found() -> None:
    tiers = np.full((2, 3, 1, 2), 3)
    tiers[1, 0], tiers[1, 2, 0, 1] = 1, 1  # the last one is the narrow cell
    scores = statistics.plane_scores(map_of(tiers, tiers * 0, (32, 40)))
    assert scores == pytest.approx(np.array([[2, 2, 2], [0, 2, 2 * 32 / 40]]))
    assert statistics.worst_plane(scores) == (1, 0)
    assert statistics.profile(scores, 1, (1, 0)).tolist() == pytest.approx([0, 2, 1.6])
    assert statistics.profile(scores, 0, (1, 0)).tolist() == [2, 0]


def test_the_table_compares_before_and_after() -> None:
    before = statistics.measure(map_of([[1, 2]], [[1, 1]], (32, 64)))
    after = statistics.measure(map_of([[3, 3]], [[0, 0]], (32, 64)))
    rows = [row[1:] for row in statistics.table_rows(before, after)]
    assert rows == [("50%", "0%"), ("50%", "0%"), ("0%", "100%"), ("0.50", "2.00"), ("noise (0.50)", "none")]
    assert {row[2] for row in statistics.table_rows(before, None, waiting=True)} == {"…"}
    assert {row[1:] for row in statistics.table_rows(None, None)} == {("", "")}


# ---- regions


def weights_of(region: Any, source: Image, tiers: Any, axes: str = "YX") -> NDArray[np.float64]:
    size = (source.data.shape[axes.index("Y")], source.data.shape[axes.index("X")])
    return region_weights(region, source, map_of(tiers, np.zeros_like(tiers), size), axes)


def test_a_rectangle_weighs_the_cells_that_it_covers() -> None:
    source = Image(np.zeros((64, 96)), scale=(2, 2), translate=(7, 9))
    corners = np.array([(0, 32), (0, 80), (32, 80), (32, 32)]) - 0.5  # in pixels: all of a cell, and half of the next
    region = Shapes([corners * 2 + (7, 9)], shape_type="rectangle")
    assert weights_of(region, source, np.ones((2, 3), int)).tolist() == [[0, 1, 0.5], [0, 0, 0]]


def test_a_region_is_found_wherever_both_layers_lie() -> None:
    place = {"scale": (0.5, 0.25), "rotate": 30, "shear": [0.2], "translate": (3, 4)}
    source = Image(np.zeros((64, 96)), **place)
    corners = np.array([(32, 0), (32, 64), (64, 64), (64, 0)]) - 0.5
    region = Shapes([np.array([source.data_to_world(corner) for corner in corners])], shape_type="polygon")
    assert weights_of(region, source, np.ones((2, 3), int)).tolist() == [[0, 0, 0], [1, 1, 0]]


def test_labels_may_be_finer_and_elsewhere() -> None:
    source = Image(np.zeros((64, 64)))
    marks = np.zeros((64, 128), int)
    marks[:, 64:] = 5
    region = Labels(marks, scale=(1, 0.5), translate=(32, -0.25))  # begins half way down; its right half is painted
    assert weights_of(region, source, np.ones((2, 2), int)).tolist() == [[0, 0], [0, 1]]


def test_a_whole_picture_weighs_one_even_where_cells_reach_beyond_its_edge() -> None:
    source = Image(np.zeros((40, 33)))
    assert (weights_of(Labels(np.ones((40, 33), int)), source, np.ones((2, 2), int)) == 1).all()


def test_a_flat_region_holds_for_all_planes_and_a_deep_one_for_its_own() -> None:
    source = Image(np.zeros((3, 32, 64)), scale=(4, 1, 1))
    corners = np.array([(-0.5, -0.5), (-0.5, 31.5), (31.5, 31.5), (31.5, -0.5)])
    flat, deep = Shapes([corners], shape_type="rectangle"), np.insert(corners, 0, 8, axis=1)
    tiers = np.ones((3, 1, 2), int)
    assert weights_of(flat, source, tiers, "ZYX").tolist() == [[[1, 0]]] * 3
    on_one = weights_of(Shapes([deep], shape_type="rectangle"), source, tiers, "ZYX")
    assert on_one.tolist() == [[[0, 0]], [[0, 0]], [[1, 0]]]
    painted = np.zeros((3, 32, 64), int)
    painted[1, :, 32:] = 1
    assert weights_of(Labels(painted, scale=(4, 1, 1)), source, tiers, "ZYX")[1].tolist() == [[0, 1]]


def test_a_region_follows_the_order_of_the_axes() -> None:
    source = Image(np.zeros((64, 3, 32)))  # X, Z, Y
    painted = np.zeros((64, 3, 32), int)
    painted[32:, 2] = 1
    assert weights_of(Labels(painted), source, np.ones((3, 1, 2), int), "XZY")[2].tolist() == [[0, 1]]


def test_no_shape_is_no_region() -> None:
    assert not weights_of(Shapes(ndim=2), Image(np.zeros((32, 32))), np.ones((1, 1), int)).any()


# ---- the dock


def test_a_map_becomes_three_layers_on_the_picture(window: Any, qtbot: QtBot) -> None:
    dock = mapped(qtbot, opened(window))
    source, qmap = window.layers["cells"], pir.load().quality_map(window.layers["cells"].data, "YX")
    assert names(window) == ["cells", *VIEWS]
    score, damage, tiers = (window.layers[name] for name in VIEWS)
    for layer, cells in ((score, qmap.score), (damage, qmap.type_labels), (tiers, qmap.tier_labels)):
        assert np.allclose(layer.data, cells, atol=1e-5)
        assert np.allclose(layer.data_to_world((0, 0)), source.data_to_world((15.5, 15.5)))
        assert layer.units == source.units
    assert [layer.visible for layer in (score, damage, tiers)] == [False, False, True]
    assert (score.contrast_limits, score.colormap.name) == ([0, 2], "viridis")
    assert dock.status.text().startswith("Mapped “cells” after ")


def test_places_tell_what_is_there(viewer: Model, dock: QualityMapDock, qtbot: QtBot) -> None:
    mapped(qtbot, dock)
    tiers, damage = viewer.layers["cells quality"], viewer.layers["cells damage"]
    label = int(tiers.data[1, 1])
    said = tiers.get_status((20, 12), world=True)["value"]
    told = [word for word in ("score: ", "type: ", "severity: ") if word in said]
    assert f"{label}; tier: {TIERS[label - 1]}, share: " in said and len(told) == 3
    dock.findings.view.value = TYPE_VIEW
    damage.data = np.zeros_like(damage.data)
    assert "0; type: none" in damage.get_status((20, 12), world=True)["value"]
    assert np.allclose(damage.get_color(2)[:3], 0x99 / 255, atol=0.01)
    assert len(set(TYPE_COLOURS.values())) == len(TYPES)


def test_one_view_is_shown_with_its_legend(viewer: Model, dock: QualityMapDock, qtbot: QtBot) -> None:
    mapped(qtbot, dock)
    legend = dock.findings.legend
    for view, name in ((SCORE_VIEW, "cells score"), (TYPE_VIEW, "cells damage"), (TIER_VIEW, "cells quality")):
        dock.findings.view.value = view
        assert [layer.name for layer in viewer.layers if layer.visible] == ["cells", name]
        assert viewer.layers.selection.active.name == name
        assert [v for v, page in legend._pages.items() if not page.isHidden()] == [view]
    dock.findings.view.value = ""
    assert [layer.name for layer in viewer.layers if layer.visible] == ["cells"]
    assert legend.isHidden()


def test_the_slider_chooses_windows_that_the_model_takes(viewer: Model, dock: QualityMapDock, qtbot: QtBot) -> None:
    slider = dock.controls.window_size.slider
    assert dock.controls.window_size.pixels() == 128
    for value in range(slider.minimum(), slider.maximum() + 1):
        slider.setValue(value)
        check_window(dock.controls.window_size.pixels(), 32)
    qtbot.keyClick(slider, Qt.Key.Key_Home)
    mapped(qtbot, dock)
    assert viewer.layers["cells quality"].metadata["perceive_ir"]["quality_map"] == {"window": 64, "stride": 32}


def test_mapping_again_replaces_the_map(viewer: Model, dock: QualityMapDock, qtbot: QtBot) -> None:
    first = mapped(qtbot, dock).judged
    restore_layer(viewer, "cells", task="denoise", severity=0.5)
    finish(qtbot, dock)
    assert mapped(qtbot, dock).judged is not first
    assert names(viewer) == ["cells", "cells denoised", *VIEWS]


def test_numbers_are_those_of_the_region(viewer: Model, dock: QualityMapDock, qtbot: QtBot) -> None:
    mapped(qtbot, dock)
    assert dock.judged is not None
    everywhere = dock.findings.table.texts()
    marks = viewer.add_labels(np.zeros((70, 100), int), name="marks", scale=(0.5, 0.25))
    shapes = viewer.add_shapes(name="drawn", ndim=2)
    assert list(dock.findings.region.choices) == ["", marks, shapes]
    dock.findings.region.value = marks
    assert [row[1] for row in dock.findings.table.texts()] == [""] * 5
    marks.data = np.broadcast_to(np.arange(100) < 32, (70, 100)).astype(int)
    wanted = statistics.measure(dock.judged.map, np.array([[1.0, 0, 0, 0]] * 3))
    texts = [text for _, text, _ in statistics.table_rows(wanted, None)]
    qtbot.waitUntil(lambda: [row[1] for row in dock.findings.table.texts()] == texts, timeout=LONG)
    viewer.layers.remove(marks)
    assert dock.findings.table.texts() == everywhere


def test_painting_in_a_region_changes_its_numbers(viewer: Model, dock: QualityMapDock, qtbot: QtBot) -> None:
    mapped(qtbot, dock)
    marks = viewer.add_labels(np.zeros((70, 100), int), name="marks", scale=(0.5, 0.25))
    dock.findings.region.value = marks
    assert dock.findings.table.text_at(3, 1) == ""
    marks.brush_size = 40
    marks.paint((20, 20), 1)
    qtbot.waitUntil(lambda: dock.findings.table.text_at(3, 1) != "", timeout=LONG)


def test_drawing_in_a_region_changes_its_numbers(viewer: Model, dock: QualityMapDock, qtbot: QtBot) -> None:
    mapped(qtbot, dock)
    drawn = viewer.add_shapes(name="drawn", ndim=2)
    dock.findings.region.value = drawn
    drawn.add_rectangles(np.array([(0, 0), (0, 20), (30, 20), (30, 0)]))
    qtbot.waitUntil(lambda: dock.findings.table.text_at(3, 1) != "", timeout=LONG)


def test_a_restored_result_is_compared_in_the_same_range(viewer: Model, dock: QualityMapDock, qtbot: QtBot) -> None:
    mapped(qtbot, dock)
    assert {row[2] for row in dock.findings.table.texts()} == {""}
    result = restore_layer(viewer, "cells", task="deblur", severity=0.9)
    assert dock.findings.after.value is result
    finish(qtbot, dock)
    assert dock.judged is not None and dock.after.map is not None
    limits = dock.judged.mapped.value_range
    wanted = pir.load().quality_map(result.data, "YX", limits)
    assert np.array_equal(dock.after.map.types, wanted.types)
    rows = statistics.table_rows(statistics.measure(dock.judged.map), statistics.measure(wanted))
    assert dock.findings.table.texts() == [list(row) for row in rows]


def test_a_result_that_changes_is_judged_anew(viewer: Model, dock: QualityMapDock, qtbot: QtBot) -> None:
    mapped(qtbot, dock)
    result = restore_layer(viewer, "cells", task="denoise", severity=0.5)
    finish(qtbot, dock)
    first = dock.after.map
    result.data = 1 - result.data
    qtbot.waitUntil(lambda: dock.after.map is not first and dock.after.map is not None, timeout=LONG)
    finish(qtbot, dock)
    viewer.layers.remove(result)
    assert (dock.after.map, dock.findings.after.value) == (None, "")


def test_only_results_on_the_layer_are_compared() -> None:
    metadata = {"perceive_ir": {"recipe": {}}}
    source, twin = Image(picture(20, 30), name="a"), Image(picture(20, 30), name="a denoised", metadata=metadata)
    plain, moved = Image(picture(20, 30)), Image(picture(20, 30), metadata=metadata, translate=(0, 1))
    larger = Image(picture(21, 30), metadata=metadata)
    newer = Image(picture(20, 30), name="b", metadata=metadata)
    assert results_on(source, [source, twin, plain, moved, larger, newer]) == [newer, twin]
    assert lies_on(plain, source) and not lies_on(source, source)


@pytest.mark.parametrize(("button", "strengths"), [("low_button", (1, 0, 0)), ("both_button", (1, 1, 0))])
def test_a_button_restores_only_what_is_bad(button: str, strengths: Any, window: Any, qtbot: QtBot) -> None:
    dock = mapped(qtbot, opened(window))
    click(qtbot, getattr(dock.findings, button))
    restoring = _commands.restore_dock(window)
    assert restoring.running
    click(qtbot, getattr(dock.findings, button))  # busy: says so and does nothing
    qtbot.waitUntil(lambda: not restoring.running, timeout=LONG)
    finish(qtbot, dock)
    assert names(window) == ["cells", *VIEWS, "cells restored"]
    recipe = window.layers["cells restored"].metadata["perceive_ir"]["recipe"]
    assert (recipe["task"], recipe["handling"]) == ("auto", "region")
    assert recipe["tier_strength"] == dict(zip(TIERS, strengths, strict=True))
    assert dock.findings.after.value.name == "cells restored"


@pytest.mark.parametrize("windows", ["usual", "small"])
def test_the_map_is_handed_to_restore_where_restore_would_find_the_same(
    windows: str, window: Any, qtbot: QtBot
) -> None:
    window.layers.clear()
    source = window.add_image(picture(2, 70, 100), name="cells", axis_labels=("z", "y", "x"))
    dock = opened(window)
    if windows == "small":
        qtbot.keyClick(dock.controls.window_size.slider, Qt.Key.Key_Home)
    mapped(qtbot, dock)
    assert dock.judged is not None
    dock.judged.map.probabilities[:] = np.array([0, 0, 1])[:, None, None, None]
    dock.judged.map.probabilities[:, 1] = np.array([1, 0, 0])[:, None, None]
    click(qtbot, dock.findings.low_button)
    qtbot.waitUntil(lambda: not _commands.restore_dock(window).running, timeout=LONG)
    finish(qtbot, dock)
    result = window.layers["cells restored"].data
    handed = np.array_equal(result[0], source.data[0]) and not np.array_equal(result[1], source.data[1])
    assert handed == (windows == "usual")
    assert ("windows of 128 px" in dock.status.text()) == (windows == "small")


def test_no_picture_to_restore_or_judge_is_a_map(viewer: Model, dock: QualityMapDock, qtbot: QtBot) -> None:
    mapped(qtbot, dock)
    restoring = RestoreDock(viewer)
    qtbot.addWidget(restoring)
    assert [layer.name for layer in dock.controls.layer.choices] == ["cells"]
    assert [layer.name for layer in restoring.controls.layer.choices] == ["cells"]


def test_each_layer_keeps_its_map(viewer: Model, dock: QualityMapDock, qtbot: QtBot) -> None:
    viewer.add_image(picture(2, 40, 40), name="stack", scale=(1, 1, 1), units=("um",) * 3)
    dock.controls.layer.value = viewer.layers["cells"]
    mapped(qtbot, dock)
    dock.findings.view.value = SCORE_VIEW
    dock.controls.layer.value = viewer.layers["stack"]
    assert dock.judged is None and dock.findings.isHidden()
    mapped(qtbot, dock)
    assert not dock.planes.isHidden()
    dock.controls.layer.value = viewer.layers["cells"]
    assert dock.planes.isHidden() and not dock.findings.isHidden()
    assert dock.findings.view.value == SCORE_VIEW


# ---- stacks


@pytest.fixture
def stack(viewer: Model, dock: QualityMapDock, qtbot: QtBot) -> QualityMapDock:
    """A dock whose time-lapse of volumes is mapped; the worst plane is the third time, second depth."""
    viewer.layers.clear()
    data = picture(4, 3, 40, 50)
    viewer.add_image(data, name="cells", scale=(3, 2, 1, 1), translate=(5, 0, 0, 0), axis_labels=list("tzyx"))
    mapped(qtbot, dock)
    assert dock.judged is not None
    dock.judged.map.probabilities[:] = np.array([0, 0.5, 0.5])[:, None, None, None, None]
    dock.judged.map.probabilities[:, 2, 1] = np.array([1, 0, 0])[:, None, None]
    dock._show_plane()
    return dock


def test_a_stack_has_a_map_per_plane(viewer: Model, stack: QualityMapDock) -> None:
    tiers = viewer.layers["cells quality"]
    assert tiers.data.shape == (4, 3, 2, 2)
    assert np.allclose(tiers.data_to_world((2, 1, 0, 0)), viewer.layers["cells"].data_to_world((2, 1, 15.5, 15.5)))
    assert [stack.planes.axis.native.itemText(n) for n in range(2)] == ["T", "Z"]


def test_the_worst_plane_is_gone_to(viewer: Model, stack: QualityMapDock, qtbot: QtBot) -> None:
    click(qtbot, stack.planes.worst_button)
    assert viewer.dims.point[:2] == (5 + 2 * 3, 1 * 2)
    assert "here 0.00 at 2" in stack.planes.plot.accessibleName()


def test_the_plot_follows_the_viewer_and_leads_it(viewer: Model, stack: QualityMapDock, qtbot: QtBot) -> None:
    plot = stack.planes.plot
    viewer.dims.set_point(1, 0)
    assert plot._scores.tolist() == pytest.approx([1.5] * 4)
    viewer.dims.set_point(1, 2)  # the second depth, where one time is bad
    assert plot._scores.tolist() == pytest.approx([1.5, 1.5, 0, 1.5])
    qtbot.mouseClick(plot, Qt.MouseButton.LeftButton, pos=plot.place_of(2).toPoint())
    assert viewer.dims.point[0] == 5 + 2 * 3
    stack.planes.axis.value = 1
    assert plot._scores.tolist() == pytest.approx([1.5, 0, 1.5])
    qtbot.mouseClick(plot, Qt.MouseButton.LeftButton, pos=plot.place_of(0).toPoint())
    assert viewer.dims.point[:2] == (11, 0)
    assert plot.grab().toImage().width() == plot.width()


# ---- work in the background


@pytest.mark.parametrize("at", ["Ready", "Progress"])
def test_cancel_adds_nothing(at: str, viewer: Model, dock: QualityMapDock, qtbot: QtBot, gate: Any) -> None:
    gate.at = at
    hold(qtbot, dock, gate)
    click(qtbot, dock.cancel_button)
    assert not dock.cancel_button.isEnabled() and not dock.run_button.isEnabled()
    gate.opened.set()
    finish(qtbot, dock)
    assert len(gate.seen) <= ["Ready", "Progress"].index(at) + 2  # at most one event more
    assert (names(viewer), dock.status.text()) == (["cells"], "Cancelled: nothing was added.")
    mapped(qtbot, dock)
    assert names(viewer) == ["cells", *VIEWS]


def test_a_cancel_stops_between_the_parts_of_a_picture(
    viewer: Model, dock: QualityMapDock, qtbot: QtBot, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perceive_ir import _quality_map

    monkeypatch.setattr(_quality_map, "CHUNK", 32)
    gate.at = "Progress"
    hold(qtbot, dock, gate)
    qtbot.waitUntil(lambda: dock.status.text() == "Judging: 1 of 12 parts", timeout=LONG)
    assert (dock.progress.value(), dock.progress.maximum()) == (1, 12)
    click(qtbot, dock.cancel_button)
    gate.opened.set()
    finish(qtbot, dock)
    assert gate.seen.count("Progress") <= 2


def test_progress_is_shown_in_the_activity_dock(viewer: Model, dock: QualityMapDock, qtbot: QtBot, gate: Any) -> None:
    from napari.utils import progress

    hold(qtbot, dock, gate)
    assert [bar.desc.strip(": ") for bar in progress._all_instances] == ["Judging cells"]
    gate.opened.set()
    finish(qtbot, dock)
    assert dock.progress.isHidden() and not progress._all_instances


def test_removing_the_layer_stops_the_map(viewer: Model, dock: QualityMapDock, qtbot: QtBot, gate: Any) -> None:
    hold(qtbot, dock, gate)
    viewer.layers.remove("cells")
    gate.opened.set()
    finish(qtbot, dock)
    assert (names(viewer), dock.status.text()) == ([], "Stopped, because the layer was removed: nothing was added.")
    assert not dock.run_button.isEnabled()


def test_data_that_were_replaced_get_no_map(viewer: Model, dock: QualityMapDock, qtbot: QtBot, gate: Any) -> None:
    hold(qtbot, dock, gate)
    viewer.layers["cells"].data = picture(2, 30, 70)
    gate.opened.set()
    finish(qtbot, dock)
    assert names(viewer) == ["cells"] and "map it again" in dock.status.text()


def test_removing_the_layer_or_its_map_ends_the_findings(viewer: Model, dock: QualityMapDock, qtbot: QtBot) -> None:
    mapped(qtbot, dock)
    for name in VIEWS:
        assert not dock.findings.isHidden()
        viewer.layers.remove(name)
    assert dock.judged is None and dock.findings.isHidden()
    mapped(qtbot, dock)
    viewer.layers.remove("cells")
    assert dock.judged is None and dock.findings.isHidden()


def test_closing_the_viewer_stops_the_map(window: Any, qtbot: QtBot, gate: Any) -> None:
    hold(qtbot, opened(window), gate)
    window.close()
    gate.opened.set()
    assert QThreadPool.globalInstance().waitForDone(LONG)
    assert "Mapped" not in gate.seen


def test_closing_the_dock_stops_the_map(window: Any, qtbot: QtBot, gate: Any, delete_after: Any) -> None:
    dock = opened(window)
    hold(qtbot, dock, gate)
    delete_after(dock)
    window.window.remove_dock_widget(dock)
    gate.opened.set()
    finish(qtbot, dock)
    assert (names(window), "Mapped" in gate.seen) == (["cells"], False)


def test_a_viewer_goes_on_after_its_dock_is_closed(window: Any, qtbot: QtBot, delete_after: Any) -> None:
    dock = mapped(qtbot, opened(window))
    delete_after(dock)
    window.window.remove_dock_widget(dock)
    del dock
    qtbot.wait(50)
    window.add_image(picture(3, 20, 20), name="more", scale=(1, 1, 1), units=("um",) * 3)
    window.dims.set_point(0, 1)
    window.layers.remove("cells")


def test_a_dock_that_is_closed_judges_nothing_more(window: Any, qtbot: QtBot, delete_after: Any) -> None:
    dock = mapped(qtbot, opened(window))
    delete_after(dock)
    result = restore_layer(window, "cells", task="denoise", severity=0.9)
    finish(qtbot, dock)
    assert dock.after.map is not None
    window.window.remove_dock_widget(dock)
    result.data = result.data[::-1]
    qtbot.wait(2 * PAUSE)
    assert not dock.after.running and dock.after.map is None
    restore_layer(window, "cells", task="denoise", severity=0.5)
    assert not dock.after.running and len(dock.findings.after.choices) == 2


def test_a_mistake_shows_one_notification(
    viewer: Model, dock: QualityMapDock, qtbot: QtBot, notices: list[str]
) -> None:
    viewer.layers["cells"].data = picture(48, 40) > 0.5
    mapped(qtbot, dock)
    assert len(notices) == 1 and "bool" in notices[0]
    assert (names(viewer), dock.status.text()) == (["cells"], "Failed: nothing was added.")


def test_a_bug_is_not_swallowed(dock: QualityMapDock, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Iterator[Any]:
        yield from ()
        raise RuntimeError("a bug")

    monkeypatch.setattr(_map_dock, "mapping", broken)
    with qtbot.capture_exceptions() as caught:
        mapped(qtbot, dock)
    assert [str(error) for _, error, _ in caught] == ["a bug"]
    assert dock.run_button.isEnabled()


def test_without_an_image_layer_there_is_nothing_to_map(viewer: Model, qtbot: QtBot, notices: list[str]) -> None:
    viewer.layers.clear()
    dock = shown(viewer, qtbot)
    assert (dock.controls.layer.choices, dock.run_button.isEnabled()) == ((), False)
    dock.run()
    assert "open a picture first" in notices[0]


# ---- taste


def test_the_keyboard_goes_from_top_to_bottom(stack: QualityMapDock, qtbot: QtBot) -> None:
    findings, planes = stack.findings, stack.planes
    order = [stack.controls.layer.native, stack.controls.window_size.slider, stack.run_button, findings.view.native]
    order += [findings.region.native, findings.after.native, findings.table, findings.low_button, findings.both_button]
    order += [planes.axis.native, planes.worst_button]
    qtbot.waitActive(stack, timeout=LONG)
    order[0].setFocus()
    reached: list[Any] = []
    while planes.worst_button not in reached and len(reached) < 20:
        reached.append(stack.focusWidget())
        qtbot.keyClick(reached[-1], Qt.Key.Key_Tab)
    assert reached == order


def test_the_dock_fits_into_350_pixels(viewer: Model, dock: QualityMapDock, qtbot: QtBot) -> None:
    viewer.layers["cells"].name = "a very long name of a layer, as readers of files make them " * 3
    mapped(qtbot, dock)
    for view in (TIER_VIEW, SCORE_VIEW, TYPE_VIEW):
        dock.findings.view.value = view
        qtbot.wait(10)
        inside = dock.findings.parentWidget()
        assert inside.minimumSizeHint().width() <= 350 and inside.width() <= 350


def test_the_menu_opens_the_dock(window: Any) -> None:
    from napari._app_model import get_app_model

    commands = get_app_model().commands
    names = ("napari-perceive-ir.quality_map_dock", "napari-perceive-ir:Quality map")  # the second in napari 0.7
    commands.execute_command(next(name for name in names if name in commands))
    assert isinstance(next(iter(window.window.dock_widgets.values())), QualityMapDock)
