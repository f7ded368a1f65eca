"""Device, precision and memory in napari's Preferences, and what the dock makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import napari.settings
import numpy as np
import pytest
from napari.components import ViewerModel as Model
from npe2 import PluginManager, PluginManifest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, Qt

from napari_perceive_ir import _compute, _preferences
from napari_perceive_ir._compute import MOST_MEMORY, ComputePart
from napari_perceive_ir._dock import RestoreDock
from napari_perceive_ir._preferences import COMPUTE, PLUGIN, remember, remembered
from napari_perceive_ir._words import choices_of, help_of
from perceive_ir import Recipe

MANIFEST = Path(_preferences.__file__).with_name("napari.yaml")
real_settings = _preferences.settings
new_napari = pytest.mark.skipif(
    not hasattr(napari.settings, "get_plugin_settings"), reason="Preferences of plugins came with napari 0.9"
)


@pytest.fixture
def kept(request: pytest.FixtureRequest, npe2pm: PluginManager, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The plugin's settings, in a file of this test."""
    request.getfixturevalue("plugin_settings")
    npe2pm.register(PluginManifest.from_file(MANIFEST))
    for module in (_preferences, _compute):
        monkeypatch.setattr(module, "settings", real_settings)
    return real_settings()


def saved() -> str:
    return str(napari.settings.get_plugin_settings(PLUGIN).config_path.read_text())


def opened(qtbot: QtBot) -> RestoreDock:
    viewer = Model()
    viewer.add_image(np.zeros((9, 9)))
    dock = RestoreDock(viewer)
    qtbot.addWidget(dock)
    dock.show()
    dock.controls.compute.expand(animate=False)
    return dock


def test_the_manifest_says_what_the_recipe_says() -> None:
    (part,) = PluginManifest.from_file(MANIFEST).contributions.configurations.values()
    properties, start = part.properties, Recipe()
    assert tuple(properties) == COMPUTE
    assert (properties["device"].default, properties["precision"].default) == (start.device, start.precision)
    assert tuple(properties["precision"].enum) == choices_of("precision")
    assert (properties["memory"].default, properties["memory"].maximum) == (0, MOST_MEMORY)
    assert properties["precision"].description == help_of("precision")


@new_napari
def test_the_dock_starts_from_the_preferences(kept: Any, qtbot: QtBot) -> None:
    kept.device, kept.precision, kept.memory = "cuda:1", "float32", 3.5
    assert opened(qtbot).controls.recipe() == Recipe(device="cuda:1", precision="float32", memory=3.5)


@new_napari
def test_what_is_chosen_in_the_dock_is_remembered(kept: Any, qtbot: QtBot) -> None:
    compute = opened(qtbot).controls.compute
    qtbot.keyClick(compute.precision, Qt.Key.Key_Down)
    qtbot.keyClick(compute.memory, Qt.Key.Key_Up)
    line = compute.device.lineEdit()
    line.selectAll()
    qtbot.keyClicks(line, "cpu")
    assert kept.device == "auto"  # not yet complete
    qtbot.keyClick(line, Qt.Key.Key_Return)
    assert (kept.device, kept.precision, kept.memory) == ("cpu", "float32", 0.5)
    assert "device: cpu" in saved() and "memory: 0.5" in saved()
    assert opened(qtbot).controls.recipe() == Recipe(device="cpu", precision="float32", memory=0.5)


@new_napari
def test_an_open_dock_follows_the_preferences(kept: Any, qtbot: QtBot) -> None:
    dock = opened(qtbot)
    with qtbot.waitSignal(dock.controls.changed):
        kept.memory = 2.0
    assert dock.controls.recipe() == Recipe(memory=2.0)
    kept.memory = 0.0
    assert dock.controls.recipe() == Recipe()


@new_napari
def test_a_recipe_that_is_shown_is_not_remembered(kept: Any, qtbot: QtBot) -> None:
    dock = opened(qtbot)
    dock.controls.show_recipe(Recipe(device="cpu", precision="float32", memory=1.0))
    assert dock.controls.recipe().memory == 1.0
    assert (kept.device, kept.precision, kept.memory) == ("auto", "auto", 0.0)


@new_napari
def test_a_dock_that_is_gone_follows_no_longer(kept: Any, qtbot: QtBot) -> None:
    compute = ComputePart()
    gone: list[bool] = []
    compute.destroyed.connect(lambda: gone.append(True))  # a wait for the signal ends in a warning with PySide6
    compute.deleteLater()
    qtbot.waitUntil(lambda: bool(gone))
    kept.memory = 2.0


@new_napari
@pytest.mark.filterwarnings("ignore:Could not resolve type hint")  # napari's own, where there is no window
def test_the_preferences_dialog_shows_them(kept: Any, qtbot: QtBot) -> None:
    from napari._qt.dialogs.preferences_dialog import PreferencesDialog
    from qtpy.QtWidgets import QLabel

    dialog = PreferencesDialog()
    qtbot.addWidget(dialog)
    shown = {label.text() for label in dialog.findChildren(QLabel)}
    assert {"Device", "Precision", "Memory"} <= shown


def test_before_napari_had_them_nothing_is_remembered(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, npe2pm: PluginManager
) -> None:
    monkeypatch.setattr(_preferences, "settings", real_settings)
    monkeypatch.delattr(napari.settings, "get_plugin_settings", raising=False)
    remember({"device": "cpu", "precision": "auto", "memory": "auto"})
    assert remembered() == {}
    compute = opened(qtbot).controls.compute
    qtbot.mouseClick(compute.memory, Qt.MouseButton.LeftButton, pos=QPoint(3, 3))
    qtbot.keyClick(compute.memory, Qt.Key.Key_Up)
    assert compute.fields()["memory"] == 0.5


@new_napari
def test_a_plugin_that_napari_does_not_know_remembers_nothing(
    request: pytest.FixtureRequest, npe2pm: PluginManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    request.getfixturevalue("plugin_settings")
    monkeypatch.setattr(_preferences, "settings", real_settings)
    assert remembered() == {}
