"""A shake whose path is sure is undone by its own law; any other picture is left to the network."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import perceive_ir as pir
from perceive_ir import TYPES
from perceive_ir._engine import DEFAULT_OVERLAP
from perceive_ir._lazy import chunks_of
from perceive_ir._recipe import Recipe, make_recipe
from perceive_ir._shake import (
    centred,
    deviation_of,
    edges_left,
    find_path,
    find_shake,
    is_shake,
    likeness,
    middle,
    shrunk,
    tidied,
)
from perceive_ir._shaken import explained
from perceive_ir._weights import Card
from perceive_ir.networks import Signals, System, SystemConfig
from perceive_ir.networks.steady import FROM, LEFT, MOST, REACH, UP_TO, filtered, inverse_of, steadied

BLUR, NOISE = TYPES.index("blur"), TYPES.index("noise")
CHAIN = {"groups": ("noise+jpeg", "blur+lowres+rain+snow", "haze+lowlight"), "semantics": False}
SIZES = {"widths": (8, 8, 16), "encoder_blocks": (1, 1, 1), "decoder_blocks": (1, 1)}


def shapes(side: int = 320, seed: int = 0) -> torch.Tensor:
    """A picture (3, side, side) of flat discs and squares."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    picture = np.full((side, side, 3), 0.5)
    for _ in range(160):
        cy, cx, r = (*random.uniform(0, side, 2).tolist(), random.uniform(4, 22))
        disc = (y - cy) ** 2 + (x - cx) ** 2 < r * r
        square = (abs(y - cy) < r) & (abs(x - cx) < r / 2)
        picture[disc if random.random() < 0.5 else square] = random.uniform(0.05, 0.95, 3)
    return torch.from_numpy(picture).float().permute(2, 0, 1)


def bent_path() -> torch.Tensor:
    """A path with a corner, 20 pixels long."""
    path = torch.zeros(51, 51)
    path[20:30, 25] = 1.0
    path[29, 25:36] = 1.0
    return centred(path / path.sum())


def shaken(picture: torch.Tensor, path: torch.Tensor) -> torch.Tensor:
    """Filter a picture (3, H, W) by a path."""
    padded = torch.nn.functional.pad(picture[None], (25,) * 4, mode="reflect")
    kernel = path.flip(0, 1).expand(3, 1, -1, -1).contiguous()
    return torch.nn.functional.conv2d(padded, kernel, groups=3)[0]


@pytest.fixture(scope="module")
def scene() -> torch.Tensor:
    return shapes()


@pytest.fixture(scope="module")
def blurred(scene) -> torch.Tensor:
    return shaken(scene, bent_path())


@pytest.fixture(scope="module")
def found(blurred) -> torch.Tensor:
    shake = find_shake(blurred)
    assert shake is not None
    assert 0.35 < shake.severity < 0.75  # a path of 20 pixels
    return shake.filter


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).square().mean())


# ---- the law


def test_a_filter_undoes_the_path_it_was_made_for(scene, blurred):
    undone = filtered(blurred[None], inverse_of(bent_path()))[0]
    assert error(undone, scene) < 0.4 * error(blurred, scene)
    assert undone.min() >= 0 and undone.max() <= 1


def test_a_filter_leaves_flat_pictures_and_their_borders_alone():
    flat = torch.full((1, 3, 40, 200), 0.3)
    torch.testing.assert_close(filtered(flat, inverse_of(bent_path())), flat, atol=1e-5, rtol=0)


def test_a_filter_sees_no_farther_than_it_says():
    x = torch.full((1, 3, 64, 400), 0.5)
    y = x.clone()
    y[..., 200] = 0.6
    change = (filtered(y, inverse_of(bent_path())) - filtered(x, inverse_of(bent_path()))).abs().amax((0, 1, 2))
    touched = torch.nonzero(change > 1e-6).flatten()
    assert 200 - REACH <= int(touched.min()) and int(touched.max()) <= 200 + REACH


def test_the_law_is_followed_as_far_as_blur_is_told(blurred):
    filters = inverse_of(bent_path())[None]
    for told, share in ((0.0, 0.0), (FROM, 0.0), ((FROM + UP_TO) / 2, 0.5), (UP_TO, 1.0), (1.0, 1.0)):
        condition = torch.zeros(1, len(TYPES))
        condition[0, BLUR], condition[0, NOISE] = told, 0.4
        image, left = steadied(blurred[None], condition, filters, BLUR)
        wanted = blurred + MOST * share * (filtered(blurred[None], filters[0])[0] - blurred)
        torch.testing.assert_close(image[0], wanted, atol=1e-5, rtol=0)
        assert float(left[0, NOISE]) == pytest.approx(0.4)
        assert float(left[0, BLUR]) == pytest.approx(told + share * (min(told, LEFT) - told))
        assert float(condition[0, BLUR]) == pytest.approx(told)  # not changed in place


def test_a_map_says_where_the_law_is_followed(blurred):
    condition = torch.zeros(1, len(TYPES), 40, 40)
    condition[:, BLUR, :, 20:] = 1.0
    image, left = steadied(blurred[None], condition, inverse_of(bent_path())[None], BLUR)
    assert torch.equal(image[..., :150], blurred[None, ..., :150])
    assert error(image[0, ..., 170:], blurred[..., 170:]) > 1e-4
    assert left[:, BLUR].max() == pytest.approx(LEFT) and not left[:, BLUR, :, :20].any()


def test_a_zero_filter_means_no_shake(blurred):
    condition = torch.zeros(2, len(TYPES))
    condition[:, BLUR] = 0.8
    known = inverse_of(bent_path())
    image, left = steadied(blurred.expand(2, -1, -1, -1), condition, torch.stack([known, known * 0]), BLUR)
    assert torch.equal(image[1], blurred) and not torch.equal(image[0], blurred)
    assert left[:, BLUR].tolist() == pytest.approx([LEFT, 0.8])


# ---- the path


def test_a_path_is_found_in_the_picture_alone(scene, blurred, found):
    assert likeness(find_path(blurred.mean(0)), bent_path()) > 0.6
    assert error(filtered(blurred[None], found)[0], scene) < 0.7 * error(blurred, scene)


def test_a_clean_picture_and_a_small_one_have_no_shake(scene, blurred):
    assert find_shake(scene) is None
    assert find_shake(blurred[:, :250]) is None
    assert find_shake(torch.full((3, 300, 300), 0.5)) is None


def test_a_lens_out_of_focus_is_no_shake(scene):
    y, x = torch.meshgrid(torch.arange(51) - 25, torch.arange(51) - 25, indexing="ij")
    disc = (y * y + x * x <= 36).float()
    assert not is_shake(disc / disc.sum())
    assert is_shake(bent_path())
    assert find_shake(shaken(scene, disc / disc.sum())) is None


def test_too_long_a_path_leaves_more_edges(blurred):
    grey, path = blurred.mean(0), bent_path()
    twice = torch.nn.functional.interpolate(path[None, None, 10:41, 10:41], (51, 51), mode="bilinear")[0, 0]
    twice = twice / twice.sum()
    assert edges_left(grey, path) < edges_left(grey, shrunk(path))
    assert edges_left(grey, twice) > edges_left(grey, shrunk(twice))


def test_a_path_is_tidied_and_lies_in_the_middle():
    path = bent_path()
    strewn = path.clone()
    strewn[2, 2], strewn[40:43, 5] = 0.5 * float(path.max()), 0.01 * float(path.max())
    tidy = tidied(strewn)
    torch.testing.assert_close(tidy, path)
    moved = torch.roll(path, (5, -7), (0, 1))
    torch.testing.assert_close(centred(moved), path)
    assert deviation_of(path) == pytest.approx(deviation_of(centred(moved)))
    assert middle(2000) == slice(744, 1256) and middle(300) == slice(0, 300)


# ---- in the engine


@pytest.fixture(scope="module")
def model():
    """A chain that follows the law; its networks are random, so that all they do is seen."""
    torch.manual_seed(0)
    system = System(SystemConfig(sizes=SIZES, tower={"widths": (4, 4, 8, 8)}, steady=True, **CHAIN)).eval()
    return pir.Restorer(system, Card("steady", "0"), device="cpu")


def as_bytes(x: torch.Tensor) -> np.ndarray:
    return (x.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


def test_what_is_told_little_blur_is_not_looked_through_for_a_shake(model, blurred, monkeypatch):
    seen = model.perceive(as_bytes(blurred))
    monkeypatch.setattr("perceive_ir._shaken.find_shake", lambda picture: pytest.fail("looked for a shake"))
    for fields in ({"task": "denoise", "severity": 0.8}, {"task": "deblur", "severity": FROM}):
        model.restore(as_bytes(blurred), perception=seen, **fields)
    stack = np.stack([as_bytes(blurred)[..., 0]] * 2)
    model.restore(stack, axes="ZYX", task="deblur", severity=0.8)


def test_a_shake_is_looked_for_once_and_undone(model, scene, blurred):
    pixels = as_bytes(blurred)
    seen = model.perceive(pixels)
    first = model.restore(pixels, perception=seen, task="deblur", severity=0.8).image
    assert seen.shakes[seen.value_range] is not None
    plain = System(SystemConfig(sizes=SIZES, tower={"widths": (4, 4, 8, 8)}, **CHAIN)).eval()
    plain.load_state_dict(model.system.state_dict())
    other = pir.Restorer(plain, Card("plain", "0"), device="cpu").restore(pixels, task="deblur", severity=0.8).image
    assert not np.array_equal(first, other)
    seen.shakes[seen.value_range] = None
    np.testing.assert_array_equal(model.restore(pixels, perception=seen, task="deblur", severity=0.8).image, other)


def test_a_shake_is_looked_for_anew_where_other_values_are_black_and_white(model, blurred):
    pixels = as_bytes(blurred)
    seen = model.perceive(pixels)
    model.restore(pixels, perception=seen, task="deblur", severity=0.8)
    model.restore(pixels, perception=seen, task="deblur", severity=0.8, value_range=(0, 510))
    assert seen.shakes.keys() == {seen.value_range, (0.0, 510.0)}


def test_tiles_parts_and_groups_of_pictures_join(model, blurred):
    pixels, fields = as_bytes(blurred), {"task": "deblur", "severity": 0.8}
    whole = model.restore(pixels, **fields).image
    tiled = model.restore(pixels, tile=128, **fields).image
    assert np.abs(tiled.astype(int) - whole).max() <= 1
    region = (slice(100, 180), slice(60, 200))
    part = model.restore(pixels, region=region, **fields).image
    assert np.abs(part.astype(int) - whole[region]).max() <= 1
    recipe = make_recipe(**fields)
    subjects = [pir._engine.look_at(p) for p in (pixels, as_bytes(shapes(seed=3)))]
    together = dict(model.restore_all(subjects, model.perceive_all(subjects), recipe))
    np.testing.assert_array_equal(together[0].image, whole)


def test_a_shake_explains_a_picture_that_looks_damaged_by_no_known_type(model, scene, blurred, monkeypatch):
    looked = pir._engine.look_at(as_bytes(blurred))
    plain = pir._engine.perceive(model.system, [looked], model.device)[0]
    unknown = replace(plain, tiers={"low": 0.8, "medium": 0.1, "high": 0.1}, types=dict.fromkeys(TYPES, 0.1))
    assert unknown.unknown
    told = explained(looked, replace(unknown, shakes={}))
    assert told.present == ("blur",) and 0.35 < told.severities["blur"] < 0.75
    assert {t: p for t, p in told.types.items() if t != "blur"} == dict.fromkeys([t for t in TYPES if t != "blur"], 0.1)
    clean = pir._engine.look_at(as_bytes(scene))
    assert explained(clean, replace(unknown, shakes={})) == unknown
    monkeypatch.setattr("perceive_ir._shaken.find_shake", lambda picture: pytest.fail("looked for a shake"))
    known = replace(unknown, types={**unknown.types, "rain": 0.9}, shakes={})
    assert explained(looked, known) is known


def test_chunks_computed_in_any_order_are_those_of_the_whole(model, blurred):
    pixels, recipe = as_bytes(blurred), make_recipe(task="deblur", severity=0.8)
    whole = model.restore(pixels, recipe).image
    boxes = [(slice(0, 100), slice(0, 320)), (slice(100, 320), slice(0, 320))]
    for order in (boxes, boxes[::-1]):
        chunks = chunks_of(pixels, recipe, restorer=model)
        for box in order:
            assert np.abs(chunks.restored(0, box).astype(int) - whole[box]).max() <= 1
    stack = np.stack([pixels[..., 0]] * 2)
    assert chunks_of(stack, make_recipe(recipe, axes="ZYX"), restorer=model).seen.shakes == {(0.0, 255.0): None}


def test_a_blank_half_agrees_with_nothing(blurred):
    assert likeness(bent_path(), torch.zeros(51, 51)) == 0
    half = blurred.clone()
    half[..., 160:] = 0
    assert find_shake(half) is None


def test_what_lies_beyond_black_and_white_stays_there():
    x = torch.full((1, 3, 40, 200), 1.2)
    x[..., 100:] = -0.2
    undone = filtered(x, inverse_of(bent_path()))
    torch.testing.assert_close(undone[..., :20], x[..., :20], atol=1e-4, rtol=0)
    torch.testing.assert_close(undone[..., -20:], x[..., -20:], atol=1e-4, rtol=0)


def test_undoing_a_shake_needs_more_context(model, found):
    assert model.overlap(Recipe(task="deblur")) == DEFAULT_OVERLAP
    assert model.overlap(Recipe(task="deblur"), found) == DEFAULT_OVERLAP + REACH
    assert model.overlap(Recipe(task="deblur", overlap=8), found) == 8


def test_signals_of_some_entries_keep_their_filters(found):
    several = Signals(torch.zeros(3, 8), steady=torch.stack([found, found * 0, found * 2]))
    assert torch.equal(several.take(slice(2, 3)).steady, found[None] * 2)
    assert torch.equal(Signals(torch.zeros(3, 8), steady=found[None]).take(slice(2, 3)).steady, found[None])
