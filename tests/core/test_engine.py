"""The engine gives back what it was given plus the network's residual, whole or in tiles, and stops when told."""

import gc
import json
import math
import pickle
import weakref

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from perceive_ir import TIERS, TYPES, NotEnoughMemoryError, Perception, Recipe, Restorer, _engine, _quality_map
from perceive_ir._device import choose_precision, flushes_denormals, memory_budget, without_denormals
from perceive_ir._engine import BLEND, CHAIN_OVERLAP, DEFAULT_OVERLAP
from perceive_ir._guide import Guide
from perceive_ir._weights import Card
from perceive_ir.images import FILL_REACH
from perceive_ir.networks import BACKBONES, SizeNeeds

DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8")
DENOISE = {"task": "denoise", "severity": 1.0}
RGB, GREY = (40, 56, 3), (40, 56)


def picture(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def judged(tiers=(1.0, 0.0, 0.0), value_range=(0.0, 1.0), **severities: float) -> Perception:
    types = {t: 1.0 if t in severities else 0.2 for t in TYPES}
    return Perception(
        dict(zip(TIERS, tiers, strict=True)), types, {t: severities.get(t, 0.5) for t in TYPES}, value_range
    )


class Fake(nn.Module):
    """A network that does what it is told and remembers what it saw."""

    reach, bytes_per_pixel, size_needs = 0, 100.0, SizeNeeds(8, 8)

    def __init__(self, change=lambda image: image + 0.1) -> None:
        super().__init__()
        self.change, self.shapes, self.conditions, self.semantics = change, [], [], []

    def forward(self, image: Tensor, signals) -> Tensor:
        self.shapes.append(tuple(image.shape))
        self.conditions.append(signals.condition.clone())
        self.semantics.append(signals.semantics)
        return self.change(image)


@pytest.fixture
def fake_model(make_system):
    def make(change=lambda image: image + 0.1, **config) -> Restorer:
        system = make_system(**config)
        system.restorer = Fake(change)
        return Restorer(system, Card("fake", "1", digest="abc"), device="cpu", precision="float32")

    return make


# ---- the identity


@st.composite
def wishes(draw) -> dict[str, object]:
    handling = draw(st.sampled_from(["image", "region", "painted"]))
    return {
        "handling": handling,
        **({"painted": {1: ("denoise", 1.0), 2: ("dehaze", 0.1)}} if handling == "painted" else DENOISE),
        "strength": draw(st.floats(0, 1.5)),
        "tier_strength": draw(st.dictionaries(st.sampled_from(TIERS), st.floats(0, 1.5))),
        "tile": draw(st.one_of(st.just("auto"), st.integers(16, 40))),
        "overlap": draw(st.one_of(st.sampled_from(["auto", "exact"]), st.integers(0, 12), st.integers(0, 12))),
        "value_range": draw(st.sampled_from(["auto", "dtype", "percentile", (0.0, 1.0), (-7.0, 1e5)])),
    }


@st.composite
def arrays(draw) -> np.ndarray:
    """Arrays of any bits (NaN, infinity and denormals among them), shapes, orders of bytes and of memory."""
    dtype = np.dtype(draw(st.sampled_from("<>")) + draw(st.sampled_from(DTYPES)))
    shape = draw(
        st.sampled_from(
            [(1, 1), (1, 9), (37, 53), (57, 33, 3), (33, 40, 4), (3, 20, 36), (2, 2, 17, 18), (70, 3), (2, 19, 41, 3)]
        )
    )
    source = np.random.default_rng(draw(st.integers(0, 99)))
    bits = source.integers(0, 256, (*shape[:-1], shape[-1] * dtype.itemsize), np.uint8)
    array = bits.view(dtype)
    if dtype.kind == "f" and draw(st.booleans()):  # ordinary values with holes
        array = source.random(shape).astype(dtype)
        array[source.random(shape) < 0.02] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    array = draw(st.sampled_from([np.array, np.asfortranarray, lambda a: a[::-1, ::-1]]))(array)
    array.flags.writeable = draw(st.booleans())
    return array


def labels_for(array: np.ndarray, axes: str) -> np.ndarray:
    shape = tuple(n for n, letter in zip(array.shape, axes, strict=True) if letter in "YX")
    return np.random.default_rng(1).integers(0, 4, shape)


def axes_of(array: np.ndarray) -> str:
    return {(2, 19, 41, 3): "TYXC"}.get(array.shape) or (
        "YXC" if array.ndim == 3 and array.shape[2] in (3, 4) else "QRYX"[4 - array.ndim :]
    )


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(arrays(), wishes(), st.booleans())
def test_an_identity_network_gives_back_the_input_bit_for_bit(identity_model, array, wish, lazy):
    axes, before = axes_of(array), array.tobytes()
    source = pytest.importorskip("dask.array").from_array(array, chunks=16) if lazy else array
    result = identity_model.restore(source, axes=axes, labels=labels_for(array, axes), **wish)
    assert min(result.tile) > 0
    assert (result.image.shape, result.image.dtype) == (array.shape, array.dtype)
    assert result.image.dtype.byteorder == array.dtype.byteorder
    assert result.image.tobytes() == array.tobytes() == before
    assert result.at(strength=0.7).tobytes() == before


# ---- tiles


def tiled_and_whole(model, image, **fields) -> tuple[np.ndarray, np.ndarray]:
    fields = {"value_range": (0.0, 1.0), **fields}
    whole = model.restore(image, **{**fields, "tile": 2048, "overlap": 0})
    height, width = image.shape[:2]
    assert whole.tile == (math.ceil(height / 8) * 8, math.ceil(width / 8) * 8)
    return model.restore(image, **fields).image, whole.image


def halves(height: int, width: int) -> np.ndarray:
    labels = np.zeros((height, width), np.uint8)
    labels[:, width // 3 :], labels[height // 2 :] = 1, 2
    return labels


HANDLINGS = {
    "image": {"task": ("denoise", "deblur"), "severity": 0.6},
    "region": {"task": ("denoise", "deblur"), "severity": "auto"},
    "painted": {"painted": {1: ("denoise", 0.15), 2: ("dehaze", 0.8)}},
}


@settings(max_examples=6)
@given(st.integers(300, 520), st.integers(1, 520), st.integers(128, 200), st.sampled_from(list(HANDLINGS)))
def test_with_exact_overlap_tiles_give_what_the_whole_gives(narrow_model, height, width, tile, handling):
    image = picture(height, width, 3)
    fields = {"handling": handling, **HANDLINGS[handling], "labels": halves(height, width)}
    tiled, whole = tiled_and_whole(narrow_model, image, tile=tile, overlap="exact", **fields)
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("handling", HANDLINGS)
def test_with_exact_overlap_several_rows_and_columns_of_tiles_give_what_the_whole_gives(narrow_model, handling):
    image = picture(500, 450)
    image[200:204, 100:300], image[77, 300] = np.nan, np.inf
    holes = ~np.isfinite(image)
    fields = {"handling": handling, **HANDLINGS[handling], "labels": halves(500, 450)}
    tiled, whole = tiled_and_whole(narrow_model, image, tile=128, overlap="exact", **fields)
    assert np.abs(whole[~holes] - image[~holes]).max() > 0.05
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("handling", HANDLINGS)
def test_the_default_overlap_is_within_half_a_grey_level_of_the_whole(narrow_model, handling):
    image = picture(400, 330, 3)
    fields = {"handling": handling, **HANDLINGS[handling], "labels": halves(400, 330)}
    tiled, whole = tiled_and_whole(narrow_model, image, tile=128, **fields)
    assert not np.array_equal(tiled, whole)
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1 / 512)


def test_overlaps_are_what_they_are_called(narrow_model):
    overlaps = {wish: narrow_model.overlap(Recipe(overlap=wish)) for wish in ("auto", "exact", 0, 31)}
    assert overlaps == {
        "auto": DEFAULT_OVERLAP, "exact": narrow_model.system.restorer.reach + BLEND + FILL_REACH, 0: 0, 31: 31,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "several"),
    [
        ({"task": "denoise"}, False),
        ({"task": ("denoise", "dejpeg")}, False),
        ({"task": ("denoise", "dehaze")}, True),
        ({}, True),
        ({"task": "denoise", "handling": "painted", "painted": {1: ("dehaze", 0.5)}}, True),
    ],
)
def test_tiles_share_more_where_several_networks_may_work(make_system, fields, several):
    chain = make_system(groups=("noise+jpeg", "blur+lowres+rain+snow", "haze+lowlight"))
    model = Restorer(chain, Card("tiny", "0"), device="cpu", precision="float32")
    assert model.overlap(Recipe(**fields)) == (CHAIN_OVERLAP if several else DEFAULT_OVERLAP)


def test_what_a_tile_lacks_is_its_mirror_image(fake_model):
    tiles = []
    model = fake_model(lambda image: tiles.append(image.clone()) or image)
    image = picture(20, 29)
    model.restore(image, value_range=(0, 1), **DENOISE)
    np.testing.assert_array_equal(tiles[0][0, 0], np.pad(image, ((0, 4), (0, 3)), mode="symmetric"))


def test_a_map_of_conditions_fits_its_tiles_whatever_sizes_the_network_takes(fake_model):
    model, labels = fake_model(), np.ones((100, 76), int)
    model.system.restorer.size_needs = SizeNeeds(4, 4)
    labels[:, 40:] = 0
    model.restore(picture(100, 76), tile=20, overlap=4, labels=labels, handling="painted", painted={1: ("denoise", 1)})
    network = model.system.restorer
    for condition, (_, _, height, width) in zip(network.conditions, network.shapes, strict=True):
        assert height % 8 == width % 8 == 0
        assert condition.shape[2:] == (height // 8, width // 8)


def test_a_plane_of_a_stack_gives_the_same_alone_with_the_perception_of_the_stack(tiny_model):
    stack = picture(3, 60, 70) * np.array([1, 3, 0.3], np.float32)[:, None, None]
    seen = tiny_model.perceive(stack, "ZYX")
    for fields in ({"tile": 16, "overlap": 8}, {}, {"handling": "region", "severity": "auto"}):
        fields = {**DENOISE, **fields}
        whole = tiny_model.restore(stack, axes="ZYX", perception=seen, **fields).image
        assert not np.array_equal(whole, stack)
        for number, plane in enumerate(stack):
            alone = tiny_model.restore(plane, perception=seen, **fields).image
            np.testing.assert_allclose(whole[number], alone, rtol=0, atol=2e-6)


@pytest.mark.parametrize("handling", ["image", "region"])
def test_planes_that_are_finished_can_be_taken_before_the_stack_is(tiny_model, handling):
    stack = picture(2, 3, 40, 50)
    fields = {**DENOISE, "axes": "TZYX", "handling": handling, "tile": 32, "overlap": 0}
    whole = tiny_model.restore(stack, **fields)
    first, *_, part, last = [step.finished() for step in tiny_model.steps(stack, **fields, memory=1e-3)]
    assert first is None and last is None
    assert part.note == "stopped: the first 3 of 6 planes are restored"
    np.testing.assert_allclose(part.image, whole.image[:1], rtol=0, atol=2e-6)
    np.testing.assert_allclose(part.at(strength=0.5), whole.at(strength=0.5)[:1], rtol=0, atol=2e-6)


def test_the_place_of_the_stack_axes_does_not_matter(tiny_model):
    stack = picture(2, 30, 44)
    expected = tiny_model.restore(stack, axes="ZYX", **DENOISE).image
    for axes, order in (("YXZ", (1, 2, 0)), ("XZY", (2, 0, 1)), ("yzx", (1, 0, 2))):
        moved = tiny_model.restore(stack.transpose(order), axes=axes, **DENOISE).image
        np.testing.assert_allclose(moved, expected.transpose(order), rtol=0, atol=2e-6)


def test_lazy_arrays_give_what_numpy_gives_and_are_read_plane_by_plane(tiny_model):
    stack = picture(4, 50, 40)
    lazy = Lazy(stack)
    for handling in ("image", "region"):
        fields = {**DENOISE, "handling": handling, "axes": "ZYX", "tile": 16, "overlap": 0}
        np.testing.assert_array_equal(
            tiny_model.restore(lazy, **fields).image, tiny_model.restore(stack, **fields).image
        )
    assert lazy.largest <= 50 * 40


@pytest.mark.parametrize("handling", ["image", "region"])
def test_every_plane_of_a_lazy_array_is_read_once(tiny_model, handling):
    lazy = Lazy(picture(3, 50, 40))
    tiny_model.restore(lazy, perception=judged(), handling=handling, axes="ZYX", tile=16, overlap=0, **DENOISE)
    assert lazy.reads == 3


class Lazy:
    """An array that can only be read in parts, and knows how often and how large the largest was."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype, self.largest, self.reads = array, array.shape, array.dtype, 0, 0

    def __getitem__(self, key) -> np.ndarray:
        self.largest, self.reads = max(self.largest, self.array[key].size), self.reads + 1
        return self.array[key]


# ---- values


def test_the_residual_is_scaled_by_the_range_and_added(fake_model):
    image = picture(*RGB) * 50 + 100
    for strength in (1.0, 0.5, 0.0, 1.5):
        out = fake_model().restore(image, value_range=(100, 150), strength=strength, **DENOISE).image
        np.testing.assert_allclose(out, image + strength * 0.1 * 50, rtol=1e-6)


@pytest.mark.parametrize(("change", "step"), [(0.4, 0), (0.6, 1), (-0.4, 0), (-0.6, -1), (1.3, 1), (1.7, 2)])
def test_integers_are_rounded_to_the_nearest(fake_model, change, step):
    image = np.full(RGB, 100, np.uint8)
    out = fake_model(lambda x: x + change / 255).restore(image, **DENOISE).image
    assert (out == 100 + step).all()


def test_nothing_is_clipped_but_to_the_dtype(fake_model):
    for dtype, change, expected in (("u1", 9.0, 255), ("u1", -9.0, 0), ("i2", 9.0, 32767), ("f4", 9.0, 9.5)):
        image = np.full(GREY, 0.5 if dtype == "f4" else 100).astype(dtype)
        wish = "dtype" if dtype != "f4" else (0, 1)
        out = fake_model(lambda x, change=change: x + change).restore(image, value_range=wish, **DENOISE).image
        assert (out == expected).all()


def test_outliers_survive_as_far_out_as_they_were(fake_model):
    image = picture(*GREY)
    image[5, 5], image[6, 6], image[7, 7], image[8, 8] = 1e6, -1e6, np.nan, np.inf
    result = fake_model().restore(image, value_range="percentile", **DENOISE)
    low, high = result.perception.value_range
    assert 0 <= low < high <= 1
    np.testing.assert_allclose(result.image, image + 0.1 * (high - low), rtol=1e-6)


def test_grey_becomes_three_channels_and_alpha_stays(fake_model):
    model = fake_model(lambda x: x + torch.tensor([0.1, 0.2, 0.3])[:, None, None])
    grey, rgba = picture(*GREY), picture(40, 56, 4)
    np.testing.assert_allclose(model.restore(grey, value_range=(0, 1), **DENOISE).image, grey + 0.2, rtol=1e-5)
    out = model.restore(rgba, value_range=(0, 1), **DENOISE).image
    np.testing.assert_allclose(out[..., :3], rgba[..., :3] + np.array([0.1, 0.2, 0.3], np.float32), rtol=1e-5)
    assert np.array_equal(out[..., 3], rgba[..., 3])


def test_a_network_that_answers_nonsense_leaves_those_pixels_alone(fake_model):
    image = picture(*GREY)
    model = fake_model(lambda x: torch.where(x > 0.5, torch.nan, x + 0.1))
    out = model.restore(image, value_range=(0, 1), **DENOISE).image
    assert np.array_equal(out[image > 0.5], image[image > 0.5])
    np.testing.assert_allclose(out[image < 0.5], image[image < 0.5] + 0.1, rtol=1e-5)


def test_range_and_perception_are_found_once_and_can_be_given(fake_model):
    image = picture(*GREY)
    model = fake_model()
    seen = judged(value_range=(0.0, 10.0), noise=0.7)
    model.system.perceiver = None  # nobody looks again
    result = model.restore(image, perception=seen)
    assert result.perception is seen
    np.testing.assert_allclose(result.image, image + 0.1 * 10, rtol=1e-6)
    assert model.system.restorer.conditions[0][0, TYPES.index("noise")] == pytest.approx(0.7)
    again = model.restore(image, perception=seen, value_range=(0, 2))
    assert again.perception.value_range == (0, 2)
    np.testing.assert_allclose(again.image, image + 0.1 * 2, rtol=1e-6)


@pytest.mark.parametrize("shape", [GREY, RGB, (40, 56, 4), (2, 3, 20, 30)])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", ">f8"])
def test_shape_dtype_and_input_are_kept(tiny_model, shape, dtype):
    image = (picture(*shape) * 200).astype(dtype)
    before = image.copy()
    image.flags.writeable = False
    result = tiny_model.restore(image, **DENOISE)
    assert (result.image.shape, result.image.dtype) == (shape, np.dtype(dtype))
    assert result.image.flags.writeable
    assert not np.shares_memory(result.image, image)
    assert np.array_equal(image, before)
    assert not np.array_equal(result.image, image)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_bfloat16_is_near_float32(make_system, backbone):
    image, system = picture(64, 80, 3), make_system(backbone=backbone)
    wish = {"handling": "painted", **HANDLINGS["painted"], "labels": halves(64, 80), "value_range": (0, 1)}
    full, half = (
        Restorer(system, Card("a", "0"), device="cpu", precision=precision).restore(image, **wish).image
        for precision in ("float32", "bfloat16")
    )
    assert 0 < np.abs(half - full).max() < 0.05


# ---- do no harm


def test_a_picture_perceived_as_good_stays_and_the_network_does_not_run(fake_model):
    image, model = picture(*RGB), fake_model()
    result = model.restore(image, perception=judged((0.1, 0.2, 0.7), noise=0.09))
    assert np.array_equal(result.image, image)
    assert not np.shares_memory(result.image, image)
    assert result.note == "unchanged: the picture is perceived as of high quality"
    assert result.tile == (0, 0)
    assert not model.system.restorer.shapes
    assert np.array_equal(result.at(strength=0.3), image)


def test_a_chosen_task_is_done_also_in_a_good_picture(fake_model):
    image = picture(*RGB)
    result = fake_model().restore(image, perception=judged((0.1, 0.2, 0.7)), **DENOISE)
    assert not np.array_equal(result.image, image)
    assert result.note == ""


def test_nothing_to_do_is_said(fake_model):
    result = fake_model().restore(picture(*RGB), task="denoise", severity=0)
    assert result.note == "unchanged: nothing to do"


@pytest.mark.parametrize("handling", ["region", "painted"])
def test_regions_of_a_good_picture_are_looked_at_one_by_one(fake_model, handling):
    model = fake_model()
    wish = {"painted": {1: ("denoise", 1.0)}, "labels": np.ones(GREY, int)} if handling == "painted" else {}
    result = model.restore(picture(*GREY), perception=judged((0.1, 0.2, 0.7)), handling=handling, **wish)
    assert model.system.restorer.shapes
    assert result.note == ""


def test_regions_hear_of_the_haze_of_the_whole_picture(fake_model):
    model, image = fake_model(), picture(*RGB)
    for haze in ({}, {"haze": 1.0}):
        model.restore(image, perception=judged((0.7, 0.2, 0.1), **haze), handling="region")
    clear, hazy = (told[:, TYPES.index("haze")] for told in model.system.restorer.conditions)
    assert hazy.min() >= 0.5 and (hazy > clear).all()


@pytest.mark.parametrize("listens", [True, False])
def test_semantics_go_to_a_network_that_listens_to_them(fake_model, listens):
    model, image = fake_model(semantics=listens), picture(*GREY)
    seen = model.perceive(image)
    model.restore(image, perception=seen, **DENOISE)
    (given,) = model.system.restorer.semantics
    assert (given is not None) == listens
    for told, found in zip(given or (), seen.semantics, strict=listens):
        np.testing.assert_array_equal(told[0], found)


@pytest.mark.parametrize("handling", ["image", "region"])
def test_damage_of_no_known_type_is_reported(fake_model, handling):
    result = fake_model().restore(picture(*RGB), perception=judged(), handling=handling)
    assert result.perception.unknown
    assert "no known type" in result.note


def test_unpainted_places_stay_as_they_are(tiny_model):
    image, labels = picture(96, 96), np.zeros((96, 96), np.int64)
    labels[:, 64:] = 3
    out = tiny_model.restore(image, handling="painted", painted={3: ("denoise", 1)}, labels=labels).image
    assert np.array_equal(out[:, :48], image[:, :48])
    assert not np.array_equal(out[:, 72:], image[:, 72:])


def test_labels_may_differ_from_plane_to_plane(tiny_model):
    stack, labels = picture(2, 40, 40), np.zeros((2, 40, 40), np.uint8)
    labels[1] = 1
    wish = {"handling": "painted", "painted": {1: ("denoise", 1)}, "axes": "ZYX"}
    out = tiny_model.restore(stack, labels=labels, **wish).image
    assert np.array_equal(out[0], stack[0])
    assert not np.array_equal(out[1], stack[1])
    both = tiny_model.restore(stack, labels=labels[1], **wish).image
    assert not np.array_equal(both[0], stack[0])


# ---- blending anew


@pytest.mark.parametrize("dtype", ["u1", "u2", "f2", "f4", "f8"])
@pytest.mark.parametrize(("shape", "axes"), [((50, 60), "YX"), ((50, 60, 4), "YXC"), ((2, 50, 30), "ZYX")])
def test_another_strength_is_what_restoring_anew_would_give(tiny_model, dtype, shape, axes):
    image = (picture(*shape) * 200).astype(dtype)
    fields = {**DENOISE, "tile": 16, "overlap": 8, "axes": axes}
    result = tiny_model.restore(image, **fields)
    for strength in (0.0, 0.37, 1.0, 1.5):
        fresh = tiny_model.restore(image, strength=strength, **fields).image
        assert result.at(strength=strength).tobytes() == fresh.tobytes()
    assert result.at().tobytes() == result.image.tobytes()
    assert result.at(0).tobytes() == image.tobytes()


def test_other_strengths_per_tier_are_what_restoring_anew_would_give(tiny_model):
    stack = picture(2, 60, 100)
    fields = {"handling": "region", "axes": "ZYX", **DENOISE}
    result = tiny_model.restore(stack, **fields)
    for tiers in ({"high": 1.0}, {"low": 0.2, "medium": 1.4}):
        fresh = tiny_model.restore(stack, tier_strength={**result.recipe.tier_strength, **tiers}, **fields).image
        assert result.at(tier_strength=tiers).tobytes() == fresh.tobytes()
        assert result.at(tier_strength=tiers).tobytes() != result.image.tobytes()


def test_lazy_pictures_are_blended_anew_too(tiny_model):
    stack = picture(2, 30, 40)
    lazy = pytest.importorskip("dask.array").from_array(stack, chunks=16)
    result = tiny_model.restore(lazy, axes="ZYX", **DENOISE)
    assert result.at(0.5).tobytes() == tiny_model.restore(stack, axes="ZYX", strength=0.5, **DENOISE).image.tobytes()


def test_nonsense_strengths_are_refused(tiny_model):
    result = tiny_model.restore(picture(*GREY), **DENOISE)
    with pytest.raises(ValueError, match=r"strength: .* 1\.5"):
        result.at(strength=2)
    with pytest.raises(ValueError, match=r"tier_strength: .* 'best'"):
        result.at(tier_strength={"best": 1})


def test_without_its_residual_a_result_cannot_be_blended_anew_and_says_so(tiny_model):
    *_, last = tiny_model.steps(picture(*GREY), keep_residual=False, **DENOISE)
    assert last.result.residual is None
    with pytest.raises(ValueError, match="keep_residual=False: run restore again"):
        last.result.at(0.5)


# ---- progress, cancel


def test_progress_counts_every_tile_once_and_the_last_step_has_the_result(tiny_model):
    steps = list(tiny_model.steps(picture(3, 90, 70), axes="ZYX", tile=16, overlap=0, memory=2e-4, **DENOISE))
    assert len(steps) > 10
    assert {step.total for step in steps} == {3 * 6 * 5}
    done = [step.done for step in steps]
    assert done == sorted(set(done))
    assert done[-1] == steps[-1].total
    assert [step.result is not None for step in steps] == [False] * (len(steps) - 1) + [True]


def test_the_plain_form_is_the_last_step(tiny_model):
    image = picture(*RGB)
    *_, last = tiny_model.steps(image, tile=16, overlap=4, **DENOISE)
    assert np.array_equal(last.result.image, tiny_model.restore(image, tile=16, overlap=4, **DENOISE).image)


@pytest.mark.parametrize("after", [1, 3])
def test_closing_the_steps_stops_the_network_for_good(fake_model, after):
    model = fake_model()
    steps = model.steps(picture(100, 100), tile=16, overlap=0, memory=1e-6, **DENOISE)
    for _ in range(after):
        next(steps)
    assert len(model.system.restorer.shapes) == after
    steps.close()
    assert list(steps) == []
    assert len(model.system.restorer.shapes) == after


def test_mistakes_are_told_before_the_first_step(tiny_model):
    image = picture(*GREY)
    for fields, words in (
        ({"strenght": 1}, "unknown recipe field 'strenght'"),
        ({"axes": "ZYX"}, "do not fit shape"),
        ({"handling": "painted"}, "labels="),
        ({"handling": "painted", "painted": {1: ("denoise", 1)}}, "labels="),
        ({"handling": "painted", "painted": {1: ("denoise", 1)}, "labels": np.ones((4, 4), int)}, r"shape \(40, 56\)"),
        ({"overlap": -1}, "overlap"),
    ):
        with pytest.raises(ValueError, match=words):
            tiny_model.steps(image, **fields)
    with pytest.raises(TypeError, match="whole numbers"):
        tiny_model.steps(image, handling="painted", painted={1: ("denoise", 1)}, labels=np.ones(GREY))
    with pytest.raises(TypeError, match="complex"):
        tiny_model.steps(image.astype(complex))


def test_exact_overlap_is_refused_where_a_network_sees_the_whole_tile(make_system):
    model = Restorer(make_system(backbone="restormer"), Card("seer", "0"), device="cpu")
    with pytest.raises(ValueError, match="overlap 'exact' does not exist for seer"):
        model.restore(picture(*GREY), overlap="exact", **DENOISE)
    assert model.restore(picture(*GREY), **DENOISE).image.shape == GREY


# ---- memory


def hungry(most: int):
    """Return a change that takes memory for so many pixels at once."""

    def change(image: Tensor) -> Tensor:
        if image.numel() // 3 > most:
            raise torch.OutOfMemoryError(f"{image.numel() // 3} pixels")
        return image + 0.1

    return change


@pytest.mark.parametrize(
    ("shape", "most"), [((600, 500), 200 * 200), ((9, 64, 64), 64 * 64), ((30, 40, 40), 3 * 40 * 40)]
)
@pytest.mark.parametrize("tile", ["auto", 256])
def test_when_memory_is_short_smaller_tiles_finish_the_job_and_it_is_said(fake_model, shape, most, tile):
    image, model = picture(*shape), fake_model(hungry(most))
    result = model.restore(image, axes="ZYX"[-len(shape) :], tile=tile, value_range=(0, 1), **DENOISE)
    np.testing.assert_allclose(result.image, image + 0.1, rtol=1e-5)
    batch, _, height, width = model.system.restorer.shapes[-2]
    assert result.tile == (height, width)
    assert f"memory was short: tiles of {height} x {width} pixels used, {batch} at once" == result.note
    assert batch * height * width <= most


def test_memory_that_is_too_short_to_look_at_a_picture_is_told_with_the_remedy(tiny_model, monkeypatch):
    def short(*args, **how):
        raise torch.OutOfMemoryError

    monkeypatch.setattr("perceive_ir._engine.perceive", short)
    monkeypatch.setattr("perceive_ir._engine.map_steps", lambda *args: iter(short, None))
    for look in (tiny_model.perceive, tiny_model.restore, tiny_model.quality_map):
        with pytest.raises(NotEnoughMemoryError, match="not enough memory on cpu to look at the picture: free some"):
            look(picture(40, 40))


def test_a_batch_shrinks_before_its_tiles_do(fake_model):
    model = fake_model(hungry(64 * 64))
    result = model.restore(picture(4, 64, 64), axes="ZYX", overlap=0, **DENOISE)
    assert result.tile == (64, 64)
    assert [shape[0] for shape in model.system.restorer.shapes] == [4, 1, 1, 1, 1]


def test_painted_places_stay_where_they_are_when_memory_is_short(fake_model):
    labels = np.zeros((200, 200), int)
    labels[:, 120:] = 1
    wish = {"handling": "painted", "painted": {1: ("denoise", 0.5)}, "labels": labels}
    model = fake_model(hungry(160 * 160))
    model.restore(picture(200, 200), overlap=8, **wish)
    batch, _, height, width = model.system.restorer.shapes[-1]
    assert batch * height * width <= 160 * 160
    last = model.system.restorer.conditions[-1][0, TYPES.index("noise")]  # the tile at the right end
    assert last[:, -10:].eq(0.5).all()
    assert model.system.restorer.conditions[-2][0, TYPES.index("noise"), :, :10].eq(0).all()


def test_the_note_keeps_what_was_to_be_said_before(fake_model):
    image = picture(300, 300)
    result = fake_model(hungry(160 * 160)).restore(image, perception=judged())
    assert result.note.startswith("damage of no known type: restored gently; memory was short")


@pytest.mark.parametrize("overlap", [0, 45, 48, "auto"])
@pytest.mark.parametrize("shape", [(300, 200), (40, 40), (8, 300, 300)])
def test_when_not_even_the_smallest_tile_fits_it_is_said(fake_model, overlap, shape):
    model = fake_model(hungry(0))
    with pytest.raises(NotEnoughMemoryError, match="even tiles of 16 pixels do not fit") as caught:
        model.restore(picture(*shape), overlap=overlap, **DENOISE)
    assert caught.value.__cause__ is None
    assert len(model.system.restorer.shapes) < 15


def test_a_budget_in_which_no_tile_fits_is_refused(tiny_model):
    with pytest.raises(NotEnoughMemoryError, match="give more memory"):
        tiny_model.restore(picture(600, 600), memory=1e-6, **DENOISE)


def test_batches_stay_within_the_given_memory(fake_model):
    model = fake_model()
    model.restore(picture(40, 64, 64), axes="ZYX", memory=0.002, **DENOISE)
    assert max(math.prod(shape) / 3 * Fake.bytes_per_pixel for shape in model.system.restorer.shapes) <= 0.002 * 2**30
    assert max(shape[0] for shape in model.system.restorer.shapes) == 5


def test_automatic_memory_on_a_cpu_is_at_most_two_gibibytes():
    cpu = torch.device("cpu")
    assert 0 < memory_budget("auto", cpu) <= 2 * 2**30
    assert memory_budget(0.5, cpu) == 2**29


def tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def test_nothing_stays_behind_after_a_run_a_cancelled_run_and_a_failed_one(tiny_model):
    image = picture(40, 50)

    def use() -> None:
        tiny_model.restore(image, handling="region", **DENOISE)
        steps = tiny_model.steps(image, tile=16, overlap=0, memory=1e-3, **DENOISE)
        next(steps)
        steps.close()
        with pytest.raises(NotEnoughMemoryError):
            tiny_model.restore(picture(300, 300), memory=1e-6, **DENOISE)

    use()
    before = tensors()
    for _ in range(3):
        use()
    assert tensors() == before


def test_what_a_plane_needed_is_let_go_when_the_plane_is_done(tiny_model, monkeypatch):
    maps, outputs, make = [], [], Guide.condition_map

    def remembered(*args):
        made = make(*args)
        maps.append(weakref.ref(made))
        return made

    class Watched(_engine.Output):
        def __init__(self, *args) -> None:
            super().__init__(*args)
            outputs.append(self)

    monkeypatch.setattr(Guide, "condition_map", remembered)
    monkeypatch.setattr(_engine, "Output", Watched)
    fields = {"axes": "ZYX", "tile": 16, "overlap": 0, "memory": 2e-4, "handling": "region", **DENOISE}
    for _ in tiny_model.steps(Lazy(picture(5, 40, 40)), **fields):
        assert sum(made() is not None for made in maps) <= 2
        assert len(outputs[0].sources) <= 2
        assert len(outputs[0].accumulators) <= 2
    assert len(maps) == 5


@pytest.mark.slow
def test_a_thousand_pictures_leak_nothing(tiny_model):
    psutil = pytest.importorskip("psutil")
    images = [picture(24 + n % 16, 30) for n in range(16)]
    for image in images * 8:
        tiny_model.restore(image, **DENOISE)
    gc.collect()
    before = psutil.Process().memory_info().rss
    for number in range(1000):
        tiny_model.restore(images[number % 16], **DENOISE)
    gc.collect()
    assert psutil.Process().memory_info().rss - before < 10 * 2**20


# ---- the state of torch


@pytest.mark.parametrize("flushed", [False, True])
def test_denormals_are_flushed_only_while_the_network_runs(fake_model, flushed):
    inside = []

    def change(image: Tensor) -> Tensor:
        inside.append(flushes_denormals())
        return image

    torch.set_flush_denormal(flushed)
    try:
        for _ in fake_model(change).steps(picture(100, 100), tile=16, overlap=0, memory=1e-6, **DENOISE):
            assert flushes_denormals() == flushed
        with pytest.raises(KeyError), without_denormals():
            raise KeyError
        assert flushes_denormals() == flushed
    finally:
        torch.set_flush_denormal(False)
    assert all(inside)


def test_denormals_are_flushed_while_a_picture_is_perceived_and_mapped(tiny_model, monkeypatch):
    inside = []
    windows = _quality_map.read_windows
    monkeypatch.setattr(_engine, "perceive", lambda *_, **how: [inside.append(flushes_denormals())])
    monkeypatch.setattr(_quality_map, "read_windows", lambda *a: inside.append(flushes_denormals()) or windows(*a))
    tiny_model.perceive(picture(*GREY))
    tiny_model.quality_map(picture(*GREY))
    assert inside == [True, True]
    assert not flushes_denormals()


def test_a_system_in_training_is_put_into_evaluation_and_laid_out_for_convolutions(make_system):
    model = Restorer(make_system().train(), Card("a", "0"), device="cpu")
    assert not model.system.training
    assert model.system.restorer.backbone.leave.weight.is_contiguous(memory_format=torch.channels_last)


def test_no_gradient_is_recorded_and_none_is_forbidden_outside(fake_model):
    states = []

    def change(image: Tensor) -> Tensor:
        states.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        return image

    model = fake_model(change)
    for _ in model.steps(picture(40, 40), tile=16, overlap=0, **DENOISE):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    assert set(states) == {(False, True)}
    assert not any(p.requires_grad for p in model.system.parameters())
    assert not model.system.training


def test_the_random_numbers_of_the_caller_are_left_alone(tiny_model):
    state = torch.get_rng_state()
    tiny_model.restore(picture(*GREY), handling="region", **DENOISE)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", ""])
def test_a_device_that_is_not_there_is_refused(tiny_system, device):
    with pytest.raises(ValueError, match="device"):
        Restorer(tiny_system, Card("a", "0"), device=device)


def test_a_precision_that_is_not_there_is_refused(tiny_system):
    with pytest.raises(ValueError, match="auto, float32 or bfloat16, got 'float16'"):
        Restorer(tiny_system, Card("a", "0"), device="cpu", precision="float16")


# ---- the record


@pytest.mark.parametrize("fields", [DENOISE, {"handling": "region"}, {"severity": 0.0, "value_range": (0, 3)}])
def test_a_result_says_what_was_done_in_plain_json(tiny_model, fields):
    result = tiny_model.restore(picture(*RGB), **fields)
    about = result.to_dict()
    assert json.loads(json.dumps(about, allow_nan=False)) == about
    assert Recipe(**about["recipe"]) == result.recipe
    assert about["software"].startswith("napari-perceive-ir ")
    assert set(about["model"]) == {"name", "version", "sha256"}
    assert about["perception"]["value_range"] == list(result.perception.value_range)


def test_a_painted_recipe_is_recorded_too(tiny_model):
    painted = {3: ("denoise", 0.5)}
    result = tiny_model.restore(picture(*GREY), handling="painted", painted=painted, labels=np.ones(GREY, int))
    about = json.loads(json.dumps(result.to_dict()))
    assert Recipe(**about["recipe"]).painted == painted


def test_a_record_names_the_model_version_and_hash(fake_model):
    result = fake_model().restore(picture(*GREY), **DENOISE)
    assert result.to_dict()["model"] == {"name": "fake", "version": "1", "sha256": "abc"}


def test_a_result_can_be_sent_to_another_process(tiny_model):
    result = tiny_model.restore(picture(*GREY), handling="region", **DENOISE)
    again = pickle.loads(pickle.dumps(result))
    assert again.at(0.5).tobytes() == result.at(0.5).tobytes()


@pytest.mark.parametrize(
    ("has", "chosen"),
    [({"avx512_bf16": True, "amx_bf16": True}, torch.bfloat16), ({"avx512_bf16": True}, torch.float32)],
)
def test_bfloat16_is_chosen_where_a_processor_has_amx(monkeypatch, has, chosen):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert choose_precision("auto", torch.device("cpu")) == chosen
