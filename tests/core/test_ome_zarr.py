"""An OME-Zarr comes back as one: pixels as of the whole, everything else as it was, whatever interrupts it."""

from __future__ import annotations

import errno
import os
import shutil
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

import perceive_ir as pir
from perceive_ir import FolderError, ImageFileError, Recipe, Restorer, _lazy, _ome_zarr, files
from perceive_ir.batch import Batch, run, write_report
from perceive_ir.batch._lock import locked
from perceive_ir.files import PARTIAL_SUFFIX
from perceive_ir.files._zarr import description_of

DENOISE = Recipe(task="denoise", severity=0.8)
AXES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lazy, "SIDE", 96)


@pytest.fixture
def model(narrow_model: Restorer) -> Restorer:
    return narrow_model


def noise(*shape: int) -> NDArray[np.uint16]:
    return (np.random.default_rng(0).random(shape) * 4000 + 100).astype(np.uint16)


def made(folder: Path, pixels: NDArray[Any], axes: str = "yx", version: str = "0.5", **how: Any) -> Path:
    """Write an OME-Zarr with three levels, labels and names of channels."""
    coded = {"chunk_key_encoding": {"name": "v2", "separator": "/"}} if version == "0.4" else {"dimension_names": axes}
    about = {**multiscale(axes, 3), "omero": {"channels": [{"label": "nuclei", "color": "00FF00", "window": WINDOW}]}}
    group = opened_new(folder, about, version)
    opened_new(folder / "labels", {"labels": ["cells"]}, version)
    cells = opened_new(folder / "labels" / "cells", {**multiscale(axes, 3), "image-label": {}}, version)
    how = coded | {"chunks": chunks(axes)} | how
    for n in range(3):
        level = pixels[..., :: 2**n, :: 2**n]
        group.create_array(f"s{n}", data=level, **how)
        cells.create_array(f"s{n}", data=np.full_like(level, 7), **how)
    return folder


WINDOW = {"min": 0, "max": 5000, "start": 0, "end": 4000}


def opened_new(folder: Path, about: dict[str, Any], version: str) -> Any:
    if version == "0.4":
        return zarr.open_group(folder, mode="w", zarr_format=2, attributes=about)
    return zarr.open_group(folder, mode="w", zarr_format=3, attributes={"ome": {"version": version, **about}})


def multiscale(axes: str, levels: int) -> dict[str, Any]:
    def scale(n: int) -> list[dict[str, Any]]:
        return [{"type": "scale", "scale": [0.25 * 2**n if name in "yx" else 1.0 for name in axes]}]

    unit = {"unit": "micrometer"}
    named = [{"name": name, "type": AXES[name]} | (unit if name in "zyx" else {}) for name in axes]
    paths = [{"path": f"s{n}", "coordinateTransformations": scale(n)} for n in range(levels)]
    return {"multiscales": [{"version": "0.4", "axes": named, "datasets": paths, "name": "cells"}]}


def chunks(axes: str) -> tuple[int, ...]:
    return tuple(48 if name in "yx" else 1 for name in axes)


def go(source: Path, target: Path, model: Restorer, **how: Any) -> pir.Result:
    *_, last = pir.restore_ome_zarr(source, target, DENOISE, restorer=model, **how)
    assert last.result is not None and last.done == last.total
    return last.result


@pytest.mark.parametrize(
    ("shape", "axes", "version", "how"),
    [
        ((301, 260), "yx", "0.5", {}),
        ((2, 3, 150, 140), "tcyx", "0.4", {}),
        ((2, 200, 150), "zyx", "0.5", {"chunks": (1, 16, 16), "shards": (2, 96, 96)}),
    ],
    ids=str,
)
def test_the_result_has_the_pixels_of_the_whole_and_all_else_as_it_was(
    shape: tuple[int, ...], axes: str, version: str, how: dict[str, Any], tmp_path: Path, model: Restorer
) -> None:
    pixels = noise(*shape)
    source, target = made(tmp_path / "in.ome.zarr", pixels, axes, version, **how), tmp_path / "out.ome.zarr"
    result = go(source, target, model)
    one, other = zarr.open_group(source, mode="r"), zarr.open_group(target, mode="r")
    whole = model.restore(pixels, DENOISE, axes=axes.upper()).image
    assert np.abs(other["s0"][...].astype(float) - whole).max() <= 8 and (other["s0"][...] != pixels).any()  # type: ignore[index,union-attr]
    assert other.attrs.asdict() == one.attrs.asdict() | {"perceive_ir": result.to_dict()}
    for n in range(3):
        assert other[f"s{n}"].metadata == one[f"s{n}"].metadata
    assert (other["labels/cells/s0"][...] == 7).all()  # type: ignore[index,union-attr]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.ome.zarr", "out.ome.zarr"]
    assert Recipe(**description_of(target)["recipe"]) == DENOISE  # type: ignore[index]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_strict_validator_finds_nothing_wrong_before_or_after(version: str, tmp_path: Path, model: Restorer) -> None:
    validator = pytest.importorskip("yaozarrs")
    source, target = made(tmp_path / "in.ome.zarr", noise(2, 2, 120, 110), "czyx", version), tmp_path / "out.ome.zarr"
    go(source, target, model)
    for folder in (source, target):
        validator.validate_zarr_store(str(folder))
    shutil.rmtree(target / "s1")
    with pytest.raises(ValueError, match="s1"):
        validator.validate_zarr_store(str(target))


def test_smaller_levels_are_means_of_the_finest(tmp_path: Path, model: Restorer) -> None:
    go(made(tmp_path / "in.zarr", noise(256, 192)), tmp_path / "out.zarr", model)
    levels = [zarr.open_group(tmp_path / "out.zarr", mode="r")[f"s{n}"][...].astype(float) for n in range(3)]  # type: ignore[index,union-attr]
    for fine, coarse in pairwise(levels):
        means = fine.reshape(coarse.shape[0], 2, coarse.shape[1], 2).mean((1, 3))
        assert np.abs(means - coarse).max() <= 0.5


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_goes_on_where_it_was_stopped_with_the_same_bytes(
    tmp_path: Path, model: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = made(tmp_path / "in.zarr", noise(301, 260)), tmp_path / "out.zarr"
    go(source, tmp_path / "undisturbed.zarr", model)
    steps = pir.restore_ome_zarr(source, target, DENOISE, restorer=model)
    for step in steps:
        if step.done == 5:
            break
    with pytest.raises(FolderError, match="another run"):
        next(pir.restore_ome_zarr(source, target, DENOISE, restorer=model))
    steps.close()
    assert not target.exists()
    computed: list[int] = []
    compute = _ome_zarr.Level.write
    monkeypatch.setattr(_ome_zarr.Level, "write", lambda self, block: computed.append(1) or compute(self, block))
    total = step.total
    monkeypatch.setattr(Restorer, "memory", lambda *_: 1e-4)  # less is free now
    go(source, target, model)
    assert len(computed) == total - 1 - 5
    assert contents(target) == contents(tmp_path / "undisturbed.zarr")


@pytest.mark.parametrize("changed", ["picture", "recipe"])
def test_what_was_begun_for_something_else_is_thrown_away(changed: str, tmp_path: Path, model: Restorer) -> None:
    source, target = made(tmp_path / "in.zarr", noise(200, 200)), tmp_path / "out.zarr"
    steps = pir.restore_ome_zarr(source, target, Recipe(task="denoise", severity=0.2), restorer=model)
    next(steps)
    steps.close()
    if changed == "picture":
        made(source, noise(200, 200) // 2)
    go(source, target, model)
    go(source, tmp_path / "other.zarr", model)
    assert contents(target) == contents(tmp_path / "other.zarr")


def test_a_result_that_was_just_published_is_not_emptied_by_what_comes_after_a_crash(
    tmp_path: Path, model: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = made(tmp_path / "in.zarr", noise(200, 200)), tmp_path / "out.zarr"
    publish = _ome_zarr.publish

    def power_cut(*paths: Path) -> None:
        publish(*paths)
        raise OSError("power cut")

    with monkeypatch.context() as crash, pytest.raises(OSError, match="power cut"):
        crash.setattr(_ome_zarr, "publish", power_cut)
        go(source, target, model)
    before = contents(target)
    go(source, target, model, force=True)
    assert contents(target) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.zarr", "out.zarr"]


def test_a_picture_that_changes_meanwhile_is_not_published(tmp_path: Path, model: Restorer) -> None:
    source, target = made(tmp_path / "in.zarr", noise(200, 200)), tmp_path / "out.zarr"
    steps = pir.restore_ome_zarr(source, target, DENOISE, restorer=model)
    next(steps)
    made(source, noise(200, 200) // 2)
    with pytest.raises(ImageFileError, match="changed while it was restored; run again"):
        list(steps)
    assert not target.exists()
    go(source, target, model)
    go(source, tmp_path / "other.zarr", model)
    assert contents(target) == contents(tmp_path / "other.zarr")


def test_a_log_that_was_cut_off_loses_its_last_line_only(tmp_path: Path, model: Restorer) -> None:
    source, target = made(tmp_path / "in.zarr", noise(200, 200)), tmp_path / "out.zarr"
    steps = pir.restore_ome_zarr(source, target, DENOISE, restorer=model)
    next(steps), next(steps)
    steps.close()
    log = tmp_path / f".out.zarr{PARTIAL_SUFFIX}" / "log"
    log.write_text(log.read_text()[:-2])
    picture = log.with_name("picture") / "s0" / "c"
    (picture / "0" / "2").unlink()  # as if it had not reached the disk
    go(source, target, model)
    go(source, tmp_path / "other.zarr", model)
    assert contents(target) == contents(tmp_path / "other.zarr")


def test_a_full_disk_is_told_and_what_is_done_stays(
    tmp_path: Path, model: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = made(tmp_path / "in.zarr", noise(200, 200)), tmp_path / "out.zarr"
    write, count = _ome_zarr.Level.write, iter(range(99))

    def fails(self: _ome_zarr.Level, block: tuple[int, ...]) -> None:
        if next(count) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, block)

    with monkeypatch.context() as patch:
        patch.setattr(_ome_zarr.Level, "write", fails)
        with pytest.raises(OSError, match="No space"):
            go(source, target, model)
    assert not target.exists()
    go(source, target, model)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_picture(tmp_path: Path, identity_model: Restorer) -> None:
    folder = tmp_path / "huge.zarr"
    made(folder, noise(64, 64))
    for n in range(3):
        shutil.rmtree(folder / f"s{n}")
        shape = (8192 >> n, 4096 >> n)
        array = zarr.create_array(folder / f"s{n}", shape=shape, dtype="uint16", chunks=(1024, 1024), fill_value=9)
    assert array.shape == (2048, 1024)
    tracemalloc.start()
    seen = identity_model.perceive(noise(64, 64))
    go(folder, tmp_path / "out.zarr", identity_model, perception=seen)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**26 <= 8192 * 4096 * 2


# --- in folders


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    made(tmp_path / "in" / "more" / "a.ome.zarr", noise(200, 150))
    files.write_image(tmp_path / "in" / "b.tif", noise(40, 50))
    return Batch(tmp_path / "in", tmp_path / "out", DENOISE, name="{stem}_{task}{ext}", recursive=True)


def states(batch: Batch, model: Restorer) -> dict[str, tuple[str, bool]]:
    return {e.name: (e.state, e.earlier) for e in run(batch, model) if e.state in ("done", "failed", "skipped")}


def test_a_folder_may_hold_ome_zarrs(batch: Batch, model: Restorer, tmp_path: Path) -> None:
    assert states(batch, model) == dict.fromkeys(["more/a.ome.zarr", "b.tif"], ("done", False))
    target = batch.output / "more" / "a_denoise.ome.zarr"
    go(batch.source / "more" / "a.ome.zarr", tmp_path / "alone.zarr", model)
    assert contents(target) == contents(tmp_path / "alone.zarr")
    page = write_report(batch.output).read_text(encoding="utf-8")
    assert "a.ome.zarr" in page and "200 × 150 uint16" in page and page.count("data:image/jpeg") == 4
    assert set(states(batch, model).values()) == {("done", True)}
    shutil.rmtree(target / "s2")
    assert states(batch, model)["more/a.ome.zarr"] == ("done", False)
    made(batch.source / "more" / "a.ome.zarr", noise(200, 150) // 2)
    assert states(batch, model)["more/a.ome.zarr"] == ("done", False)


def test_a_stopped_folder_goes_on_within_an_ome_zarr(
    batch: Batch, model: Restorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = run(batch, model)
    assert next(event.name for event in events if event.fraction > 0.5) == "more/a.ome.zarr"
    events.close()
    computed: list[int] = []
    compute = _ome_zarr.Level.write
    monkeypatch.setattr(_ome_zarr.Level, "write", lambda self, block: computed.append(1) or compute(self, block))
    assert states(batch, model)["more/a.ome.zarr"] == ("done", False)
    assert 0 < len(computed) < 5
    go(batch.source / "more" / "a.ome.zarr", tmp_path / "alone.zarr", model)
    assert contents(batch.output / "more" / "a_denoise.ome.zarr") == contents(tmp_path / "alone.zarr")
    assert not list(batch.output.rglob(f"*{PARTIAL_SUFFIX}"))


def test_what_was_begun_does_not_survive_a_finished_run(batch: Batch, model: Restorer) -> None:
    events = run(batch, model)
    next(event for event in events if event.fraction > 0.5)
    events.close()
    (begun,) = batch.output.rglob(f"*{PARTIAL_SUFFIX}")
    shutil.rmtree(batch.source / "more")  # nobody goes on with it
    with locked(begun / "lock"):
        assert set(states(batch, model)) == {"b.tif"}
        assert begun.is_dir()
    states(batch, model)
    assert not begun.exists()


def test_a_bad_ome_zarr_fails_alone(batch: Batch, model: Restorer) -> None:
    shutil.rmtree(batch.source / "more" / "a.ome.zarr" / "s0")
    (batch.source / "c.zarr").mkdir()
    (batch.source / "c.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    words = {event.name: event.words for event in run(batch, model) if event.state == "failed"}
    assert sorted(words) == ["c.zarr", "more/a.ome.zarr"]
    assert "is not a single OME-Zarr picture" in words["c.zarr"] and "lacks its level s0" in words["more/a.ome.zarr"]
    assert (batch.output / "b_denoise.tif").is_file()


def test_what_cannot_be_is_one_line_and_leaves_nothing_behind(tmp_path: Path, model: Restorer) -> None:
    source = made(tmp_path / "in.zarr", noise(64, 64))
    zarr.open_group(tmp_path / "plate.zarr", mode="w", attributes={"ome": {"plate": {}}})
    (tmp_path / "theirs.zarr").mkdir()
    wrong = [
        (tmp_path / "none.zarr", "out.zarr", ImageFileError, "cannot be read as a Zarr group"),
        (tmp_path / "plate.zarr", "out.zarr", ImageFileError, "not a single OME-Zarr picture.*such as A/1/0"),
        (source, "out.tif", ValueError, r"to end in \.zarr"),
        (source, "none/out.zarr", ImageFileError, "there is no folder"),
        (source, "in.zarr", ValueError, "would replace a part of its input"),
        (source, "in.zarr/labels/out.zarr", ValueError, "would replace a part of its input"),
        (source, "theirs.zarr", ValueError, "exists"),
    ]
    before = sorted(tmp_path.rglob("*"))
    for origin, target, error, words in wrong:
        with pytest.raises(error, match=words) as told:
            go(origin, tmp_path / target, model, force=True)
        assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match="--force"):
        go(source, tmp_path / "theirs.zarr", model)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_older_result_is_replaced_when_that_is_wished(tmp_path: Path, model: Restorer) -> None:
    source, target = made(tmp_path / "in.zarr", noise(64, 64)), made(tmp_path / "out.zarr", noise(32, 32))
    go(source, target, model, force=True)
    assert zarr.open_group(target, mode="r")["s0"].shape == (64, 64)  # type: ignore[union-attr]


def test_a_damaged_chunk_is_told_in_one_line(tmp_path: Path, model: Restorer) -> None:
    source = made(tmp_path / "in.zarr", noise(64, 64))
    for path in (source / "s0" / "c").rglob("*"):
        if path.is_file():
            path.write_bytes(b"nonsense")
    with pytest.raises(ImageFileError, match=r"in\.zarr cannot be read") as told:
        go(source, tmp_path / "out.zarr", model)
    assert "\n" not in str(told.value)
