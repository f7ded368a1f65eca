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
from perceive_ir.networks import System
from perceive_ir_training.config import LossConfig
from perceive_ir_training.crossfit import fold_of
from perceive_ir_training.data import is_held_back
from perceive_ir_training.stages import RestorerStage


@pytest.fixture
def ablation(monkeypatch) -> ModuleType:
    """The script, on small pictures."""
    place = Path(__file__).parents[2] / "scripts" / "ablation.py"
    spec = importlib.util.spec_from_file_location("ablation", place)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "ablation", module)
    spec.loader.exec_module(module)
    for name, value in {"EACH": 1, "SIDE": 32, "WIDTHS": (4, 4, 4, 4)}.items():
        monkeypatch.setattr(module, name, value)
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
    bench = ablation.prepare(ablation.options())
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
