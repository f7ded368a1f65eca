"""The Batch dock with real clicks and a real, tiny model: a folder is restored once, whatever interrupts it."""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel as Model
from PIL import Image
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtGui import QDesktopServices

from napari_perceive_ir import _batch_dock, _file_list
from napari_perceive_ir._batch_controls import BatchControls
from napari_perceive_ir._batch_dock import BatchDock
from napari_perceive_ir._batch_run import drawn, trying, working
from napari_perceive_ir._dock import RestoreDock
from perceive_ir import ImageFileError, Recipe, Restorer, files
from perceive_ir.batch import HIDDEN, Batch, Journal, _stages, run
from tests.napari_perceive_ir.conftest import LONG, click, finish, names

BROKEN = ["03.png", "08.tif"]
GOOD = [f"{n:02}.tif" for n in range(12) if n not in (3, 8)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of twelve files, two of them broken."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, name in enumerate(GOOD):
        pixels = np.random.default_rng(number).integers(0, 200, (24, 32)).astype(np.uint8)
        files.write_image(folder / name, pixels)
    for name in BROKEN:
        (folder / name).write_bytes(b"no picture")
    return folder


@pytest.fixture(autouse=True)
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pictures go through the network together; here each is a group of its own."""
    monkeypatch.setattr(Restorer, "pixels_at_once", 1)


@pytest.fixture
def dock(qtbot: QtBot, folder: Path) -> BatchDock:
    return made(qtbot, Model(), folder)


def made(qtbot: QtBot, viewer: Any, folder: Path) -> BatchDock:
    """Open a dock and type the folder into it."""
    dock = BatchDock(viewer)
    qtbot.addWidget(dock)
    dock.resize(350, 900)
    dock.show()
    enter(qtbot, dock, folder)
    return dock


def enter(qtbot: QtBot, dock: BatchDock, folder: Path) -> None:
    dock.controls.task.value = "denoise"
    line = dock.controls.folders.source.line
    qtbot.keyClicks(line, str(folder))
    qtbot.keyClick(line, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: dock.list.files.rowCount() == 12, timeout=LONG)


def states(dock: BatchDock) -> dict[str, str]:
    shown = dock.list.files
    found = [shown.at(shown.index(n)) for n in range(shown.rowCount())]
    return {file.name: file.state for file in found}


def ended(qtbot: QtBot, dock: BatchDock) -> None:
    """Wait until a run is over and the list is made anew."""
    finish(qtbot, dock)
    qtbot.waitUntil(lambda: dock._lister is None, timeout=LONG)


def pool_is_empty() -> bool:
    """Wait for what goes on without its dock."""
    pool: Any = QThreadPool.globalInstance()
    return bool(pool.waitForDone(LONG))


class Hold:
    """Holds a run once so many pictures are settled, until it is opened."""

    def __init__(self, at: int) -> None:
        self.at, self.reached, self.opened = at, threading.Event(), threading.Event()

    def __call__(self, *args: Any) -> Iterator[Any]:
        for event in working(*args):
            yield event
            if getattr(event, "done", 0) >= self.at:
                self.reached.set()
                assert self.opened.wait(60)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hold]:
    hold = Hold(5)
    monkeypatch.setattr(_batch_dock, "working", hold)
    yield hold
    hold.opened.set()


def begun(qtbot: QtBot, dock: BatchDock, hold: Hold) -> None:
    """Press Run and wait until it is held."""
    click(qtbot, dock.run_button)
    qtbot.waitUntil(hold.reached.is_set, timeout=LONG)
    qtbot.waitUntil(lambda: dock._count.settled >= hold.at, timeout=LONG)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what is written."""
    counted: Counter[str] = Counter()
    write = _stages.write

    def counting(done: Any, *args: Any, **options: Any) -> Any:
        counted[done.loaded.entry.name] += 1
        return write(done, *args, **options)

    monkeypatch.setattr(_stages, "write", counting)
    return counted


def test_cancelled_at_five_and_run_again_all_that_can_be_read_is_done_once(
    dock: BatchDock, folder: Path, qtbot: QtBot, held: Hold, written: Counter[str]
) -> None:
    begun(qtbot, dock, held)
    click(qtbot, dock.cancel_button)
    held.opened.set()
    ended(qtbot, dock)
    assert 5 <= sum(state != "waiting" for state in states(dock).values()) <= 8
    assert "Run goes on" in dock.status.text()
    held.at = 99
    click(qtbot, dock.run_button)
    ended(qtbot, dock)
    assert states(dock) == dict.fromkeys(GOOD, "done") | dict.fromkeys(BROKEN, "failed")
    assert written == Counter(GOOD)
    assert dock.status.text().startswith("12 pictures: 10 done, 2 failed (")
    output = folder.with_name("in_restored")
    page = (output / HIDDEN / "report.html").read_text(encoding="utf-8")
    assert page.count('<article class="card"') == 10 and all(name in page for name in BROKEN)
    assert sorted(path.name for path in output.iterdir()) == [HIDDEN, *GOOD]


def test_a_pause_waits_and_is_resumed(dock: BatchDock, qtbot: QtBot, held: Hold) -> None:
    begun(qtbot, dock, held)
    click(qtbot, dock.pause_button)
    held.at = 99
    held.opened.set()
    qtbot.waitUntil(lambda: dock.status.text().startswith("Paused after "), timeout=LONG)
    settled = dock._count.settled
    qtbot.wait(300)
    assert dock._count.settled == settled < 8 and dock.pause_button.text() == "Resume"
    click(qtbot, dock.pause_button)
    ended(qtbot, dock)
    assert dock.list.files.counts == {"done": 10, "failed": 2}


def test_a_run_that_pauses_can_be_cancelled(dock: BatchDock, qtbot: QtBot, held: Hold) -> None:
    begun(qtbot, dock, held)
    click(qtbot, dock.pause_button)
    held.opened.set()
    qtbot.waitUntil(lambda: dock.status.text().startswith("Paused after "), timeout=LONG)
    click(qtbot, dock.cancel_button)
    ended(qtbot, dock)
    assert dock.run_button.isEnabled() and not dock.pause_button.isEnabled()


def test_what_failed_is_tried_again_only_when_asked_for(dock: BatchDock, folder: Path, qtbot: QtBot) -> None:
    click(qtbot, dock.run_button)
    ended(qtbot, dock)
    for name in BROKEN:
        assert "not a picture" in next(f.words for f in dock.list.files._files if f.name == name)
    dock.list.setCurrentIndex(dock.list.files.index(3))
    assert dock.about.text().startswith("03.png: is not a picture")
    click(qtbot, dock.run_button)
    ended(qtbot, dock)
    assert dock.status.text().startswith("12 pictures: 10 done, 2 failed (12 of them before)")
    click(qtbot, dock.retry_button)
    ended(qtbot, dock)
    assert dock.status.text().startswith("12 pictures: 10 done, 2 failed (10 of them before)")


def test_a_second_dock_on_the_folder_is_refused_politely(
    dock: BatchDock, folder: Path, qtbot: QtBot, held: Hold, notices: list[str]
) -> None:
    other = made(qtbot, Model(), folder)
    begun(qtbot, dock, held)
    click(qtbot, other.run_button)
    finish(qtbot, other)
    assert other.status.text() == "Failed: nothing done."
    assert len(notices) == 1 and "is being worked on by another run; wait until it ends" in notices[0]
    held.at = 99
    held.opened.set()
    ended(qtbot, dock)
    assert dock.list.files.counts["done"] == 10


def test_a_dock_that_is_closed_leaves_a_folder_that_goes_on(
    make_napari_viewer_proxy: Callable[..., Any], folder: Path, qtbot: QtBot, held: Hold, delete_after: Any
) -> None:
    viewer = make_napari_viewer_proxy()
    dock = BatchDock(viewer)
    viewer.window.add_dock_widget(dock, name="Batch")
    enter(qtbot, dock, folder)
    begun(qtbot, dock, held)
    delete_after(dock)
    viewer.window.remove_dock_widget(dock)
    held.opened.set()
    output = folder.with_name("in_restored")
    assert pool_is_empty() and (output / HIDDEN / "report.html").exists()
    again = made(qtbot, Model(), folder)
    delete_after(again)
    assert again.list.files.counts["done"] >= 3
    held.at = 99
    click(qtbot, again.run_button)
    ended(qtbot, again)
    assert again.list.files.counts == {"done": 10, "failed": 2}


def test_napari_can_be_closed_during_a_run(
    make_napari_viewer_proxy: Callable[..., Any], folder: Path, qtbot: QtBot, held: Hold
) -> None:
    viewer = make_napari_viewer_proxy()
    dock = BatchDock(viewer)
    viewer.window.add_dock_widget(dock, name="Batch")
    enter(qtbot, dock, folder)
    begun(qtbot, dock, held)
    viewer.close()
    held.opened.set()
    output = folder.with_name("in_restored")
    assert pool_is_empty() and (output / HIDDEN / "report.html").exists()
    with Journal(output) as journal:
        assert 3 <= sum(row.state == "done" for row in journal.rows()) < 10


def test_a_preview_shows_before_and_after_and_writes_nothing(dock: BatchDock, folder: Path, qtbot: QtBot) -> None:
    place = dock.list.visualRect(dock.list.files.index(1)).center()
    qtbot.mouseClick(dock.list.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.mouseDClick(dock.list.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.waitUntil(lambda: not dock.trial.running and len(dock._viewer.layers) == 2, timeout=LONG)
    before, after = dock._viewer.layers
    assert (before.name, after.name) == ("01.tif", "01.tif denoised")
    assert dock.status.text().endswith("Nothing was written.")
    assert [path.name for path in folder.parent.iterdir()] == ["in"]
    list(run(dock.controls.batch(), dock_model()))  # type: ignore[arg-type]
    assert np.array_equal(after.data, files.read_image(folder.with_name("in_restored") / "01.tif").data)
    dock.list.setCurrentIndex(dock.list.files.index(2))
    click(qtbot, dock.try_button)
    qtbot.waitUntil(lambda: names(dock._viewer) == ["02.tif", "02.tif denoised"], timeout=LONG)


def dock_model() -> Restorer:
    from napari_perceive_ir._run import model_of

    return model_of(Recipe())


def test_a_preview_of_a_broken_file_says_why(dock: BatchDock, qtbot: QtBot, notices: list[str]) -> None:
    dock.list.setCurrentIndex(dock.list.files.index(3))
    click(qtbot, dock.try_button)
    qtbot.waitUntil(lambda: not dock.trial.running, timeout=LONG)
    assert len(notices) == 1 and "03.png is not a picture" in notices[0]
    assert names(dock._viewer) == [] and dock.try_button.isEnabled()


def test_the_list_knows_what_an_earlier_run_did(dock: BatchDock, folder: Path, qtbot: QtBot) -> None:
    list(run(Batch(folder, folder.with_name("in_restored"), Recipe(task="denoise")), dock_model()))
    (folder.with_name("in_restored") / "05.tif").unlink()
    again = made(qtbot, Model(), folder)
    assert states(again) == dict.fromkeys(GOOD, "done") | dict.fromkeys(BROKEN, "failed") | {"05.tif": "waiting"}
    assert again.counted.text() == "12 pictures: 9 done, 2 failed"


def test_thumbnails_are_made_for_what_is_seen_and_a_bounded_number_is_kept(
    dock: BatchDock, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    thumbnails = dock.list.files._thumbnails
    monkeypatch.setattr(_file_list, "KEPT", 10)
    thumbnails.clear()
    for place in range(12):
        dock.list.scrollTo(dock.list.files.index(place))
        dock.list.files.data(dock.list.files.index(place), Qt.ItemDataRole.DecorationRole)
    qtbot.waitUntil(lambda: thumbnails._job is None, timeout=LONG)
    assert len(thumbnails._made) == 10
    good = thumbnails._pixmap(drawn(dock.list.files.at(dock.list.files.index(0)).source, Recipe()))
    assert not good.isNull() and good.toImage().pixelColor(10, 10).alpha() == 255


def test_run_does_not_trip_over_the_list_that_is_being_made(
    dock: BatchDock, folder: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, notices: list[str]
) -> None:
    click(qtbot, dock.run_button)
    ended(qtbot, dock)
    rows = Journal.rows
    monkeypatch.setattr(Journal, "rows", lambda *args, **options: time.sleep(0.2) or rows(*args, **options))
    dock.controls.options.pattern.setText("0*")
    dock.controls.options.pattern.editingFinished.emit()
    click(qtbot, dock.run_button)
    ended(qtbot, dock)
    assert not notices and dock.status.text().startswith("10 pictures: 8 done, 2 failed (10 of them before)")


@pytest.mark.skipif(sys.platform != "linux", reason="names are text there")
def test_a_name_that_is_no_text_is_shown_and_restored(folder: Path, qtbot: QtBot) -> None:
    odd = os.fsdecode(b"00\xff.tif")
    (folder / "00.tif").rename(folder / odd)
    dock = made(qtbot, Model(), folder)
    click(qtbot, dock.run_button)
    ended(qtbot, dock)
    assert dock.list.files.counts == {"done": 10, "failed": 2}
    dock.list.setCurrentIndex(dock.list.files.index(list(states(dock)).index(odd)))
    click(qtbot, dock.try_button)
    qtbot.waitUntil(lambda: not dock.trial.running and len(dock._viewer.layers) == 2, timeout=LONG)
    assert names(dock._viewer)[0] == "00\ufffd.tif"


def test_the_report_opens_in_the_browser(dock: BatchDock, folder: Path, qtbot: QtBot, monkeypatch: Any) -> None:
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    assert not dock.report_button.isEnabled()
    click(qtbot, dock.run_button)
    ended(qtbot, dock)
    click(qtbot, dock.report_button)
    assert opened == [str(folder.with_name("in_restored") / HIDDEN / "report.html")]


def test_a_folder_that_cannot_be_used_is_named(dock: BatchDock, tmp_path: Path, qtbot: QtBot) -> None:
    dock.controls.folders.source.choose(tmp_path / "nowhere")
    qtbot.waitUntil(lambda: "nowhere is not a folder" in dock.counted.text(), timeout=LONG)
    assert dock.list.files.rowCount() == 0
    dock.controls.options.name.setText("same")
    dock.controls.options.name.editingFinished.emit()
    assert "a name without {stem} is the same for all" in dock.counted.text()


def test_an_ome_zarr_has_a_thumbnail_and_a_preview_elsewhere(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    axes = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    about = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [{"path": "0"}, {"path": "1"}]}]}
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="w", attributes={"ome": about})
    for level, side in enumerate((80, 40)):
        group.create_array(str(level), data=np.full((side, side), 9, np.uint16))
    assert Image.open(io.BytesIO(drawn(tmp_path / "a.ome.zarr", Recipe()))).size == (40, 40)
    with pytest.raises(ImageFileError, match="preview it in Restore"):
        list(trying(tmp_path / "a.ome.zarr", Recipe()))


def test_any_folder_can_be_typed(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    suggested = {"/": "/_restored", ".": str(tmp_path.with_name(f"{tmp_path.name}_restored")), "~nobody": None}
    for typed, output in suggested.items():
        controls = BatchControls()
        qtbot.addWidget(controls)
        controls.folders.source.choose(Path(typed))
        assert output in (None, str(controls.folders.output.path)) and controls.folders.ready


def test_the_suggested_folder_follows_the_pictures_until_one_is_chosen(qtbot: QtBot, tmp_path: Path) -> None:
    controls = BatchControls()
    qtbot.addWidget(controls)
    source, output = controls.folders.source, controls.folders.output
    for name in ("june", "july"):
        source.choose(tmp_path / name)
        assert output.path == tmp_path / f"{name}_restored"
    output.choose(tmp_path / "mine")
    source.choose(tmp_path / "june")
    assert output.path == tmp_path / "mine"


def test_folders_of_the_user_are_shown_with_a_tilde(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    controls = BatchControls()
    qtbot.addWidget(controls)
    folders = controls.folders
    folders.source.choose(tmp_path / "pictures" / "june")
    shown = [field.line.text() for field in (folders.source, folders.output)]
    assert shown == [os.path.join("~", "pictures", name) for name in ("june", "june_restored")]
    assert folders.source.path == tmp_path / "pictures" / "june"
    assert folders.output.path == tmp_path / "pictures" / "june_restored"


def test_it_begins_with_what_the_restore_dock_says(make_napari_viewer_proxy: Callable[..., Any], qtbot: QtBot) -> None:
    viewer = make_napari_viewer_proxy()
    beside = RestoreDock(viewer)
    viewer.window.add_dock_widget(beside, name="Restore")
    beside.controls.task.value, beside.controls.automatic.value = "dehaze", False
    beside.controls.severity.setValue(0.3)
    dock = BatchDock(viewer)
    viewer.window.add_dock_widget(dock, name="Batch")
    assert dock.controls.recipe() == beside.controls.recipe() == Recipe(task="dehaze", severity=0.3)
    assert "painted" not in dock.controls.handling.choices
