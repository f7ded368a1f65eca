"""``perceive-ir batch`` and ``assess FOLDER``: what they say, write and return; the report holds everything."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from perceive_ir import TYPES, Restorer, files
from perceive_ir.batch import HIDDEN, Row, _batch, _report, report_path
from perceive_ir.commands import app

CLI = CliRunner()


@pytest.fixture(autouse=True)
def here(tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with the tiny model by the name of the shipped one."""
    weights = tmp_path / "weights"
    weights.mkdir()
    tiny_weights.rename(weights / "compact.safetensors")
    monkeypatch.setenv("PERCEIVE_IR_WEIGHTS", str(weights))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    return tmp_path


def save(name: str, seed: int = 0) -> None:
    pixels = np.random.default_rng(seed).integers(0, 200, (24, 32, 3)).astype(np.uint8)
    files.write_image(Path("in", name), pixels, force=True)


def run(*words: object, code: int = 0) -> Any:
    result = CLI.invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def test_a_folder_is_restored_with_the_recipe_of_the_options_and_reported() -> None:
    save("a.tif")
    save("b <i>.png", 1)
    Path("in/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    done = run("batch", "in", "out", "--task", "denoise", "--severity", "0.8", "--device", "cpu", code=1)
    assert done.stdout.strip() == f"3 pictures: 2 done, 1 failed; report: {Path('out', HIDDEN, 'report.html')}"
    assert done.stderr.startswith("in/broken.png: cannot be read: ") and done.stderr.count("\n") == 1
    about = files.read_description("out/a.tif")
    assert about is not None and about["recipe"]["task"] == "denoise" and about["recipe"]["device"] == "cpu"
    check_report(Path("out"))
    again = run("batch", "in", "out", "--task", "denoise", "--severity", "0.8", code=1)
    assert again.stdout.startswith("3 pictures: 2 done, 1 failed (3 of them before)")
    save("broken.png")
    assert "1 failed" not in run("batch", "in", "out", "--task", "denoise", "--severity", "0.8").stdout


def test_what_is_left_out_is_said_once_with_how_many_pictures_it_holds_for() -> None:
    for name in ("a.tif", "b.tif"):
        with tifffile.TiffWriter(Path("in", name)) as tif:
            for side in (24, 16):
                tif.write(np.random.default_rng(side).integers(0, 200, (side, side)).astype(np.uint8))
    save("c.png")
    told = run("batch", "in", "out", "--task", "denoise", "--severity", "0.5").stdout.splitlines()
    assert told[0] == "2 pictures, such as a.tif: the file holds 2 pictures; only the first is read"
    assert told[1].startswith("3 pictures: 3 done; report: ") and len(told) == 2
    assert len(run("batch", "in", "out", "--task", "denoise", "--severity", "0.5").stdout.splitlines()) == 1


def check_report(output: Path) -> None:
    """The page holds all pictures and needs no network; CSV and JSON hold the same."""
    page = report_path(output).read_text(encoding="utf-8")
    seen = Attributes()
    seen.feed(page)
    assert len(seen.sources) == 4 and all(source.startswith("data:image/jpeg;base64,") for source in seen.sources)
    assert "http" not in page and "b &lt;i&gt;.png" in page and "b <i>.png" not in page
    assert "--task denoise --severity 0.8" in page and "2 of 3 pictures restored" in page
    rows = table(report_path(output).with_suffix(".csv"))
    assert [(row["input"], row["state"]) for row in rows] == [
        ("a.tif", "done"), ("b <i>.png", "done"), ("broken.png", "failed")
    ]  # fmt: skip
    assert rows[0]["tier_before"] and rows[0]["tier_after"] and 0 <= float(rows[0]["score_after"]) <= 2
    assert 0 <= float(rows[0]["noise_severity_before"]) <= 1 and float(rows[0]["seconds_restore"]) > 0
    assert "truncated" in rows[2]["reason"]
    found = json.loads(report_path(output).with_suffix(".json").read_text(encoding="utf-8"))
    assert found["counts"] == {"waiting": 0, "done": 2, "failed": 1, "skipped": 0}
    assert len(found["files"][0]["content"]) == len(found["files"][0]["weights"]) == 64
    assert found["recipe"]["severity"] == 0.8


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
def test_no_name_of_a_file_is_more_than_a_name_in_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    save("=1+1.tif")
    save("-20 \u202egpj<script>.png", 1)
    run("batch", "in", "out", "--task", "denoise", "--name", "{stem}_{task}{ext}", "--no-second-look")
    rows = table(report_path(Path("out")).with_suffix(".csv"))
    assert [row["input"] for row in rows] == ["./-20 \u202egpj<script>.png", "./=1+1.tif"]
    assert all(Path("in", row["input"]).is_file() and Path("out", row["output"]).is_file() for row in rows)
    page = report_path(Path("out")).read_text(encoding="utf-8")
    assert "\u202e" not in page and "gpj<script>" not in page and "-20 \ufffdgpj&lt;script&gt;.png" in page
    assert "perceive-ir batch IN OUT --task denoise --name &#x27;{stem}_{task}{ext}&#x27;" in page
    monkeypatch.chdir("in")
    told = run("assess", "=1+1.tif", "--csv", "-").stdout
    assert told.splitlines()[1].startswith("./=1+1.tif,")


def test_a_report_names_damage_as_people_do() -> None:
    seen = Row("a.png", "a.png", about={"before": {"condition": {"lowlight": 0.5, "lowres": 0.0}}})
    bars = _report.type_bars([seen])
    assert "<span>low light</span>" in bars and "1 · severity 0.50" in bars and "resolution" not in bars


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


class Attributes(HTMLParser):
    """Collects what the page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


def test_a_recipe_file_is_taken_and_a_dry_run_writes_nothing() -> None:
    save("a.tif")
    Path("r.json").write_text('{"task": "denoise", "strength": 0.5}')
    told = run("batch", "in", "out", "--recipe", "r.json", "--name", "{stem}_{task}{ext}", "--dry-run")
    assert told.stdout.splitlines() == ["new in/a.tif -> out/a_denoise.tif", "nothing was written: 1 new"]
    assert not Path("out").exists()
    run("batch", "in", "out", "--recipe", "r.json", "--format", "png", "--no-second-look")
    about = files.read_description("out/a.png")
    assert about is not None and about["recipe"]["strength"] == 0.5


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["in", "in"], "would replace an input"),
        (["none", "out"], "is not a folder"),
        (["in", "out", "--format", "jp2"], "expected a format out of same"),
        (["in", "out", "--name", "x"], "{stem}"),
        (["in", "out", "--pattern", "*.jpg"], "holds no pictures named *.jpg"),
        (["in", "out", "--handling", "painted"], "painted"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing_behind(words: list[str], why: str) -> None:
    save("a.tif")
    refused = run("batch", *words, code=1)
    assert why in refused.stderr and refused.stderr.count("\n") == 1 and not refused.stdout
    assert not Path("out").exists() and not Path("in", HIDDEN).exists()


def test_ctrl_c_keeps_what_is_done_and_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.tif", "b.tif", "c.tif"):
        save(name)
    look, looks = Restorer.perceive_all, iter(range(9))

    def interrupted(self: Restorer, subjects: Any) -> Any:
        if next(looks):
            raise KeyboardInterrupt
        return look(self, subjects)

    monkeypatch.setattr(Restorer, "perceive_all", interrupted)
    monkeypatch.setattr(Restorer, "pixels_at_once", 1)
    assert "stopped" in run("batch", "in", "out", "--no-second-look", code=130).stderr
    found = json.loads(report_path(Path("out")).with_suffix(".json").read_text(encoding="utf-8"))
    assert found["counts"] == {"waiting": 2, "done": 1, "failed": 0, "skipped": 0}
    assert [path.name for path in Path("out").glob("*.tif")] == ["a.tif"]


def test_assess_ranks_a_folder_by_quality_and_type() -> None:
    for number in range(6):
        save(f"{number}.png", number)
    Path("in/bad.png").write_bytes(b"no picture")
    run("assess", "in", "--csv", "ranks.csv", code=1)
    rows = table(Path("ranks.csv"))
    assert len(rows) == 7 and rows[-1]["file"] == "in/bad.png" and rows[-1]["error"]
    tiers = [("low", "medium", "high").index(row["tier"]) for row in rows[:-1]]
    assert tiers == sorted(tiers)
    assert all(row["damage"].split("+")[0] in ("", *TYPES) for row in rows)


def test_a_folder_without_pictures_stops_no_assessment_of_others() -> None:
    save("a.png")
    Path("empty").mkdir()
    told = run("assess", "empty", "in", "--csv", "-", code=1)
    assert told.stderr.strip() == "empty: holds no pictures; check its name, or give --recursive"
    assert [Path(line.split(",")[0]).name for line in told.stdout.splitlines()[1:]] == ["a.png", "empty"]


def test_ctrl_c_before_the_first_picture_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    save("a.tif")

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(_batch, "pictures", interrupted)
    run("batch", "in", "out", code=130)
    assert not Path("out").exists()


def ome_zarr(folder: str) -> None:
    """Write an OME-Zarr of one level."""
    zarr = pytest.importorskip("zarr")
    axes = [{"name": name, "type": "space"} for name in "yx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}
    about = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    group = zarr.open_group(folder, mode="w", attributes={"ome": about})
    pixels = np.random.default_rng(0).integers(0, 4000, (90, 70)).astype(np.uint16)
    group.create_array("0", data=pixels, chunks=(32, 32))


def test_an_ome_zarr_is_restored_alone_and_assessed() -> None:
    ome_zarr("in/a.ome.zarr")
    done = run("restore", "in/a.ome.zarr", "-o", "b.zarr", "--task", "denoise", "--severity", "0.8")
    assert done.stdout.startswith("in/a.ome.zarr -> b.zarr: ")
    assert "exists; give --force" in run("restore", "in/a.ome.zarr", "-o", "b.zarr", code=1).stderr
    run("restore", "in/*.zarr", "-o", "b.zarr", "--force", "--recipe", "b.zarr")
    run("restore", "in/a.ome.zarr", "-o", "several/", "--task", "denoise")
    assert Path("several/a.ome.zarr/zarr.json").is_file() and not Path("b.zarr/a.ome.zarr").exists()
    refused = run("restore", "in/a.ome.zarr", "-o", "c.zarr", "--region", "0:9,0:9", code=1)
    assert "not for OME-Zarr" in refused.stderr
    assert run("assess", "in", "b.zarr", "--csv", "-").stdout.count(".zarr,") == 2


# --- the crash test

SERVER = """
import os, sys
from pathlib import Path
import perceive_ir as pir
from perceive_ir.batch import Batch, run
model = pir.load(device="cpu", precision="float32")
for line in sys.stdin:
    child = os.fork()
    if not child:
        for event in run(Batch(Path("in"), Path(line.strip()), pir.Recipe(task="denoise", severity=0.8)), model):
            pass
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills forks of a process that has loaded everything")
def test_twenty_kills_lose_nothing_and_change_no_byte() -> None:
    for number in range(60):
        save(f"{number}.{('tif', 'png', 'jpg')[number % 3]}", number)
    chance = random.Random(0)
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None and server.stdout is not None

        def attempt(output: str, seconds: float | None) -> bool:
            """Run; kill the run after some time, if any is given; return whether it was killed before its end."""
            server.stdin.write(output + "\n")  # type: ignore[union-attr]
            server.stdin.flush()  # type: ignore[union-attr]
            child = int(server.stdout.readline())  # type: ignore[union-attr]
            if seconds is not None:
                time.sleep(seconds)
                with suppress(ProcessLookupError):  # it has ended
                    os.kill(child, signal.SIGKILL)
            status = int(server.stdout.readline())  # type: ignore[union-attr]
            assert status in (0, signal.SIGKILL)
            return status == signal.SIGKILL

        start = time.perf_counter()
        assert not attempt("undisturbed", None)
        whole = time.perf_counter() - start
        killed, deleted = 0, set[str]()
        while killed < 20:
            if attempt("out", chance.uniform(0, whole / 6)):
                killed += 1
            else:  # nothing was left to do: half of it is to be done again
                for path in chance.sample(sorted(Path("out").glob("[!.]*")), 30):
                    path.unlink()
                    deleted.add(path.name)
            check_journal(deleted)
        assert not attempt("out", None)
        server.stdin.close()
    assert contents(Path("out")) == contents(Path("undisturbed"))
    assert len(contents(Path("out"))) == 60
    check_journal(set(), done=60)
    assert not [path for path in Path("out").rglob("*") if path.name.endswith(files.PARTIAL_SUFFIX)]
    assert sorted(path.name for path in Path("out", HIDDEN).iterdir()) == ["journal.sqlite", "lock"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def check_journal(deleted: set[str], done: int | None = None) -> None:
    """The journal is sound, and what it calls done is there with its size."""
    path = Path("out", HIDDEN, "journal.sqlite")
    if not path.exists():
        return
    file = sqlite3.connect(path)
    try:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        tables = file.execute("SELECT count(*) FROM sqlite_master WHERE name = 'files'").fetchone()[0]
        rows = file.execute("SELECT target, size FROM files WHERE state = 'done'").fetchall() if tables else []
    finally:
        file.close()
    sizes = {path.name: path.stat().st_size for path in Path("out").iterdir()}
    assert all(target in deleted or sizes[target] == size for target, size in rows)
    assert done is None or len(rows) == done
