"""What napari reads of the plugin, and what that costs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from npe2 import PluginManifest

from perceive_ir import TASKS

HEAVY = "torch napari qtpy PyQt6 PySide6 magicgui superqt open_clip timm".split()


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_distribution("napari-perceive-ir")


def test_the_manifest_is_valid_and_all_that_it_names_exists(manifest: PluginManifest) -> None:
    manifest.validate_imports()
    subprocess.run([sys.executable, "-m", "npe2", "validate", "napari-perceive-ir"], check=True)


def test_discovering_the_plugin_imports_nothing_heavy() -> None:
    code = f"""
import sys, importlib.metadata
from npe2 import PluginManifest
PluginManifest.from_distribution("napari-perceive-ir")
import napari_perceive_ir
print([name for name in {HEAVY} if name in sys.modules])"""
    assert run(code) == "[]"


def test_opening_the_dock_imports_no_torch() -> None:
    code = "import sys, napari_perceive_ir._dock; print('torch' in sys.modules)"
    assert run(code) == "False"


def test_loading_a_model_imports_no_compiler() -> None:
    """Triton's LLVM next to the one of a software OpenGL ends the process, and napari has OpenGL open."""
    code = """
import sys, numpy, perceive_ir
perceive_ir.load().restore(numpy.zeros((32, 32)), task="denoise", severity=0.5)
print([name for name in ("torch._dynamo", "triton") if name in sys.modules])"""
    assert run(code) == "[]"


def test_there_is_a_menu_entry_for_every_task(manifest: PluginManifest) -> None:
    menus = manifest.contributions.menus
    entries = [item.command for item in menus["napari-perceive-ir.restore_menu"]]
    assert entries == [f"napari-perceive-ir.{name}" for name in ("restore_dock", "restore", *TASKS)]
    assert [item.submenu for item in menus["napari/layers/filter"]] == ["napari-perceive-ir.restore_menu"]


def test_the_quality_map_is_in_the_menu(manifest: PluginManifest) -> None:
    entries = [item.command for item in manifest.contributions.menus["napari/layers/visualize"]]
    assert entries == ["napari-perceive-ir.quality_map_dock"]


def test_folders_are_in_the_menu_of_files(manifest: PluginManifest) -> None:
    entries = [item.command for item in manifest.contributions.menus["napari/file/io_utilities"]]
    assert entries == ["napari-perceive-ir.batch_dock"]


@pytest.mark.parametrize("module", ["_map_dock", "_batch_dock"])
def test_opening_another_dock_imports_no_torch(module: str) -> None:
    code = f"import sys, napari_perceive_ir.{module}; print('torch' in sys.modules)"
    assert run(code) == "False"


def test_the_docks_have_names(manifest: PluginManifest) -> None:
    assert [widget.display_name for widget in manifest.contributions.widgets] == ["Restore", "Quality map", "Batch"]


def test_the_door_opens_to_what_it_names() -> None:
    import napari_perceive_ir

    assert all(callable(getattr(napari_perceive_ir, name)) for name in napari_perceive_ir.__all__)
    with pytest.raises(AttributeError, match="no attribute 'polish'"):
        napari_perceive_ir.polish  # noqa: B018
