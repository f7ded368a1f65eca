"""Arrays of every kind go to the network and come back as they were, plus a residual."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from perceive_ir import images
from perceive_ir.images import _planes as planes
from perceive_ir.images import (
    apply_residual,
    check_array,
    find_range,
    parse_layout,
    read_tile,
    residual_dtype,
    residual_to_plane,
    to_network,
    write_tile,
)

modest = settings(max_examples=60, deadline=None)
ALL = slice(None)
NAMES = ("u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8")
dtypes = st.builds(lambda order, name: np.dtype(order + name), st.sampled_from("<>"), st.sampled_from(NAMES))
shapes = st.sampled_from([(1, 1), (5, 7), (4, 6, 3), (6, 5, 4), (2, 3, 4), (2, 3, 6, 5)])
strengths = st.one_of(st.floats(0, 1.5), st.just("map"))


@st.composite
def arrays(draw):
    """Any values, NaN and infinity among them, in any order of bytes and of memory; sometimes read-only."""
    array = draw(hnp.arrays(draw(dtypes), draw(shapes)))
    array = draw(st.sampled_from([np.ascontiguousarray, np.asfortranarray, lambda a: a[::-1, ::-1], np.array]))(array)
    array.flags.writeable = draw(st.booleans())
    return array


class Recorder:
    """An array that is never there as a whole: it notes what is asked of it."""

    def __init__(self, array):
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype
        self.asked = []

    def __getitem__(self, key):
        self.asked.append(key)
        return self._array[key]

    def __array__(self, *_args, **_kwargs):
        raise AssertionError("the whole array was converted")


def dask_array(array, _folder):
    return pytest.importorskip("dask.array").from_array(array, chunks=4)


def zarr_array(array, folder):
    zarr = pytest.importorskip("zarr")
    stored = zarr.create_array(str(folder / "a.zarr"), shape=array.shape, chunks=(4,) * array.ndim, dtype=array.dtype)
    stored[...] = array
    return stored


def xarray_array(array, _folder):
    return pytest.importorskip("xarray").DataArray(array)


def bits(array):
    return np.ascontiguousarray(array).tobytes()


def restored(array, residual_of, value_range=(0.0, 1.0), strength=1.0):
    """Restore every plane of an array with a network that is known."""
    layout = parse_layout(array.shape)
    lo, hi = value_range
    out = np.empty(array.shape, array.dtype)
    for plane in layout.planes():
        raw = read_tile(array, plane, ALL, ALL)
        seen = to_network(raw, lo, hi)
        residual = residual_to_plane(residual_of(seen), layout.colour)
        amount = np.full(raw.shape[:2], 0.7) if isinstance(strength, str) else strength
        write_tile(out, plane, ALL, ALL, apply_residual(raw, residual, hi - lo, amount))
    return out


# The axes


@pytest.mark.parametrize(
    ("shape", "axes", "colour", "count", "height", "width"),
    [
        ((5, 7), "auto", False, 1, 5, 7),
        ((5, 7, 3), "auto", True, 1, 5, 7),
        ((5, 7, 4), "auto", True, 1, 5, 7),
        ((5, 7, 2), "auto", False, 5, 7, 2),
        ((3, 5, 7), "auto", False, 3, 5, 7),
        ((2, 5, 7, 3), "auto", False, 10, 7, 3),
        ((2, 3, 5, 7), "tcyx", False, 6, 5, 7),
        ((2, 5, 7, 3), "TYXC", True, 2, 5, 7),
        ((2, 5, 7, 4), "zyxs", True, 2, 5, 7),
        ((5, 7, 2), "YXC", False, 2, 5, 7),
        ((5, 7, 1), "YXC", False, 1, 5, 7),
        ((5, 7, 5), "YXS", False, 5, 5, 7),
        ((3, 5, 7), "CYX", False, 3, 5, 7),
        ((5, 7, 3), "YXZ", False, 3, 5, 7),
        ((5, 7, 3), "XYC", True, 1, 7, 5),
        ((5, 2, 7), "YQX", False, 2, 5, 7),
        ((5, 7, 2, 3), "YXZC", False, 6, 5, 7),
        ((2, 5, 7, 3), "CYXS", True, 2, 5, 7),
    ],
)
def test_axes_say_what_a_plane_is(shape, axes, colour, count, height, width):
    layout = parse_layout(shape, axes)
    assert (layout.colour, layout.plane_count, layout.height, layout.width) == (colour, count, height, width)
    raw = read_tile(np.zeros(shape), layout.planes()[-1], ALL, ALL)
    assert raw.shape == (height, width) + (shape[-1:] if colour else ())


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((5, 7), "YXC", "axes 'YXC' do not fit shape"),
        ((5, 7), "", "letters, got ''"),
        ((5, 7), "Y-", "letters, got 'Y-'"),
        ((5, 7, 3), "yyx", "'YYX' repeat Y"),
        ((5, 7), "YZ", "'YZ' lack X"),
        ((5, 7), "TZ", "'TZ' lack Y and X"),
        ((5,), "auto", r"at least 2 axes, got shape \(5,\)"),
        ((), "auto", r"at least 2 axes, got shape \(\)"),
        ((0, 7), "auto", r"with pixels, got shape \(0, 7\)"),
        ((3, 0, 7), "ZYX", r"with pixels, got shape \(3, 0, 7\)"),
        ((1,) * 25, "auto", "at most 24 axes, got 25"),
    ],
)
def test_axes_that_do_not_fit_are_refused_in_one_line(shape, axes, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_layout(shape, axes)
    assert "\n" not in str(caught.value)
    assert ":" in str(caught.value)


def test_axes_are_text():
    with pytest.raises(TypeError, match=r"expected axes as text, got \(0, 1\)"):
        parse_layout((5, 7), (0, 1))


def test_unnamed_axes_get_letters_of_their_own():
    for count in range(2, 25):
        axes = parse_layout((2,) * count).axes
        assert len(set(axes)) == count
        assert axes.endswith("YX")
        assert not set("CS") & set(axes)


def test_planes_are_made_when_they_are_asked_for():
    planes = parse_layout((10**6, 10**6, 8, 8), "TZYX").planes()
    assert len(planes) == 10**12
    assert planes[-1].index == (999_999, 999_999, ALL, ALL)
    assert [plane.index[:2] for plane in planes[2:4]] == [(0, 2), (0, 3)]
    with pytest.raises(IndexError):
        planes[10**12]


@modest
@given(st.permutations("TYXC"), st.data())
def test_every_value_stands_in_exactly_one_plane_wherever_y_and_x_are(axes, data):
    shape = tuple(data.draw(st.integers(1, 4)) for _ in axes)
    array = np.arange(np.prod(shape)).reshape(shape)
    layout = parse_layout(shape, "".join(axes))
    out = np.zeros_like(array)
    rows, cols = slice(0, layout.height // 2), slice(layout.height // 2, layout.height)
    for plane in layout.planes():
        for part in (rows, cols):
            tile = read_tile(array, plane, part, ALL)
            assert tile.shape[:2] == (part.stop - part.start, layout.width)
            write_tile(out, plane, part, ALL, tile + 1)
    np.testing.assert_array_equal(out, array + 1)


# The arrays


@pytest.mark.parametrize("name", NAMES)
def test_number_arrays_are_accepted_as_they_are(name):
    array = np.zeros((4, 4), ">" + name)
    assert check_array(array) is array


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4), bool), r"cannot restore bool images: convert with .astype\('uint8'\)"),
        (np.zeros((4, 4), np.int64), r"cannot restore int64 images: convert with .astype\('float64'\)"),
        (np.zeros((4, 4), np.uint64), r"cannot restore uint64 .*astype\('float64'\)"),
        (np.zeros((4, 4), complex), r"cannot restore complex128 .*astype\('float32'\)"),
        (np.zeros((4, 4), object), "cannot restore object images"),
        (np.full((4, 4), "ab"), "cannot restore str"),
        (np.zeros((4, 4), "M8[s]"), "cannot restore datetime64"),
        (np.zeros((4, 4), [("r", "u1")]), "cannot restore void"),
        ([np.zeros((4, 4)), np.zeros((2, 2))], r"got a list of 2: give one level of a multiscale image"),
        ((np.zeros((4, 4)),), "got a tuple of 1"),
        ("cells.tif", "got str 'cells.tif': read the file first"),
        (b"cells.tif", "got bytes"),
        (None, r"expected an array, got NoneType: convert with numpy.asarray\(image\)"),
        (5, "expected an array, got int"),
        (torch.zeros(4, 4), "expected a numpy dtype, got torch.float32: convert with numpy"),
    ],
)
def test_other_things_are_refused_by_name_in_one_line(array, message):
    with pytest.raises(TypeError, match=message) as caught:
        check_array(array)
    assert "\n" not in str(caught.value)


def test_long_doubles_are_refused_where_they_are_longer():
    if np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("a long double is a float64 here")
    with pytest.raises(TypeError, match=r"astype\('float64'\)"):
        check_array(np.zeros((4, 4), np.longdouble))


def test_nothing_but_the_tile_is_read():
    array = Recorder(np.arange(5 * 20 * 30, dtype=np.uint16).reshape(5, 20, 30))
    layout = parse_layout(check_array(array).shape)
    tile = read_tile(array, layout.planes()[3], slice(2, 6), slice(10, 17))
    assert tile.shape == (4, 7)
    assert array.asked == [(3, slice(2, 6), slice(10, 17))]


def test_a_range_is_found_in_a_bounded_sample_of_slices():
    lazy = Recorder(np.broadcast_to(np.arange(3000, dtype=np.uint16), (500, 1500, 3000)))
    lo, hi = find_range(lazy, parse_layout(lazy.shape))
    assert 0 <= lo < 40
    assert 2960 < hi < 3000
    planes = [key[0] for key in lazy.asked]
    assert len(set(planes)) == 64
    assert max(np.diff(planes)) < 20
    assert sum(lazy._array[key].size for key in lazy.asked) <= 4_000_000


@pytest.mark.parametrize("shape", [(1, 9_000_000), (9_000_000, 1), (3000, 3000), (2000, 2000, 3)])
def test_a_sample_is_bounded_for_long_and_thin_planes_too(shape):
    lazy = Recorder(np.broadcast_to(np.float32(3), shape))
    assert find_range(lazy, parse_layout(shape)) == (3, 4)
    assert 400_000 < sum(lazy._array[key].size for key in lazy.asked) <= 4_000_000


def test_a_sample_sees_all_channels_and_both_fields():
    stack = np.zeros((64, 2, 8, 8), np.uint16)
    stack[:, 1] = 1000
    interlaced = np.zeros((4000, 4000), np.uint16)
    interlaced[1::2] = 1000
    for array in (stack, interlaced):
        assert find_range(array, parse_layout(array.shape)) == (0, 1000)


@pytest.mark.parametrize("make", [dask_array, zarr_array, xarray_array])
def test_lazy_arrays_give_what_numpy_gives(make, tmp_path):
    array = np.random.default_rng(0).integers(0, 4000, (3, 9, 11)).astype(np.uint16)
    lazy = check_array(make(array, tmp_path))
    layout = parse_layout(lazy.shape)
    assert find_range(lazy, layout) == find_range(array, layout)
    for number, plane in enumerate(layout.planes()):
        tile = read_tile(lazy, plane, slice(1, 8), slice(2, 11))
        assert type(tile) is np.ndarray
        np.testing.assert_array_equal(tile, array[number, 1:8, 2:11])


# The range


@pytest.mark.parametrize(
    ("dtype", "axes", "wish", "expected"),
    [
        ("u1", "YX", "auto", (0, 255)),
        ("u1", "YXC", "auto", (0, 255)),
        ("u2", "YXC", "auto", (0, 65535)),
        ("i2", "YXC", "auto", (-32768, 32767)),
        (">u2", "YXC", "auto", (0, 65535)),
        ("u2", "YX", "auto", (0, 59)),
        ("i1", "YX", "auto", (0, 59)),
        ("i4", "YX", "dtype", (-(2**31), 2**31 - 1)),
        ("u4", "YX", "dtype", (0, 2**32 - 1)),
        ("f4", "YX", "auto", (0, 59)),
        ("f4", "YXC", "auto", (0, 59)),
        ("f4", "YX", "dtype", (0, 1)),
        ("f2", "YX", "percentile", (0, 59)),
        ("u1", "YX", "percentile", (0, 59)),
        ("u1", "YX", (3, 7), (3, 7)),
        ("f4", "YX", [-0.5, 0.5], (-0.5, 0.5)),
    ],
)
def test_the_range_follows_dtype_axes_and_wish(dtype, axes, wish, expected):
    shape = (4, 5, 3) if axes == "YXC" else (6, 10)
    array = np.arange(60).reshape(shape).astype(dtype)
    assert find_range(array, parse_layout(shape, axes), wish) == expected


def test_colour_floats_inside_0_and_1_keep_that_range():
    array = np.full((4, 5, 3), 0.25, np.float32)
    array[0, 0] = np.nan
    assert find_range(array, parse_layout(array.shape)) == (0, 1)
    array[0, 0] = 1.5
    assert find_range(array, parse_layout(array.shape)) == (0.25, 1.5)


def test_the_width_of_a_range_is_a_number_however_far_apart_the_values_are():
    array = np.array([[-1.7e308, 0], [1, 1.7e308]])
    lo, hi = find_range(array, parse_layout(array.shape))
    assert 1.7e308 < hi - lo < np.inf


def test_alpha_does_not_count():
    array = np.zeros((4, 5, 4), np.float32)
    array[..., 0], array[..., 3] = 20, 255
    assert find_range(array, parse_layout(array.shape)) == (0, 20)


def test_outliers_do_not_count():
    array = np.random.default_rng(0).uniform(100, 200, (200, 200)).astype(np.float32)
    array[0, :5], array[1, :5] = 1e9, np.inf
    lo, hi = find_range(array, parse_layout(array.shape))
    assert 99 < lo < 101
    assert 199 < hi < 201


def test_few_bright_pixels_on_a_constant_background_give_the_extremes():
    array = np.full((200, 200), 7, np.uint16)
    array[3, 3] = 900
    assert find_range(array, parse_layout(array.shape)) == (7, 900)


@modest
@given(
    hnp.arrays(dtypes, st.sampled_from([(1, 1), (3, 4), (2, 3, 3)])), st.sampled_from(["auto", "percentile", "dtype"])
)
def test_any_image_has_a_range_of_some_width(array, wish):
    lo, hi = find_range(array, parse_layout(array.shape), wish)
    assert lo < hi
    assert np.isfinite(hi - lo)


@pytest.mark.parametrize(
    ("value", "expected"), [(5, (5, 6)), (np.nan, (0, 1)), (-np.inf, (0, 1)), (-2.5, (-2.5, -1.5))]
)
def test_a_constant_image_has_a_range_of_one_unit(value, expected):
    assert find_range(np.full((3, 4), value, np.float32), parse_layout((3, 4))) == expected


@pytest.mark.parametrize(
    "wish", ["bright", (1, 1), (2, 1), (0, np.nan), (0, np.inf), (1,), (1, 2, 3), ("a", 2), None, 7]
)
def test_ranges_that_are_none_are_refused_with_a_remedy(wish):
    with pytest.raises(ValueError, match=r"value range .*(use|exchange)"):
        find_range(np.zeros((3, 4)), parse_layout((3, 4)), wish)


# To the network


def test_the_network_sees_grey_three_times_and_no_alpha():
    grey = to_network(np.array([[0, 51], [255, 102]], np.uint8), 0, 255)
    assert grey.dtype == torch.float32
    torch.testing.assert_close(grey, torch.tensor([[0, 0.2], [1, 0.4]]).expand(3, 2, 2))
    rgba = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    expected = torch.from_numpy(rgba[..., :3].astype(np.float32)).permute(2, 0, 1) / 23
    torch.testing.assert_close(to_network(rgba, 0, 23), expected)


@modest
@given(arrays(), st.floats(-1e300, 1e300), st.floats(1e-300, 1e300))
@example(np.where(np.arange(72) == 0, np.inf, 2).reshape(4, 6, 3).astype(np.float16), 0.0, 1.0)
def test_the_network_never_sees_anything_wild(array, lo, width):
    if lo == lo + width:
        width = max(1.0, 2 * abs(lo))
    layout = parse_layout(array.shape)
    seen = to_network(read_tile(array, layout.planes()[0], ALL, ALL), lo, lo + width)
    assert seen.shape == (3, layout.height, layout.width)
    assert seen.dtype == torch.float32
    assert seen.is_contiguous()
    assert seen.min() >= -0.25
    assert seen.max() <= 1.25


@pytest.mark.parametrize("name", NAMES)
def test_bytes_in_either_order_are_the_same_picture(name):
    array = np.arange(100, dtype=np.float64).reshape(10, 10)
    little, big = (to_network(array.astype(order + name), 0, 99) for order in "<>")
    torch.testing.assert_close(little, big, rtol=0, atol=0)
    torch.testing.assert_close(little[0], torch.from_numpy(array / 99).float())


def test_digits_of_wide_numbers_reach_the_network():
    for dtype in ("u4", "f8"):
        array = (2**31 + np.arange(100)).reshape(10, 10).astype(dtype)
        seen = to_network(array, 2**31, 2**31 + 99)
        torch.testing.assert_close(seen[0], torch.arange(100).reshape(10, 10) / 99)


def test_holes_are_filled_from_their_finite_neighbours():
    array = np.full((40, 40), 0.75, np.float32)
    array[:20] = 0.25
    array[5, 5], array[30, 30], array[0, 0], array[39, 39] = np.nan, np.inf, -np.inf, np.nan
    seen = to_network(array, 0, 1)
    torch.testing.assert_close(seen[:, :20], torch.full((3, 20, 40), 0.25))
    torch.testing.assert_close(seen[:, 20:], torch.full((3, 20, 40), 0.75))
    assert (to_network(np.full((3, 3), np.nan), 5, 6) == 0.5).all()


def test_what_fills_a_hole_sees_as_far_as_it_says():
    reach = images.FILL_REACH
    array = np.full((1, 40), np.nan, np.float32)
    array[0, 20] = 1
    seen = to_network(array, 0, 1)[0, 0]
    assert (seen[20 - reach : 21 + reach] == 1).all()
    assert (seen[: 20 - reach] == 0.5).all()
    assert (seen[21 + reach :] == 0.5).all()


# And back


@modest
@given(arrays(), strengths, st.floats(1e-20, 1e20))
def test_a_network_that_changes_nothing_gives_back_the_input_bit_for_bit(array, strength, hi):
    out = restored(array, lambda seen: seen - seen, (0.0, hi), strength)
    assert out.dtype == array.dtype
    assert out.dtype.byteorder == array.dtype.byteorder
    assert bits(out) == bits(array)


@modest
@given(arrays(), st.sampled_from([1.0, -1.0, float("inf"), float("nan")]))
def test_strength_zero_gives_back_the_input_bit_for_bit(array, value):
    out = restored(array, lambda seen: torch.full_like(seen, value), strength=0.0)
    assert bits(out) == bits(array)


@modest
@given(arrays())
def test_alpha_nan_and_infinity_stay_and_everything_stays_finite(array):
    out = restored(array, lambda seen: torch.ones_like(seen), (0.0, 7.0))
    colour = array[..., :3] if parse_layout(array.shape).colour else array
    kept = ~np.isfinite(array)
    kept[..., colour.shape[-1] :] = True
    assert bits(out[kept]) == bits(array[kept])
    assert np.isfinite(out[~kept]).all()


@modest
@given(dtypes.filter(lambda dtype: dtype.kind in "iu"), st.data())
def test_integers_are_rounded_to_the_nearest_and_clipped_only_to_their_dtype(dtype, data):
    values = hnp.from_dtype(dtype.newbyteorder("="))
    raw = data.draw(hnp.arrays(dtype, (3, 4), elements=values))
    steps = st.integers(-300, 300).map(lambda n: n / 4)
    residual = data.draw(hnp.arrays(np.float32, (3, 4), elements=steps))
    out = apply_residual(raw, residual, 1.0)
    info = np.iinfo(dtype)
    exact = [round(Fraction(int(r)) + Fraction(float(d))) for r, d in zip(raw.flat, residual.flat, strict=True)]
    assert out.ravel().tolist() == [min(max(value, info.min), info.max) for value in exact]
    assert out.dtype == dtype


@modest
@given(st.sampled_from(["u1", "u2", "i4", "f2", "f4", "f8"]), st.booleans(), st.integers(1, 50))
def test_a_known_residual_makes_the_round_trip(name, colour, seed):
    rng = np.random.default_rng(seed)
    shape = (6, 5, 4) if colour else (6, 5)
    before, after = (rng.integers(0, 100, shape).astype(name) for _ in range(2))
    if colour:
        after[..., 3] = before[..., 3]
    target = to_network(after, 0, 100)
    out = restored(before, lambda seen: target - seen, (0.0, 100.0))
    np.testing.assert_allclose(out, after, rtol=0, atol=0.05 if name == "f2" else 1e-4)
    if np.dtype(name).kind != "f":
        np.testing.assert_array_equal(out, after)


def test_values_outside_the_range_survive():
    array = np.array([[-3.0, 0.5, 9.0]], np.float32)
    out = restored(array, lambda seen: torch.full_like(seen, 0.125))
    np.testing.assert_array_equal(out, array + 0.125)


def test_floats_end_at_the_largest_finite_value():
    for name in ("f2", "f4", "f8"):
        largest = np.finfo(name).max
        array = np.array([[largest, -largest, 1]], name)
        out = apply_residual(array, np.array([[1, -1, 0]], np.float32), float(largest))
        np.testing.assert_array_equal(out, array)


def test_wide_numbers_keep_their_digits():
    for name in ("u4", "i4", "f8"):
        array = np.full((2, 2), 2**31 - 3, name)
        assert (apply_residual(array, np.ones((2, 2), np.float32), 2.0) == 2**31 - 1).all()


def test_strength_may_be_a_map():
    raw = np.full((2, 2, 3), 100, np.uint8)
    strength = np.array([[0, 0.5], [1, 1.5]])
    out = apply_residual(raw, np.full((2, 2, 3), 0.1, np.float32), 200.0, strength)
    np.testing.assert_array_equal(out, np.broadcast_to([[[100], [110]], [[120], [130]]], (2, 2, 3)))


def test_a_grey_residual_is_the_mean_of_the_channels():
    residual = torch.tensor([1.0, 2.0, 6.0])[:, None, None].expand(3, 2, 4)
    np.testing.assert_array_equal(residual_to_plane(residual, colour=False), np.full((2, 4), 3))
    plane = residual_to_plane(residual.bfloat16(), colour=True)
    assert (plane.shape, plane.dtype, plane.is_contiguous()) == ((2, 4, 3), torch.float32, True)
    np.testing.assert_array_equal(plane[0, 0], [1, 2, 6])


def test_a_residual_outlives_the_buffer_that_it_came_from():
    buffer = torch.ones(3, 1, 1)
    plane = residual_to_plane(buffer, colour=True)
    buffer.zero_()
    assert (plane == 1).all()


@modest
@given(dtypes.filter(lambda dtype: dtype.newbyteorder("=").name in planes._PORTABLE), st.integers(0, 99), st.booleans())
def test_a_device_adds_the_same_bits_as_the_processor(dtype, seed, colour):
    rng = np.random.default_rng(seed)
    shape = (6, 9, 3) if colour else (6, 9)
    raw = rng.integers(0, 256, (*shape[:-1], shape[-1] * dtype.itemsize), np.uint8).view(dtype)
    residual = rng.normal(0, 0.3, shape).astype(residual_dtype(dtype))
    residual[rng.random(shape) < 0.1] = rng.choice([np.nan, np.inf, 0, -0.0])
    strength = rng.random(shape[:2]) if seed % 2 else 0.8
    weight = planes._weight(strength, 255.0, np.dtype(np.float32), residual.ndim)
    there = planes._added_there(raw, torch.from_numpy(residual), weight)
    assert there.dtype == dtype
    assert bits(there) == bits(apply_residual(raw, residual, 255.0, strength))


def test_the_input_is_never_written_to():
    raw = np.zeros((3, 4), np.uint8)
    apply_residual(raw, np.ones((3, 4), np.float32), 255.0)
    assert not raw.any()


@pytest.mark.parametrize("name", NAMES)
def test_a_residual_is_kept_in_half_precision_for_8_bits_only(name):
    assert residual_dtype(np.dtype(name)) == (np.float16 if name in ("u1", "i1") else np.float32)


def test_half_precision_is_enough_for_8_bits():
    residual = np.linspace(-1, 1, 10_001, dtype=np.float32)
    assert np.abs(residual.astype(residual_dtype("u1")) - residual).max() * 255 < 0.07


def test_the_door_names_what_is_there():
    assert all(hasattr(images, name) for name in images.__all__)


def test_the_first_planes_are_whole_entries_of_the_first_long_axis():
    layout = parse_layout((1, 4, 3, 8, 9), "TZCYX")
    assert layout.first_planes(2) is None
    assert layout.first_planes(7) == (ALL, slice(0, 2), ALL, ALL, ALL)
    assert layout.first_planes(12) == (ALL, slice(0, 4), ALL, ALL, ALL)
    assert parse_layout((8, 9, 3)).first_planes(1) is None
    assert parse_layout((8, 5, 9), "YZX").first_planes(2) == (ALL, slice(0, 2), ALL)
