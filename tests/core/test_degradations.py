"""Damage is seeded, grows with its severity, and stays within its scene."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from perceive_ir._vocabulary import TYPES
from perceive_ir.degradations import ORDER, Mixture, degrade, severity_of_reach
from perceive_ir.degradations._blur import _shake as shakes
from perceive_ir.degradations._noise import _through_a_mosaic as through_a_mosaic
from perceive_ir.degradations._part import Draw
from perceive_ir.degradations._rain import _fine as fine_streaks

SEVERITIES = (0.1, 0.25, 0.5, 0.75, 1.0)
BY_TYPE = pytest.mark.parametrize("type", TYPES)


def picture(batch: int = 3, side: int = 64) -> Tensor:
    """Return a coloured test picture (B, 3, H, W) with slopes, edges and texture, of 8-bit values."""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    disc = ((y - 0.4).square() + (x - 0.6).square() < 0.06).float()
    # Texture of all sizes and no period: a stripe pattern blurred by its own period would come out less blurred.
    source = torch.Generator().manual_seed(0)
    grains = [torch.rand(1, 1, n, n, generator=source) - 0.5 for n in (8, 16, 32, 64)]
    texture = 0.1 * sum(interpolate(g, (side, side), mode="bilinear")[0, 0] for g in grains)
    colours = torch.stack([0.3 + 0.3 * x + 0.25 * disc, 0.5 - 0.3 * y + 0.2 * disc, 0.25 + 0.4 * y * x]) + texture
    return ((colours.clamp(0, 1) * 255).round() / 255).expand(batch, 3, side, side).contiguous()


def vector(batch: int, **severities: float) -> Tensor:
    """Return severities (B, 8), the same for every picture."""
    return torch.tensor([[severities.get(name, 0.0) for name in TYPES]]).expand(batch, -1).contiguous()


def draw(x: Tensor, *types: str, seed: int = 0, **options: object) -> Mixture:
    present = vector(len(x), **dict.fromkeys(types, 1.0)) > 0
    return Mixture.draw(tuple(x.shape), present, torch.Generator().manual_seed(seed), **options)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    return -10 * torch.log10((a - b).square().mean((1, 2, 3)))


def likeness(a: Tensor, b: Tensor) -> float:
    """Return the correlation of two differences."""
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def test_the_order_holds_every_type_once() -> None:
    assert sorted(ORDER) == sorted(TYPES)


@BY_TYPE
def test_the_same_seed_gives_the_same_damage_and_another_seed_another(type: str) -> None:
    x = picture()
    first, again, other = (draw(x, type, seed=seed).apply(x, vector(3, **{type: 0.6})) for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@BY_TYPE
def test_severity_zero_changes_no_bit(type: str) -> None:
    x = torch.rand(3, 3, 40, 56)
    assert torch.equal(draw(x, type).apply(x, vector(3)), x)


@BY_TYPE
@pytest.mark.parametrize("varied", [True, False])
def test_more_severity_means_more_error(type: str, varied: bool) -> None:
    x = picture(4)
    mixture = draw(x, type, seed=7, varied=varied)
    errors = torch.stack([psnr(mixture.apply(x, vector(4, **{type: s})), x) for s in SEVERITIES])
    assert (errors.diff(dim=0) < 0).all(), errors


def test_noise_has_the_deviation_of_its_formula_on_a_mid_grey() -> None:
    x = torch.full((40, 3, 192, 192), 0.5)
    y = draw(x, "noise").apply(x, vector(40, noise=0.5), quantise=False)
    assert (y - x).square().mean((1, 2, 3)).sqrt() == pytest.approx(torch.full((40,), 27.5 / 255).numpy(), rel=0.05)


def test_some_noise_is_that_of_a_sensor_that_sees_one_colour_a_pixel() -> None:
    x = torch.full((80, 3, 128, 128), 0.5)
    noise = draw(x, "noise").apply(x, vector(80, noise=0.3), quantise=False) - x

    def likeness_of_neighbours(field: Tensor, far: int) -> Tensor:
        return (field[..., far:] * field[..., :-far]).mean((1, 2)) / field.square().mean((1, 2))

    light, colour = noise.mean(1), noise[:, 2] - noise.mean(1)
    next_to, farther = (likeness_of_neighbours(light, far) for far in (1, 2))
    through_a_mosaic = (next_to > 0.4) & (next_to < 0.8) & (farther < 0.35) & (farther > 0)
    assert 14 < through_a_mosaic.sum() < 35
    assert (likeness_of_neighbours(colour, 2)[through_a_mosaic] > 0.5).float().mean() > 0.6


def test_a_mosaic_keeps_what_each_pixel_sees_and_fills_in_the_mean_of_its_neighbours() -> None:
    field = torch.randn(4, 3, 256, 256, generator=torch.Generator().manual_seed(3))
    start = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    filled = through_a_mosaic(field, start)
    for picture, raw, (down, right) in zip(filled, field, start.tolist(), strict=True):
        (red, _, blue), rows, columns = picture, [down, 1 - down], [right, 1 - right]
        assert torch.equal(red[rows[0] :: 2, columns[0] :: 2], raw[0, rows[0] :: 2, columns[0] :: 2])
        assert torch.equal(blue[rows[1] :: 2, columns[1] :: 2], raw[2, rows[1] :: 2, columns[1] :: 2])
        spread = [red[a::2, b::2].var().item() for a in rows for b in columns]
        assert spread == pytest.approx([1, 0.5, 0.5, 0.25], rel=0.05)
        edge = torch.cat([red[0], red[-1], red[:, 0], red[:, -1]])
        assert edge.var().item() == pytest.approx(0.75, rel=0.15)  # as in a line that sees red
    torch.testing.assert_close(through_a_mosaic(torch.ones(4, 3, 9, 8), start), torch.ones(4, 3, 9, 8))


def test_noise_of_grey_pictures_has_not_been_through_a_mosaic() -> None:
    x = torch.full((60, 3, 32, 32), 0.5)
    present = vector(60, noise=1.0) > 0
    mixture = Mixture.draw(tuple(x.shape), present, torch.Generator().manual_seed(0), grey=torch.ones(60, dtype=bool))
    field = mixture.parts["noise"][1].field
    assert torch.equal(field, field[:, :1].expand_as(field))


def test_some_noise_is_stronger_in_the_shadows_as_a_tone_curve_leaves_it_and_some_in_the_light() -> None:
    dark, light = torch.full((40, 3, 96, 96), 0.25), torch.full((40, 3, 96, 96), 0.75)
    mixture = draw(dark, "noise")
    spread = [
        (mixture.apply(x, vector(40, noise=0.2), quantise=False) - x).square().mean((1, 2, 3)).sqrt()
        for x in (dark, light)
    ]
    ratio = spread[0] / spread[1]
    assert ratio.min() < 0.8
    assert ratio.max() > 1.25


def test_some_rain_falls_more_densely_in_places_and_severities_follow_it() -> None:
    x, told = torch.zeros(40, 3, 96, 96), vector(40, rain=0.4)
    mixture = draw(x, "rain")
    added = mixture.apply(x, told, quantise=False)
    left, right = slice(0, 48), slice(48, 96)
    shown = [mixture.shown(x, told, (slice(None), part))[:, TYPES.index("rain")] for part in (left, right)]
    light = [added[..., part].mean((1, 2, 3)) for part in (left, right)]
    assert 10 < ((shown[0] - shown[1]).abs() > 0.02).sum() < 30
    cover = mixture.parts["rain"][1].relief(x)
    torch.testing.assert_close((shown[0] + shown[1]) / 2, (0.4 * cover).clamp(max=1).mean((1, 2, 3)))
    nowhere_full = cover.amax((1, 2, 3)) < 2.5
    assert int(nowhere_full.sum()) > 15
    torch.testing.assert_close((shown[0] + shown[1])[nowhere_full] / 2, torch.full((40,), 0.4)[nowhere_full])
    assert likeness((shown[0] / shown[1]).log(), (light[0] / light[1]).log()) > 0.7


def test_where_rain_is_uneven_it_often_grows_towards_one_side() -> None:
    x = torch.zeros(60, 3, 64, 96)
    cover = draw(x, "rain").parts["rain"][1].relief(x).log()[:, 0]
    uneven = cover[cover.std((1, 2)) > 0.05]
    y, across = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 96), indexing="ij")
    plane = torch.stack([y, across, torch.ones_like(y)], -1).flatten(0, 1)
    left = uneven.flatten(1).T - plane @ torch.linalg.lstsq(plane, uneven.flatten(1).T).solution
    explained = 1 - left.var(0) / uneven.flatten(1).var(1)
    assert len(uneven) > 30
    assert int((explained > 0.85).sum()) > 8 and int((explained < 0.6).sum()) > 8


def test_rain_that_adds_light_everywhere_is_never_even() -> None:
    x = torch.zeros(60, 3, 64, 96)
    rain = draw(x, "rain").parts["rain"][1]
    pours, spread = rain.fine.mean((1, 2, 3)) > 0, rain.relief(x).log().std((1, 2, 3))
    assert 15 < int(pours.sum()) < 45
    assert float(spread[pours].min()) > 0.3
    assert 10 < int((spread < 0.01).sum()) < 30


def test_half_of_the_rain_adds_the_same_light_to_dark_and_bright_things() -> None:
    dark, bright = torch.full((60, 3, 48, 48), 0.1), torch.full((60, 3, 48, 48), 0.6)
    told = vector(60, rain=0.04)  # too little for a veil
    dimmed, lit = (draw(x, "rain").apply(x, told, quantise=False) - x for x in (dark, bright))
    kept = (lit.mean((1, 2, 3)) / dimmed.mean((1, 2, 3)) > 0.99).sum()
    assert 15 < int(kept) < 45


def test_some_rain_adds_light_everywhere_and_none_of_it_is_in_the_standard_variant() -> None:
    x = torch.full((40, 3, 64, 64), 0.2)
    for varied, some in ((True, range(8, 24)), (False, range(1))):
        mixture = draw(x, "rain", varied=varied)
        added = mixture.apply(x, vector(40, rain=0.35), quantise=False) - x
        assert int((added.quantile(0.05, dim=-1).mean((1, 2)) > 0.01).sum()) in some


def test_streaks_without_number_may_be_faint_against_the_light_that_they_add() -> None:
    plain = torch.zeros(60, dtype=torch.bool)
    source = Draw(60, 96, 96, torch.Generator().manual_seed(0), plain, varied=True)
    light = fine_streaks(source, torch.zeros(60))
    torch.testing.assert_close(light.mean((1, 2, 3)), torch.ones(60), atol=0.2, rtol=0)
    contrast = light.std((1, 2, 3))
    assert int((contrast < 0.1).sum()) > 6 and int((contrast > 0.5).sum()) > 6


def test_every_other_shake_goes_by_halts_and_the_standard_one_does_not() -> None:
    for varied, some in ((True, range(20, 41)), (False, range(1))):
        paths = shakes(Draw(60, 8, 8, torch.Generator().manual_seed(0), torch.zeros(60, dtype=torch.bool), varied))
        halts = [len(path.unique(dim=0)) for path in paths]
        assert sum(count <= 15 for count in halts) in some
        assert min(halts) >= 7


def test_a_shake_is_about_its_middle_in_time_and_half_of_them_are_straight() -> None:
    paths = shakes(Draw(60, 8, 8, torch.Generator().manual_seed(0), torch.zeros(60, dtype=torch.bool), varied=True))
    assert float(paths[:, 127:129].mean(1).abs().max()) < 1e-6
    assert float(paths.mean(1).norm(dim=1).max()) > 0.2  # which is not their centre
    across = torch.linalg.svdvals(paths - paths.mean(1, keepdim=True))[:, 1] / len(paths[0]) ** 0.5
    assert int((across < 1e-3).sum()) in range(20, 41)


def test_haze_lets_through_the_light_of_its_formula() -> None:
    black, white = torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
    hazy = [draw(x, "haze", varied=False).apply(x, vector(1, haze=0.4), quantise=False) for x in (black, white)]
    depth = -torch.log(hazy[1] - hazy[0]).mean()
    assert float(depth) == pytest.approx(2.3 * 0.4, rel=1e-3)


def depths(window: bool) -> tuple[Tensor, Tensor]:
    """Return the logarithm of each picture's mean optical depth, and its spread within the picture."""
    black, white = torch.zeros(200, 3, 48, 48), torch.ones(200, 3, 48, 48)
    hazy = [draw(x, "haze", window=window).apply(x, vector(200, haze=0.3), quantise=False) for x in (black, white)]
    depth = (-torch.log((hazy[1] - hazy[0]).mean(1))).clamp(1e-4, 20)
    return depth.mean((1, 2)).log(), depth.log().std((1, 2))


def test_windows_of_a_scene_differ_in_depth_among_them_more_than_within() -> None:
    between, within = depths(window=False)
    assert float(within.mean()) > 1.5 * float(between.std())
    between, within = depths(window=True)
    assert float(between.std()) > 1.5 * float(within.mean())
    assert float(between.exp().mean()) == pytest.approx(2.3 * 0.3, rel=0.15)


def test_the_standard_variant_knows_no_windows() -> None:
    x = picture(2)
    wide, window = (draw(x, *TYPES, varied=False, window=w).apply(x, vector(2, haze=0.5)) for w in (False, True))
    assert torch.equal(wide, window)


def test_low_light_has_the_exposure_of_its_formula() -> None:
    x = torch.ones(1, 3, 64, 64)
    y = draw(x, "lowlight", varied=False).apply(x, vector(1, lowlight=0.5), quantise=False)
    assert float(y.mean()) == pytest.approx(2**-1.75, rel=0.01)


@pytest.mark.parametrize(("severity", "length"), [(0.2, 4.4), (1.0, 48.3)])
def test_a_shake_is_as_long_as_its_formula_says(severity: float, length: float) -> None:
    x = torch.zeros(1, 3, 61, 61)
    x[..., 30, 30] = 1
    y = draw(x, "blur", varied=False).apply(x, vector(1, blur=severity), quantise=False)
    rows, columns = torch.nonzero(y[0, 0] > 1e-4, as_tuple=True)
    assert float(y[0, 0].sum()) == pytest.approx(1, rel=1e-4)
    assert int(columns.max() - columns.min()) == pytest.approx(length * np.cos(np.pi / 6), abs=2)
    assert int(rows.max() - rows.min()) == pytest.approx(length * np.sin(np.pi / 6), abs=2)


@pytest.mark.parametrize(("pixels", "severity"), [(0.0, 0.0), (10.5 * 0.4 * 1.208, 0.4), (24.15, 1.0), (99.0, 1.0)])
def test_the_severity_of_a_shake_follows_from_its_reach(pixels: float, severity: float) -> None:
    assert severity_of_reach(pixels) == pytest.approx(severity, abs=0.011)


def test_round_blur_stays_as_wide_as_it_was() -> None:
    x = torch.zeros(60, 3, 61, 61)
    x[..., 30, 30] = 1
    mixture = draw(x, "blur")
    shaken = mixture.parts["blur"][1].shaken
    y = mixture.apply(x, vector(60, blur=1.0), quantise=False)[:, 0] > 1e-4
    reach = torch.stack([(torch.nonzero(p) - 30).abs().max() for p in y])
    assert 25 < int(shaken.sum()) < 50
    assert int(reach[~shaken].max()) <= 12 < 20 < int(reach[shaken].median())


@pytest.mark.parametrize("severity", [0.3, 0.5, 0.8])
def test_jpeg_looks_like_a_jpeg_file_of_that_quality(severity: float) -> None:
    x = picture(1)
    eight_bit = (x[0].permute(1, 2, 0) * 255).round().byte().numpy()
    file = io.BytesIO()
    Image.fromarray(eight_bit).save(file, "JPEG", quality=round(95 - 90 * severity), subsampling=2)
    real = torch.from_numpy(np.array(Image.open(file)) / 255.0).permute(2, 0, 1)[None]
    ours = draw(x, "jpeg", varied=False).apply(x, vector(1, jpeg=severity))
    assert float(psnr(ours, real)) > float(psnr(ours, x)) + 6


@pytest.mark.parametrize("type", ["noise", "rain", "haze", "snow", "lowlight"])
def test_half_the_severity_shows_the_same_scene(type: str) -> None:
    x = picture() * 0.5 + 0.2
    mixture = draw(x, type)
    full, half = (mixture.apply(x, vector(3, **{type: s})) - x for s in (0.8, 0.4))
    assert all(likeness(a, b) > 0.5 for a, b in zip(full, half, strict=True))


@BY_TYPE
def test_a_constant_map_does_what_the_number_does(type: str) -> None:
    x = picture()
    mixture, severities = draw(x, type), vector(3, **{type: 0.6})
    everywhere = severities[..., None, None].expand(-1, -1, *x.shape[2:])
    assert torch.allclose(mixture.apply(x, everywhere, False), mixture.apply(x, severities, False), atol=1e-5)


@BY_TYPE
def test_a_map_leaves_alone_what_it_leaves_out(type: str) -> None:
    x = picture()
    where = vector(3, **{type: 0.6})[..., None, None].repeat(1, 1, *x.shape[2:])
    where[..., :32] = 0
    y = draw(x, type).apply(x, where)
    assert torch.equal(y[..., :32], x[..., :32])
    assert not torch.equal(y[..., 32:], x[..., 32:])


def test_a_picture_of_severity_zero_is_untouched_beside_damaged_ones() -> None:
    x = torch.rand(3, 3, 32, 32)
    severities = vector(3, noise=0.5, jpeg=0.5)
    severities[1] = 0
    y = draw(x, "noise", "jpeg").apply(x, severities)
    assert torch.equal(y[1], x[1])
    assert (psnr(y, x)[[0, 2]] < 40).all()


def test_a_mixture_is_applied_in_its_physical_order() -> None:
    x = picture()
    mixture, alone = draw(x, "jpeg", "haze", "noise"), {}
    assert tuple(mixture.parts) == ("haze", "noise", "jpeg")
    for name in mixture.parts:
        alone[name] = Mixture(mixture.shape, mixture.grey, {name: mixture.parts[name]})
    y = x
    for name in mixture.parts:
        y = alone[name].apply(y, vector(3, **{name: 0.5}), quantise=False).clamp(0, 1)
    both = mixture.apply(x, vector(3, haze=0.5, noise=0.5, jpeg=0.5))
    assert torch.allclose(both, y, atol=0.5 / 255 + 1e-4)


def test_damaged_values_are_those_of_an_eight_bit_file() -> None:
    x = torch.rand(4, 3, 48, 48)
    y = draw(x, *TYPES).apply(x, vector(4, **dict.fromkeys(TYPES, 0.3)))
    assert torch.equal(y, (y * 255).round() / 255)
    assert y.min() >= 0 and y.max() <= 1


@BY_TYPE
def test_grey_stays_grey(type: str) -> None:
    x = picture(6)[:, :1].expand(-1, 3, -1, -1)
    y = draw(x, type, grey=torch.ones(6, dtype=torch.bool)).apply(x, vector(6, **{type: 0.7}))
    assert torch.equal(y, y[:, :1].expand_as(y))
    assert not torch.equal(y, x)


@BY_TYPE
@pytest.mark.parametrize("size", [(1, 1), (5, 40), (17, 3)])
def test_odd_and_tiny_pictures_are_no_trouble(type: str, size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size)
    y = draw(x, type).apply(x, vector(2, **{type: 1.0}))
    assert y.shape == x.shape and bool(y.isfinite().all())


def test_a_mixture_refuses_what_it_was_not_drawn_for() -> None:
    x = picture()
    with pytest.raises(ValueError, match="expected severity 0 for haze in picture 0"):
        draw(x, "noise").apply(x, vector(3, haze=0.5))
    with pytest.raises(ValueError, match="severities of noise between 0 and 1, got 2"):
        draw(x, "noise").apply(x, vector(3, noise=2.0))
    with pytest.raises(ValueError, match="expected severities of shape"):
        draw(x, "noise").apply(x, torch.zeros(3, 5))
    with pytest.raises(ValueError, match="expected pictures of shape"):
        draw(x, "noise").apply(x[:2], vector(2))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3), (40, 50, 4), (2, 40, 50), (2, 3, 40, 50)])
def test_degrade_keeps_shape_and_dtype(dtype: type, shape: tuple[int, ...]) -> None:
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    image = (np.random.default_rng(0).random(shape) * top).astype(dtype)
    damaged = degrade(image, "noise", 0.5, seed=1)
    assert damaged.shape == shape and damaged.dtype == dtype
    assert not np.array_equal(damaged, image)
    assert np.array_equal(degrade(image, "noise", 0.0), image)


def test_degrade_keeps_alpha_and_the_given_array() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 40, 4), dtype=np.uint8)
    before = image.copy()
    damaged = degrade(image, {"haze": 0.5, "jpeg": 0.5})
    assert np.array_equal(damaged[..., 3], image[..., 3])
    assert np.array_equal(image, before)


def test_degrade_gives_each_plane_its_own_damage_and_follows_the_axes() -> None:
    image = np.full((2, 3, 32, 32), 128, np.uint8)
    stack = degrade(image, "noise", axes="zcyx")
    assert not np.array_equal(stack[0], stack[1])
    assert not np.array_equal(stack[:, 0], stack[:, 1])  # channels before YX are planes of their own
    assert np.array_equal(degrade(image.transpose(2, 0, 1, 3), "noise", axes="yzcx"), stack.transpose(2, 0, 1, 3))


def test_degrade_keeps_the_scale_of_floating_values() -> None:
    image = 500 + 1000 * picture(1)[0, 0].double().numpy()
    damaged = degrade(image, "noise", 0.2)
    assert image.min() <= damaged.min() and damaged.max() <= image.max()
    assert np.corrcoef(damaged.ravel(), image.ravel())[0, 1] > 0.9


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"type": "fog"}, ValueError, "expected a damage type out of noise, haze, .*got 'fog'"),
        ({"type": {"haze": 1.5}}, ValueError, "expected a severity between 0 and 1 for haze, got 1.5"),
        ({"severity": -0.1}, ValueError, "between 0 and 1 for noise, got -0.1"),
        ({"axes": "YXC"}, ValueError, "axes 'YXC' do not fit shape"),
        ({"image": np.zeros(5, np.uint8)}, ValueError, "at least 2 axes"),
        ({"image": np.zeros((0, 5), np.uint8)}, ValueError, "with pixels"),
        ({"image": np.zeros((5, 5), np.int64)}, TypeError, "uint8, uint16 or float, got int64"),
        ({"image": np.full((5, 5), np.nan)}, ValueError, "finite"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], error: type[Exception], words: str) -> None:
    arguments = {"image": np.zeros((8, 8), np.uint8), "type": "noise", **change}
    with pytest.raises(error, match=words):
        degrade(**arguments)


def test_what_is_near_shows_less_haze_and_other_damage_is_the_same_everywhere() -> None:
    x, told = picture(), vector(3, haze=0.3, noise=0.4)
    mixture = draw(x, "haze", "noise")
    parts = (slice(0, 32), slice(32, 64), slice(None))
    left, right, whole = (mixture.shown(x, told, (slice(None), part)) for part in parts)
    haze, noise = TYPES.index("haze"), TYPES.index("noise")
    assert (left[:, noise] == 0.4).all()
    assert (left[:, haze] - right[:, haze]).abs().max() > 0.02
    torch.testing.assert_close(whole[:, haze], (left[:, haze] + right[:, haze]) / 2)
    depth = mixture.parts["haze"][1].relief(x)
    torch.testing.assert_close(whole[:, haze], 0.3 * depth.mean((1, 2, 3)))
    assert mixture.shown(x, vector(3, haze=1.0)).max() <= 1
    assert not mixture.shown(x, vector(3)).any()


def test_below_0_haze_and_low_light_are_the_opposite_change() -> None:
    x = picture(1) * 0.4 + 0.1
    mixture = draw(x, "haze", varied=False)
    there, back = (mixture.apply(x, vector(1, haze=s), quantise=False) for s in (0.3, -0.3))
    airlight = mixture.parts["haze"][1].airlight
    torch.testing.assert_close((back - airlight) * (there - airlight), (x - airlight).square())
    dark = draw(x, "lowlight", varied=False).apply(x, vector(1, lowlight=-0.4), quantise=False)
    torch.testing.assert_close(dark, x.pow(1 - 0.3 * 0.4) * 2 ** (3.5 * 0.4))
    with pytest.raises(ValueError, match=r"expected severities of noise between 0 and 1, got -0\.1"):
        draw(x, "noise").apply(x, vector(1, noise=-0.1))
    with pytest.raises(ValueError, match="expected severities of haze between -1 and 1, got nan"):
        draw(x, "haze").apply(x, vector(1, haze=float("nan")))
