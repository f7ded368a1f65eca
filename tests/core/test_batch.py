"""A folder is restored once, whatever interrupts it; no input is ever replaced, and nothing is left half-written."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, wait
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile

from perceive_ir import FolderError, ImageFileError, Recipe, Restorer, _perception, files
from perceive_ir._weights import Card
from perceive_ir.batch import (
    HIDDEN,
    Batch,
    Event,
    Journal,
    Row,
    _here,
    _run,
    _stages,
    overview,
    preview,
    run,
    write_report,
)
from perceive_ir.batch._batch import entries
from perceive_ir.batch._lock import locked

DENOISE = Recipe(task="denoise", severity=0.8)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a folder of four pictures in several formats, one in a folder of its own."""
    folder = tmp_path / "in"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(["1.tif", "2.png", "10.jpg", "more/3.tif"]):
        save(folder / name, number)
    (folder / "notes.txt").write_text("no picture")
    return folder


def save(path: Path, seed: int, *shape: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 200, shape or (24, 32, 3)).astype(np.uint8)
    files.write_image(path, pixels, force=True)


@pytest.fixture
def batch(source: Path, tmp_path: Path) -> Batch:
    return Batch(source, tmp_path / "out", DENOISE, recursive=True)


def states(events: list[Event]) -> dict[str, str]:
    return {event.name: event.state for event in events if event.name and event.state not in ("started", "working")}


def go(batch: Batch, model: Restorer) -> dict[str, str]:
    return states(list(run(batch, model)))


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, without the hidden one."""
    found = (path for path in folder.rglob("*") if path.is_file() and HIDDEN not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


ALL = ["1.tif", "2.png", "10.jpg", "more/3.tif"]


# --- what is done


def test_every_picture_arrives_in_its_place_as_restore_would_write_it(batch: Batch, tiny_model: Restorer) -> None:
    assert go(batch, tiny_model) == dict.fromkeys(ALL, "done")
    assert sorted(contents(batch.output)) == sorted(ALL)
    for name in ALL:
        picture = files.read_image(batch.source / name)
        result = tiny_model.restore(picture.data, DENOISE, axes=picture.axes)
        assert (result.image != picture.data).any()
        alone = batch.output.parent / Path(name).name
        files.write_image(alone, result.image, picture, description=replace(result, recipe=DENOISE).to_dict())
        assert alone.read_bytes() == (batch.output / name).read_bytes()
        found = files.read_description(batch.output / name)
        assert found is not None and Recipe(**found["recipe"]) == DENOISE


def test_events_count_up_and_end_with_all_settled(batch: Batch, tiny_model: Restorer) -> None:
    events = list(run(batch, tiny_model))
    settled = [event.progress.settled for event in events]
    assert settled == sorted(settled)
    assert events[0].progress.total == events[-1].progress.settled == len(ALL)
    assert events[-1].progress.seconds_left == 0
    assert {event.name for event in events if event.state == "started"} == {"", *ALL}
    assert all("quality" in event.words for event in events if event.state == "done")


def test_unchanged_pictures_are_not_touched_again(batch: Batch, tiny_model: Restorer, monkeypatch: Any) -> None:
    go(batch, tiny_model)
    before = {path: path.stat().st_mtime_ns for path in batch.output.rglob("*.*") if HIDDEN not in path.parts}
    monkeypatch.setattr(_stages, "read_image", lambda path: pytest.fail(f"{path} was read"))
    events = list(run(batch, tiny_model))
    assert states(events) == dict.fromkeys(ALL, "done")
    assert events[-1].progress.before == len(ALL)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files here")
def test_what_never_ends_is_refused_and_not_waited_for(batch: Batch, tiny_model: Restorer) -> None:
    os.mkfifo(batch.source / "pipe.tif")
    (batch.source / "zero.png").symlink_to("/dev/zero")
    events = {event.name: event for event in run(batch, tiny_model)}
    for name in ("pipe.tif", "zero.png"):
        assert events[name].state == "failed" and "not a regular file" in events[name].words
    assert {entry.name: state for entry, state in preview(batch, tiny_model)}["pipe.tif"] == "failed"


def test_an_input_is_known_by_every_name_it_has(source: Path, tiny_model: Restorer) -> None:
    output = source.parent / "out"
    output.mkdir()
    os.link(source / "1.tif", output / "1.tif")  # as a file system without case shows "1.TIF" under "1.tif"
    before = (source / "1.tif").read_bytes()
    events = {event.name: event for event in run(Batch(source, output, DENOISE, force=True), tiny_model)}
    assert events["1.tif"].state == "failed" and "would replace an input" in events["1.tif"].words
    assert (output / "1.tif").read_bytes() == before


def test_where_names_without_case_are_one_the_second_picture_is_refused(batch: Batch, tiny_model: Restorer) -> None:
    save(batch.source / "A.png", 7)
    save(batch.source / "a.png", 8)
    save(batch.source / "\u00e9.png", 9)
    save(batch.source / "e\u0301.png", 10)
    assert set(go(batch, tiny_model).values()) == {"done"}  # here they are two
    (batch.output / HIDDEN.upper()).mkdir()
    states = sorted(state for _, state in preview(batch, tiny_model))
    assert states == ["done"] * 6 + ["failed"] * 2


def test_an_overview_says_what_is_known_and_reads_nothing(batch: Batch, tiny_model: Restorer, monkeypatch: Any) -> None:
    (batch.source / "bad.png").write_text("no picture")
    assert [row.state for _, row in overview(batch)] == ["waiting"] * 5 and not batch.output.exists()
    go(batch, tiny_model)
    os.remove(batch.output / "10.jpg")
    monkeypatch.setattr(_stages, "content_hash", lambda path: pytest.fail(f"{path} was read"))
    found = {entry.name: row for entry, row in overview(batch)}
    assert {name: row.state for name, row in found.items()} == dict.fromkeys(ALL, "done") | {
        "10.jpg": "waiting", "bad.png": "failed"
    }  # fmt: skip
    assert "not a picture" in found["bad.png"].words and "quality" in found["1.tif"].words


def test_a_pause_does_not_count_as_time(batch: Batch, tiny_model: Restorer, monkeypatch: Any) -> None:
    paused = 0.0
    monkeypatch.setattr(Restorer, "pixels_at_once", 1)
    monkeypatch.setattr(_run, "time", SimpleNamespace(perf_counter=lambda: time.perf_counter() + paused))
    for event in run(batch, tiny_model):
        paused += 1e6 * (event.progress.settled == 2)
        assert (event.progress.seconds_left or 0) < 1e5


def fresh(batch: Batch, model: Restorer) -> set[str]:
    """Run; return what was done now."""
    return {event.name for event in run(batch, model) if event.state == "done" and not event.earlier}


def test_what_changed_is_done_again_and_nothing_else(batch: Batch, tiny_model: Restorer) -> None:
    go(batch, tiny_model)
    save(batch.source / "2.png", 99)
    os.remove(batch.output / "10.jpg")
    assert fresh(batch, tiny_model) == {"2.png", "10.jpg"}
    assert fresh(replace(batch, recipe=Recipe(task="denoise", severity=0.7)), tiny_model) == set(ALL)
    other = Restorer(tiny_model.system, Card("tiny", "1", digest="other"), device="cpu", precision="float32")
    assert fresh(replace(batch, recipe=Recipe(task="denoise", severity=0.7)), other) == set(ALL)


def test_where_a_recipe_runs_makes_no_difference(batch: Batch, tiny_model: Restorer) -> None:
    go(batch, tiny_model)
    elsewhere = Recipe(task="denoise", severity=0.8, device="cpu", memory=1.5)
    assert fresh(replace(batch, recipe=elsewhere), tiny_model) == set()


def test_one_bad_file_never_stops_the_run_and_stays_failed(batch: Batch, tiny_model: Restorer) -> None:
    (batch.source / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    (batch.source / "5.tif").write_bytes(b"")
    expected = dict.fromkeys(ALL, "done") | {"2.png": "failed", "5.tif": "failed"}
    events = list(run(batch, tiny_model))
    assert states(events) == expected
    assert all(event.words.count("\n") == 0 and event.words for event in events if event.state == "failed")
    again = list(run(batch, tiny_model))
    assert states(again) == expected
    assert all(event.earlier for event in again[1:])
    assert not any(
        event.earlier for event in run(replace(batch, retry_failed=True), tiny_model) if event.name == "2.png"
    )
    save(batch.source / "2.png", 3)
    assert go(batch, tiny_model)["2.png"] == "done"


def test_what_changes_while_it_is_read_is_tried_again_by_the_next_run(
    batch: Batch, tiny_model: Restorer, monkeypatch: Any
) -> None:
    whole = _stages.read_image

    def touched(path: Path) -> Any:
        picture = whole(path)
        if path.name == "2.png":
            os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))  # the same bytes once more, as a slow copy writes them
        return picture

    with monkeypatch.context() as patch:
        patch.setattr(_stages, "read_image", touched)
        events = {event.name: event for event in run(batch, tiny_model)}
    assert events["2.png"].words == "changed while it was read; run again"
    assert fresh(batch, tiny_model) == {"2.png"}


def test_a_mapped_picture_that_changes_while_it_is_restored_is_not_written(
    batch: Batch, tiny_model: Restorer, monkeypatch: Any
) -> None:
    from perceive_ir.files import _tiff_read

    monkeypatch.setattr(_tiff_read, "LAZY_BYTES", 1)
    tifffile.imwrite(batch.source / "1.tif", np.random.default_rng(0).integers(0, 200, (24, 32), np.uint8))
    whole = _stages.look

    def changed(restorer: Restorer, group: Any) -> Any:
        if any(loaded.entry.name == "1.tif" for loaded in group):  # alone or with others, but read by now
            os.utime(batch.source / "1.tif", ns=(0, 1))
        return whole(restorer, group)

    with monkeypatch.context() as patch:
        patch.setattr(_stages, "look", changed)
        events = {event.name: event for event in run(batch, tiny_model)}
    assert events["1.tif"].words == "changed while it was read; run again"
    assert "1.tif" not in contents(batch.output)
    assert fresh(batch, tiny_model) == {"1.tif"}


def test_a_bug_in_one_picture_is_told_and_harms_no_other(batch: Batch, tiny_model: Restorer, monkeypatch: Any) -> None:
    whole = tiny_model.perceive_all

    def broken(subjects: Any, **how: Any) -> Any:
        if any(int(subject.array[0, 0, 0]) == 77 for subject in subjects):
            raise RuntimeError("a bug")
        return whole(subjects, **how)

    marked = np.full((24, 32, 3), 77, np.uint8)
    marked[5:] = 9
    files.write_image(batch.source / "2.png", marked, force=True)
    monkeypatch.setattr(tiny_model, "perceive_all", broken)
    events = list(run(batch, tiny_model))
    assert states(events) == dict.fromkeys(ALL, "done") | {"2.png": "failed"}
    assert [event.words for event in events if event.state == "failed"] == ["RuntimeError: a bug"]


def test_results_are_judged_by_every_other_crop(batch: Batch, tiny_model: Restorer, monkeypatch: Any) -> None:
    alone = batch.source / "alone"
    alone.mkdir()
    save(alone / "1.tif", 3, 200, 250, 3)
    looks: list[int] = []
    seen = _perception.cuts
    monkeypatch.setattr(_perception, "cuts", lambda *args: looks.append(len(found := seen(*args))) or found)
    go(replace(batch, source=alone), tiny_model)
    assert looks == [4, 2]


def test_only_low_leaves_the_others_out(batch: Batch, tiny_model: Restorer) -> None:
    tier = {name: tiny_model.perceive(files.read_image(batch.source / name).data).tier for name in ALL}
    found = list(run(replace(batch, only_low=True), tiny_model))
    assert states(found) == {name: "done" if tier[name] == "low" else "skipped" for name in ALL}
    assert set(contents(batch.output)) == {name for name in ALL if tier[name] == "low"}
    assert go(batch, tiny_model) == dict.fromkeys(ALL, "done")


def test_no_folder_is_left_for_pictures_that_are_left_out(batch: Batch, tiny_model: Restorer, monkeypatch: Any) -> None:
    for name in ("good/deep", "bad"):
        (batch.source / name).mkdir(parents=True)
    save(batch.source / "good" / "deep" / "1.tif", 3)
    save(batch.source / "bad" / "1.tif", 4, 40, 40, 3)
    (batch.source / "empty").mkdir()
    save(batch.source / "empty" / "1.tif", 5)
    for own in ("bad/own", "empty"):
        (batch.output / own).mkdir(parents=True)
    whole = tiny_model.perceive_all

    def perceive_all(subjects: Any, **how: Any) -> Any:
        low = [float(one.layout.height == 40) for one in subjects]
        return [
            replace(seen, tiers={"low": share, "medium": 1 - share, "high": 0.0})
            for seen, share in zip(whole(subjects, **how), low, strict=True)
        ]

    monkeypatch.setattr(tiny_model, "perceive_all", perceive_all)
    found = states(list(run(replace(batch, only_low=True), tiny_model)))
    assert (found["good/deep/1.tif"], found["bad/1.tif"]) == ("skipped", "done")
    assert sorted(p.name for p in batch.output.iterdir() if p.is_dir() and p.name != HIDDEN) == ["bad", "empty"]
    assert (batch.output / "bad" / "own").is_dir()


def test_a_run_that_goes_on_leaves_no_empty_folder_of_the_one_before(
    batch: Batch, tiny_model: Restorer, monkeypatch: Any
) -> None:
    for number in range(5):
        (batch.source / f"d{number}").mkdir()
        save(batch.source / f"d{number}" / "1.tif", number)
    whole = tiny_model.perceive_all
    good = {"low": 0.0, "medium": 1.0, "high": 0.0}
    monkeypatch.setattr(
        tiny_model, "perceive_all", lambda some, **how: [replace(seen, tiers=good) for seen in whole(some, **how)]
    )
    monkeypatch.setattr(Restorer, "pixels_at_once", 1)
    events = run(replace(batch, only_low=True), tiny_model)
    assert next(event for event in events if event.state == "skipped")
    events.close()
    assert set(states(list(run(replace(batch, only_low=True), tiny_model))).values()) == {"skipped"}
    assert [path.name for path in batch.output.iterdir()] == [HIDDEN]


def test_a_preview_says_what_would_be_done_and_writes_nothing(batch: Batch, tiny_model: Restorer) -> None:
    def foreseen() -> dict[str, str]:
        return {entry.name: state for entry, state in preview(batch, tiny_model)}

    assert foreseen() == dict.fromkeys(ALL, "new")
    assert not batch.output.exists()
    go(batch, tiny_model)
    save(batch.source / "1.tif", 50)
    save(batch.source / "new.tif", 51)
    assert foreseen() == dict.fromkeys(ALL, "done") | {"1.tif": "changed", "new.tif": "new"}
    assert "new.tif" not in contents(batch.output)


def test_a_large_picture_tells_its_tiles(batch: Batch, tiny_model: Restorer, monkeypatch: Any) -> None:
    monkeypatch.setattr(Restorer, "pixels_at_once", 1)
    save(batch.source / "1.tif", 0, 90, 90)
    small = Recipe(task="denoise", tile=16, overlap=8, memory=1e-4)
    fractions = [e.fraction for e in run(replace(batch, recipe=small), tiny_model) if e.state == "working"]
    assert fractions and fractions[0] < 1


# --- where results go


def test_names_follow_the_template_and_the_format(batch: Batch, tiny_model: Restorer) -> None:
    go(replace(batch, name="{stem}_{task}{ext}", format="png"), tiny_model)
    assert sorted(contents(batch.output)) == ["10_denoise.png", "1_denoise.png", "2_denoise.png", "more/3_denoise.png"]
    assert {path.read_bytes()[:4] for path in batch.output.rglob("*.png")} == {b"\x89PNG"}


@pytest.mark.parametrize(
    "template",
    ["", "x{ext}", "{stem}/{ext}", "{stam}", "{stem", "../{stem}{ext}", ".{stem}{ext}", "{0}{stem}", "{stem}",
     "{stem}.txt", "{stem}:{task}{ext}", "a\\{stem}{ext}", "{stem}?{ext}", "{stem}\n{ext}"],
)  # fmt: skip
def test_a_template_that_makes_no_names_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="name"):
        Batch(Path("in"), Path("out"), name=template)


@pytest.mark.parametrize("template", ["{stem}_a b ü{ext}", "{stem}.PNG", "{stem}_{task}.ome.zarr"])
def test_any_other_template_is_taken(template: str) -> None:
    assert Batch(Path("in"), Path("out"), name=template).name == template


def test_formats_that_are_only_read_get_another_suffix(batch: Batch, tiny_model: Restorer) -> None:
    from PIL import Image

    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(batch.source / "old.bmp")
    go(batch, tiny_model)
    assert (batch.output / "old.png").exists()


def test_an_input_is_never_replaced(batch: Batch, tiny_model: Restorer) -> None:
    inside = replace(batch, output=batch.source)
    before = contents(batch.source)
    with pytest.raises(ValueError, match="would replace an input"):
        list(run(inside, tiny_model))
    assert contents(batch.source) == before


def test_results_beside_their_pictures_are_no_inputs_later(batch: Batch, tiny_model: Restorer) -> None:
    beside = replace(batch, output=batch.source, name="{stem}_restored{ext}")
    before = contents(batch.source)
    for _ in range(2):
        assert go(beside, tiny_model) == dict.fromkeys(ALL, "done")
    after = contents(batch.source)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + len(ALL)


def test_a_result_that_would_replace_another_input_fails_alone(batch: Batch, tiny_model: Restorer) -> None:
    save(batch.source / "1_restored.tif", 7)
    before = contents(batch.source)
    found = go(replace(batch, output=batch.source, name="{stem}_restored{ext}"), tiny_model)
    assert found == dict.fromkeys([*ALL, "1_restored.tif"], "done") | {"1.tif": "failed"}
    assert {name: contents(batch.source)[name] for name in before} == before


def test_an_output_folder_inside_is_not_gone_through(batch: Batch, tiny_model: Restorer) -> None:
    inside = replace(batch, output=batch.source / "results")
    for _ in range(2):
        assert go(inside, tiny_model) == dict.fromkeys(ALL, "done")


def test_the_input_folder_may_lie_in_the_output_folder(batch: Batch, tiny_model: Restorer) -> None:
    around = replace(batch, output=batch.source.parent)
    for _ in range(2):
        assert go(around, tiny_model) == dict.fromkeys(ALL, "done")
    assert (batch.source.parent / "more" / "3.tif").is_file()


def test_a_locked_folder_beside_the_pictures_stops_nothing(batch: Batch, monkeypatch: Any) -> None:
    (batch.source / "lost+found").mkdir()
    stat = os.stat

    def denied(path: Any, *args: Any, **options: Any) -> Any:
        if Path(os.fsdecode(path)).parent.name == "lost+found":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return stat(path, *args, **options)

    monkeypatch.setattr(os, "stat", denied)
    assert [entry.name for entry in entries(replace(batch, recursive=False), {})] == ["1.tif", "2.png", "10.jpg"]


def test_a_link_to_an_input_is_not_written_through(batch: Batch, tiny_model: Restorer) -> None:
    batch.output.mkdir()
    (batch.output / "1.tif").symlink_to(batch.source / "1.tif")
    before = contents(batch.source)
    assert go(replace(batch, force=True), tiny_model)["1.tif"] == "failed"
    assert contents(batch.source) == before


def test_files_of_others_are_left_alone_without_force(batch: Batch, tiny_model: Restorer) -> None:
    batch.output.mkdir()
    (batch.output / "1.tif").write_text("precious")
    assert go(batch, tiny_model) == dict.fromkeys(ALL, "done") | {"1.tif": "failed"}
    assert (batch.output / "1.tif").read_text() == "precious"
    assert go(replace(batch, force=True), tiny_model)["1.tif"] == "done"


def test_two_pictures_never_share_a_place(batch: Batch, tiny_model: Restorer) -> None:
    save(batch.source / "2.tif", 8)
    found = list(run(replace(batch, format="png"), tiny_model))
    assert states(found) == dict.fromkeys([*ALL, "2.tif"], "done") | {"2.tif": "failed"}


def test_a_new_picture_does_not_take_the_place_of_a_result(batch: Batch, tiny_model: Restorer) -> None:
    as_png = replace(batch, format="png")
    go(as_png, tiny_model)
    save(batch.source / "1.jpg", 8)  # comes before 1.tif
    before = contents(batch.output)
    events = {event.name: event for event in run(as_png, tiny_model)}
    assert events["1.tif"].earlier and events["1.jpg"].words.startswith(
        "its result would take the place of that of 1.tif"
    )
    assert contents(batch.output) == before


def test_a_pattern_chooses_and_hidden_files_stay_out(batch: Batch) -> None:
    save(batch.source / ".hidden.tif", 1)
    (batch.source / HIDDEN).mkdir()
    save(batch.source / HIDDEN / "thumb.png", 1)
    assert [entry.name for entry in entries(batch, {})] == ["1.tif", "2.png", "10.jpg", "more/3.tif"]
    for pattern in ("*.tif", "*.TIF"):
        assert [entry.name for entry in entries(replace(batch, pattern=pattern), {})] == ["1.tif", "more/3.tif"]
    assert [entry.name for entry in entries(replace(batch, recursive=False), {})] == ["1.tif", "2.png", "10.jpg"]


def test_a_folder_without_pictures_is_refused_in_one_line(tmp_path: Path) -> None:
    for folder, words in ((tmp_path, "holds no pictures"), (tmp_path / "none", "not a folder")):
        with pytest.raises(ImageFileError, match=words):
            entries(Batch(folder, tmp_path / "out"), {})


def test_the_result_of_another_folder_is_left_alone_without_force(batch: Batch, tiny_model: Restorer) -> None:
    go(batch, tiny_model)
    other = replace(batch, source=batch.source.with_name("other"))
    other.source.mkdir()
    save(other.source / "1.tif", 70)
    save(other.source / "new.tif", 71)
    before = contents(batch.output)
    events = {event.name: event for event in run(other, tiny_model)}
    assert events["1.tif"].state == "failed" and f"is the result of {batch.source / '1.tif'}" in events["1.tif"].words
    assert events["new.tif"].state == "done"
    assert {name: contents(batch.output)[name] for name in before} == before
    assert go(replace(other, force=True), tiny_model) == {"1.tif": "done", "new.tif": "done"}


def test_a_folder_that_was_moved_or_is_named_otherwise_goes_on(batch: Batch, tiny_model: Restorer) -> None:
    go(batch, tiny_model)
    link = batch.source.with_name("link")
    link.symlink_to(batch.source)
    save(batch.source / "1.tif", 70)
    assert fresh(replace(batch, source=link), tiny_model) == {"1.tif"}
    moved = batch.source.rename(batch.source.with_name("moved"))
    save(moved / "2.png", 71)
    assert fresh(replace(batch, source=moved), tiny_model) == {"2.png"}


# --- what interrupts it


def test_a_second_run_refuses(batch: Batch, tiny_model: Restorer) -> None:
    first = run(batch, tiny_model)
    next(first)
    with pytest.raises(FolderError, match="another run"):
        next(run(batch, tiny_model))
    first.close()
    assert go(batch, tiny_model) == dict.fromkeys(ALL, "done")


def test_somebody_who_only_looks_is_waited_for(batch: Batch, tiny_model: Restorer) -> None:
    go(batch, tiny_model)
    looked = threading.Event()

    def look() -> None:
        with Journal(batch.output):
            looked.set()
            time.sleep(0.3)

    other = threading.Thread(target=look)
    other.start()
    assert looked.wait(10)
    assert go(batch, tiny_model) == dict.fromkeys(ALL, "done")
    other.join()


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from perceive_ir.batch._lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError), locked(path):
            pass
        holder.kill()
        holder.wait()
        with locked(path):
            pass


def test_a_cancelled_run_goes_on_where_it_was_with_the_same_bytes(
    batch: Batch, tiny_model: Restorer, tmp_path: Path, monkeypatch: Any
) -> None:
    for number in range(8):
        save(batch.source / f"x{number}.tif", number)
    undisturbed = replace(batch, output=tmp_path / "undisturbed")
    go(undisturbed, tiny_model)
    monkeypatch.setattr(Restorer, "pixels_at_once", 24 * 32 * 3)
    events = run(batch, tiny_model)
    for event in events:
        if event.progress.done == 5:
            break
    events.close()
    with Journal(batch.output) as journal:
        kept = {row.name for row in journal.rows() if row.state == "done"}
    assert 5 <= len(kept) < 12
    assert set(contents(batch.output)) == kept
    assert fresh(batch, tiny_model) == set(contents(undisturbed.output)) - kept
    assert contents(batch.output) == contents(undisturbed.output)


def test_what_a_kill_left_half_written_is_swept_away(batch: Batch, tiny_model: Restorer) -> None:
    (batch.output / "more").mkdir(parents=True)
    left = batch.output / "more" / f".0123{files.PARTIAL_SUFFIX}"
    left.write_bytes(b"half")
    go(batch, tiny_model)
    assert not left.exists()


def test_a_result_that_was_written_but_not_entered_is_replaced(batch: Batch, tiny_model: Restorer) -> None:
    go(batch, tiny_model)
    whole = contents(batch.output)
    with Journal(batch.output) as journal:
        journal.file.execute("UPDATE files SET state = 'waiting', content = ''")
    (batch.output / "1.tif").write_bytes(b"older")
    assert fresh(batch, tiny_model) == set(ALL)
    assert contents(batch.output) == whole


def test_another_run_in_a_folder_inside_keeps_what_it_is_writing(batch: Batch, tiny_model: Restorer) -> None:
    inside = batch.output / "inside"
    (inside / HIDDEN).mkdir(parents=True)
    unfinished = inside / f".0123{files.PARTIAL_SUFFIX}"
    unfinished.write_bytes(b"half")
    go(batch, tiny_model)
    assert unfinished.exists()


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_stops_the_run_and_blames_no_picture(
    batch: Batch, tiny_model: Restorer, monkeypatch: Any, fault: int
) -> None:
    from perceive_ir.files import _atomic

    publish, count = _atomic._publish, iter(range(100))

    def fails(partial: Path, target: Path, *, force: bool) -> None:
        if next(count) >= 2:
            raise OSError(fault, os.strerror(fault))
        publish(partial, target, force=force)

    with monkeypatch.context() as patch:
        patch.setattr(_atomic, "_publish", fails)
        with pytest.raises(FolderError, match=r"2 pictures are left, and the same command goes on"):
            list(run(replace(batch, workers=1), tiny_model))
    assert len(contents(batch.output)) == 2
    with Journal(batch.output) as journal:
        assert sorted(row.state for row in journal.rows()) == ["done", "done", "waiting", "waiting"]
    assert go(batch, tiny_model) == dict.fromkeys(ALL, "done")


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit here")
def test_a_full_disk_is_recognised_where_numpy_does_not_name_it(
    batch: Batch, tiny_model: Restorer, monkeypatch: Any
) -> None:
    import resource

    save(batch.source / "1.tif", 0, 400, 400, 3)
    monkeypatch.setattr(_here, "FULL", (errno.EFBIG,))  # what a limit says; a full disk takes the same way
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, hard))
    try:
        with pytest.raises(FolderError, match=r"takes no more \(.*File too large"):
            list(run(batch, tiny_model))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert go(batch, tiny_model) == dict.fromkeys(ALL, "done")


def test_what_is_in_place_when_the_disk_is_full_is_entered(
    batch: Batch, tiny_model: Restorer, monkeypatch: Any
) -> None:
    whole, written = _stages.write_image, threading.Event()

    def fails(target: Path, *arguments: Any, **options: Any) -> Any:
        if target.name != "10.jpg":
            written.wait(10)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        notes = whole(target, *arguments, **options)
        written.set()
        return notes

    monkeypatch.setattr(_stages, "write_image", fails)
    with pytest.raises(FolderError, match="takes no more"):
        list(run(replace(batch, recursive=False, workers=3), tiny_model))
    with Journal(batch.output) as journal:
        assert {row.name: row.state for row in journal.rows()} == {
            "1.tif": "waiting", "2.png": "waiting", "10.jpg": "done"
        }  # fmt: skip


def test_a_result_that_cannot_be_written_fails_alone(batch: Batch, tiny_model: Restorer, monkeypatch: Any) -> None:
    whole = _stages.write_image

    def fails(target: Path, *arguments: Any, **options: Any) -> Any:
        if target.name == "2.png":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
        return whole(target, *arguments, **options)

    monkeypatch.setattr(_stages, "write_image", fails)
    assert go(batch, tiny_model) == dict.fromkeys(ALL, "done") | {"2.png": "failed"}


def test_an_output_folder_that_cannot_be_made_is_told_in_one_line(batch: Batch, tiny_model: Restorer) -> None:
    (batch.output).write_text("a file")
    with pytest.raises(FolderError, match="cannot be written into") as told:
        list(run(batch, tiny_model))
    assert "\n" not in str(told.value)


def test_a_damaged_or_newer_journal_is_told_in_one_line(batch: Batch, tiny_model: Restorer) -> None:
    go(batch, tiny_model)
    path = batch.output / HIDDEN / "journal.sqlite"
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA user_version = 9")
    file.close()
    with pytest.raises(FolderError, match="another version"):
        list(run(batch, tiny_model))
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(FolderError, match="delete"):
        list(run(batch, tiny_model))


def test_a_name_that_is_no_text_is_kept(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.tif")
    with Journal(tmp_path) as journal:
        journal.begin([Row(name, name), Row("b.tif", "b.tif")], tmp_path)
        journal.put(Row(name, name, "done", size=5, before=b"x", after=b"y"))
        assert [(row.name, row.state, row.size) for row in journal.rows()] == [
            ("b.tif", "waiting", 0),
            (name, "done", 5),
        ]
        assert journal.outputs() == {name: str(tmp_path / name), "b.tif": str(tmp_path / "b.tif")}
        assert journal.thumbnails(name) == (b"x", b"y")


def test_a_folder_whose_name_is_no_text_is_restored_and_reported(
    batch: Batch, tiny_model: Restorer, tmp_path: Path
) -> None:
    named = batch.source.rename(tmp_path / os.fsdecode(b"caf\xe9"))
    assert go(replace(batch, source=named), tiny_model) == dict.fromkeys(ALL, "done")
    assert "4 of 4" in write_report(batch.output).read_text(encoding="utf-8")


def test_a_report_does_not_pass_off_an_earlier_recipe_s_results_as_the_last_run_s(
    batch: Batch, tiny_model: Restorer, monkeypatch: Any
) -> None:
    go(batch, tiny_model)
    monkeypatch.setattr(Restorer, "pixels_at_once", 1)
    monkeypatch.setattr(_here, "BYTES_BEHIND", 0)
    gentler = run(replace(batch, recipe=Recipe(task="denoise", severity=0.3)), tiny_model)
    assert next(event for event in gentler if event.state == "done").name == "1.tif"
    gentler.close()
    found = json.loads(write_report(batch.output).with_suffix(".json").read_text(encoding="utf-8"))
    assert {one["input"]: one["state"] for one in found["files"]} == dict.fromkeys(ALL, "waiting") | {"1.tif": "done"}


def test_pictures_are_read_ahead_only_as_far_as_their_pixels_fit(
    batch: Batch, tiny_model: Restorer, monkeypatch: Any
) -> None:
    few = replace(batch, source=batch.source.with_name("packed"), look_again=False)
    few.source.mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (200, 200), np.uint32)
        tifffile.imwrite(few.source / f"{number}.tif", pixels, compression="zlib")
    ahead: list[int] = []
    whole = _here.Here.restored
    monkeypatch.setattr(_here, "BYTES_AHEAD", 500_000)  # three of them, as pixels
    monkeypatch.setattr(Restorer, "pixels_at_once", 1)
    monkeypatch.setattr(_here.Here, "restored", lambda self, some: ahead.append(len(self.reading)) or whole(self, some))
    assert set(go(few, tiny_model).values()) == {"done"}
    assert max(ahead) in (2, 3)


def test_pictures_go_through_the_network_in_groups_that_fill_no_second_batch(
    batch: Batch, tiny_model: Restorer, monkeypatch: Any
) -> None:
    for number in range(20, 27):
        save(batch.source / f"{number}.tif", number)
    groups: list[int] = []
    whole = _here.Here.restored
    monkeypatch.setattr(Restorer, "pixels_at_once", int(3.5 * 24 * 32))
    monkeypatch.setattr(_here.Here, "restored", lambda self, some: groups.append(len(some)) or whole(self, some))
    monkeypatch.setattr(Future, "done", lambda job: bool(wait([job])))  # as if reading took no time
    go(batch, tiny_model)
    assert groups == [3, 3, 3, 2]


def test_tiles_do_not_follow_the_memory_of_the_day(batch: Batch, tiny_model: Restorer, monkeypatch: Any) -> None:
    monkeypatch.setattr(Restorer, "memory", lambda *_: 0.5)
    go(batch, tiny_model)
    monkeypatch.setattr(Restorer, "memory", lambda *_: 7.0)
    with Journal(batch.output) as journal:
        assert _run.Run(batch, _here.Here(batch, tiny_model), journal).order.recipe.memory == 0.5
        given = replace(batch, recipe=Recipe(memory=3.0))
        assert _run.Run(given, _here.Here(given, tiny_model), journal).order.recipe.memory == 3.0


def test_results_wait_to_be_written_only_as_far_as_memory_allows(
    batch: Batch, tiny_model: Restorer, monkeypatch: Any
) -> None:
    monkeypatch.setattr(_here, "BYTES_BEHIND", 0)
    monkeypatch.setattr(Restorer, "pixels_at_once", 1)
    behind = []
    whole = _here.Here.write
    monkeypatch.setattr(_here.Here, "write", lambda self, done: behind.append(len(self.writing)) or whole(self, done))
    assert go(batch, tiny_model) == dict.fromkeys(ALL, "done")
    assert behind == [0, 0, 0, 0]
