"""The library has one door, which opens at once, and finds models by name and by path."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch

import perceive_ir
from perceive_ir import PerceiveIRError, Restorer, WeightsError, _catalogue, _errors, available, load, restore
from perceive_ir._catalogue import CATALOGUE, FOLDER_VARIABLE, Entry, find
from perceive_ir._weights import Card, save_system

HEAVY = ("torch", "open_clip", "timm", "torchvision", "napari", "qtpy", "PyQt6", "PySide6", "magicgui", "pooch")
DENOISE = {"task": "denoise", "severity": 1.0}


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path) -> list[Path]:
    """Look for weights in empty folders only, and forget loaded models; the cache folder and the package's."""
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path / "cache")
    monkeypatch.setattr(_catalogue, "PACKAGED", tmp_path / "package")
    _catalogue.loaded.cache_clear()
    return [tmp_path / "cache", tmp_path / "package"]


def python(code: str) -> list[str]:
    """Run code in a fresh interpreter and return the words that it prints."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


# ---- the door


@pytest.mark.parametrize("doing", ["import perceive_ir", "from perceive_ir import PerceiveIRError, TASKS, TIERS"])
def test_the_door_opens_without_heavy_libraries(doing):
    modules = python(f"import sys; {doing}; print(*sys.modules)")
    assert "perceive_ir" in modules
    assert not {name.split(".")[0] for name in modules} & {*HEAVY, "numpy", "pydantic"}


def test_a_recipe_needs_no_torch():
    modules = python("import sys; from perceive_ir import Recipe, available; Recipe(); print(*sys.modules)")
    assert not {name.split(".")[0] for name in modules} & set(HEAVY)


def test_loading_and_restoring_need_no_open_clip_no_napari_and_no_qt(tiny_weights):
    modules = python(
        "import sys, numpy, perceive_ir as pir\n"
        f"pir.load({str(tiny_weights)!r}, device='cpu').restore(numpy.zeros((8, 8)), task='denoise', severity=1)\n"
        "print(*sys.modules)"
    )
    assert "torch" in modules
    assert not {name.split(".")[0] for name in modules} & (set(HEAVY) - {"torch", "pooch"})


def test_everything_that_the_door_names_is_there_and_nothing_else():
    assert sorted(perceive_ir.__all__) == sorted(perceive_ir._PLACES)
    for name in perceive_ir.__all__:
        thing = getattr(perceive_ir, name)
        assert getattr(thing, "__module__", "perceive_ir").startswith("perceive_ir")
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__, name
            assert thing.__name__ == name
    source = Path(perceive_ir.__file__).read_text(encoding="utf-8")
    typed = source.split("if TYPE_CHECKING:")[1].split("_PLACES")[0]
    assert set(re.findall(r"\b\w+(?=,|\n|$)", re.sub(r"from \S+ import", "", typed))) == set(perceive_ir.__all__)


def test_a_star_brings_all_of_it_and_a_wrong_name_is_named():
    names: dict[str, object] = {}
    exec("from perceive_ir import *", names)
    assert set(perceive_ir.__all__) <= set(names)
    with pytest.raises(AttributeError, match="'perceive_ir' has no attribute 'restor'"):
        _ = perceive_ir.restor


def test_every_error_stands_in_the_tree_with_its_reason():
    tree = (_errors.__doc__ or "").split("::")[1]
    kinds = {name: kind for name, kind in vars(_errors).items() if inspect.isclass(kind)}
    assert all(issubclass(kind, PerceiveIRError) for kind in kinds.values())
    assert set(re.findall(r"\w+Error", tree)) == set(kinds)
    for name, kind in kinds.items():
        assert kind.__doc__
        assert getattr(perceive_ir, name) is kind
        assert name == "PerceiveIRError" or re.search(rf"{name} +\w", tree)
    assert not any(issubclass(kind, ValueError) for kind in kinds.values())


# ---- models by name and path


def test_the_folder_of_the_environment_wins(tmp_path, places, tiny_weights, monkeypatch):
    for folder in (tmp_path / "mine", *places):
        folder.mkdir()
        (folder / "compact.safetensors").write_bytes(tiny_weights.read_bytes())
    assert find("compact").parent == tmp_path / "cache"
    (tmp_path / "cache" / "compact.safetensors").unlink()
    assert find("compact").parent == tmp_path / "package"
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "mine"))
    assert find("compact").parent == tmp_path / "mine"
    assert available() == {"compact": tmp_path / "mine" / "compact.safetensors"}


def test_any_file_in_the_folder_is_a_model_by_its_name(tmp_path, tiny_weights, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert available() == {"tiny": tiny_weights}
    assert load("tiny", device="cpu").card.name == "tiny"


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_enough(tiny_weights, kind):
    model = load(kind(tiny_weights), device="cpu", precision="float32")
    assert isinstance(model, Restorer)
    assert model.card.scores == {"psnr": 20}
    assert (model.device, model.precision) == (torch.device("cpu"), torch.float32)


def test_a_path_may_begin_at_home_and_be_relative(tiny_weights, monkeypatch):
    monkeypatch.setenv("HOME", str(tiny_weights.parent))
    assert find("~/tiny.safetensors") == tiny_weights
    monkeypatch.chdir(tiny_weights.parent)
    assert find("tiny.safetensors").samefile(tiny_weights)


def test_an_unknown_model_is_refused_with_what_is_there(tmp_path, tiny_weights, monkeypatch):
    with pytest.raises(WeightsError, match=r"no model 'huge' here \(found: none\); give a path or set PERCEIVE_IR_W"):
        load("huge")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(WeightsError, match=r"no model 'huge' here \(found: tiny\)"):
        load("huge")
    with pytest.raises(WeightsError, match=r"no weights file at .*none\.safetensors"):
        load(str(tmp_path / "none.safetensors"))


def test_a_folder_of_the_environment_that_is_not_there_is_no_accident(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "gone"))
    assert available() == {}


def test_a_download_that_fails_says_how_to_do_without(monkeypatch, tmp_path):
    monkeypatch.setitem(CATALOGUE, "big", Entry("big", "a test", (tmp_path / "big").as_uri(), "0" * 64))
    with pytest.raises(
        WeightsError, match=r"cannot get big .* put big\.safetensors into a folder and set PERC"
    ) as caught:
        load("big")
    assert "\n" not in str(caught.value)


def test_every_entry_of_the_catalogue_says_what_it_is():
    assert "compact" in CATALOGUE
    for name, entry in CATALOGUE.items():
        assert entry.name == name
        assert entry.about
        assert bool(entry.url) == bool(entry.sha256)


@pytest.mark.parametrize("name", ["perceive_ir_3task", "perceive_ir_5task"])
def test_of_a_model_that_nobody_has_trained_it_is_said_where_it_is_said_how(name):
    said = "no weights of it exist anywhere: train it as docs/reproduce.md says"
    assert CATALOGUE[name].remedy == said
    with pytest.raises(WeightsError, match=rf"{name} is not here, and {said}; give the path of what you trained"):
        load(name)


# ---- the plain function


def test_the_plain_function_gives_an_array(tiny_weights):
    image = np.random.default_rng(0).random((40, 50), dtype=np.float32)
    expected = load(tiny_weights, device="cpu").restore(image, **DENOISE).image
    out = restore(image, model=tiny_weights, device="cpu", **DENOISE)
    assert isinstance(out, np.ndarray)
    assert np.array_equal(out, expected)


def test_the_plain_function_loads_a_model_once(tiny_weights, monkeypatch):
    calls = []
    monkeypatch.setattr(_catalogue, "load", lambda *a, keep=load, **k: calls.append(a) or keep(*a, **k))
    for _ in range(3):
        restore(np.zeros((8, 8)), model=str(tiny_weights), device="cpu", **DENOISE)
    assert len(calls) == 1


def test_the_plain_function_notices_another_folder(tmp_path, tiny_weights, monkeypatch):
    image = np.random.default_rng(0).random((40, 50), dtype=np.float32)
    outs = []
    for number, strength in enumerate((1.0, 0.0)):
        folder = tmp_path / str(number)
        system = load(tiny_weights).system
        system.restorer.backbone.leave.weight.mul_(strength)
        system.restorer.backbone.leave.bias.mul_(strength)
        save_system(folder / "mine.safetensors", system, Card("mine", str(number)))
        monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
        outs.append(restore(image, model="mine", device="cpu", **DENOISE))
    assert not np.array_equal(outs[0], image)
    assert np.array_equal(outs[1], image)


def test_the_plain_function_refuses_nonsense_in_one_line():
    with pytest.raises(ValueError, match="unknown recipe field 'strenght'"):
        restore(np.zeros((8, 8)), strenght=1)
    with pytest.raises(WeightsError, match="no model 'compact' here"):
        restore(np.zeros((8, 8)))
