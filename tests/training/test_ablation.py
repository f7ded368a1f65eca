"""The ablation runs from end to end, and its rows differ by what they say and by nothing else."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from perceive_ir import TYPES
from perceive_ir.networks import NAFNet, System
from perceive_ir_training.config import LossConfig
from perceive_ir_training.crossfit import fold_of
from perceive_ir_training.data import is_held_back
from perceive_ir_training.stages import RestorerStage
from tests.conftest import TINY_SIZES


@pytest.fixture
def ablation(monkeypatch) -> ModuleType:
    """The script, on small pictures."""
    module = load_script("ablation", monkeypatch)
    for name, value in {"EACH": 1, "SIDE": 32, "WIDTHS": (4, 4, 4, 4)}.items():
        monkeypatch.setattr(module, name, value)
    return module


@pytest.fixture
def comparison(ablation, monkeypatch) -> ModuleType:
    """The script that compares backbones, with a tiny one."""
    module = load_script("compare_backbones", monkeypatch)
    monkeypatch.setattr(module, "FAMILIES", {"nafnet": TINY_SIZES["nafnet"]})
    return module


def load_script(name: str, monkeypatch) -> ModuleType:
    place = Path(__file__).parents[2] / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, place)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def arguments(tmp_path, monkeypatch) -> Path:
    """Pictures of both folds and held-back ones; returns where the rows are to be written."""
    (tmp_path / "photos").mkdir()
    kinds = {}
    for name in (f"p{n}.png" for n in range(200)):
        kinds.setdefault((is_held_back(Path(name)), fold_of(name)), name)
    for name in kinds.values():
        pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    output = tmp_path / "rows.json"
    options = ["--steps", "2", "--half-steps", "1", "--seeds", "1", "-o", str(output)]
    monkeypatch.setattr(sys, "argv", ["ablation.py", "--data", str(tmp_path), *options])
    return output


def test_the_ablation_runs_and_writes_a_row_for_each_idea(ablation, arguments, capsys):
    ablation.main()
    rows = json.loads(arguments.read_text(encoding="utf-8"))
    assert [row["name"] for row in rows] == ["input", *ablation.RESTORERS, *ablation.PERCEIVERS]
    assert [row["steps"] for row in rows] == [0] + [2] * (len(rows) - 1)
    assert all(
        set(row["psnr"]) == {*TYPES, ablation.CLEAN} and np.isfinite([*row["psnr"].values()]).all() for row in rows
    )
    assert [row["psnr"]["clean"] == 100 for row in rows[:6]] == [True, False, True, True, True, True]
    assert {row["name"] for row in rows if row["seen"]} == set(ablation.PERCEIVERS)
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 2 + len(rows)
    assert len({line.count("|") for line in table}) == 1


def test_every_restorer_starts_alike_and_sees_the_same_pictures_in_the_same_order(ablation, arguments):
    bench = ablation.prepare(ablation.options(None).parse_args())
    stages = []
    for unguided in (0.0, 1.0):
        setting = bench.setting(3, LossConfig(), unguided)
        torch.manual_seed(3)
        stages.append(RestorerStage(setting, System(setting.config.model)))
    for step in (1, 2):
        guided, plain = (stage.batch(step, 32) for stage in stages)
        assert (guided.semantics, plain.semantics) == (True, False)
        assert torch.equal(guided.damaged, plain.damaged)
        assert torch.equal(guided.target, plain.target)
    one, two = (stage.system.state_dict() for stage in stages)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_comparison_runs_and_writes_a_row_for_each_family_plain_and_guided(comparison, arguments, capsys):
    comparison.main()
    rows = json.loads(arguments.read_text(encoding="utf-8"))
    families, ways = zip(*(row["name"].split(": ") for row in rows[1:]), strict=True)
    assert [*ways] == [*comparison.WAYS]
    assert [name.split(" ")[0] for name in families] == ["nafnet"] * 3
    assert [row["steps"] for row in rows] == [0, 2, 2, 2]
    assert [row["psnr"]["clean"] == 100 for row in rows] == [True, False, True, True]
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(rows)


def test_a_plain_backbone_of_the_comparison_has_nothing_but_its_backbone(comparison, ablation, arguments):
    bench = comparison.of_family(ablation.prepare(ablation.options(None).parse_args()), "nafnet")
    plain, guided = (
        ablation.train_restorer(bench, "x", way, 0)[0].restorer for way in list(comparison.WAYS.values())[:2]
    )
    assert {name.split(".")[0] for name in plain.state_dict()} == {"backbone"}
    assert {name.split(".")[0] for name in guided.state_dict()} == {"backbone", "guidance"}
    assert isinstance(plain.backbone, NAFNet)
