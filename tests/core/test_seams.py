"""Networks that see the whole tile: how much their seams show is measured, and a wide ramp hides them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from perceive_ir import Restorer
from perceive_ir._engine import BLEND, WIDE_OVERLAP
from perceive_ir._recipe import Recipe
from perceive_ir._tiles import plan_tiles
from perceive_ir._weights import Card


@pytest.fixture(scope="module")
def seams() -> ModuleType:
    place = Path(__file__).parents[2] / "scripts" / "measure_seams.py"
    spec = importlib.util.spec_from_file_location("measure_seams", place)
    module = importlib.util.module_from_spec(spec)
    sys.modules["measure_seams"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def restormer(make_system) -> Restorer:
    """A tiny Restormer-type model with random weights: it says nothing about quality, but its tiles disagree."""
    return Restorer(make_system(backbone="restormer"), Card("tiny", "0"), device="cpu", precision="float32")


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(height, width, 3)).astype(np.float32)


def test_a_change_without_seams_scores_one_and_a_step_at_the_borders_much_more(seams):
    plan = plan_tiles(192, 256, tile=64, halo=16, multiple=8)
    smooth = noise(192, 256)
    assert seams.seam_score(smooth, plan) == pytest.approx(1, abs=0.35)
    stepped = smooth.copy()
    for n, (left, right) in enumerate(zip([0, 64, 128, 192], [64, 128, 192, 256], strict=True)):
        stepped[:, left:right] += n % 2
    assert seams.seam_score(stepped, plan) > 3
    shifted = np.roll(stepped, 32, axis=1)
    assert seams.seam_score(shifted, plan) < 1, "steps elsewhere are no seams"
    assert seams.seam_score(np.zeros_like(smooth), plan) == 1


def test_a_network_that_changes_nothing_has_no_seams(seams, make_system):
    system = make_system(backbone="restormer", lively=False)
    system.restorer.backbone.leave.weight.data.zero_()
    model = Restorer(system, Card("tiny", "0"), device="cpu", precision="float32")
    image = np.random.default_rng(0).random((64, 96, 3), dtype=np.float32)
    assert seams.seams_of(model, image, "denoise", 32, 8) == (0, 0, 1, 1)


def test_tiles_of_a_network_that_sees_the_whole_tile_hand_over_along_a_wide_ramp(restormer, tiny_model):
    assert restormer.overlap(Recipe()) == WIDE_OVERLAP and restormer.blend(WIDE_OVERLAP) == WIDE_OVERLAP // 2
    assert restormer.blend(4) == BLEND == tiny_model.blend(48)


def test_a_wide_ramp_hides_seams_that_a_narrow_one_shows(seams, restormer, monkeypatch):
    slope = np.linspace(0, 1, 192, dtype=np.float32)[None, :, None]
    image = np.broadcast_to(slope, (64, 192, 3)) * 0.8 + 0.1
    wide = seams.seams_of(restormer, image, "denoise", 32, 32)
    monkeypatch.setattr(Restorer, "blend", lambda self, overlap: BLEND)
    narrow = seams.seams_of(restormer, image, "denoise", 32, 32)
    assert 0 < wide[2] < narrow[2]
