"""Perception looks at few crops at native resolution, evenly spread; a quality map has no seams."""

import json
import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perceive_ir import TIERS, TYPES, Perception, QualityMap, Restorer, _quality_map
from perceive_ir._device import flushes_denormals
from perceive_ir._perception import (
    CROP,
    MOST_CROPS,
    THUMBNAIL,
    Subject,
    combine,
    cut,
    degree,
    grid,
    mirror,
    padded,
    places,
    spread,
    starts,
    thumbnail,
)
from perceive_ir._quality_map import calm, margin, reflected
from perceive_ir._vocabulary import TONAL_TYPES
from perceive_ir._weights import Card
from perceive_ir.images import parse_layout, read_tile
from perceive_ir.networks import LIGHT, PATCH, Perceiver, TowerConfig, light_of

CPU = torch.device("cpu")
sides = st.one_of(st.integers(1, 300), st.integers(1, 100_000))


def picture(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def patchwork(height: int, width: int) -> np.ndarray:
    """A picture that is rougher and darker towards one corner."""
    slope = np.linspace(0, 1, height, dtype=np.float32)[:, None] * np.linspace(0, 1, width, dtype=np.float32)
    return slope * picture(height, width) + 0.2 * slope


def seen(tiers=(0.7, 0.2, 0.1), **severities: float) -> Perception:
    """A perception in which the named types are present."""
    types = {t: 0.9 if t in severities else 0.1 for t in TYPES}
    return Perception(
        dict(zip(TIERS, tiers, strict=True)), types, {t: severities.get(t, 0.3) for t in TYPES}, (0.0, 255.0)
    )


# ---- where it looks


@settings(max_examples=300)
@given(sides, sides, st.integers(1, 40))
@example(3000, 100, 1)
@example(10_000, 1, 1)
@example(1, 100_000, 1)
@example(100_000, 100_000, 3)
def test_crops_are_few_lie_inside_the_picture_and_cover_small_ones(height, width, planes):
    layout = parse_layout((planes, height, width), "ZYX")
    chosen = places(layout)
    assert 1 <= len(chosen) <= MOST_CROPS
    for _, rows, columns in chosen:
        for part, length in ((rows, height), (columns, width)):
            assert 0 <= part.start
            assert part.step is None
            assert min(part.stop, length) - part.start == min(CROP, length)
    if planes == 1 and math.ceil(height / CROP) * math.ceil(width / CROP) <= MOST_CROPS:
        assert covered([r for _, r, _ in chosen], height)
        assert covered([c for _, _, c in chosen], width)


def covered(parts: list[slice], length: int) -> bool:
    """Whether parts leave no gap."""
    end = 0
    for part in sorted(parts, key=lambda p: p.start):
        if part.start > end:
            return False
        end = max(end, part.stop)
    return end >= length


@settings(max_examples=200)
@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_crops_lie_about_as_dense_along_both_sides(height, width):
    rows, columns = grid(height, width, 16)
    assert rows >= 1
    assert columns >= 1
    if rows * columns > 8 and min(rows, columns) > 1:
        assert 1 / 3 <= (height / rows) / (width / columns) <= 3


def test_crops_reach_from_edge_to_edge_and_a_single_one_lies_in_the_middle():
    assert starts(1000, 4) == [0, 291, 581, 872]
    assert starts(1000, 1) == [436]
    assert starts(50, 1) == [0]


@given(st.integers(1, 10_000), st.integers(1, 64))
def test_planes_are_chosen_evenly_and_once(count, most):
    chosen = spread(count, most)
    assert len(chosen) == min(count, most) == len(set(chosen))
    assert chosen == sorted(chosen)
    assert 0 <= chosen[0] <= chosen[-1] < count
    gaps = np.diff([-(chosen[0] + 1), *chosen, 2 * count - chosen[-1]])  # symmetric at both ends
    assert gaps.max() - gaps.min() <= 2


def test_a_stack_is_judged_in_many_planes_and_a_picture_in_many_places():
    stack = places(parse_layout((100, 5, 256, 256)))
    assert len(stack) == len({plane.index[:2] for plane, _, _ in stack}) == 16
    few = places(parse_layout((3, 512, 512), "ZYX"))
    assert [sum(p.index[0] == z for p, _, _ in few) for z in range(3)] == [4, 4, 4]


def test_a_brief_look_takes_every_other_crop_like_fields_of_a_chessboard():
    flat = parse_layout((256, 500))
    corners = [(rows.start, columns.start) for _, rows, columns in places(flat, brief=True)]
    assert corners == [(0, 0), (0, 248), (128, 124), (128, 372)]
    assert len(places(flat)) == 8
    assert len(places(parse_layout((50, 50)), brief=True)) == 1
    assert len(places(parse_layout((100, 5, 256, 256)), brief=True)) == 8


@pytest.mark.parametrize(("shape", "axes", "channels"), [
    ((8, 2, 300, 300), "ZCYX", {0, 1}), ((2, 8, 300, 300), "CZYX", {0, 1}), ((40, 2, 50, 50), "TCYX", {0, 1}),
    ((2, 50, 50), "CYX", {0, 1}), ((3, 200, 200), "CYX", {0, 1, 2}), ((3, 50, 50), "CYX", {0, 1, 2}),
])  # fmt: skip
def test_a_brief_look_sees_every_channel(shape, axes, channels):
    layout = parse_layout(shape, axes)
    chosen = places(layout, brief=True)
    assert {plane.index[axes.index("C")] for plane, _, _ in chosen} == channels
    assert len(chosen) <= max(len(channels), math.ceil(len(places(layout)) / 2 + 1))


def test_a_crop_is_read_at_native_resolution_whatever_its_place():
    array = picture(300, 200, 3)
    layout = parse_layout(array.shape)
    plane = layout.plane(0)
    crop = cut(Subject(array, layout, (0.0, 1.0)), (plane, slice(172, 300), slice(72, 200)), CPU)
    np.testing.assert_array_equal(crop.permute(1, 2, 0).numpy(), array[172:, 72:])


def test_the_light_of_a_thumbnail_as_worked_out_by_hand():
    flat = torch.full((3, 64, 112), 0.4)
    flat[2] = 0.1
    found = light_of(flat)
    assert found.shape == (LIGHT,)
    assert found.tolist() == pytest.approx([math.log(0.12)] * 5 + [math.log(0.32)] * 3 + [0.3 / 0.42, 0], abs=1e-5)
    spots = torch.full((3, 64, 112), 0.5)
    spots[1, ::7, ::7] = 0.0  # one dark colour in every neighbourhood is enough
    assert light_of(spots)[:5].tolist() == pytest.approx([math.log(0.02)] * 5, abs=1e-5)
    veiled = light_of(0.5 * spots + 0.4)
    assert veiled[:5].tolist() == pytest.approx([math.log(0.42)] * 5, abs=1e-5)
    assert light_of(torch.linspace(-0.25, 1.25, 3 * 64 * 112).reshape(3, 64, 112)).isfinite().all()
    half = torch.zeros(3, 64, 112)
    half[:, :, 56:] = 1
    assert [round(v, 2) for v in light_of(half)[[0, 4, 5, 7, 9]].exp().tolist()] == [0.02, 1.02, 0.02, 1.02, 1.65]


def test_small_pictures_are_continued_by_reflection_to_sides_that_the_tower_takes():
    image = torch.arange(3 * 5 * 7.0).reshape(3, 5, 7)
    large = padded(image, 16)
    assert large.shape == (3, 16, 16)
    np.testing.assert_array_equal(large, np.pad(image, ((0, 0), (0, 11), (0, 9)), mode="symmetric"))


@given(st.integers(1, 9), st.integers(0, 40), st.integers(0, 40))
def test_reflection_reaches_as_far_as_wanted_on_both_sides(length, before, after):
    index = mirror(length, before + length + after, before)
    np.testing.assert_array_equal(index, np.pad(np.arange(length), (before, after), mode="symmetric"))
    part, inside = reflected(-before, before + length + after, length)
    np.testing.assert_array_equal(np.arange(length)[part][inside.numpy()], index)


@pytest.mark.parametrize(
    ("shape", "size"), [((1000, 500), (112, 64)), ((100, 60), (112, 64)), ((1, 5000), (16, 112)), ((1, 1), (16, 16))]
)
def test_a_thumbnail_shows_the_whole_picture_small(shape, size):
    array = np.broadcast_to(np.linspace(0, 1, shape[1], dtype=np.float32), shape)
    layout = parse_layout(shape)
    small = thumbnail(Subject(array, layout, (0.0, 1.0)), 0, CPU)
    assert small.shape == (3, *size)
    used = round(shape[1] * min(1, THUMBNAIL / max(shape)))
    expected = np.interp((np.arange(used) + 0.5) / used, (np.arange(shape[1]) + 0.5) / shape[1], array[0])
    assert np.abs(small[0, 0, :used].numpy() - expected).max() < 0.01


def test_thumbnails_speak_of_light_and_contrast_only():
    crops, overviews = torch.zeros(4, len(TYPES)), torch.ones(2, len(TYPES))
    mixed = dict(zip(TYPES, combine(crops, overviews).tolist(), strict=True))
    assert mixed == {t: 0.5 if t in TONAL_TYPES else 0.0 for t in TYPES}
    assert set(TONAL_TYPES) == {"haze", "lowlight"}


# ---- what it says


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (300, 4), (40, 56, 3), (500, 300), (3, 2, 60, 70), (900, 200, 4)])
def test_every_picture_gets_probabilities_and_severities(tiny_model, shape):
    perception = tiny_model.perceive(picture(*shape))
    assert list(perception.tiers) == ["low", "medium", "high"]
    assert tuple(perception.types) == tuple(perception.severities) == tuple(perception.condition) == TYPES
    assert sum(perception.tiers.values()) == pytest.approx(1)
    assert 0 <= perception.score <= 2
    numbers = [*perception.types.values(), *perception.severities.values()]
    assert all(0 <= n <= 1 for n in numbers)
    assert [f.shape for f in perception.semantics] == [(8,), (8,), (16,), (16,)]


def test_perception_is_deterministic_and_its_randomness_is_nobodys(tiny_model):
    image = picture(400, 300)
    torch.manual_seed(1)
    first = tiny_model.perceive(image)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = tiny_model.perceive(image)
    assert first == again
    assert all(np.array_equal(a, b) for a, b in zip(first.semantics, again.semantics, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_nan_and_infinity_do_not_spoil_perception(tiny_model):
    image = picture(200, 200)
    image[::7, ::5], image[3] = np.nan, np.inf
    perception = tiny_model.perceive(image)
    assert np.isfinite([*perception.types.values(), *perception.value_range]).all()


def test_one_bright_pixel_does_not_change_what_is_perceived(tiny_model):
    image = picture(128, 128)
    hot = image.copy()
    hot[64, 64] = 1e6
    before, after = tiny_model.perceive(image), tiny_model.perceive(hot)
    assert after.value_range[1] < 2
    assert all(abs(before.types[t] - after.types[t]) < 0.1 for t in TYPES)


def test_the_scale_of_the_values_does_not_matter(tiny_model):
    image = picture(100, 120)
    perception = tiny_model.perceive(image)
    moved = tiny_model.perceive(image.astype(np.float64) * 4000 - 300)
    assert all(moved.types[t] == pytest.approx(perception.types[t], abs=1e-4) for t in TYPES)


def test_a_plane_of_a_stack_may_stand_anywhere(tiny_model):
    stack = picture(3, 64, 80)
    first = tiny_model.perceive(stack, "ZYX")
    again = tiny_model.perceive(np.ascontiguousarray(stack.transpose(1, 2, 0)), "YXZ")
    assert all(first.types[t] == pytest.approx(again.types[t], abs=1e-6) for t in TYPES)


def test_the_score_is_the_expected_tier():
    assert seen((0.2, 0.3, 0.5)).score == pytest.approx(1.3)
    assert seen((0.2, 0.3, 0.5)).tier == "high"
    assert seen((1, 0, 0)).score == 0


@pytest.mark.parametrize(
    ("damage", "tier"),
    [
        ({}, "high"),
        ({"noise": 0.09}, "high"),
        ({"noise": 0.1}, "medium"),
        ({"haze": 0.9}, "high"),
        ({"jpeg": 0.5}, "medium"),
    ],
)
def test_a_picture_with_evident_damage_is_not_of_high_quality(damage, tier):
    perception = seen((0.1, 0.2, 0.7), **damage)
    assert perception.tier == tier
    assert perception.unknown is False
    types, severities = (np.array([[[v[t]]] for t in TYPES]) for v in (perception.types, perception.severities))
    cell = QualityMap(np.array([[[0.1]], [[0.2]], [[0.7]]]), types, severities, 32, 128, (32, 32))
    assert TIERS[cell.tier_labels.item() - 1] == tier
    assert cell.tier_labels.dtype == np.uint8


def test_doubt_means_restraint():
    perception = seen(haze=0.4, noise=0.6)
    assert perception.condition == {t: {"haze": 0.4, "noise": 0.6}.get(t, 0.0) for t in TYPES}
    assert set(perception.present) == {"haze", "noise"}


def test_a_type_counts_as_present_from_a_half_on():
    types, severities = dict.fromkeys(TYPES, 0.499) | {"rain": 0.5}, dict.fromkeys(TYPES, 0.3)
    perception = Perception({"low": 1, "medium": 0, "high": 0}, types, severities, (0, 1))
    assert perception.present == ("rain",)
    assert [t for t, s in perception.condition.items() if s] == ["rain"]
    cells = np.array(list(types.values()), np.float32)[:, None, None]
    qmap = QualityMap(np.zeros((3, 1, 1), np.float32), cells, np.full_like(cells, 0.3), 32, 128, (32, 32))
    assert np.flatnonzero(qmap.condition).tolist() == [TYPES.index("rain")]
    assert qmap.type_labels.tolist() == [[TYPES.index("rain") + 1]]


def test_a_picture_is_read_as_the_mean_of_its_crops_and_for_light_and_tier_of_its_thumbnail_too(make_system):
    model = Restorer(make_system(), Card("a", "0"), device="cpu")
    array, perceiver = patchwork(300, 200), model.system.perceiver
    torch.nn.init.constant_(perceiver.logit_scale, 5)  # tiers that differ from crop to crop
    subject = Subject(array, parse_layout(array.shape), (0.0, 1.0))
    found = model.perceive(array, value_range=subject.value_range)
    with torch.no_grad():
        crops = perceiver(torch.stack([cut(subject, place, CPU) for place in places(subject.layout)]))
        whole = perceiver(thumbnail(subject, 0, CPU)[None])
    types = combine(crops.type_logits, whole.type_logits).sigmoid().tolist()
    severities = combine(crops.severities, whole.severities).tolist()
    assert list(found.types.values()) == pytest.approx(types, abs=1e-5)
    assert list(found.severities.values()) == pytest.approx(severities, abs=1e-5)
    near, far = (read.tier_logits.softmax(-1).mean(0) for read in (crops, whole))
    assert not torch.allclose(near, far, atol=1e-3)
    assert list(found.tiers.values()) == pytest.approx(((near + far) / 2).tolist(), abs=1e-5)


def test_damage_of_no_known_type_is_unknown_and_a_good_picture_is_not():
    assert seen((0.7, 0.2, 0.1)).unknown
    assert not seen((0.1, 0.2, 0.7)).unknown
    assert not seen((0.7, 0.2, 0.1), noise=0.5).unknown


@pytest.mark.parametrize(
    ("perception", "words"),
    [
        (seen(haze=0.46), "haze, moderate (0.46); quality low"),
        (seen((0.1, 0.8, 0.1), noise=0.1, rain=0.9), "rain, strong (0.90) and noise, slight (0.10); quality medium"),
        (seen((0, 0.1, 0.9)), "no damage; quality high"),
        (seen((0.9, 0.1, 0)), "damage of no known type; quality low"),
    ],
)
def test_it_says_in_words_what_it_sees(perception, words):
    assert perception.words() == words


def test_the_likeliest_type_is_named_first():
    types = {t: {"noise": 0.6, "rain": 0.9}.get(t, 0.0) for t in TYPES}
    perception = Perception({"low": 1, "medium": 0, "high": 0}, types, dict.fromkeys(TYPES, 0.5), (0, 1))
    assert perception.present == ("rain", "noise")
    assert perception.words().startswith("rain")


def test_severities_have_three_names():
    assert [degree(s) for s in (0, 0.19, 0.2, 0.54, 0.55, 1)] == ["slight"] * 2 + ["moderate"] * 2 + ["strong"] * 2


def test_a_perception_is_plain_json(tiny_model):
    values = tiny_model.perceive(picture(60, 70)).to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert {"tiers", "score", "types", "condition", "unknown", "value_range"} <= set(values)


# ---- quality maps


@pytest.mark.parametrize("shape", [(1, 1), (33, 100), (128, 128), (5, 400)])
def test_cells_cover_the_picture(tiny_model, shape):
    qmap = tiny_model.quality_map(picture(*shape))
    cells = tuple(math.ceil(n / 32) for n in shape)
    assert qmap.probabilities.shape == (3, *cells)
    assert qmap.types.shape == qmap.severities.shape == qmap.condition.shape == (len(TYPES), *cells)
    assert qmap.score.shape == qmap.tier_labels.shape == qmap.type_labels.shape == cells
    assert qmap.full(qmap.score).shape == shape
    np.testing.assert_allclose(qmap.probabilities.sum(0), 1, rtol=1e-5)
    assert ((qmap.score >= 0) & (qmap.score <= 2)).all()


def test_maps_of_stacks_have_the_axes_of_the_stack(tiny_model):
    stack = picture(2, 3, 40, 70)
    qmap = tiny_model.quality_map(stack)
    assert qmap.probabilities.shape == (3, 2, 3, 2, 3)
    assert qmap.score.shape == (2, 3, 2, 3)
    assert qmap.full(qmap.score).shape == stack.shape
    limits = tiny_model.perceive(stack).value_range
    alone = tiny_model.quality_map(stack[1, 2], value_range=limits)
    for name in ("probabilities", "types", "severities"):
        assert np.array_equal(getattr(qmap.by_plane()[5], name), getattr(qmap, name)[:, 1, 2])
    assert len(qmap.by_plane()) == 6 and len(alone.by_plane()) == 1
    np.testing.assert_allclose(qmap.types[:, 1, 2], alone.types, atol=1e-5)


@pytest.fixture(scope="module")
def measuring_model(make_system):
    """A model whose tower is deeper, and which measures bands beside it."""
    tower = {"widths": (4, 4, 8, 16), "blocks": (1, 1, 2, 2), "grid": True, "bands": True}
    return Restorer(
        make_system(tower=tower, semantics=False), Card("measuring", "0"), device="cpu", precision="float32"
    )


@pytest.mark.parametrize("name", ["tiny_model", "measuring_model"])
@pytest.mark.parametrize(("chunk", "window"), [(32, 64), (96, 128), (160, 64)])
def test_a_quality_map_has_no_seams_between_its_chunks(request, name, monkeypatch, chunk, window):
    model, image = request.getfixturevalue(name), patchwork(190, 170)
    whole = model.quality_map(image, window=window)
    monkeypatch.setattr(_quality_map, "CHUNK", chunk)
    chunked = model.quality_map(image, window=window)
    for name in ("probabilities", "types", "severities"):
        np.testing.assert_allclose(getattr(chunked, name), getattr(whole, name), rtol=0, atol=1e-5)
    assert np.ptp(whole.types, axis=(1, 2)).max() > 0.01


def test_a_map_made_step_by_step_is_the_map_and_can_be_stopped_between_chunks(tiny_model, monkeypatch):
    monkeypatch.setattr(_quality_map, "CHUNK", 64)
    stack = picture(2, 100, 60)
    *early, last = tiny_model.map_steps(stack)
    assert [(step.done, step.total, step.map) for step in early] == [(n, 4, None) for n in (1, 2, 3)]
    np.testing.assert_array_equal(last.map.types, tiny_model.quality_map(stack).types)
    read = []
    monkeypatch.setattr(_quality_map, "read_tile", lambda *where: read.append(where) or read_tile(*where))
    steps = tiny_model.map_steps(stack)
    next(steps)
    assert not flushes_denormals()
    steps.close()
    assert len(read) == 1


def test_chunks_overlap_by_all_that_the_tower_sees():
    for blocks in ((1, 1, 1, 1), (1, 1, 2, 2), (0, 0, 0, 1)):
        perceiver = Perceiver(TowerConfig(widths=(4, 4, 4, 4), blocks=blocks))
        around = margin(perceiver)
        assert perceiver.tower.reach <= around < perceiver.tower.reach + PATCH
        assert around % PATCH == around % perceiver.multiple_of == 0


def test_a_constant_picture_is_the_same_everywhere(tiny_model):
    qmap = tiny_model.quality_map(np.full((200, 260), 0.5, np.float32), value_range=(0, 1))
    for values in (*qmap.probabilities, *qmap.types, *qmap.severities):
        np.testing.assert_allclose(values, values[0, 0], rtol=0, atol=1e-4)


def test_a_map_sees_where_the_damage_is(tiny_model):
    image = np.full((256, 512), 0.5, np.float32)
    image[:, 256:] += picture(256, 256) - 0.5
    qmap = tiny_model.quality_map(image, value_range=(0, 1), window=64)
    left, right = qmap.types[:, 2:-2, 1:6], qmap.types[:, 2:-2, 10:15]
    between = np.abs(left.mean((1, 2)) - right.mean((1, 2))).max()
    within = max(np.ptp(part, axis=(1, 2)).max() for part in (left, right))
    assert between > 3 * within


def test_labels_count_from_one_and_types_that_are_absent_are_zero():
    probabilities = np.array([[[0.6, 0.1]], [[0.3, 0.2]], [[0.1, 0.7]]], np.float32)
    types = np.zeros((len(TYPES), 1, 2), np.float32)
    types[2, 0, 0], types[5, 0, 1] = 0.8, 0.4
    qmap = QualityMap(probabilities, types, np.full_like(types, 0.3), 32, 128, (20, 60))
    assert qmap.tier_labels.tolist() == [[1, 3]]
    assert qmap.type_labels.tolist() == [[3, 0]]
    assert qmap.condition[:, 0, 0].tolist() == pytest.approx([0.3 if n == 2 else 0 for n in range(len(TYPES))])
    assert not qmap.condition[:, 0, 1].any()
    np.testing.assert_allclose(qmap.score, [[0.5, 1.6]], rtol=1e-6)
    full = qmap.full(qmap.tier_labels)
    assert full.shape == (20, 60)
    assert (full[:, :32] == 1).all()
    assert (full[:, 32:] == 3).all()


@pytest.mark.parametrize(
    ("window", "stride"), [(128, 0), (128, 20), (100, 32), (16, 32), (128, 48), (144, 32), (128, -16)]
)
def test_windows_that_the_levels_cannot_share_are_refused(tiny_model, window, stride):
    with pytest.raises(ValueError, match=r"expected a (stride|window)"):
        tiny_model.quality_map(picture(40, 40), window=window, stride=stride)


@pytest.mark.parametrize(("window", "stride"), product([64, 160], [32, 64]))
def test_windows_and_strides_may_be_chosen(tiny_model, window, stride):
    qmap = tiny_model.quality_map(picture(100, 200), window=window, stride=stride)
    assert qmap.score.shape == (math.ceil(100 / stride), math.ceil(200 / stride))
    assert (qmap.window, qmap.stride) == (window, stride)


def test_haze_and_low_light_are_what_is_seen_around_and_nothing_else_is() -> None:
    types, severities = (np.full((len(TYPES), 2, 12, 15), 0.8, np.float32) for _ in range(2))
    types[:, 0, 6, 7] = 0.1
    severities[:, 0, 6, 7] = 0.1
    calm(types, severities, 32)
    for number, kind in enumerate(TYPES):
        hole, severe = types[number, 0, 6, 7], severities[number, 0, 6, 7]
        assert (hole > 0.75 and severe > 0.78) if kind in TONAL_TYPES else hole == severe == np.float32(0.1)
    np.testing.assert_allclose(types[:, 1], 0.8, rtol=1e-6)
    np.testing.assert_allclose(severities[:, 1], 0.8, rtol=1e-6)
