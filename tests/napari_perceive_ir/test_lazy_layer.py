"""Layers that are restored where somebody looks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from napari.components import ViewerModel as Model
from numpy.typing import NDArray
from pytestqt.qtbot import QtBot

import perceive_ir as pir
from napari_perceive_ir import _lazy_layer, _lazy_picture, restore_layer_lazy
from napari_perceive_ir._compare import camera_of
from napari_perceive_ir._dock import RestoreDock
from napari_perceive_ir._filling import Filling
from napari_perceive_ir._lazy_cells import Grid, Kept, paste
from napari_perceive_ir._lazy_picture import LazyPicture
from perceive_ir import _lazy
from perceive_ir._lazy import Chunks
from tests.napari_perceive_ir.conftest import LONG, click, finish, names, picture

DENOISE: dict[str, Any] = {"task": "denoise", "severity": 0.8, "value_range": (0.0, 4000.0)}
SIDE = 128


@pytest.fixture(autouse=True)
def small_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lazy, "SIDE", SIDE)


class Made:
    """A huge level that is made on the spot and remembers what of it was read."""

    def __init__(self, side: int, step: int = 1) -> None:
        self.shape, self.dtype, self.ndim, self.size = (side, side), np.dtype(np.uint16), 2, side * side
        self.step = step
        self.reads: list[tuple[slice, slice]] = []

    def __getitem__(self, key: Any) -> NDArray[np.uint16]:
        rows, columns = (range(n)[one] for one, n in zip(key, self.shape, strict=True))
        self.reads.append((slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)))
        y, x = np.ogrid[rows.start : rows.stop : rows.step, columns.start : columns.stop : columns.step]
        return ((y * 7919 * self.step + x * 104729 * self.step) % 4001).astype(np.uint16)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:, :]


class Calls:
    """Which cells are restored, in their order; may hold the first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cells: list[tuple[int, ...]] = []
        self.opened = threading.Event()
        self.opened.set()
        real = Chunks.__call__

        def remember(chunks: Chunks, block_id: Any = None) -> Any:
            self.cells.append(block_id)
            assert self.opened.wait(60)
            return real(chunks, block_id)

        monkeypatch.setattr(Chunks, "__call__", remember)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    made = Calls(monkeypatch)
    yield made
    made.opened.set()


@pytest.fixture(autouse=True)
def none_is_followed_any_more(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "qtbot" in request.fixturenames:
        for one in followed_now():
            one.stop()
        request.getfixturevalue("qtbot").waitUntil(lambda: not followed_now(), timeout=LONG)


def followed_now() -> list[Filling]:
    from qtpy.QtCore import QCoreApplication

    return QCoreApplication.instance().findChildren(Filling)


@pytest.fixture
def window(make_napari_viewer_proxy: Callable[..., Any]) -> Any:
    return make_napari_viewer_proxy(show=True)


def as_zarr(pixels: NDArray[Any], chunks: tuple[int, ...]) -> Any:
    array = zarr.create_array({}, shape=pixels.shape, dtype=pixels.dtype, chunks=chunks)
    array[...] = pixels
    return array


def dots(*shape: int) -> NDArray[np.uint16]:
    return (picture(*shape) * 4000).astype(np.uint16)


def picture_of(layer: Any) -> LazyPicture:
    made: LazyPicture = (layer.data[0] if layer.multiscale else layer.data).picture
    return made


def drawn(layer: Any) -> NDArray[Any]:
    """Return the pixels that napari draws."""
    return np.asarray(layer._slice.image.raw)


def drawn_anew(layer: Any) -> NDArray[Any]:
    """Return what napari draws when it asks again, because what it was given is forgotten."""
    forget(layer)
    layer.refresh()
    return drawn(layer)


def forget(layer: Any) -> None:
    made = picture_of(layer)
    made.kept = Kept(made.kept.room)
    made._given.clear()


def settled(qtbot: QtBot, *followed: Filling) -> None:
    qtbot.waitUntil(lambda: not any(one.running or one._soon.isActive() for one in followed), timeout=LONG)


def lazily(viewer: Any, qtbot: QtBot, **fields: Any) -> tuple[Any, Filling]:
    """Restore the only layer where it is seen."""
    layer = restore_layer_lazy(viewer, viewer.layers[0], **DENOISE | fields)
    followed = Filling(viewer, layer, picture_of(layer))
    return layer, followed


KINDS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "plane": (lambda: dots(300, 260), {}),
    "dask": (lambda: da.from_array(dots(300, 260), 150), {}),
    "zarr stack": (lambda: as_zarr(dots(3, 200, 210), (2, 100, 100)), {"axis_labels": ("z", "y", "x")}),
    "turned": (lambda: dots(200, 3, 210), {"axis_labels": ("x", "z", "y")}),
    "colour": (lambda: (picture(200, 210, 3) * 255).astype(np.uint8), {"rgb": True}),
    "pyramid": (lambda: [d := dots(301, 260), d[::2, ::2], d[::4, ::4]], {"multiscale": True}),
    "pyramid of stacks": (lambda: [d := da.from_array(dots(4, 200, 180)), d[::2, ::2, ::2]], {"multiscale": True}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_lies_on_its_source_and_has_the_pixels_of_restore_lazy(kind: str) -> None:
    viewer, (make, look) = Model(), KINDS[kind]
    source = viewer.add_image(make(), name="cells", **look)
    source.scale, source.rotate = [0.5] * source.ndim, 20
    layer = restore_layer_lazy(viewer, "cells", **DENOISE)
    assert layer.name == "cells denoised" and layer.metadata["perceive_ir"]["recipe"]["task"] == "denoise"
    assert np.array_equal(layer.extent.world, source.extent.world) and layer.multiscale == source.multiscale
    assert (layer.axis_labels, layer.rgb, layer.dtype) == (source.axis_labels, source.rgb, source.dtype)
    finest, restored = (one.data[0] if one.multiscale else one.data for one in (source, layer))
    axes = layer.metadata["perceive_ir"]["recipe"]["axes"]
    expected = pir.restore_lazy(finest, **DENOISE | {"axes": axes}).compute()
    assert (np.asarray(restored) == expected).all() and (expected != np.asarray(finest)).any()
    part = tuple(slice(n // 3, n // 2) for n in finest.shape)
    assert np.array_equal(np.asarray(restored[part]), expected[part])
    assert np.array_equal(restored[..., -1], np.asarray(expected)[..., -1])


def look_at(viewer: Any, layer: Any, centre: tuple[float, ...], zoom: float) -> None:
    """Move the camera to a pixel of a layer."""
    camera = camera_of(viewer)
    camera.zoom, camera.center = zoom, tuple(layer.data_to_world(centre))[-2:]


def in_view(viewer: Any, layer: Any) -> Any:
    from napari_perceive_ir._visible import visible_box

    box = visible_box(viewer, layer, picture_of(layer).layout.axes)
    assert box is not None
    return box


@pytest.mark.usefixtures("windowless_camera")
def test_what_is_seen_is_restored_from_the_middle_and_nothing_else(qtbot: QtBot, calls: Calls) -> None:
    viewer = Model()
    source = viewer.add_image(dots(1000, 1000), name="cells")
    look_at(viewer, source, (450, 580), 4.0)
    layer, followed = lazily(viewer, qtbot)
    assert np.array_equal(drawn(layer), source.data)  # the source, and at once
    settled(qtbot, followed)
    rows, columns = in_view(viewer, layer)
    expected = {(y, x) for y in range(8) for x in range(8) if touches(rows, y) and touches(columns, x)}
    assert set(calls.cells) == expected and len(calls.cells) == len(expected) < 64
    away = [np.hypot(*(np.array(cell) * SIDE + SIDE / 2 - (450, 580))) for cell in calls.cells]
    assert away == sorted(away)
    truth = np.asarray(pir.restore_lazy(source.data, DENOISE)[rows, columns])
    assert np.array_equal(drawn(layer)[rows, columns], truth)
    assert np.array_equal(drawn(layer)[-SIDE:], source.data[-SIDE:])


def touches(part: slice, number: int) -> bool:
    return bool(part.start < (number + 1) * SIDE and number * SIDE < part.stop)


def test_of_a_huge_pyramid_a_few_chunks_are_read(window: Any, qtbot: QtBot) -> None:
    finest, _middle, _coarse = levels = [Made(20_000), Made(2_500, 8), Made(625, 32)]
    source = window.add_image(levels, multiscale=True, name="huge", contrast_limits=(0, 4000))
    look_at(window, source, (12_000, 5_000), 1.0)
    qtbot.waitUntil(lambda: source.data_level == 0, timeout=LONG)
    layer = restore_layer_lazy(window, "huge", **DENOISE)
    finest.reads.clear()  # what looking at the picture took
    (followed,) = followed_now()
    qtbot.waitUntil(lambda: layer.data_level == 0, timeout=LONG)
    settled(qtbot, followed)
    rows, columns = in_view(window, layer)
    truth = np.asarray(pir.restore_lazy(finest, DENOISE, perception=picture_of(layer).seen)[rows, columns])
    top, left = (int(n) for n in layer.corner_pixels[0])
    there = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    assert np.array_equal(drawn(layer)[there], truth) and truth.size > 10_000
    assert sum(map(area, finest.reads)) < 12 * truth.size < 0.02 * finest.size


def area(read: tuple[slice, slice]) -> int:
    return (read[0].stop - read[0].start) * (read[1].stop - read[1].start)


def test_napari_may_slice_in_the_background(window: Any, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari.settings import get_settings

    monkeypatch.setattr(get_settings().experimental, "async_", True)
    window.add_image([data := dots(512, 512), data[::2, ::2]], multiscale=True, name="cells")
    layer = restore_layer_lazy(window, "cells", **DENOISE)
    (followed,) = followed_now()
    settled(qtbot, followed)
    truth = np.asarray(layer.data[layer.data_level])
    first, last = layer.corner_pixels
    seen = truth[first[0] : last[0] + 1, first[1] : last[1] + 1]
    qtbot.waitUntil(lambda: np.array_equal(drawn(layer), seen), timeout=LONG)
    assert not np.array_equal(truth, data)


@pytest.mark.usefixtures("windowless_camera")
def test_panning_cancels_what_is_out_of_sight(qtbot: QtBot, calls: Calls) -> None:
    viewer = Model()
    source = viewer.add_image(dots(1000, 1000), name="cells")
    look_at(viewer, source, (200, 200), 5.0)
    calls.opened.clear()
    layer, followed = lazily(viewer, qtbot)
    qtbot.waitUntil(lambda: len(calls.cells) == 1, timeout=LONG)
    before = len(followed._wanted)
    look_at(viewer, source, (800, 800), 5.0)
    qtbot.waitUntil(lambda: not followed._pause.isActive(), timeout=LONG)
    calls.opened.set()
    settled(qtbot, followed)
    rows, columns = in_view(viewer, layer)
    assert before > 3
    assert all(touches(rows, y) and touches(columns, x) for y, x in calls.cells[1:]) and len(calls.cells) > 1


@pytest.mark.usefixtures("windowless_camera")
def test_what_was_seen_before_is_not_restored_again(qtbot: QtBot, calls: Calls) -> None:
    viewer = Model()
    source = viewer.add_image(dots(1000, 1000), name="cells")
    _layer, followed = lazily(viewer, qtbot)
    for centre in ((200, 200), (800, 800), (200, 200)):
        look_at(viewer, source, centre, 6.0)
        qtbot.waitUntil(lambda: followed._pause.isActive(), timeout=LONG)
        settled(qtbot, followed)
    assert len(calls.cells) == len(set(calls.cells)) > 0


@pytest.mark.usefixtures("windowless_camera")
def test_no_more_is_kept_than_there_is_room_for(qtbot: QtBot, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lazy_picture, "ROOM", 7.5 * SIDE**2 * 2 / 2**30)
    viewer = Model()
    source = viewer.add_image(dots(1000, 1000), name="cells")
    layer, followed = lazily(viewer, qtbot)
    kept = picture_of(layer).kept
    settled(qtbot, followed)
    assert (len(calls.cells), len(kept)) == (7, 7)  # of 64 in sight
    for centre in ((100, 100), (900, 900), (100, 900)):
        look_at(viewer, source, centre, 8.0)
        settled(qtbot, followed)
        assert kept.size <= kept.room
        rows, columns = in_view(viewer, layer)
        truth = np.asarray(pir.restore_lazy(source.data, DENOISE)[rows, columns])
        assert np.array_equal(drawn(layer)[rows, columns], truth)


@pytest.mark.usefixtures("windowless_camera")
def test_removing_the_layer_stops_the_work_and_frees_what_was_kept(qtbot: QtBot, calls: Calls) -> None:
    viewer = Model()
    viewer.add_image(dots(1000, 1000), name="cells")
    layer, _followed = lazily(viewer, qtbot)
    qtbot.waitUntil(lambda: len(calls.cells) == 2, timeout=LONG)
    calls.opened.clear()
    qtbot.waitUntil(lambda: len(calls.cells) >= 3, timeout=LONG)
    viewer.layers.remove(layer)
    so_far = len(calls.cells)
    assert len(picture_of(layer).kept) == 0
    calls.opened.set()
    qtbot.wait(400)
    assert len(calls.cells) <= so_far + 1 and followed_now() == []
    assert len(picture_of(layer).kept) == 0


def test_the_plane_that_is_shown_is_restored(qtbot: QtBot, calls: Calls) -> None:
    viewer = Model()
    source = viewer.add_image(as_zarr(dots(5, 200, 210), (2, 100, 100)), axis_labels=("z", "y", "x"), name="cells")
    viewer.dims.set_current_step(0, 1)
    layer, followed = lazily(viewer, qtbot)
    settled(qtbot, followed)
    assert {cell[0] for cell in calls.cells} == {1}
    viewer.dims.set_current_step(0, 4)
    assert np.array_equal(drawn(layer), np.asarray(source.data[4]))
    qtbot.waitUntil(lambda: followed._pause.isActive(), timeout=LONG)
    settled(qtbot, followed)
    assert {cell[0] for cell in calls.cells} == {1, 4}
    expected = pir.restore_lazy(source.data, DENOISE, axes="ZYX")
    assert np.array_equal(drawn(layer), np.asarray(expected[4]))


def test_seen_from_afar_a_pyramid_shows_means_of_restored_pixels(qtbot: QtBot) -> None:
    viewer, data = Model(), dots(512, 512)
    source = viewer.add_image([data, data[::2, ::2], data[::4, ::4]], multiscale=True, name="cells")
    layer, followed = lazily(viewer, qtbot)
    assert layer.data_level == 2 and np.array_equal(drawn(layer), data[::4, ::4])
    settled(qtbot, followed)
    truth = np.asarray(pir.restore_lazy(data, DENOISE)).astype(float)
    for level, step in ((2, 4), (1, 2)):
        means = truth.reshape(512 // step, step, 512 // step, step).mean(axis=(1, 3))
        assert np.abs(np.asarray(layer.data[level]) - means).max() <= 0.51
    assert np.array_equal(drawn(layer), np.asarray(layer.data[2]))
    assert source.data[2] is not layer.data[2]


def test_where_the_source_cannot_be_read_it_says_so_once(qtbot: QtBot, notices: list[str]) -> None:
    def lost(_: Any) -> Any:
        raise ValueError("chunk 0.0 is damaged: copy the file again")

    viewer = Model()
    fine = da.from_array(dots(300, 260), 150)
    viewer.add_image(fine, name="cells")
    layer, followed = lazily(viewer, qtbot)
    object.__setattr__(picture_of(layer)._chunks, "source", da.map_blocks(lost, fine, dtype=np.uint16))
    qtbot.waitUntil(lambda: bool(notices), timeout=LONG)
    settled(qtbot, followed)
    camera_of(viewer).zoom *= 2
    qtbot.wait(300)
    assert notices == ["error: chunk 0.0 is damaged: copy the file again"]
    assert np.array_equal(drawn(layer), np.asarray(fine))


def test_what_is_restored_lazily_can_be_restored_lazily_again(qtbot: QtBot, calls: Calls) -> None:
    viewer, data = Model(), dots(200, 210)
    viewer.add_image(data, name="cells")
    once = restore_layer_lazy(viewer, "cells", **DENOISE)
    twice = restore_layer_lazy(viewer, once, **DENOISE)
    forget(once)
    so_far = len(calls.cells)
    assert np.array_equal(drawn_anew(twice), data) and len(calls.cells) == so_far  # napari does not wait
    followed = Filling(viewer, twice, picture_of(twice))
    settled(qtbot, followed)
    assert np.array_equal(drawn(twice), np.asarray(pir.restore_lazy(pir.restore_lazy(data, DENOISE), DENOISE)))


def test_what_is_saved_is_restored(tmp_path: Path) -> None:
    from napari.utils.io import imsave

    viewer = Model()
    viewer.add_image(data := dots(200, 210), name="cells")
    layer = restore_layer_lazy(viewer, "cells", **DENOISE)
    assert np.array_equal(drawn(layer), data)  # nothing is restored yet
    imsave(str(tmp_path / "saved.tif"), layer.data)
    assert np.array_equal(tifffile.imread(tmp_path / "saved.tif"), np.asarray(pir.restore_lazy(data, DENOISE)))


def test_a_duplicate_of_the_layer_shares_what_is_restored(qtbot: QtBot, calls: Calls) -> None:
    viewer = Model()
    viewer.add_image(dots(200, 210), name="cells")
    layer, followed = lazily(viewer, qtbot)
    settled(qtbot, followed)
    so_far = len(calls.cells)
    assert np.array_equal(np.asarray(deepcopy(layer.data)), drawn(layer)) and len(calls.cells) == so_far


def test_before_and_after_it_can_be_shown_side_by_side_but_not_swiped(dock: RestoreDock, qtbot: QtBot) -> None:
    viewer = dock._viewer
    viewer.add_image(dots(100, 110), name="cells")
    layer, followed = lazily(viewer, qtbot)
    viewer.layers.select_all()
    assert dock.compare is not None and not dock.compare.isHidden() and dock.compare.swipe_button.isHidden()
    assert not dock.compare.side_button.isHidden()
    settled(qtbot, followed)
    viewer.layers.remove(layer)
    assert dock.compare.isHidden()


def test_painted_labels_need_the_whole_picture() -> None:
    viewer = Model()
    viewer.add_image(dots(40, 40), name="cells")
    with pytest.raises(ValueError, match="needs the whole picture"):
        restore_layer_lazy(viewer, "cells", handling="painted", painted={1: ("denoise", 0.5)})


@pytest.fixture
def dock(qtbot: QtBot) -> RestoreDock:
    dock = RestoreDock(Model())
    qtbot.addWidget(dock)
    dock.resize(350, 900)
    dock.show()
    dock.controls.show_recipe(pir.Recipe(task="denoise", severity=0.8))
    return dock


def test_the_dock_offers_it_for_big_pictures_only(dock: RestoreDock, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, viewer = dock.controls.pictures, dock._viewer
    viewer.add_image(dots(64, 64), name="small")
    assert rows.result.native.isHidden() and not rows.lazy
    stack = viewer.add_image(da.from_array(dots(3, 64, 64)), name="dask")
    rows.layer.value = stack
    assert not rows.result.native.isHidden() and not rows.lazy  # now, unless somebody chooses
    assert not rows.region.native.isHidden() and not rows.planes.native.isHidden()
    rows.result.value = "looked at"
    assert rows.lazy and rows.region.native.isHidden() and rows.planes.native.isHidden() and rows.keep.native.isHidden()
    rows.layer.value = viewer.layers["small"]
    assert not rows.lazy and not rows.region.native.isHidden()
    monkeypatch.setattr(_lazy_layer, "BIG", 64 * 64)
    rows.refresh()
    assert rows.lazy


def test_the_dock_adds_a_layer_that_is_restored_where_it_is_seen(dock: RestoreDock, qtbot: QtBot) -> None:
    viewer = dock._viewer
    source = viewer.add_image(da.from_array(dots(300, 260), 150), name="cells")
    dock.controls.pictures.result.value = "looked at"
    click(qtbot, dock.run_button)
    finish(qtbot, dock)
    assert names(viewer) == ["cells", "cells denoised"]
    assert dock.status.text() == "Added “cells denoised”, restored where you look."
    assert dock.seen.text().startswith("The model sees ")
    (followed,) = followed_now()
    settled(qtbot, followed)
    layer = viewer.layers[1]
    assert np.array_equal(drawn(layer), np.asarray(layer.data)) and (drawn(layer) != np.asarray(source.data)).any()


@given(data=st.data())
def test_every_pixel_of_every_level_belongs_to_one_cell(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    coarse = data.draw(st.tuples(*(st.integers(1, n) for n in shape)))
    grid = Grid(data.draw(st.tuples(st.integers(1, 17), st.integers(1, 17))), (shape, coarse))
    for level, size in enumerate(grid.shapes):
        count = np.zeros(size, int)
        for cell in grid.cells(0, tuple(map(range, shape))):
            place = grid.place(level, cell)
            count[np.ix_(*place)] += 1
            finest = np.ones([len(one) for one in grid.span(cell)], np.float32)
            assert grid.shrunk(level, cell, finest).shape == tuple(map(len, place))
        assert (count == 1).all()
        rows, columns = (range(data.draw(st.integers(0, n - 1)), n) for n in size)
        found = set(grid.cells(level, (rows, columns)))
        assert found >= set(grid.cells(level, (rows[0], columns[-1])))


@given(data=st.data())
def test_pasting_part_by_part_gives_the_whole(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4)))
    whole = np.arange(np.prod(shape)).reshape(shape)
    key = tuple(
        data.draw(st.integers(0, n - 1) | st.builds(range, st.integers(0, n), st.integers(0, n), st.integers(1, 3)))
        for n in shape
    )
    expected = whole[tuple(one if isinstance(one, int) else slice(one.start, one.stop, one.step) for one in key)]
    pixels = np.full(expected.shape, -1)
    for top in range(0, shape[0], 5):
        for left in range(0, shape[1], 3):
            place = [range(top, min(top + 5, shape[0])), range(left, min(left + 3, shape[1])), range(shape[2])]
            paste(pixels, key, whole[np.ix_(*place)], place)
    assert np.array_equal(pixels, expected)


def test_what_nobody_looked_at_is_forgotten_first() -> None:
    kept, pixels = Kept(room=30), np.zeros(10, np.uint8)
    kept.keep(0, (0,), pixels, seen=True)
    kept.keep(0, (1,), pixels, seen=True)
    kept.keep(0, (2,), pixels, seen=False)
    kept.look_at(0, (0,))
    kept.keep(0, (3,), pixels, seen=True)
    kept.keep(0, (4,), pixels, seen=True)
    assert [kept.look_at(0, (n,)) is not None for n in range(5)] == [True, False, False, True, True]
    assert kept.size == 30
