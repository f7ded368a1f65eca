"""The measurement of a model is right: by hand-worked numbers, and by pictures whose score is known."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats

from perceive_ir import TYPES
from perceive_ir._weights import load_system
from perceive_ir_training import commands
from perceive_ir_training.benchmark import benchmark
from perceive_ir_training.classical import METHODS, WIDTHS, estimated_sigma, gaussian, join, methods_for, split
from perceive_ir_training.crossfit import fold_of, own_halves
from perceive_ir_training.data import Picture, Pictures, is_held_back
from perceive_ir_training.gate import NEEDED, Triplet, boxes, measure_gate, tier_gate
from perceive_ir_training.obedience import Change, judge_absent, judge_more, rises, tell_absent, tell_more
from perceive_ir_training.perceiving import (
    Seen,
    damage,
    judge_clean,
    judge_mixtures,
    judge_singles,
    mixtures,
    pictures_in,
    scenes,
    singles,
    spearman,
    triplets,
)
from perceive_ir_training.quality import Pair, Set, compare, measure, noisy, sets_in
from perceive_ir_training.report import FORMATS, as_json, as_markdown, as_text, card_scores, check_output

KEPT = next(f"held{n}.png" for n in range(1000) if is_held_back(Path(f"held{n}.png")))
USED = next(f"used{n}.png" for n in range(1000) if not is_held_back(Path(f"used{n}.png")))


def scene(height: int = 64, width: int = 72, seed: int = 0) -> np.ndarray:
    """Patches of flat colour, softened by one pixel, as photographs are."""
    random = np.random.default_rng(seed)
    blocks = random.integers(20, 236, (height // 8, width // 8, 3)).repeat(8, 0).repeat(8, 1)
    return ndimage.gaussian_filter(blocks.astype(float), (0.6, 0.6, 0)).round().astype(np.uint8)


def to_uint8(values: np.ndarray) -> np.ndarray:
    return values.clip(0, 255).round().astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A data folder of tiny pictures: two clean ones, one pair with haze, and one to train on beside one held back."""
    root = tmp_path_factory.mktemp("data")
    for place, names in (
        ("validate/kodak24/clean", ("a.png", "b.png")),
        ("validate/haze_indoor/input", ("a.png",)),
        ("validate/haze_indoor/target", ("a.png",)),
        ("train/photos", (USED, KEPT)),
    ):
        (root / place).mkdir(parents=True)
        for number, name in enumerate(names):
            size = (64, 64) if place.startswith("train") else (32, 40)
            Image.fromarray(scene(*size, number + len(place))).save(root / place / name)
    (root / "validate/kodak24/clean/notes.txt").write_text("no picture", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def measured(tiny_model, folder) -> dict:
    return benchmark(tiny_model, folder)


# ---- PSNR, SSIM, sets


def test_psnr_of_a_known_difference():
    flat = np.full((12, 14, 3), 100, np.uint8)
    assert compare(flat + np.uint8(5), flat).psnr == pytest.approx(34.1514, abs=1e-4)  # 10 log10(255² / 25)
    one_channel = flat.copy()
    one_channel[..., 1] += 5
    assert compare(one_channel, flat).psnr == pytest.approx(38.9226, abs=1e-4)  # a third of the error: + 4.7712 dB


def test_ssim_of_flat_pictures_is_that_of_their_means():
    a, b = np.full((12, 14, 3), 100, np.uint8), np.full((12, 14, 3), 110, np.uint8)
    c = (0.01 * 255) ** 2
    assert compare(a, b).ssim == pytest.approx((2 * 100 * 110 + c) / (100**2 + 110**2 + c), abs=1e-9)


def test_ssim_has_the_gaussian_window_of_the_paper():
    a, b = scene(), to_uint8(scene() + np.random.default_rng(0).normal(0, 20, scene().shape))

    def local(x: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(x, (1.5, 1.5, 0), truncate=3.5)  # 11 x 11 pixels

    x, y, c1, c2 = a.astype(float), b.astype(float), (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = local(x), local(y)
    vx, vy, cov = local(x * x) - mx**2, local(y * y) - my**2, local(x * y) - mx * my
    index = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert compare(a, b).ssim == pytest.approx(index[5:-5, 5:-5].mean(), abs=1e-9)


def test_equal_pictures_count_100_db_and_nothing_counts_more():
    large = np.zeros((300, 300, 3), np.uint8)
    one_off = large.copy()
    one_off[0, 0, 0] = 1
    assert compare(large, large) == compare(large, large, affine=True)
    assert (compare(large, large).psnr, compare(large, large).ssim) == (100, 1)
    assert compare(large, one_off).psnr == 100
    assert compare(large, one_off).ssim < 1


def test_a_stretch_of_the_target_costs_nothing_where_an_affine_is_fitted():
    target = scene()
    stretched = to_uint8(target * 0.5 + 40)
    assert compare(stretched, target).psnr < 20
    assert compare(stretched, target, affine=True).psnr > 55  # rounding alone


def test_noise_is_drawn_once_in_the_order_of_the_names_clipped_and_rounded(folder):
    clean = folder / "validate/kodak24/clean"
    first, second = noisy(clean, 50)
    random = np.random.RandomState(0)
    for pair, name in ((first, "a.png"), (second, "b.png")):
        assert pair.name == name
        expected = pair.target + random.standard_normal(pair.target.shape) * 50
        np.testing.assert_array_equal(pair.damaged, to_uint8(expected))


def test_sets_are_found_with_their_tasks(folder):
    found = {s.name: s.task for s in sets_in(folder)}
    noise = {f"kodak24 noise {sigma}": "denoise" for sigma in (15, 25, 50)}
    assert found == {**noise, "kodak24 clean": None, "haze_indoor": "dehaze"}
    assert [s.name for s in sets_in(folder / "validate")] == list(found)


def test_a_model_that_changes_nothing_leaves_every_score_as_it_was(identity_model, folder):
    data = next(s for s in sets_in(folder) if s.name == "haze_indoor")
    score = measure(identity_model, data)
    assert score.means["auto"] == score.means["given"] == score.means["input"]
    assert score.to_dict()["untouched"] == 1
    assert set(score.means) == {"input", "auto", "given", "dark channel"}


def test_means_are_over_pictures_and_a_limit_takes_the_first(identity_model):
    black, target = np.zeros((16, 16, 3), np.uint8), scene(16, 16)
    pairs = [Pair("same", target, target), Pair("black", black, target), Pair("same too", target, target)]
    data = Set("hand-made", None, lambda: iter(pairs))
    score = measure(identity_model, data)
    assert score.means["input"].psnr == pytest.approx((200 + compare(black, target).psnr) / 3)
    assert score.to_dict()["worst_auto"] == pytest.approx(compare(black, target).psnr, abs=1e-3)
    assert [p.name for p in measure(identity_model, data, limit=2).pictures] == ["same", "black"]


def test_an_empty_set_is_refused(identity_model):
    with pytest.raises(ValueError, match="hand-made holds no pictures"):
        measure(identity_model, Set("hand-made", None, lambda: iter(())))


# ---- classical methods


def with_noise(clean: np.ndarray) -> np.ndarray:
    return to_uint8(clean + np.random.default_rng(1).normal(0, 20, clean.shape))


def with_haze(clean: np.ndarray) -> np.ndarray:
    transmission = np.linspace(0.02, 0.9, len(clean))[:, None, None]  # thick at the top, as over a landscape
    return to_uint8(transmission * clean + (1 - transmission) * 230)


def with_streaks(clean: np.ndarray) -> np.ndarray:
    streaked = clean.copy()
    streaked[:, ::9] = 255
    return streaked


def with_blur(clean: np.ndarray) -> np.ndarray:
    return to_uint8(ndimage.gaussian_filter(clean.astype(float), (1.5, 1.5, 0)))


DAMAGES = {
    "denoise": with_noise,
    "dehaze": with_haze,
    "brighten": lambda clean: to_uint8(255 * (clean / 255) ** 3),
    "derain": with_streaks,
    "deblur": with_blur,
}


@pytest.mark.parametrize(("task", "method"), [(t, m) for t in METHODS for m in methods_for(t, microscopy=True)])
def test_each_classical_method_undoes_some_of_its_own_kind_of_damage(task, method):
    clean = scene(160, 160)
    clean[::8] //= 8 if task == "dehaze" else 1  # dark places, which the dark channel counts on
    damaged = DAMAGES[task](clean)
    better = methods_for(task, microscopy=True)[method](damaged)
    assert better.dtype == np.uint8
    assert compare(better, clean).psnr > compare(damaged, clean).psnr + 0.5


@pytest.mark.parametrize("method", [m for methods in METHODS.values() for m in methods.values()] + [gaussian])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_classical_methods_take_a_flat_picture(method, value):
    out = method(np.full((40, 41, 3), value, np.uint8))
    assert out.shape == (40, 41, 3)
    assert not np.ptp(out)


def test_the_noise_is_estimated_also_where_it_grows_with_the_signal():
    random = np.random.default_rng(0)
    level = np.linspace(0.05, 0.8, 256)[:, None, None] * np.ones((1, 256, 3))
    for deviation in (np.full_like(level, 0.05), 0.2 * np.sqrt(level)):
        true = float(np.sqrt(np.mean(deviation**2)))
        assert estimated_sigma(level + random.normal(size=level.shape) * deviation) == pytest.approx(true, rel=0.05)
    assert estimated_sigma(np.zeros((2, 2, 3))) == estimated_sigma(np.zeros((1, 1, 3))) == 0


def test_the_gaussian_finds_nearly_the_best_width_without_the_target():
    y, x = np.mgrid[:128, :128] / 7.0
    clean = np.stack([128 + 90 * np.sin(y + n) * np.cos(x) for n in range(3)], axis=-1)
    damaged = with_noise(clean)
    every = [compare(to_uint8(ndimage.gaussian_filter(damaged.astype(float), (w, w, 0))), to_uint8(clean)).psnr
             for w in WIDTHS]  # fmt: skip
    assert compare(gaussian(damaged), to_uint8(clean)).psnr > max(every) - 0.3


def test_wavelets_without_shrinking_give_back_the_picture():
    values = np.random.default_rng(0).random((20, 20))
    np.testing.assert_allclose(join(*split(values, 1, 4), 1, 4), values, atol=1e-12)


# ---- perception


def seen(true: dict, present: dict, severities: dict | None = None, tier: str = "low", name: str = "a") -> Seen:
    nothing = dict.fromkeys(TYPES, 0.0)
    return Seen(name, False, true, {**nothing, **present}, {**nothing, **(severities or {})}, tier)


def test_rank_correlation_agrees_with_scipy_also_with_ties():
    random = np.random.default_rng(0)
    for _ in range(5):
        a, b = random.integers(0, 6, 30).astype(float), random.random(30)
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-4)
    assert spearman([1, 2, 3], [2.0, 4.0, 9.0]) == 1
    assert spearman([1, 2, 3], [5.0, 4.0, 4.5]) == -0.5
    assert spearman([1, 1, 1], [1.0, 2.0, 3.0]) is None


def test_single_types_are_judged_as_worked_out_by_hand():
    rows = [
        seen({"noise": 0.2}, {"noise": 0.9}, {"noise": 0.3}),  # right, alone
        seen({"noise": 0.6}, {"noise": 0.8, "blur": 0.9}, {"noise": 0.5, "blur": 0.1}),  # named first, but another too
        seen({"noise": 0.9}, {"noise": 0.2, "rain": 0.4}, {"noise": 0.9, "rain": 0.8}),  # taken for rain, but in doubt
        seen({"haze": 0.5}, {"haze": 0.3}, {"haze": 0.1}),  # named right, but in doubt
    ]
    found = judge_singles(rows)
    noise = {
        "samples": 3,
        "first": 0.6667,
        "likeliest": 0.3333,
        "found": 0.6667,
        "exact": 0.3333,
        "error": 0.0667,
        "rank": 1.0,
    }
    haze = {"samples": 1, "first": 1.0, "likeliest": 1.0, "found": 0.0, "exact": 0.0, "error": 0.4, "rank": None}
    assert found["types"] == {"noise": noise, "haze": haze}
    assert found["first"] == pytest.approx((0.6667 + 1) / 2, abs=1e-4)
    assert (found["rank"], found["samples"]) == (1.0, 4)
    assert found["first_by_kind"] == {"photos": 0.75}
    assert found["first_by_degree"] == {"moderate": 1.0, "strong": 0.5}


def test_f1_of_mixtures_as_worked_out_by_hand():
    rows = [
        seen({"noise": 0.5, "haze": 0.5}, {"noise": 0.9, "haze": 0.9}),
        seen({"noise": 0.5, "blur": 0.5}, {"noise": 0.9, "haze": 0.9}),
        seen({"blur": 0.5, "rain": 0.5}, {}),
    ]
    # 3 of 4 claims are right, 3 of 6 types found: 2 * 3 / (4 + 6)
    assert judge_mixtures(rows) == {
        "samples": 3, "f1": 0.6, "types": {"noise": 1.0, "haze": 0.6667, "rain": 0.0, "blur": 0.0},
    }  # fmt: skip


def test_false_alarms_on_clean_pictures_are_counted():
    rows = [seen({}, {"snow": 0.7}), seen({}, {}, tier="high"), seen({}, {"snow": 0.4}, tier="high")]
    assert judge_clean(rows) == {"samples": 3, "false_alarms": 0.3333, "high": 0.6667}


def photo(microscopy: bool = False, grey: bool = False) -> Picture:
    pixels = scene(32, 32)
    return Picture("photo", pixels[..., :1].repeat(3, -1) if grey else pixels, grey, microscopy)


def test_the_same_key_is_the_same_scene_and_severity_0_is_clean():
    low, high = (damage(photo(), {"noise": s}, "a")[0].astype(int) - photo().pixels for s in (0.2, 0.4))
    assert np.corrcoef(low.ravel(), high.ravel())[0, 1] > 0.9
    assert np.abs(high).mean() > np.abs(low).mean() > 0
    assert not np.array_equal(damage(photo(), {"noise": 0.3}, "a")[0], damage(photo(), {"noise": 0.3}, "b")[0])
    np.testing.assert_array_equal(damage(photo(), {"noise": 0.0}, "a")[0], photo().pixels)
    assert not np.ptp(damage(photo(grey=True), {"noise": 0.5})[0], axis=-1).any()


def test_the_truth_is_how_much_haze_a_scene_shows():
    shown = [damage(photo(), {"haze": 0.5, "noise": 0.3}, key)[1] for key in range(6)]
    assert all(true["noise"] == pytest.approx(0.3) for true in shown)
    haze = [true["haze"] for true in shown]
    assert max(haze) - min(haze) > 0.1


def test_micrographs_have_no_weather_and_every_case_is_new():
    photos, micrographs = Pictures((photo(),)), Pictures((), (photo(True), photo(True)))
    assert {t for _, true, _ in singles(photos) for t in true} == set(TYPES)
    assert {t for _, true, _ in singles(micrographs) for t in true} == {"noise", "blur", "jpeg", "lowres"}
    assert all(len(true) == 2 for _, true, _ in mixtures(photos))
    cases = [pixels.tobytes() for _, _, pixels in [*singles(photos), *mixtures(photos)]]
    assert len(set(cases)) == len(cases) == 8 * 5 + 8


def test_held_back_pictures_are_used_and_clean_ones_where_nothing_trains(folder):
    assert [p.name for p in pictures_in(folder).photos] == [KEPT]
    assert [p.name for p in pictures_in(folder / "validate").photos] == ["a.png", "b.png"]
    assert [p.name for p in pictures_in(folder / "validate", 1).photos] == ["a.png"]
    with pytest.raises(ValueError, match="no pictures to perceive"):
        pictures_in(folder / "validate" / "haze_indoor")


# ---- the gate of the tiers


def one_crop(*rows: tuple[float, float, float]) -> list:
    return [list(rows)]


PERFECT = one_crop((9, 0, 0), (0, 9, 0), (0, 0, 9))
TWO_RIGHT_IN_ORDER = one_crop((9, 8, 0), (9, 8, 3), (0, 0, 9))
REVERSED = one_crop((0, 0, 9), (0, 9, 0), (9, 0, 0))


def test_the_gate_as_worked_out_by_hand():
    logits = np.array([PERFECT, TWO_RIGHT_IN_ORDER, PERFECT, REVERSED], float)
    gate = tier_gate(logits, ["rain", "rain", "haze", "haze"])
    assert gate.tasks["rain"] == pytest.approx({"accuracy": 5 / 6, "whole": 0.5, "order": 1, "triplets": 2})
    assert gate.tasks["haze"] == pytest.approx({"accuracy": 4 / 6, "whole": 0.5, "order": 0.5, "triplets": 2})
    assert gate.accuracy == pytest.approx(0.75)
    assert gate.worst_accuracy == pytest.approx(4 / 6)
    assert (gate.whole, gate.order, gate.worst_order) == (0.5, 0.75, 0.5)
    assert gate.missed == tuple(NEEDED)


def test_tasks_count_alike_however_many_triplets_they_have():
    gate = tier_gate(np.array([PERFECT] * 9 + [REVERSED], float), ["rain"] * 9 + ["haze"])
    assert gate.accuracy == pytest.approx((1 + 1 / 3) / 2)
    assert gate.order == 0.5


def test_the_gate_averages_the_probabilities_of_the_crops():
    sure, doubtful = (9.0, 0.0, 0.0), (0.0, 1.0, 0.0)  # probabilities 1.00 0 0 and 0.21 0.58 0.21
    crops = [[sure, PERFECT[0][1], PERFECT[0][2]], *[[doubtful, PERFECT[0][1], PERFECT[0][2]]] * 2]
    assert tier_gate(np.array([crops], float), ["rain"]).passed  # low: (1.00 + 2 * 0.21) / 3 = 0.47 against 0.39


def test_equal_scores_are_no_order():
    assert tier_gate(np.zeros((1, 5, 3, 3)), ["rain"]).order == 0


def test_the_gate_is_passed_at_exactly_what_is_needed():
    gate = tier_gate(np.array([PERFECT], float), ["rain"])
    assert replace(gate, **NEEDED).passed
    for name, least in NEEDED.items():
        assert replace(gate, **{**NEEDED, name: least - 0.001}).missed == (name,)


@pytest.mark.parametrize(("shape", "tasks"), [((2, 5, 3, 3), ["a"]), ((0, 5, 3, 3), []), ((1, 5, 3), ["a"])])
def test_the_gate_refuses_what_is_no_triplets(shape, tasks):
    with pytest.raises(ValueError, match="expected logits"):
        tier_gate(np.zeros(shape), tasks)


def test_the_gate_reads_five_equal_crops_of_all_three_qualities():
    qualities = [np.full((64, 80, 3), value, np.uint8) for value in (10, 120, 240)]
    sizes = []

    def read(x: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(x.shape))
        return -100 * (x.mean(dim=(1, 2, 3))[:, None] - torch.tensor([10, 120, 240]) / 255).abs()

    assert measure_gate(read, [Triplet("rain", *qualities)], side=48).passed
    assert not measure_gate(read, [Triplet("rain", *qualities[::-1])]).order
    assert sizes == [(15, 3, 48, 48), (15, 3, 64, 64)]
    with pytest.raises(ValueError, match="one shape for rain"):
        Triplet("rain", qualities[0], qualities[1], qualities[2][:-1])


def test_the_crops_lie_within_the_picture():
    squares = list(boxes(100, 130, 48))
    assert len(set(map(str, squares))) == 5
    assert all(0 <= y.start and y.stop <= 100 and 0 <= x.start and x.stop <= 130 for y, x in squares)
    assert all(y.stop - y.start == x.stop - x.start == 48 for y, x in squares)
    with pytest.raises(ValueError, match="got 9 x 100"):
        list(boxes(9, 100, 48))


def test_scenes_are_damaged_half_restored_and_clean():
    wide = Picture("photo", scene(40, 56), grey=False)
    made = list(scenes(Pictures((wide,), (photo(microscopy=True),)), own_halves()))
    assert [t.task for t in made] == [*TYPES, *(t for t in TYPES if t in ("noise", "blur", "jpeg", "lowres"))]
    for triplet in made:
        assert triplet.medium.shape == triplet.low.shape == triplet.high.shape
        assert not np.array_equal(triplet.medium, triplet.low)
    for triplet in made[:8]:
        np.testing.assert_array_equal(triplet.high, wide.pixels)
    gains = {t.task: compare(t.medium, t.high).psnr - compare(t.low, t.high).psnr for t in made[:8]}
    assert min(gain for task, gain in gains.items() if task not in ("blur", "jpeg")) > 1, gains
    assert gains["jpeg"] > 0.2, gains


def test_half_restored_blur_is_sharper_on_average():
    photos = tuple(Picture(f"photo{seed}", scene(96, 112, seed), grey=False) for seed in range(3))
    blurred = [t for t in scenes(Pictures(photos), own_halves()) if t.task == "blur"]
    gains = [compare(t.medium, t.high).psnr - compare(t.low, t.high).psnr for t in blurred]
    assert len(gains) == 3 and np.mean(gains) > 0.02, gains


def test_no_scene_is_half_restored_by_a_model_that_knows_it():
    halves = own_halves()
    assert not halves.seen[0] & halves.seen[1]
    for fold, names in enumerate(halves.seen):
        assert {fold_of(name) for name in names} == {fold}
        assert not any(is_held_back(Path(name)) for name in names)


def test_triplets_made_by_formula_fall_in_quality():
    for triplet in triplets(Pictures((photo(),))):
        low, medium = (compare(p, triplet.high).psnr for p in (triplet.low, triplet.medium))
        assert low < medium < 100, triplet.task


# ---- obedience


def test_a_change_may_shrink_by_one_in_a_hundred():
    assert rises((1.0, 1.0, 0.995, 3.0))
    assert not rises((1.0, 0.98, 3.0))


def test_told_more_is_judged_by_type():
    rows = [Change("a", "rain", "rain", (1.0, 2.0)), Change("b", "rain", "rain", (3.0, 1.0)),
            Change("a", "haze", "haze", (1.0, 1.0))]  # fmt: skip
    found = judge_more(rows)
    assert found["types"]["rain"] == {"rises": 0.5, "changes": [2.0, 1.5]}
    assert found["rises"] == 0.75


def test_told_an_absent_type_is_judged_apart_for_clean_pictures():
    rows = [Change(p, there, t, (change,)) for t in TYPES for p, there, change in
            (("a", "", 1.0), ("b", "", 2.0), ("a", "x", 7.0))]  # fmt: skip
    found = judge_absent(rows)
    assert (found["clean"], found["damaged"]) == (1.5, 7.0)
    assert found["types"]["rain"] == {"clean": 1.5, "damaged": 7.0}


def test_a_model_that_changes_nothing_obeys_trivially(identity_model):
    pictures = Pictures((photo(),))
    more, absent = list(tell_more(identity_model, pictures)), list(tell_absent(identity_model, pictures))
    assert [(c.there, c.told) for c in more] == [(t, t) for t in TYPES]
    assert [c.there == c.told for c in absent] == [False] * 16
    assert not any(any(c.changes) for c in [*more, *absent])


def test_a_model_that_is_told_more_by_its_gate_changes_more(tiny_model):
    assert judge_more(list(tell_more(tiny_model, Pictures((photo(),)))))["types"]["noise"]["changes"][-1] > 0


# ---- the report


def test_everything_is_measured_and_comes_through_json_as_it_was(measured):
    read = json.loads(as_json(measured))
    assert read == measured
    for write in (as_text, as_markdown):
        assert write(read) == write(measured)
    assert len(read["sets"]["kodak24 noise 15"]["pictures"]) == 2
    assert set(read["sets"]["haze_indoor"]["pictures"][0]["dark channel"]) == {"psnr", "ssim"}
    assert set(read["perception"]["single"]["types"]) == set(TYPES)
    assert len(read["perception"]["samples"]) == 8 * 5 + 8 + 1


def test_the_report_says_each_number_once_it_is_measured(measured):
    page = as_markdown(measured)
    assert f"{measured['sets']['haze_indoor']['means']['auto']['psnr']:.2f} / " in page
    assert "dark channel" in page
    assert "| worst_order |" in page
    assert all(f"| {kind} |" in page for kind in TYPES)
    text = as_text(measured)
    assert all(words in text for words in ("tiny, version 0", "kodak24 clean", "Gate of the tiers"))
    narrow = as_text(measured, 80).splitlines()
    assert max(map(len, narrow)) <= 80


def test_tables_are_markdown(measured):
    for block in as_markdown(measured).split("\n\n"):
        widths = {line.count("|") for line in block.splitlines() if line.startswith("|")}
        assert len(widths) <= 1


def test_a_weights_file_carries_the_short_form(measured, tiny_weights, tmp_path):
    path, weights = tmp_path / "scores.json", tmp_path / "out.safetensors"
    path.write_text(as_json(measured), encoding="utf-8")
    commands.export("compact.toml", tiny_weights, weights, scores=path)
    scores = load_system(weights)[1].scores
    assert scores == measured["scores"]
    psnr = [measured["sets"]["haze_indoor"]["means"][way]["psnr"] for way in ("input", "auto", "given")]
    assert scores["haze_indoor"]["psnr"] == psnr
    assert scores["perception"]["F1 on mixtures of two"] == measured["perception"]["mixtures"]["f1"]
    assert card_scores({"psnr": 20}) == {"psnr": 20}


def test_parts_can_be_chosen(identity_model, folder):
    some = benchmark(identity_model, folder, only=["haze"], classical=False)
    assert (list(some["sets"]), some["perception"]) == (["haze_indoor"], None)
    assert set(some["sets"]["haze_indoor"]["means"]) == {"input", "auto", "given"}
    quick = benchmark(identity_model, folder, only=["kodak24 clean"], limit=1)
    assert len(quick["sets"]["kodak24 clean"]["pictures"]) == 1
    assert quick["scores"]["pictures per set"] == 1
    assert "at most 1 pictures" in as_text(quick)


def test_perception_alone_can_be_chosen(identity_model, folder):
    found = benchmark(identity_model, folder, only=["perception"])
    assert found["sets"] == {}
    assert found["perception"]["pictures"] == {"photos": 1, "microscopy": 0}
    assert found["perception"]["told_absent"]["clean"] == 0


def test_a_choice_of_nothing_is_refused_with_what_there_is(identity_model, folder):
    with pytest.raises(ValueError, match=r"asked for kodak23; there is kodak24 noise 15, .*haze_indoor, perception"):
        benchmark(identity_model, folder, only=["kodak23"])


@pytest.mark.parametrize(
    ("format", "output", "words"),
    [("html", None, "text, json, markdown, got 'html'"), ("text", "none/a.txt", "cannot write"), ("json", ".", "file")],
)
def test_what_cannot_be_written_is_refused_before_any_work(tmp_path, format, output, words):
    with pytest.raises(ValueError, match=words):
        check_output(format, tmp_path / output if output else None)


@pytest.mark.parametrize("format", list(FORMATS))
def test_the_command_writes_every_format(tiny_weights, folder, tmp_path, format, capsys):
    options = {"model": str(tiny_weights), "only": ["haze"], "format": format, "device": "cpu"}
    commands.benchmark_quality(folder, output=tmp_path / "report", **options)
    assert capsys.readouterr().out == ""
    assert "haze_indoor" in (tmp_path / "report").read_text(encoding="utf-8")
    commands.benchmark_quality(folder, **options)
    assert "haze_indoor" in capsys.readouterr().out
