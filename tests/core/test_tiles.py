"""Tiles cover a plane, blend without a trace, and add up to what the whole plane would give."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv2d

from perceive_ir._errors import NotEnoughMemoryError
from perceive_ir._tiles import Accumulator, TilePlan, pick_tile, plan_tiles, smaller

modest = settings(max_examples=60, deadline=None)
plans = st.builds(
    plan_tiles,
    st.integers(1, 700),
    st.integers(1, 700),
    tile=st.integers(16, 300),
    halo=st.integers(0, 40),
    multiple=st.sampled_from([1, 2, 5, 8, 16]),
    blend=st.integers(0, 20),
)
small_plans = st.builds(
    plan_tiles,
    st.integers(1, 120),
    st.integers(1, 120),
    tile=st.integers(16, 50),
    halo=st.integers(0, 12),
    multiple=st.sampled_from([1, 4, 8]),
    blend=st.integers(0, 12),
)


def cut(plan: TilePlan, plane: torch.Tensor) -> list[torch.Tensor]:
    """Cut a padded plane (channels, h, w) into the plan's tiles."""
    height, width = plan.tile_shape
    return [plane[:, t.y.start : t.y.start + height, t.x.start : t.x.start + width] for t in plan.tiles]


def join(plan: TilePlan, residuals: list[torch.Tensor]) -> torch.Tensor:
    """Add tiles up to a plane."""
    accumulator = Accumulator(plan, channels=residuals[0].shape[0])
    bands = [(band.y0, band.residual.clone()) for band in map(accumulator.add, residuals) if band]
    assert [y0 for y0, _ in bands] == [sum(len(b[0]) for _, b in bands[:n]) for n in range(len(bands))]
    assert all(rows.shape[1] > 0 for _, rows in bands)
    return torch.cat([rows for _, rows in bands], dim=1)


def noise(plan: TilePlan, channels: int = 2) -> torch.Tensor:
    return torch.randn(channels, *plan.padded, generator=torch.Generator().manual_seed(7))


@modest
@given(plans)
def test_windows_cover_every_pixel_and_sum_to_one(plan):
    for spans, length, side in zip((plan.ys, plan.xs), plan.padded, plan.tile_shape, strict=True):
        total = np.zeros(length, np.float64)
        for span in spans:
            assert span.window.shape == (side,)
            assert span.window.dtype == np.float32
            assert span.window.min() >= 0
            total[span.start : span.start + side] += span.window
        np.testing.assert_allclose(total, 1, rtol=0, atol=1e-6)


@modest
@given(plans, st.data())
def test_tiles_have_one_size_and_start_where_the_network_demands(plan, data):
    assert all(side <= length for side, length in zip(plan.tile_shape, plan.padded, strict=True))
    for spans, length, side in zip((plan.ys, plan.xs), plan.padded, plan.tile_shape, strict=True):
        starts = [span.start for span in spans]
        assert starts[0] == 0
        assert starts[-1] + side == length
        assert starts == sorted(set(starts))
    assert plan.count == len(plan.tiles)
    rows, cols = plan.read(data.draw(st.sampled_from(plan.tiles)))
    assert 0 <= rows.start < rows.stop <= plan.height
    assert 0 <= cols.start < cols.stop <= plan.width


@modest
@given(st.integers(1, 700), st.integers(16, 300), st.integers(0, 40), st.sampled_from([1, 2, 5, 8, 16]))
def test_sizes_and_starts_are_multiples_and_tiles_are_no_larger_than_wished(length, tile, halo, multiple):
    plan = plan_tiles(length, length, tile=tile, halo=halo, multiple=multiple)
    numbers = [*plan.padded, *plan.tile_shape, *(span.start for span in plan.ys)]
    assert all(number % multiple == 0 for number in numbers)
    assert max(plan.tile_shape) < max(tile, multiple) + 2 * halo + multiple
    assert max(plan.padded) < length + multiple


@modest
@given(
    st.integers(1, 700), st.integers(16, 200), st.integers(0, 40), st.sampled_from([1, 5, 8, 16]), st.integers(0, 20)
)
def test_what_a_tile_contributes_is_far_from_its_inner_edges(length, tile, halo, multiple, blend):
    plan = plan_tiles(length, 1, tile=tile, halo=halo, multiple=multiple, blend=blend)
    side = plan.tile_shape[0]
    for span in plan.ys:
        used = np.flatnonzero(span.window)
        assert (used[0], used[-1] + 1) == (span.support.start, span.support.stop)
        if span.start > 0:
            assert used[0] >= halo - blend
        if span.start + side < plan.padded[0]:
            assert side - 1 - used[-1] >= halo - blend


def test_neighbours_hand_over_along_a_ramp_in_the_middle_of_their_overlap():
    plan = plan_tiles(16, 160, tile=64, halo=16, multiple=8, blend=8)
    left, right = (span.window for span in plan.xs)
    start = plan.xs[1].start
    overlap = left[start:]
    assert (overlap.size, plan.tile_shape[1]) == (32, 96)
    np.testing.assert_allclose(overlap[8:24], 1 - (np.arange(16) + 0.5) / 16, atol=1e-6)
    np.testing.assert_allclose(overlap + right[:32], 1, atol=1e-6)
    assert (overlap[:8] == 1).all()
    assert (overlap[24:] == 0).all()


def test_tiles_shrink_rather_than_see_the_same_pixels_twice():
    plan = plan_tiles(600, 600, tile=448, halo=32, multiple=8)
    assert plan.count == 4
    assert plan.tile_shape == (336, 336)


@modest
@given(small_plans)
def test_a_zero_residual_stays_exactly_zero(plan):
    joined = join(plan, cut(plan, torch.zeros(3, *plan.padded)))
    assert joined.shape == (3, plan.height, plan.width)
    assert not joined.any()


@modest
@given(small_plans)
def test_tiles_add_up_to_the_whole_plane(plan):
    whole = noise(plan)
    torch.testing.assert_close(
        join(plan, cut(plan, whole)), whole[:, : plan.height, : plan.width], rtol=1e-6, atol=1e-6
    )


@modest
@given(small_plans, st.floats(-2, 2, width=32))
def test_a_constant_residual_comes_back_constant(plan, value):
    joined = join(plan, cut(plan, torch.full((1, *plan.padded), value)))
    torch.testing.assert_close(joined, torch.full_like(joined, value), rtol=1e-6, atol=1e-6)


@modest
@given(st.integers(1, 150), st.integers(1, 150), st.integers(2, 12), st.integers(0, 8), st.sampled_from([1, 4, 8]))
def test_a_local_filter_tile_by_tile_equals_the_whole(height, width, halo, blend, multiple):
    plan = plan_tiles(height, width, tile=16, halo=halo + blend, multiple=multiple, blend=blend)
    whole = noise(plan, channels=1)
    box = torch.full((1, 1, 5, 5), 1 / 25)
    tiles = [conv2d(tile[None], box, padding=2)[0] for tile in cut(plan, whole)]
    expected = conv2d(whole[None], box, padding=2)[0, :, :height, :width]
    torch.testing.assert_close(join(plan, tiles), expected, rtol=0, atol=1e-6)


def test_a_seam_is_blended_not_cut():
    plan = plan_tiles(16, 160, tile=64, halo=16, multiple=8, blend=8)
    left, right = cut(plan, torch.zeros(1, *plan.padded))
    joined = join(plan, [left, right + 1])
    assert joined.diff().abs().max() < 0.07


def test_finished_rows_are_not_touched_by_later_tiles():
    plan = plan_tiles(300, 40, tile=32, halo=8, multiple=4, blend=6)
    for row in range(len(plan.ys) - 1):
        assert plan.finished(row) == min(span.first for span in plan.ys[row + 1 :])
    assert plan.finished(len(plan.ys) - 1) == 300


def test_memory_grows_with_the_width_and_not_with_the_height():
    def held(height: int) -> int:
        accumulator = Accumulator(plan_tiles(height, 200, tile=64, halo=8, multiple=8))
        return sum(v.nbytes for v in vars(accumulator).values() if isinstance(v, torch.Tensor))

    assert held(100_000) <= held(400) <= 3 * 4 * 208 * 88


def test_one_tile_too_many_is_refused():
    accumulator = Accumulator(plan_tiles(20, 20, tile=32, halo=0, multiple=1))
    accumulator.add(torch.zeros(3, 20, 20))
    with pytest.raises(ValueError, match="expected 1 tiles"):
        accumulator.add(torch.zeros(3, 20, 20))


@pytest.mark.parametrize("tile", [15, 0, -128, 64.0, "64", True, None])
def test_nonsense_tiles_are_refused(tile):
    with pytest.raises(ValueError, match="tile as a whole number of pixels, 16 or more"):
        plan_tiles(100, 100, tile=tile, halo=8, multiple=8)
    with pytest.raises(ValueError, match="tile"):
        pick_tile(100, 100, halo=8, multiple=8, bytes_per_pixel=1, budget_bytes=10**9, wish=tile)


@pytest.mark.parametrize(
    ("name", "value"), [("halo", -1), ("multiple", 0), ("blend", -1), ("height", 0), ("width", 2.5), ("halo", 1.5)]
)
def test_nonsense_around_tiles_is_refused(name, value):
    wishes = {"height": 100, "width": 100, "tile": 64, "halo": 8, "multiple": 8, "blend": 8} | {name: value}
    with pytest.raises(ValueError, match=rf"whole number of pixels, \d or more, got {value}"):
        plan_tiles(**wishes)


@modest
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(0, 64), st.integers(1, 40), st.integers(1, 300))
def test_a_picked_tile_fits_into_its_budget(height, width, halo, megabytes, planes):
    need = {"halo": halo, "multiple": 8, "bytes_per_pixel": 100.0, "budget_bytes": megabytes * 2**20 + 2_400_000}
    tile, batch = pick_tile(height, width, planes=planes, **need)
    plan = plan_tiles(height, width, tile=tile, halo=halo, multiple=8)
    assert batch * np.prod(plan.tile_shape) * need["bytes_per_pixel"] <= need["budget_bytes"]
    assert 1 <= batch <= plan.count * planes
    assert 16 <= tile <= min(512, max(height, width, 16))


def test_a_picked_tile_is_the_largest_that_fits():
    need = {"halo": 32, "multiple": 8, "bytes_per_pixel": 1000.0}
    assert pick_tile(10_000, 10_000, budget_bytes=2**40, **need) == (512, 1)
    assert pick_tile(10_000, 10_000, budget_bytes=2**40, largest=1024, **need) == (1024, 1)
    assert pick_tile(64, 64, budget_bytes=2**40, planes=1000, **need) == (64, 81)
    assert pick_tile(64, 64, budget_bytes=2**40, planes=5, **need) == (64, 5)
    tile = pick_tile(10_000, 10_000, budget_bytes=320 * 320 * 1000, **need).tile
    assert 240 <= tile <= 272
    assert pick_tile(10_000, 10_000, budget_bytes=1, wish=128, **need) == (128, 1)


def test_too_little_memory_is_said():
    with pytest.raises(NotEnoughMemoryError, match="smallest tile has 6400 pixels, only 10 fit"):
        pick_tile(5120, 5120, halo=32, multiple=8, bytes_per_pixel=100, budget_bytes=1000)


def test_a_tile_that_does_not_fit_is_halved_down_to_the_smallest():
    assert [smaller(512), smaller(100), smaller(20)] == [256, 50, 16]
    with pytest.raises(NotEnoughMemoryError, match="16 pixels do not fit"):
        smaller(16)
