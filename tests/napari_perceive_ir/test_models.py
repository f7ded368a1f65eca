"""The docks offer every model that is here; a network of others restores in them and says what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from napari.components import ViewerModel as Model
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt

import perceive_ir as pir
from perceive_ir import Recipe
from tests.napari_perceive_ir.conftest import click, docked, finish

pytest.importorskip("spandrel")


@pytest.fixture
def nafnet(weights_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A network of others by its name, beside the tiny model."""
    from spandrel.architectures.NAFNet import NAFNet

    torch.manual_seed(0)
    network = NAFNet(width=4, enc_blk_nums=[1], middle_blk_num=1, dec_blk_nums=[1])
    for name, parameter in network.named_parameters():
        if name.endswith((".beta", ".gamma")):
            torch.nn.init.normal_(parameter, std=0.3)  # they begin at zero, which would leave most of it out
    torch.save(network.state_dict(), tmp_path / "nafnet.pth")
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "compact.safetensors").write_bytes((weights_folder / "compact.safetensors").read_bytes())
    monkeypatch.setenv("PERCEIVE_IR_WEIGHTS", str(folder))
    return pir.add_model(tmp_path / "nafnet.pth").name


def test_a_network_of_others_restores_in_the_dock(nafnet: str, viewer: Model, qtbot: QtBot) -> None:
    dock = docked(viewer, qtbot, task="denoise", severity=0.5)
    assert dock.controls.recipe().model == "compact"
    qtbot.keyClick(dock.controls.model, Qt.Key.Key_Down)
    assert dock.controls.recipe().model == nafnet
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    layer = viewer.layers[-1]
    assert layer.metadata["perceive_ir"]["model"]["name"] == nafnet
    assert "A second opinion: nafnet cannot be told a task or a severity" in dock.note.text()
    expected = pir.restore(viewer.layers["cells"].data, model=nafnet, task="denoise", severity=0.5)
    np.testing.assert_array_equal(layer.data, expected)
    assert not np.array_equal(layer.data, viewer.layers["cells"].data)


def test_a_model_that_is_added_later_is_offered_when_the_choice_is_opened(
    nafnet: str, viewer: Model, qtbot: QtBot, tmp_path: Path
) -> None:
    dock = docked(viewer, qtbot)
    heard: list[Recipe] = []
    dock.controls.changed.connect(lambda: heard.append(dock.controls.recipe()))
    pir.add_model(tmp_path / "nafnet.pth", "another")
    dock.controls.model.showPopup()
    choice = dock.controls.model
    assert [choice.itemText(row) for row in range(choice.count())] == ["another", "compact", "nafnet"]
    dock.controls.model.hidePopup()
    assert choice.currentText() == "compact" and not heard


def test_a_recipe_with_a_model_by_path_keeps_it(viewer: Model, qtbot: QtBot) -> None:
    dock = docked(viewer, qtbot, model="/somewhere/mine.safetensors")
    assert dock.controls.recipe() == Recipe(model="/somewhere/mine.safetensors")
    dock.controls.model.offer()
    assert dock.controls.recipe().model == "/somewhere/mine.safetensors"
    assert not dock.controls.kept.fields
