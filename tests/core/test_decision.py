"""What is done to a picture follows from the recipe and from what is seen, as a table says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from perceive_ir import TASKS, TIERS, TYPES, Perception, QualityMap
from perceive_ir._decision import (
    cell_means,
    decide,
    enlarge,
    painted_condition,
    region_condition,
    sample_rows,
    tier_weights,
)
from perceive_ir._recipe import make_recipe
from perceive_ir._vocabulary import TONAL_TYPES

TIER = {"low": (0.7, 0.2, 0.1), "medium": (0.2, 0.7, 0.1), "high": (0.1, 0.2, 0.7)}
READ = {t: 0.2 + 0.05 * n for n, t in enumerate(TYPES)} | {"haze": 0.35}
"""Severities as read, if the type is present; noise 0.2, haze 0.35, rain 0.3, ..."""


def seen(tier: str, *present: str) -> Perception:
    tiers = dict(zip(TIERS, TIER[tier], strict=True))
    return Perception(tiers, {t: 0.8 if t in present else 0.2 for t in TYPES}, READ, (0.0, 1.0))


def only(**severities: float) -> dict[str, float]:
    return {t: severities.get(t, 0.0) for t in TYPES}


def qmap(*cells: tuple[str, tuple[str, ...]]) -> QualityMap:
    """A map with one row of cells: tier and present types of each."""
    probabilities = np.array([TIER[tier] for tier, _ in cells], np.float32).T[:, None]
    types = np.array([[0.8 if t in present else 0.2 for _, present in cells] for t in TYPES], np.float32)[:, None]
    severities = np.array([[READ[t]] * len(cells) for t in TYPES], np.float32)[:, None]
    return QualityMap(probabilities, types, severities, 32, 128, (32, 32 * len(cells)))


@pytest.mark.parametrize(("read", "undone"), [(0.1, 0), (0.2, 0), (0.25, 0.125), (0.3, 0.3), (0.6, 0.6)])
def test_slight_haze_is_left_where_nobody_asks_for_it(monkeypatch, read, undone):
    monkeypatch.setitem(READ, "haze", read)
    for kind in ("image", "region"):
        recipe = make_recipe(handling=kind)
        found = decide(recipe, seen("low", "haze", "noise"))
        assert found.condition == pytest.approx(only(noise=0.2, haze=undone))
        cells = region_condition(recipe, qmap(("low", ("haze", "noise"))), only())[:, 0, 0]
        assert dict(zip(TYPES, cells.tolist(), strict=True)) == pytest.approx(found.condition)
    said = "slight haze is left, as it may belong to the scene; task dehaze undoes it"
    assert found.note == (said if read < 0.2 else "")
    assert decide(make_recipe(task="dehaze"), seen("low", "haze")).condition["haze"] == read


@pytest.mark.parametrize(
    ("fields", "tier", "present", "condition"),
    [
        ({}, "low", ("noise", "rain"), only(noise=0.2, rain=0.3)),
        ({}, "low", ("noise", "blur"), only(noise=0.2)),
        ({}, "low", ("blur",), only(blur=0.4)),
        ({}, "medium", ("haze",), only(haze=0.35)),
        ({}, "high", ("noise",), only(noise=0.2)),
        ({}, "high", ("haze",), only()),
        ({}, "high", (), only()),
        ({}, "low", (), {t: 0.5 * 0.2 * s * (t not in TONAL_TYPES) for t, s in READ.items()}),
        ({"severity": 0.5}, "low", ("noise",), only(noise=0.2)),
        ({"severity": 0.25}, "low", ("noise",), only(noise=0.1)),
        ({"severity": 1}, "low", ("noise",), only(noise=0.4)),
        ({"severity": 0}, "low", ("noise",), only()),
        ({"severity": 1}, "low", ("lowres",), only(lowres=1.0)),
        ({"severity": 1}, "low", (), {t: 0.2 * s * (t not in TONAL_TYPES) for t, s in READ.items()}),
        ({"severity": 1}, "high", ("haze",), only()),
        ({"task": "denoise"}, "low", ("noise",), only(noise=0.2)),
        ({"task": "denoise"}, "low", ("rain",), only(noise=0.2)),
        ({"task": "denoise"}, "high", (), only(noise=0.2)),
        ({"task": "denoise", "severity": 0.9}, "high", (), only(noise=0.9)),
        ({"task": "derain", "severity": 0}, "low", ("rain",), only()),
        ({"task": ["denoise", "deblur"]}, "low", ("blur",), only(noise=0.2, blur=0.4)),
        ({"task": ["sharpen", "brighten"], "severity": 0.6}, "low", (), only(lowres=0.6, lowlight=0.6)),
    ],
)
def test_the_condition_follows_from_wish_and_sight(fields, tier, present, condition):
    decided = decide(make_recipe(**fields), seen(tier, *present))
    assert decided.condition == pytest.approx(condition)
    assert decided.unchanged == (not any(condition.values()))
    assert decided.vector().tolist() == [pytest.approx([condition[t] for t in TYPES])]


def test_it_says_when_a_picture_stays_and_when_its_damage_is_unknown():
    assert decide(make_recipe(), seen("high")).note == "unchanged: the picture is perceived as of high quality"
    assert "no known type" in decide(make_recipe(), seen("low")).note
    assert decide(make_recipe(), seen("low", "noise")).note == ""
    assert decide(make_recipe(task="denoise"), seen("high")).note == ""
    assert decide(make_recipe(), seen("low", "haze")).note == ""
    left = decide(make_recipe(), seen("low", "noise", "blur")).note
    assert left == "blur is left beside noise, where it may belong to the scene; task deblur undoes it"
    faint = replace(seen("low", "noise", "blur"), severities={**READ, "noise": 0.04})
    assert decide(make_recipe(), faint).condition == pytest.approx(only(noise=0.04, blur=0.4))


@pytest.mark.parametrize("task", TASKS)
def test_every_task_speaks_to_the_type_that_it_undoes(task):
    condition = decide(make_recipe(task=task, severity=1), seen("low")).condition
    assert [t for t, s in condition.items() if s] == [TYPES[TASKS.index(task)]]


def test_regions_are_treated_as_pictures_of_their_own():
    cells = [("low", ("noise", "lowres")), ("high", ("haze",)), ("medium", ()), ("high", ("noise", "haze"))]
    for fields in ({}, {"severity": 1}, {"severity": 0.1}, {"task": "deblur", "severity": 0.9}):
        recipe = make_recipe(handling="region", **fields)
        condition = region_condition(recipe, qmap(*cells), only())
        assert condition.shape == (len(TYPES), 1, 4)
        assert condition.dtype == np.float32
        for n, (tier, present) in enumerate(cells):
            expected = decide(make_recipe(**fields), seen(tier, *present)).condition
            np.testing.assert_allclose(condition[:, 0, n], list(expected.values()), rtol=1e-6, atol=1e-7)


def test_haze_of_the_whole_picture_is_in_every_cell():
    cells = qmap(("low", ("noise", "haze")), ("high", ()), ("medium", ("noise",)))
    apart, found = (
        region_condition(make_recipe(handling="region"), cells, w) for w in (only(), only(haze=0.6, noise=0.9))
    )
    haze = TYPES.index("haze")
    assert found[haze, 0].tolist() == pytest.approx([0.35 / 4 + 0.6 * 3 / 4] * 3)
    assert np.array_equal(np.delete(found, haze, axis=0), np.delete(apart, haze, axis=0))
    assert apart[haze, 0].tolist() == pytest.approx([0.35, 0, 0])
    stronger = region_condition(make_recipe(handling="region", severity=1), cells, only(haze=1))
    assert stronger[haze, 0].tolist() == pytest.approx([0.7 / 4 + 1 * 3 / 4] * 3)


def test_haze_that_a_chosen_task_reads_is_in_every_cell():
    cells, haze = qmap(("low", ("haze",)), ("high", ())), TYPES.index("haze")
    read = region_condition(make_recipe(handling="region", task="dehaze"), cells, only(haze=0.6))
    assert read[haze, 0].tolist() == pytest.approx([0.35 / 4 + 0.6 * 3 / 4] * 2)
    assert read.sum() == read[haze].sum()
    given = region_condition(make_recipe(handling="region", task="dehaze", severity=0.5), cells, only(haze=0.5))
    assert given[haze, 0].tolist() == [0.5, 0.5]


def test_a_chosen_task_acts_less_in_regions_where_its_type_is_in_doubt():
    recipe, cells = make_recipe(handling="region", task="denoise"), qmap(("low", ("noise",)), ("low", ()))
    condition = region_condition(recipe, cells, only())
    noise = condition[TYPES.index("noise"), 0]
    assert noise.tolist() == pytest.approx([0.2, 0.2 * 0.2 / 0.5])
    assert condition.sum() == noise.sum()


def test_each_label_asks_for_its_own_and_unpainted_places_for_nothing():
    labels = np.zeros((16, 24), np.int64)
    labels[:, 8:16], labels[:8, 16:] = 1, 7
    recipe = make_recipe(handling="painted", painted={1: ("denoise", 0.5), 7: ("dehaze", 1), 9: ("derain", 1)})
    condition = painted_condition(recipe, labels, 8)
    assert condition.shape == (len(TYPES), 2, 3)
    noise, haze = condition[TYPES.index("noise")], condition[TYPES.index("haze")]
    assert noise.tolist() == [[0, 0.5, 0], [0, 0.5, 0]]
    assert haze.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert condition.sum() == noise.sum() + haze.sum()


def test_a_cell_that_labels_share_gets_the_mean_of_what_they_ask_for():
    labels = np.zeros((8, 8), np.int32)
    labels[:, :2], labels[:, 2:6] = 1, 2
    recipe = make_recipe(handling="painted", painted={1: ("denoise", 0.8), 2: ("denoise", 0.4)})
    assert painted_condition(recipe, labels, 8)[0, 0, 0] == pytest.approx(0.25 * 0.8 + 0.5 * 0.4)


def test_unsigned_and_boolean_labels_are_labels_too():
    recipe = make_recipe(handling="painted", painted={1: ("denoise", 1), -3: ("deblur", 1), 300: ("derain", 1)})
    for dtype in (np.uint8, np.bool_, np.uint64):
        assert painted_condition(recipe, np.ones((8, 8), dtype), 8).sum() == 1


@settings(max_examples=50)
@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=30)), st.integers(1, 9))
def test_the_share_of_a_cell_counts_its_pixels_and_continues_the_edge(mask, step):
    shares = cell_means(mask, step)
    assert shares.shape == tuple(-(-n // step) for n in mask.shape)
    for (row, column), share in np.ndenumerate(shares):
        rows = np.minimum(np.arange(row * step, (row + 1) * step), mask.shape[0] - 1)
        columns = np.minimum(np.arange(column * step, (column + 1) * step), mask.shape[1] - 1)
        assert share == pytest.approx(mask[np.ix_(rows, columns)].mean(), abs=1e-6)


cells = hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.floats(0, 1, width=32))


@settings(max_examples=50)
@given(cells, st.sampled_from([16, 32, 48]), st.data())
def test_rows_are_sampled_bilinearly_between_the_centres_of_cells(values, stride, data):
    rows, columns = values.shape
    width = data.draw(st.integers((columns - 1) * stride + 1, columns * stride))
    height = data.draw(st.integers((rows - 1) * stride + 1, rows * stride))
    start = data.draw(st.integers(0, height - 1))
    stop = data.draw(st.integers(start + 1, height))
    whole = F.interpolate(torch.from_numpy(values)[None, None], scale_factor=stride, mode="bilinear")[0, 0].numpy()
    sampled = sample_rows(values, stride, slice(start, stop), width)
    assert sampled.dtype == np.float32
    np.testing.assert_allclose(sampled, whole[start:stop, :width], rtol=0, atol=1e-5)


@settings(max_examples=50)
@given(cells, st.sampled_from([1, 2, 4]), st.data())
def test_cells_are_made_finer_bilinearly_and_continued_as_they_end(values, ratio, data):
    size = tuple(data.draw(st.integers(1, n * ratio + 3)) for n in values.shape)
    fine = enlarge(values[None], ratio, size)[0].numpy()
    assert fine.shape == size
    inside = tuple(slice(min(n, m * ratio)) for n, m in zip(size, values.shape, strict=True))
    for row, column in np.ndindex(fine[inside].shape):
        expected = sample_rows(values, ratio, slice(row, row + 1), values.shape[1] * ratio)[0, column]
        assert fine[row, column] == pytest.approx(expected, abs=1e-5)
    beyond = np.pad(fine[inside], [(0, n - s.stop) for n, s in zip(size, inside, strict=True)], mode="edge")
    np.testing.assert_array_equal(fine, beyond)


def test_each_tier_counts_with_its_own_strength():
    tiers = qmap(("low", ()), ("low", ()), ("high", ()), ("high", ()))
    recipe = make_recipe(handling="region", tier_strength={"low": 1, "medium": 0.5, "high": 0})
    weights = tier_weights(recipe, tiers, slice(0, 32))
    assert weights.shape == (32, 128)
    np.testing.assert_allclose(weights[:, :16], 0.7 * 1 + 0.2 * 0.5, rtol=1e-6)
    np.testing.assert_allclose(weights[:, -16:], 0.1 * 1 + 0.2 * 0.5, rtol=1e-6)


def test_tiers_blend_softly_from_cell_to_cell():
    tiers = qmap(("low", ()), ("high", ()))
    weights = tier_weights(make_recipe(handling="region"), tiers, slice(3, 5))
    steps = np.diff(weights[0])
    assert (steps <= 1e-6).all()
    assert np.abs(steps).max() == pytest.approx((weights[0, 0] - weights[0, -1]) / 32, rel=1e-3)


@given(st.floats(0, 1.5, width=32))
def test_with_one_strength_for_all_tiers_the_map_does_not_matter(strength):
    even = make_recipe(handling="region", tier_strength=dict.fromkeys(TIERS, strength))
    weights = tier_weights(even, qmap(("low", ()), ("high", ()), ("medium", ())), slice(0, 32))
    np.testing.assert_allclose(weights, strength, rtol=1e-6, atol=1e-7)
