"""Arrays larger than memory are restored chunk by chunk, with the pixels that the whole would have."""

from __future__ import annotations

import pickle
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

import perceive_ir as pir
from perceive_ir import MissingExtraError, Perception, Restorer, _lazy
from perceive_ir._catalogue import FOLDER_VARIABLE, loaded
from perceive_ir._weights import Card, save_system

TOLERANCE = 1 / 512
EXACTLY: dict[str, Any] = {"device": "cpu", "precision": "float32"}
DENOISE = {"task": "denoise", "severity": 0.8, **EXACTLY}


@pytest.fixture(autouse=True)
def model(narrow_model: Restorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the narrow model be the one that is loaded by default."""
    save_system(tmp_path / "compact.safetensors", narrow_model.system, Card("compact", "test"))
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(_lazy, "SIDE", 96)
    loaded.cache_clear()
    yield
    loaded.cache_clear()


def picture(*shape: int, dtype: str = "uint16") -> NDArray[Any]:
    rng = np.random.default_rng(0)
    return (rng.random(shape) * (255 if dtype == "uint8" else 4000) + 100 * (dtype != "uint8")).astype(dtype)


def as_zarr(pixels: NDArray[Any], chunks: tuple[int, ...]) -> Any:
    array = zarr.create_array({}, shape=pixels.shape, dtype=pixels.dtype, chunks=chunks)
    array[...] = pixels
    return array


BY_REGION = {"handling": "region", "tier_strength": {"low": 1.0, "medium": 0.4, "high": 0.2}}


@pytest.mark.parametrize(
    ("lazy", "shape", "axes", "chunks", "fields"),
    [
        ("dask", (301, 260), "YX", (64, 64), {}),
        ("zarr", (301, 260), "YX", (50, 70), BY_REGION),
        ("numpy", (301, 260), "YX", (50, 70), {}),
        ("dask", (200, 260, 3), "YXC", (64, 64, 3), {}),
        ("zarr", (2, 3, 150, 140), "TCYX", (1, 2, 64, 64), {}),
        ("dask", (150, 3, 140), "XZY", (64, 1, 64), {}),
    ],
    ids=str,
)
def test_it_is_what_restoring_the_whole_gives(
    lazy: str, shape: tuple[int, ...], axes: str, chunks: tuple[int, ...], fields: dict[str, Any]
) -> None:
    pixels = picture(*shape, dtype="uint8" if axes == "YXC" else "uint16")
    arrays = {"dask": lambda: dask.array.from_array(pixels, chunks), "zarr": lambda: as_zarr(pixels, chunks)}
    array = arrays.get(lazy, lambda: pixels)()
    made = pir.restore_lazy(array, DENOISE, axes=axes, **fields)
    assert (made.shape, made.dtype) == (pixels.shape, pixels.dtype) and made.npartitions > 1
    whole = pir.restore(pixels, axes=axes, **DENOISE | fields)
    reach = made_range(pixels, axes)
    assert np.abs(made.compute() - whole.astype(float)).max() <= max(1.0, TOLERANCE * reach)
    assert np.abs(whole.astype(float) - pixels).max() > 10 * TOLERANCE * reach


def made_range(pixels: NDArray[Any], axes: str) -> float:
    low, high = pir.load(device="cpu").perceive(pixels, axes).value_range
    return high - low


def test_what_is_perceived_decides_once_for_all_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = picture(300, 280)
    looks: list[int] = []
    look = Restorer.perceive_all
    monkeypatch.setattr(Restorer, "perceive_all", lambda self, some: looks.append(1) or look(self, some))
    made = pir.restore_lazy(dask.array.from_array(pixels, 100), **EXACTLY)
    assert looks == [1]
    assert np.abs(made.compute() - pir.restore(pixels, **EXACTLY).astype(float)).max() <= 4000 * TOLERANCE
    assert looks == [1, 1]  # the second by restore()


class Counting:
    """A huge array that is made on the spot and remembers what of it was read."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape, self.dtype, self.chunks = shape, np.dtype(np.uint16), (256, 256)
        self.reads: list[tuple[int, int, int, int]] = []

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[np.uint16]:
        (top, bottom, down), (left, right, across) = (k.indices(n) for k, n in zip(key, self.shape, strict=True))
        self.reads.append((top, bottom, left, right))
        rows, columns = np.ogrid[top:bottom:down, left:right:across]
        return ((rows * 7919 + columns * 104729) % 4001).astype(np.uint16)


def seen(pixels: NDArray[Any]) -> Perception:
    return pir.load(device="cpu").perceive(pixels)


def test_a_region_of_a_huge_array_reads_and_costs_only_its_surroundings() -> None:
    huge = Counting((65_536, 65_536))
    known = seen(huge[slice(0, 256), slice(0, 256)])
    huge.reads.clear()
    tracemalloc.start()
    made = pir.restore_lazy(huge, DENOISE, perception=known)
    part = made[30_000:30_100, 50_010:50_300].compute()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert part.shape == (100, 290) and most < 2**26
    assert 1 <= len(huge.reads) <= 4
    assert all(bottom - top <= 256 + 2 * 64 and right - left <= 256 + 2 * 64 for top, bottom, left, right in huge.reads)
    around = huge[slice(29_696, 30_464), slice(49_664, 50_688)]
    restored = pir.load(**EXACTLY).restore(around, DENOISE, perception=known).image
    assert np.abs(part - restored[304:404, 346:636].astype(float)).max() <= 4001 * TOLERANCE


def test_a_huge_zarr_is_perceived_and_restored_within_a_little_memory(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "huge.zarr", shape=(24_000, 24_000), dtype="uint16", chunks=(2000, 2000))
    array[:2000, :2000] = picture(2000, 2000)
    tracemalloc.start()
    made = pir.restore_lazy(array, DENOISE)
    part = made[100:200, 100:200].compute()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (part != array[100:200, 100:200]).any()
    assert most < 250e6 < array.nbytes / 4


def test_a_chunk_is_the_same_alone_and_among_others() -> None:
    made = pir.restore_lazy(as_zarr(picture(300, 280), (64, 64)), DENOISE)
    whole = made.compute()
    assert np.array_equal(made.blocks[1, 1].compute(), whole[128:256, 128:256])
    assert np.array_equal(made[130:131, 5:7].compute(), whole[130:131, 5:7])


def test_chunks_that_are_asked_for_at_once_are_computed_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most = threading.Semaphore(1), []
    steps = Restorer.steps

    def alone(self: Restorer, *args: Any, **options: Any) -> Any:
        assert inside.acquire(blocking=False)
        most.append(1)
        yield from steps(self, *args, **options)
        inside.release()

    monkeypatch.setattr(Restorer, "steps", alone)
    pir.restore_lazy(dask.array.from_array(picture(300, 280), 64), DENOISE).compute(scheduler="threads", num_workers=4)
    assert len(most) == 9


def test_what_is_restored_lazily_can_be_restored_again() -> None:
    pixels = picture(200, 200)
    once = pir.restore_lazy(dask.array.from_array(pixels, 100), DENOISE)
    twice = pir.restore_lazy(once, DENOISE)
    found: list[NDArray[Any]] = []
    worker = threading.Thread(target=lambda: found.append(twice[:50, :50].compute()), daemon=True)
    worker.start()
    worker.join(60)
    assert found and (found[0] != once[:50, :50].compute()).any()


def test_other_weights_are_another_array(tmp_path: Path, narrow_model: Restorer) -> None:
    array = as_zarr(picture(64, 64), (64, 64))
    named = pir.restore_lazy(array, DENOISE).name
    assert named == pir.restore_lazy(array, DENOISE).name
    save_system(tmp_path / "compact.safetensors", narrow_model.system, Card("compact", "other"))
    loaded.cache_clear()
    assert named != pir.restore_lazy(array, DENOISE).name


def test_a_chunk_can_be_sent_elsewhere() -> None:
    made = pir.restore_lazy(as_zarr(picture(200, 200), (64, 64)), DENOISE)
    sent = pickle.dumps(made)
    assert len(sent) < 500_000  # the pixels, not the weights
    assert np.array_equal(pickle.loads(sent).compute(), made.compute())


def test_what_cannot_be_done_lazily_says_what_can(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"needs the whole picture: use restore\(\)"):
        pir.restore_lazy(picture(64, 64), handling="painted", painted={1: ("denoise", 0.5)})
    with pytest.raises(TypeError, match="expected one array, got a list of 2"):
        pir.restore_lazy([picture(64, 64)] * 2)
    monkeypatch.setitem(sys.modules, "dask.array", None)
    with pytest.raises(MissingExtraError, match=r"needs dask: pip install"):
        pir.restore_lazy(picture(64, 64))
