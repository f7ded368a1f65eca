"""A part of a plane comes out as it does in the whole picture."""

import numpy as np
import pytest

from perceive_ir import QualityMap, Recipe, Result
from perceive_ir._engine import DEFAULT_OVERLAP
from perceive_ir._part import Whole
from perceive_ir.images import check_array, parse_layout

TOLERANCE = 1 / 512
DENOISE = {"task": "denoise", "severity": 0.8}
PAINTED = {"handling": "painted", "painted": {1: ("denoise", 0.9), 2: ("deblur", 0.4)}}
BOXES = [
    (slice(128, 256), slice(96, 190)),
    (slice(0, 130), slice(0, 128)),
    (slice(256, 333), slice(270, 301)),
    (slice(0, 333), slice(5, 6)),
]


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def motley(height: int, width: int) -> QualityMap:
    """A quality map in which every cell differs from its neighbours."""
    cells, stride = (-(-height // 32), -(-width // 32)), 32
    tiers, types, severities = (
        np.random.default_rng(n).random((k, *cells), np.float32) for n, k in enumerate((3, 8, 8))
    )
    return QualityMap(tiers / tiers.sum(axis=0), types, severities, stride, 128, (height, width))


def restored(model, image, recipe: Recipe, labels=None, qmap=None) -> Result:
    *_, last = model.steps(image, recipe, labels=labels, maps={0: qmap} if qmap else None)
    return last.result


def whole(model, array, recipe: Recipe, labels=None) -> Whole:
    layout = parse_layout(array.shape, recipe.axes)
    return Whole(model, check_array(array), layout, recipe, model.perceive(array, recipe.axes), labels)


@pytest.mark.parametrize("fields", [DENOISE, {**DENOISE, "handling": "region"}, PAINTED, {}])
@pytest.mark.parametrize("shape", [(333, 301), (333, 301, 3)])
def test_a_part_is_what_the_whole_is_there(narrow_model, shape, fields):
    image, recipe = picture(*shape) * 900 + 100, Recipe(**fields)
    labels = (np.indices(shape[:2]).sum(axis=0) // 90 % 3).astype(np.uint8)
    parts = whole(narrow_model, image, recipe, labels)
    qmap = motley(*shape[:2]) if recipe.handling == "region" else None
    full = restored(narrow_model, image, recipe, labels, qmap).image
    low, high = parts.seen.value_range
    for box in BOXES:
        difference = np.abs(parts.restore(0, box, qmap).at(recipe) - full[box]).max()
        assert difference <= TOLERANCE * (high - low), box


def test_with_all_that_the_network_sees_a_part_is_exact(narrow_model):
    image, recipe = picture(333, 301), Recipe(**DENOISE, overlap="exact")
    full = narrow_model.restore(image, recipe).image
    part = whole(narrow_model, image, recipe).restore(0, BOXES[0]).at(recipe)
    np.testing.assert_allclose(part, full[BOXES[0]], atol=1e-5)
    assert not np.allclose(part, image[BOXES[0]], atol=1e-3)


@pytest.mark.parametrize("handling", ["image", "region"])
def test_a_part_takes_another_strength_without_the_network(narrow_model, handling):
    image, recipe = picture(200, 200), Recipe(**DENOISE, handling=handling)
    other = recipe.model_copy(update={"strength": 0.3, "tier_strength": {"low": 0.2, "medium": 1.0, "high": 0.6}})
    qmap = motley(200, 200)
    part = whole(narrow_model, image, recipe).restore(0, (slice(64, 128), slice(64, 128)), qmap)
    full = restored(narrow_model, image, recipe, qmap=qmap).at(other.strength, other.tier_strength)
    assert np.abs(part.at(other) - full[64:128, 64:128]).max() <= TOLERANCE


@pytest.mark.parametrize("axes", ["ZYX", "ZXY"])
def test_only_the_part_and_its_context_are_read(narrow_model, axes):
    stack, recipe = Reads(picture(3, 400, 390)), Recipe(**DENOISE, axes=axes)
    parts = whole(narrow_model, stack, recipe)
    stack.reads.clear()
    box = (slice(160, 200), slice(120, 200))
    part = parts.restore(1, box).at(recipe)
    assert len(stack.reads) == 1 and stack.reads[0] <= (40 + 2 * DEFAULT_OVERLAP + 16) * (80 + 2 * DEFAULT_OVERLAP + 16)
    plane = narrow_model.restore(stack.array, recipe, perception=parts.seen).image[1]
    assert np.abs(part - (plane if axes == "ZYX" else plane.T)[box]).max() <= TOLERANCE


class Reads:
    """An array that remembers how many values were read each time."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype, self.reads = array, array.shape, array.dtype, []

    def __getitem__(self, key) -> np.ndarray:
        self.reads.append(self.array[key].size)
        return self.array[key]


# ---- a region as a result of its own


@pytest.mark.parametrize("fields", [DENOISE, {**DENOISE, "handling": "region"}, PAINTED, {}])
@pytest.mark.parametrize("shape", [(333, 301), (333, 301, 3)])
def test_a_region_is_restored_as_in_the_whole_picture(narrow_model, shape, fields):
    image = picture(*shape) * 900 + 100
    labels = (np.indices(shape[:2]).sum(axis=0) // 90 % 3).astype(np.uint8) if "painted" in fields else None
    full = narrow_model.restore(image, labels=labels, **fields)
    low, high = full.perception.value_range
    for box in BOXES:
        part = narrow_model.restore(image, labels=labels, region=box, **fields)
        assert (part.image.shape, part.recipe) == (image[box].shape, full.recipe)
        assert part.perception == full.perception
        assert np.abs(part.image - full.image[box]).max() <= TOLERANCE * (high - low), box


@pytest.mark.parametrize("handling", ["image", "region"])
def test_a_region_takes_another_strength(narrow_model, handling):
    image, box = picture(200, 200), (slice(70, 131), slice(64, 128))
    fields = {**DENOISE, "handling": handling}
    other = {"strength": 0.3, "tier_strength": {"low": 0.2, "medium": 1.0, "high": 0.6}}
    part, full = narrow_model.restore(image, region=box, **fields), narrow_model.restore(image, **fields)
    assert np.allclose(part.at(), part.image, atol=1e-6)
    assert np.abs(part.at(**other) - full.at(**other)[box]).max() <= TOLERANCE


def test_a_region_of_a_stack_is_that_of_every_plane(narrow_model):
    stack, box = picture(2, 150, 3, 160), (slice(100, 150), slice(20, 61))
    full = narrow_model.restore(stack, axes="TYZX", **DENOISE).image
    part = narrow_model.restore(stack, axes="TYZX", region=box, **DENOISE).image
    assert part.shape == (2, 50, 3, 41)
    assert np.abs(part - full[:, box[0], :, box[1]]).max() <= TOLERANCE


def test_of_a_lazy_array_only_the_region_and_its_context_are_read_to_restore(narrow_model):
    stack, box = Reads(picture(2, 400, 390)), (slice(160, 200), slice(120, 200))
    seen = narrow_model.perceive(stack, "ZYX")
    stack.reads.clear()
    narrow_model.restore(stack, region=box, axes="ZYX", perception=seen, **DENOISE)
    assert sum(stack.reads) <= 2 * (40 + 2 * DEFAULT_OVERLAP + 16) * (80 + 2 * DEFAULT_OVERLAP + 16)


def test_a_region_without_its_residual_is_the_same(narrow_model):
    image, box = picture(200, 200), (slice(70, 131), slice(64, 128))
    *_, last = narrow_model.steps(image, region=box, keep_residual=False, **DENOISE)
    assert np.array_equal(last.result.image, narrow_model.restore(image, region=box, **DENOISE).image)


@pytest.mark.parametrize(
    "region", [(slice(0, 5),), (slice(0, 5), 3), (slice(0, 9, 2), slice(0, 9)), (slice(90, 99), slice(0, 9))]
)
def test_what_is_no_region_is_refused(tiny_model, region):
    with pytest.raises(ValueError, match="in 20 x 30 pixels"):
        tiny_model.restore(picture(20, 30), region=region)
