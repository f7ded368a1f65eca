"""The controls of the Restore dock with real clicks: handling, strength live in regions, what the model sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel as Model
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QScrollArea

from napari_perceive_ir import _commands
from napari_perceive_ir._dock import RestoreDock
from napari_perceive_ir._map_dock import LOW_AND_MEDIUM, ONLY_LOW
from napari_perceive_ir._seen_bars import seen_types
from napari_perceive_ir._words import HANDLING_TITLES, choices_of
from perceive_ir import Perception, Recipe
from perceive_ir._vocabulary import TIERS, TYPES
from tests.napari_perceive_ir.conftest import LONG, click, docked, finish


@pytest.fixture
def size() -> tuple[int, int]:
    return 96, 80


@pytest.fixture
def dock(viewer: Model, qtbot: QtBot) -> RestoreDock:
    return docked(viewer, qtbot)


def by_region(qtbot: QtBot, dock: RestoreDock) -> None:
    """Choose the handling with the keyboard, as a person does."""
    qtbot.keyClick(dock.controls.handling.native, Qt.Key.Key_Down)
    assert dock.controls.handling.value == "region"


def plainly_noisy(dock: RestoreDock) -> None:
    """Choose a task and a severity, because the tiny model sees nothing by itself."""
    dock.controls.task.value = "denoise"
    dock.controls.automatic.value = False
    dock.controls.severity.setValue(0.5)


def restored(qtbot: QtBot, dock: RestoreDock, viewer: Any) -> Any:
    """Press Run, wait, and return the new layer."""
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    return viewer.layers[-1]


def recipe_of(layer: Any) -> dict[str, Any]:
    recipe: dict[str, Any] = layer.metadata["perceive_ir"]["recipe"]
    return recipe


def blended_anew(qtbot: QtBot, layer: Any, **fields: Any) -> None:
    """Wait until a layer says that it was blended with other strengths."""
    qtbot.waitUntil(lambda: fields.items() <= recipe_of(layer).items(), timeout=LONG)


def test_every_handling_of_the_recipe_has_an_entry() -> None:
    assert choices_of("handling") == ("image", "region", "painted")
    assert tuple(HANDLING_TITLES) == choices_of("handling")


def test_a_strength_for_each_tier_is_shown_only_region_by_region(dock: RestoreDock, qtbot: QtBot) -> None:
    sliders = dock.controls.tiers
    assert tuple(sliders) == TIERS
    assert dock.controls.recipe() == Recipe()
    low = dock.controls.sizeHint().height()
    assert not any(slider.isVisible() for slider in sliders.values())
    by_region(qtbot, dock)
    assert all(slider.isVisible() for slider in sliders.values())
    assert dock.controls.sizeHint().height() > low
    assert dock.controls.recipe() == Recipe(handling="region")
    qtbot.keyClick(dock.controls.handling.native, Qt.Key.Key_Up)
    assert not any(slider.isVisible() for slider in sliders.values())
    assert (dock.controls.recipe(), dock.controls.sizeHint().height()) == (Recipe(), low)


def test_the_keyboard_moves_the_strength_of_a_tier(dock: RestoreDock, qtbot: QtBot) -> None:
    by_region(qtbot, dock)
    slider = dock.controls.tiers["high"]
    qtbot.keyClick(slider.focusProxy(), Qt.Key.Key_PageUp)
    assert dock.controls.recipe().tier_strength == {"low": 1, "medium": 1, "high": pytest.approx(0.1)}
    assert (slider.minimum(), slider.maximum()) == (0, 1.5)
    assert slider.toolTip() == Recipe.model_fields["tier_strength"].description
    assert slider.accessibleName() == "Strength in high"


def test_the_strength_of_a_tier_blends_the_result_anew(
    viewer: Model, dock: RestoreDock, qtbot: QtBot, gate: Any
) -> None:
    gate.opened.set()
    plainly_noisy(dock)
    by_region(qtbot, dock)
    layer = restored(qtbot, dock, viewer)
    before = layer.data.copy()
    dock.controls.tiers["low"].setValue(0.2)
    dock.controls.tiers["medium"].setValue(0.4)
    blended_anew(qtbot, layer, tier_strength={"low": 0.2, "medium": 0.4, "high": 0.0}, strength=1.0)
    assert not np.array_equal(layer.data, before)
    dock.controls.strength.setValue(0)
    blended_anew(qtbot, layer, strength=0.0)
    assert np.array_equal(layer.data, viewer.layers["cells"].data)
    dock.controls.strength.setValue(1)
    dock.controls.tiers["low"].setValue(1)
    dock.controls.tiers["medium"].setValue(1)
    blended_anew(qtbot, layer, tier_strength={"low": 1.0, "medium": 1.0, "high": 0.0}, strength=1.0)
    assert np.array_equal(layer.data, before)
    assert gate.seen.count("Finished") == 1


def test_what_is_blended_anew_is_what_a_run_would_give(viewer: Model, dock: RestoreDock, qtbot: QtBot) -> None:
    plainly_noisy(dock)
    by_region(qtbot, dock)
    first = restored(qtbot, dock, viewer)
    dock.controls.tiers["high"].setValue(0.7)
    blended_anew(qtbot, first, tier_strength={"low": 1.0, "medium": 1.0, "high": 0.7})
    second = restored(qtbot, dock, viewer)
    assert second is not first
    assert np.array_equal(second.data, first.data)


def test_a_result_of_the_quality_map_can_be_blended_anew(window: Any, qtbot: QtBot) -> None:
    dock = _commands.restore_dock(window)
    wanted = {"task": "denoise", "severity": 0.5, "handling": "region", "tier_strength": ONLY_LOW}
    _commands.run_in_dock(window, window.layers["cells"], **wanted)
    finish(qtbot, dock)
    layer = window.layers[-1]
    assert recipe_of(layer)["tier_strength"] == ONLY_LOW
    assert dock.controls.recipe() == Recipe(**wanted)
    before = layer.data.copy()
    dock.controls.tiers["medium"].setValue(0.5)
    blended_anew(qtbot, layer, tier_strength=ONLY_LOW | {"medium": 0.5})
    assert not np.array_equal(layer.data, before)


def test_another_command_leaves_the_last_result_as_it_is(window: Any, qtbot: QtBot, gate: Any) -> None:
    dock = _commands.restore_dock(window)
    for strengths in (ONLY_LOW, LOW_AND_MEDIUM):
        gate.opened.clear()
        _commands.run_in_dock(window, window.layers["cells"], "auto", handling="region", tier_strength=strengths)
        qtbot.wait(400)  # long enough for blending anew, were the first result still followed
        gate.opened.set()
        finish(qtbot, dock)
    assert [recipe_of(layer)["tier_strength"] for layer in window.layers[1:]] == [ONLY_LOW, LOW_AND_MEDIUM]


def test_a_command_of_the_menu_begins_from_automatic_settings(window: Any, qtbot: QtBot) -> None:
    dock = _commands.restore_dock(window)
    by_region(qtbot, dock)
    dock.controls.automatic.value = False
    _commands.run_in_dock(window, window.layers["cells"], "denoise")
    finish(qtbot, dock)
    assert Recipe(**recipe_of(window.layers[-1])).changed().keys() == {"task", "axes"}
    assert dock.controls.recipe() == Recipe(task="denoise")


def hazy_and_dark() -> Perception:
    likely = {"haze": 0.9, "lowlight": 0.5}
    types = {name: likely.get(name, 0.1) for name in TYPES}
    return Perception(dict.fromkeys(TIERS, 1 / 3), types, dict.fromkeys(TYPES, 0.25), (0.0, 1.0))


def test_every_type_is_seen_with_its_probability_and_what_is_present_with_its_severity() -> None:
    seen = {one.type: one for one in seen_types(hazy_and_dark())}
    assert tuple(seen) == TYPES
    assert seen["haze"].words() == "haze 90%, severity 0.25"
    assert seen["lowlight"].words() == "low light 50%, severity 0.25"
    assert seen["rain"].words() == "rain 10%, absent"


def test_bars_are_shown_once_something_is_seen(dock: RestoreDock, viewer: Model, qtbot: QtBot, gate: Any) -> None:
    assert not dock.bars.isVisible()
    click(qtbot, dock.run_button)
    qtbot.waitUntil(dock.bars.isVisible, timeout=LONG)
    gate.opened.set()
    finish(qtbot, dock)
    kept = viewer.layers[-1].metadata["perceive_ir"]["perception"]["types"]
    assert {one.type: round(one.probability, 4) for one in dock.bars.shown} == kept
    gate.opened.clear()
    gate.at = "Ready"
    click(qtbot, dock.run_button)
    assert not dock.bars.isVisible()  # what was seen last says nothing of this run
    gate.opened.set()
    finish(qtbot, dock)


def test_a_bar_is_as_long_as_its_type_is_likely(dock: RestoreDock, qtbot: QtBot) -> None:
    bars = dock.bars
    bars.show_types(seen_types(hazy_and_dark()))
    qtbot.waitUntil(lambda: bars.isVisible() and bars.height() == bars.sizeHint().height(), timeout=LONG)
    drawn = bars.grab().toImage()
    for row, one in enumerate(bars.shown):
        track = bars.track(row)
        y, end = int(track.center().y()), track.left() + one.probability * track.width()
        inside, beyond, last = (drawn.pixelColor(int(x), y) for x in (end - 3, end + 3, track.right() - 3))
        assert inside != beyond == last, one
    assert bars.accessibleName().startswith("noise 10%, absent; haze 90%, severity 0.25")


def unfold(qtbot: QtBot, dock: RestoreDock) -> None:
    click(qtbot, dock.controls.compute.toggleButton())
    qtbot.waitUntil(dock.controls.compute.memory.isVisible, timeout=LONG)


def test_what_computes_is_folded_until_somebody_asks(dock: RestoreDock, qtbot: QtBot) -> None:
    compute = dock.controls.compute
    assert not compute.device.isVisible()
    unfold(qtbot, dock)
    qtbot.keyClicks(compute.device.lineEdit(), ":1")
    qtbot.keyClick(compute.precision, Qt.Key.Key_Down)
    qtbot.keyClick(compute.memory, Qt.Key.Key_Up)
    assert dock.controls.recipe() == Recipe(device="auto:1", precision="float32", memory=0.5)
    click(qtbot, compute.toggleButton())
    assert not compute.device.isVisible()


def test_an_unknown_device_says_what_there_is(dock: RestoreDock, qtbot: QtBot, notices: list[str]) -> None:
    dock.controls.compute.device.setCurrentText("abacus")
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    assert len(notices) == 1 and "expected device auto, cpu, cuda, cuda:N or mps, got 'abacus'" in notices[0]


def test_another_device_does_not_loosen_the_sliders_from_the_result(
    viewer: Model, dock: RestoreDock, qtbot: QtBot
) -> None:
    plainly_noisy(dock)
    layer = restored(qtbot, dock, viewer)
    dock.controls.compute.device.setCurrentText("cpu")
    dock.controls.strength.setValue(0.5)
    blended_anew(qtbot, layer, strength=0.5, device="auto")


def test_all_that_can_unfold_fits_beside_a_scroll_bar(dock: RestoreDock, qtbot: QtBot) -> None:
    by_region(qtbot, dock)
    unfold(qtbot, dock)
    dock.bars.show_types(seen_types(hazy_and_dark()))
    area = dock.findChild(QScrollArea)
    bar = area.verticalScrollBar().sizeHint().width()
    assert area.widget().minimumSizeHint().width() + bar <= 350
