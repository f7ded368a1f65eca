"""The papers' protocols on miniatures of their sets: known damage gives known rows, and a set must be whole."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from perceive_ir_training import commands, papers
from perceive_ir_training.papers import SETS
from perceive_ir_training.protocol import paper_benchmark, set_of
from perceive_ir_training.published import SUITES, Column
from perceive_ir_training.report import FORMATS

TESTS = {test.set: test for suite in SUITES.values() for test in suite.tests}
LAYOUTS = [(test, layout) for test in TESTS.values() for layout in SETS[test.set].layouts]
SUITE = pytest.mark.parametrize("suite", SUITES)
OFF = 5
"""By how much damaged pictures are too bright."""


def fill(template: str, n: int) -> str:
    return re.sub(r"\{\w+\}", f"{n:04}", template.replace("**/", "part1/").replace("*", "0.8_0.1")) + ".png"


def make(root: Path, test: Column, layout: papers.Layout | None = None, count: int = 2) -> None:
    """Write mid-grey pictures in the layout of a set, and with them damaged ones that are too bright."""
    paper = SETS[test.set]
    layout = layout or paper.layouts[0]
    for n in range(count):
        for template, value in ((layout.damaged, 120 + 10 * n + OFF), (layout.clean, 120 + 10 * n)):
            path = root / paper.folders[0] / fill(template, n)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((32, 40, 3), value, np.uint8)).save(path)


@pytest.fixture
def miniature(tmp_path, monkeypatch) -> Path:
    """All test sets, of two pictures each, which count as whole."""
    for test in TESTS.values():
        paper = SETS[test.set]
        monkeypatch.setitem(SETS, test.set, replace(paper, count=2, targets=paper.targets and 2))
        make(tmp_path, test)
    return tmp_path


@SUITE
def test_published_averages_are_those_of_their_columns(suite):
    for name, (*row, average) in SUITES[suite].rows.items():
        assert len(row) == len(SUITES[suite].tests), name
        assert average == pytest.approx(sum(row) / len(row), abs=0.04), name  # as the papers round


@SUITE
def test_a_model_that_changes_nothing_has_the_psnr_of_the_damage(identity_model, miniature, suite):
    values = paper_benchmark(identity_model, miniature, suite, given=True)
    *row, average = values["measured"]["auto"]
    bright = 20 * math.log10(255 / OFF)
    for test, found in zip(SUITES[suite].tests, row, strict=True):
        wanted = 20 * math.log10(255 / test.sigma) if test.sigma else bright
        assert found == pytest.approx(wanted, abs=0.3 if test.sigma else 0.001), test.title
    assert average == pytest.approx(np.mean(row), abs=0.001)
    assert values["measured"]["given"] == values["measured"]["auto"]
    assert [len(score["pictures"]) for score in values["sets"].values()] == [2] * len(row)


def test_noise_is_what_a_file_would_hold(miniature):
    test = TESTS["cbsd68"]
    (first, _), (again, _) = (list(set_of(replace(test, sigma=50), miniature, False).pairs()) for _ in range(2))
    assert first.damaged.dtype == np.uint8 and first.damaged.min() == 0 and first.damaged.max() == 255
    assert np.array_equal(first.damaged, again.damaged)
    assert np.std(first.damaged.astype(float) - first.target) == pytest.approx(50, rel=0.1)


@pytest.mark.parametrize(("test", "layout"), LAYOUTS)
def test_every_layout_of_every_set_is_measured(tmp_path, monkeypatch, test, layout):
    monkeypatch.setitem(SETS, test.set, replace(SETS[test.set], count=2, targets=None))
    make(tmp_path, test, layout)
    pairs = list(set_of(test, tmp_path, False).pairs())
    assert [int(pair.target[0, 0, 0]) for pair in pairs] == [120, 130]
    assert len({pair.name for pair in pairs}) == 2
    if not test.sigma:
        assert all((pair.damaged == pair.target + OFF).all() for pair in pairs)


@SUITE
def test_a_set_that_lacks_a_picture_is_refused_before_anything_is_measured(identity_model, miniature, suite):
    last = SUITES[suite].tests[-1].set
    victim = next(path for path in sorted((miniature / SETS[last].folders[0]).rglob("*.png")))
    pair = [p for p in (miniature / SETS[last].folders[0]).rglob("*.png") if p.stem[:4] == victim.stem[:4]]
    for path in pair:
        path.unlink()
    told: list[str] = []
    with pytest.raises(ValueError, match=rf"{last}: .* holds 1 pictures, published are 2; get the whole set") as caught:
        paper_benchmark(identity_model, miniature, suite, tell=told.append)
    assert not told and "\n" not in str(caught.value)


def test_the_published_counts_are_those_that_are_asked_for(identity_model, tmp_path):
    make(tmp_path, TESTS["sots-outdoor"], count=3)
    with pytest.raises(
        ValueError, match=r"sots-outdoor: .* holds 3 pictures of 3, published are 500 of 492 clean ones"
    ):
        paper_benchmark(identity_model, tmp_path, "three-task")


def test_a_pair_of_two_sizes_is_refused(identity_model, miniature):
    path = next((miniature / "Rain100L").rglob("norain-*.png"))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    with pytest.raises(ValueError, match="make them equal or remove the pair"):
        paper_benchmark(identity_model, miniature, "three-task")


def test_a_suite_that_is_not_known_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a suite out of three-task, five-task, got 'two-task'"):
        commands.benchmark_paper(tmp_path, "two-task")


def test_our_row_stands_under_the_published_ones_which_are_marked(identity_model, miniature):
    values = paper_benchmark(identity_model, miniature, "five-task")
    page = FORMATS["markdown"](values)
    assert "| Perceive-IR, published | 28.19 | 37.25 | 31.44 | 29.46 | 22.88 | 29.84 |" in page
    lines = page.splitlines()
    ours = next(n for n, line in enumerate(lines) if line.startswith("| tiny, measured here | 34.15 | 34.15 |"))
    assert all(", published |" in line for line in lines[ours - len(SUITES["five-task"].rows) : ours])
    assert "MoCE-IR, published" in FORMATS["text"](values) and "LOL-v1" in FORMATS["text"](values)
    assert json.loads(FORMATS["json"](values)) == values


def test_the_command_writes_a_report_whose_scores_go_into_weights(miniature, tiny_weights, tmp_path):
    output = tmp_path / "paper.json"
    options = {"format": "json", "output": output, "device": "cpu", "model": str(tiny_weights), "limit": 1}
    commands.benchmark_paper(miniature, "three-task", **options)
    values = json.loads(output.read_text(encoding="utf-8"))
    assert values["settings"]["limit"] == 1 and values["model"]["name"] == "tiny"
    assert set(values["scores"]) == {"measured_with", *(test.title for test in SUITES["three-task"].tests)}
