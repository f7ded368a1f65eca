"""A cluster does what one process does: the same bytes, each picture once, whatever becomes of its workers."""

from __future__ import annotations

import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from perceive_ir import ClusterError, FolderError, Recipe, Restorer, files, load
from perceive_ir.batch import HIDDEN, Batch, Event, Journal, _client, _cluster, _worker, run, workers_on, write_report
from perceive_ir.batch._batch import Entry
from perceive_ir.batch._crew import Means
from perceive_ir.commands import app

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::UserWarning:distributed")

CLI = CliRunner()
NAMES = [f"{number}.{('tif', 'png', 'jpg')[number % 3]}" for number in range(12)]


def save(path: Path, seed: int, side: int = 24) -> None:
    pixels = np.random.default_rng(seed).integers(0, 200, (side, 32, 3)).astype(np.uint8)
    files.write_image(path, pixels, force=True)


@pytest.fixture
def batch(tmp_path: Path, tiny_weights: Path) -> Batch:
    """Return a folder of twelve pictures, and the tiny model by the path of its weights."""
    (tmp_path / "in").mkdir()
    for number, name in enumerate(NAMES):
        save(tmp_path / "in" / name, number)
    recipe = Recipe(model=str(tiny_weights), task="denoise", severity=0.8, device="cpu", precision="float32")
    return Batch(tmp_path / "in", tmp_path / "out", recipe)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A real scheduler and two real workers, in threads of this process."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def here(batch: Batch, name: str = "undisturbed") -> dict[str, bytes]:
    """Do it in this process; return what it makes."""
    alone = replace(batch, output=batch.output.with_name(name))
    for _ in run(alone, load(batch.recipe.model, device="cpu", precision="float32")):
        pass
    return contents(alone.output)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, without the hidden one."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def ends(events: list[Event]) -> dict[str, str]:
    """Return what became of the pictures, each of which is told once."""
    found = [(event.name, event.state) for event in events if event.state in ("done", "failed", "skipped")]
    assert len(dict(found)) == len(found)
    return dict(found)


def journal_of(output: Path) -> list[tuple[Any, ...]]:
    """Return what the journal holds of each picture, but for the times."""
    with Journal(output) as journal:
        return sorted(
            (row.name, row.target, row.state, row.key, row.size, row.reason, str(row.about.get("before")),
             str(row.about.get("after")), journal.thumbnails(row.name))
            for row in journal.rows()
        )  # fmt: skip


def left_over(output: Path) -> list[str]:
    """Return what a finished run must not leave behind."""
    return [path.name for path in output.rglob("*") if path.name.endswith(files.PARTIAL_SUFFIX)]


# --- the same


def test_a_cluster_makes_the_bytes_and_the_journal_of_a_local_run(batch: Batch, client: Any) -> None:
    (batch.source / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    events = list(run(batch, client=client))
    assert ends(events) == dict.fromkeys(NAMES, "done") | {"bad.png": "failed"}
    assert {event.name for event in events if event.state == "started"} == {"", *NAMES, "bad.png"}
    assert contents(batch.output) == here(batch) and len(contents(batch.output)) == len(NAMES)
    assert journal_of(batch.output) == journal_of(batch.output.with_name("undisturbed"))
    assert not left_over(batch.output)
    assert "2 x cpu, float32" in write_report(batch.output).read_text(encoding="utf-8")


def test_what_one_began_the_other_goes_on_with(batch: Batch, client: Any) -> None:
    here(batch, "out")
    os.remove(batch.output / "3.tif")
    save(batch.source / "4.png", 99)
    events = list(run(batch, client=client))
    assert {event.name for event in events if event.state == "done" and not event.earlier} == {"3.tif", "4.png"}
    assert events[-1].progress.before == 10
    assert contents(batch.output) == here(batch)


def test_folders_may_be_named_from_where_one_is(batch: Batch, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(batch.source.parent)
    model = os.path.relpath(batch.recipe.model)
    near = replace(
        batch, source=Path("in"), output=Path("out"), recipe=batch.recipe.model_copy(update={"model": model})
    )
    handed_out: list[Path] = []
    whole = _cluster.Job
    monkeypatch.setattr(_cluster, "Job", lambda *parts: handed_out.extend(parts[3]) or whole(*parts))
    assert ends(list(run(near, client=client))) == dict.fromkeys(NAMES, "done")
    assert all(one.source.is_absolute() and one.target.is_absolute() for one in handed_out)  # type: ignore[attr-defined]


def test_files_of_others_are_left_alone_without_force(batch: Batch, client: Any) -> None:
    batch.output.mkdir()
    (batch.output / "3.tif").write_text("precious")
    assert ends(list(run(batch, client=client))) == dict.fromkeys(NAMES, "done") | {"3.tif": "failed"}
    assert (batch.output / "3.tif").read_text() == "precious"


def test_a_file_that_appears_before_its_turn_is_left_alone(batch: Batch, client: Any) -> None:
    events = run(batch, client=client)
    next(events)
    (batch.output / "3.tif").write_text("precious")
    told = {event.name: event for event in events}
    assert told["3.tif"].state == "failed" and "exists" in told["3.tif"].words
    assert (batch.output / "3.tif").read_text() == "precious"


# --- stopped and disturbed


def test_a_cancelled_run_ends_its_workers_and_goes_on_with_the_same_bytes(batch: Batch, client: Any) -> None:
    events = run(batch, client=client)
    for event in events:
        if event.state == "done":
            break
    events.close()
    assert not left_over(batch.output)
    kept = {row[0] for row in journal_of(batch.output) if row[2] == "done"}
    assert kept and set(contents(batch.output)) == kept
    assert ends(list(run(batch, client=client))) == dict.fromkeys(NAMES, "done")
    assert contents(batch.output) == here(batch)


def test_workers_stop_when_the_ticket_is_gone(batch: Batch, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Restorer, "pixels_at_once", 1)
    looks: Counter[int] = Counter()

    def is_there(ticket: Path) -> bool:
        """Let every worker begin a group and hear of one picture, then make it stop."""
        looks[threading.get_ident()] += 1
        return looks[threading.get_ident()] % 3 != 0

    groups: list[int] = []
    whole = _cluster.Job
    monkeypatch.setattr(_cluster, "Job", lambda *parts: groups.append(len(parts[3])) or whole(*parts))
    monkeypatch.setattr(_worker, "is_there", is_there)
    assert ends(list(run(batch, client=client))) == dict.fromkeys(NAMES, "done")
    assert sum(groups) > len(NAMES)  # what they did not get to was handed out again


def test_a_pause_hands_nothing_out(batch: Batch, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        save(batch.source / f"more{number}.png", number)
    handed_out: list[Entry] = []
    whole = _cluster.Job
    monkeypatch.setattr(_cluster, "Job", lambda *parts: handed_out.extend(parts[3]) or whole(*parts))
    events = run(batch, client=client)
    next(event for event in events if event.state == "done")
    end = time.monotonic() + 60
    while len(contents(batch.output)) < len(handed_out):  # what workers have in hand is finished
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.5)
    assert len(contents(batch.output)) == len(handed_out) < 42
    assert sum(event.state == "done" for event in events) == 41


def test_a_run_without_workers_waits_for_some(batch: Batch) -> None:
    with (
        distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None, protocol="tcp") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        events = run(batch, client=client)
        seen = [next(event for event in events if event.state == "done")]
        cluster.scale(0)
        for event in events:
            seen.append(event)
            if event.words == "waiting for workers":
                cluster.scale(1)
                break
        seen += events
    assert seen[-1].progress.done == len(NAMES)
    assert ends(seen) == dict.fromkeys(NAMES, "done")


def test_when_the_scheduler_is_gone_the_folder_waits_for_another(batch: Batch, client: Any) -> None:
    with (
        distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None, protocol="tcp") as cluster,
        distributed.Client(cluster, set_as_default=False) as lost,
    ):
        events = run(batch, client=lost)
        next(event for event in events if event.state == "done")
        cluster.close()
        with pytest.raises(ClusterError, match="out of reach; start it"):
            list(events)
    assert not left_over(batch.output)
    assert ends(list(run(batch, client=client))) == dict.fromkeys(NAMES, "done")


def test_a_second_run_refuses(batch: Batch, client: Any) -> None:
    first = run(batch, client=client)
    next(first)
    with pytest.raises(FolderError, match="another run"):
        next(run(batch, client=client))
    first.close()


def test_a_full_disk_stops_the_run_and_blames_no_picture(
    batch: Batch, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perceive_ir.files import _atomic

    publish, count = _atomic._publish, iter(range(100))

    def fails(partial: Path, target: Path, *, force: bool) -> None:
        if next(count) >= 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        publish(partial, target, force=force)

    with monkeypatch.context() as patch:
        patch.setattr(_atomic, "_publish", fails)
        with pytest.raises(FolderError, match=r"takes no more .* pictures are left, and the same command goes on"):
            list(run(batch, client=client))
    assert {row[2] for row in journal_of(batch.output)} == {"done", "waiting"}
    assert ends(list(run(batch, client=client))) == dict.fromkeys(NAMES, "done")


def test_a_group_whose_workers_die_is_taken_apart_and_the_guilty_one_named(
    batch: Batch, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _cluster.result_of

    def dies(future: Any) -> Any:
        found = whole(future)
        if isinstance(found, _worker.Done) and any(news.entry.name == "7.png" for news in found.news):
            raise distributed.KilledWorker("a group", None, 3)
        return found

    monkeypatch.setattr(_cluster, "result_of", dies)
    events = list(run(batch, client=client))
    assert ends(events) == dict.fromkeys(NAMES, "done") | {"7.png": "failed"}
    assert [event.words for event in events if event.state == "failed"] == [_cluster.KILLED]


# --- what does not fit


def test_workers_without_the_folders_are_told_in_one_line(
    batch: Batch, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_worker, "is_there", lambda ticket: False)
    with pytest.raises(ClusterError, match=r"does not find .*share the folders") as told:
        list(run(batch, client=client))
    assert "\n" not in str(told.value)
    with Journal(batch.output) as journal:  # the lock is free
        assert {row.state for row in journal.rows()} == {"waiting"}


def test_workers_that_compute_otherwise_are_refused() -> None:
    one = Means("compact 5", "abc", "cuda", "bfloat16", 20.0)
    _worker.check_alike(one, replace(one, memory=3.0, count=7))
    with pytest.raises(ClusterError, match=r"precision float32 and not bfloat16.*--precision"):
        _worker.check_alike(replace(one, precision="float32"), one)
    with pytest.raises(ClusterError, match=r"software 0\.0 and not"):
        _worker.check_alike(replace(one, software="0.0"), one)


def test_a_model_that_workers_lack_is_told_in_one_line(batch: Batch, client: Any) -> None:
    with pytest.raises(Exception, match="no weights file at") as told:
        list(run(replace(batch, recipe=Recipe(model="/nowhere/model.safetensors")), client=client))
    assert "\n" not in str(told.value)


def test_it_takes_a_model_or_a_client(batch: Batch, client: Any, tiny_model: Restorer) -> None:
    for both in ({}, {"restorer": tiny_model, "client": client}):
        with pytest.raises(TypeError, match="one of the two"):
            next(run(batch, **both))


def test_groups_get_smaller_towards_the_end() -> None:
    from collections import deque

    waiting = deque(Entry(str(n), Path(), Path(), 1000) for n in range(100))
    sizes = []
    while waiting:
        sizes.append(len(_cluster.taken(waiting, 3)))
    assert sum(sizes) == 100 and sizes == sorted(sizes, reverse=True) and sizes[0] == 12 and sizes[-1] == 1
    large = deque(Entry(str(n), Path(), Path(), _cluster.MOST_BYTES) for n in range(100))
    assert len(_cluster.taken(large, 1)) == 1


# --- the command


def command(*words: object) -> Any:
    result = CLI.invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_scheduler_that_does_not_answer_is_one_line_soon(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _client.PATIENCE <= 10
    monkeypatch.setattr(_client, "PATIENCE", 1.0)
    told = command("batch", batch.source, batch.output, "--scheduler", "tcp://127.0.0.1:9")
    assert told.exit_code == 1 and "no scheduler answers at tcp://127.0.0.1:9; start one" in told.stderr
    assert told.stderr.count("\n") == 1
    assert not batch.output.exists()


def test_a_missing_extra_is_one_line_with_the_remedy(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    ways = ["--scheduler", "tcp://127.0.0.1:9"], ["--devices", "cpu,cpu"]
    for words in (*ways, *([*way, "--dry-run"] for way in ways)):
        told = command("batch", batch.source, batch.output, *words)
        assert told.exit_code == 1 and told.stderr.count("\n") == 1
        assert 'pip install "napari-perceive-ir[cluster]"' in told.stderr


@pytest.mark.parametrize(
    "words", [["--scheduler", "tcp://x:1", "--devices", "cpu"], ["--devices", "cpu,cpu", "--device", "cpu"]]
)
def test_two_ways_at_once_are_refused(batch: Batch, words: list[str]) -> None:
    for dry in ([], ["--dry-run"]):
        told = command("batch", batch.source, batch.output, *words, *dry)
        assert told.exit_code == 1 and "give one" in told.stderr


def test_a_dry_run_says_whether_the_workers_are_there(
    batch: Batch, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def foreseen(*words: object) -> Any:
        return command("batch", batch.source, batch.output, "--model", batch.recipe.model, "--dry-run", *words)

    address = client.scheduler.address
    there = foreseen("--scheduler", address, "--device", "cuda:77")  # which this machine need not have
    assert there.exit_code == 0, there.stderr
    assert there.stdout.splitlines()[-2:] == [
        "nothing was written: 12 new", f"{address} answers; workers: 2, threads: 2"
    ]  # fmt: skip
    assert foreseen("--devices", "cpu, cpu").stdout.splitlines()[-1] == "workers: cpu, cpu"
    monkeypatch.setattr(_client, "PATIENCE", 1.0)
    for words, why in (
        (["--scheduler", "tcp://127.0.0.1:9"], "no scheduler answers at tcp://127.0.0.1:9"),
        (["--devices", "cpu,cuda:77"], "no CUDA device 'cuda:77'"),
    ):
        refused = foreseen(*words)
        assert refused.exit_code == 1 and why in refused.stderr and refused.stderr.count("\n") == 1
        assert not refused.stdout
    assert not batch.output.exists()


def test_the_command_has_a_cluster_do_it(batch: Batch, client: Any) -> None:
    recipe = batch.source.parent / "r.json"
    recipe.write_text(batch.recipe.model_dump_json())
    told = command(
        "batch", batch.source, batch.output, "--recipe", recipe, "--scheduler", client.scheduler.address
    )  # fmt: skip
    assert told.exit_code == 0 and told.stdout.startswith("12 pictures: 12 done; report: ")
    assert contents(batch.output) == here(batch)


# --- processes


@pytest.mark.slow
def test_each_device_of_this_machine_gets_a_process(batch: Batch, capfd: pytest.CaptureFixture[str]) -> None:
    with workers_on(["cpu", "cpu"]) as client:
        assert len(client.nthreads()) == 2
        named = client.run(os.getenv, "PERCEIVE_IR_DEVICE")
        assert list(named.values()) == ["cpu", "cpu"] and len(set(client.run(os.getpid).values())) == 2
        anywhere = replace(batch, recipe=batch.recipe.model_copy(update={"device": "auto"}))
        assert ends(list(run(anywhere, client=client))) == dict.fromkeys(NAMES, "done")
    with pytest.raises(ValueError, match="no CUDA device 'cuda:77'"), workers_on(["cuda:77"]) as client:
        list(run(replace(anywhere, output=batch.output.with_name("other")), client=client))
    assert capfd.readouterr() == ("", "")


TRAP = """
import time
from pathlib import Path
from perceive_ir.files import _atomic

publish, here = _atomic._publish, Path({place!r})

def trapped(partial, target, *, force):
    if "out" in target.parts and not (here / "sprung").exists() and len(list(here.glob("out/[!.]*"))) >= 5:
        (here / "sprung").touch()
        time.sleep(600)
    publish(partial, target, force=force)

def dask_setup(worker):
    _atomic._publish = trapped
"""
"""Makes a worker wait half-way through a write, to be killed there."""


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Any]:
    """Return what starts ``dask scheduler`` and ``dask worker`` as processes; they end with the test."""
    with ExitStack() as ending:

        def start(*words: object) -> subprocess.Popen[bytes]:
            log = ending.enter_context(open(tmp_path / "dask.log", "ab"))
            child = subprocess.Popen([sys.executable, "-m", "dask", *map(str, words)], stdout=log, stderr=log)
            ending.callback(child.wait)
            ending.callback(child.kill)
            return child

        yield start


def wait_for(path: Path, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"no {path.name} after {seconds} seconds"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_worker_and_a_bad_file_stop_nothing(batch: Batch, dask: Any, tmp_path: Path) -> None:
    for number in range(12, 60):
        save(batch.source / f"{number}.png", number)
    expected = here(batch)
    (batch.source / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    (tmp_path / "trap.py").write_text(TRAP.format(place=str(tmp_path)))
    (tmp_path / "r.json").write_text(batch.recipe.model_dump_json())
    found = tmp_path / "scheduler.json"
    dask("scheduler", "--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", found)
    wait_for(found)
    shared = ["--scheduler-file", found, "--no-nanny", "--nthreads", 1, "--memory-limit", 0, "--no-dashboard"]
    victim = dask("worker", *shared, "--preload", tmp_path / "trap.py")
    for _ in range(2):
        dask("worker", *shared)
    with distributed.Client(scheduler_file=str(found), set_as_default=False) as client:
        client.wait_for_workers(3, timeout=300)
        address = client.scheduler.address
    words = [sys.executable, "-m", "perceive_ir", "batch", str(batch.source), str(batch.output)]
    words += ["--recipe", str(tmp_path / "r.json"), "--scheduler", address]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as going:
        wait_for(tmp_path / "sprung")
        assert left_over(batch.output)
        os.kill(victim.pid, signal.SIGKILL)
        said, complained = going.communicate(timeout=300)
    assert going.returncode == 1
    assert said.startswith("61 pictures: 60 done, 1 failed; report: ")
    assert complained.startswith(f"{batch.source / 'bad.png'}: cannot be read: ") and complained.count("\n") == 1
    assert contents(batch.output) == expected and len(expected) == 60
    assert not left_over(batch.output)
    check_journal(batch.output, {"done": 60, "failed": 1})
    save(batch.source / "bad.png", 77)
    again = subprocess.run([*words, "--retry-failed"], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("61 pictures: 61 done (60 of them before)")
    assert contents(batch.output) == here(batch)
    check_journal(batch.output, {"done": 61})
    assert sorted(path.name for path in (batch.output / HIDDEN).iterdir()) == [
        "journal.sqlite", "lock", "report.csv", "report.html", "report.json"
    ]  # fmt: skip


def check_journal(output: Path, states: dict[str, int]) -> None:
    """The journal is sound, and what it calls done is there with its size."""
    file = sqlite3.connect(output / HIDDEN / "journal.sqlite")
    try:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert dict(file.execute("SELECT state, count(*) FROM files GROUP BY state").fetchall()) == states
        rows = file.execute("SELECT target, size FROM files WHERE state = 'done'").fetchall()
    finally:
        file.close()
    assert all((output / target).stat().st_size == size for target, size in rows)


SLOW = """
import time
from perceive_ir.files import _atomic

publish = _atomic._publish

def slowly(partial, target, *, force):
    time.sleep(0.2)
    publish(partial, target, force=force)

def dask_setup(worker):
    _atomic._publish = slowly
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_when_the_coordinator_is_killed_workers_stop_and_the_next_run_goes_on(
    batch: Batch, dask: Any, tmp_path: Path
) -> None:
    for number in range(12, 60):
        save(batch.source / f"{number}.png", number)
    batch = replace(batch, workers=1)
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "r.json").write_text(batch.recipe.model_dump_json())
    found = tmp_path / "scheduler.json"
    dask("scheduler", "--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", found)
    wait_for(found)
    dask("worker", "--scheduler-file", found, "--no-nanny", "--nthreads", 1, "--preload", tmp_path / "slow.py")
    address = json.loads(found.read_text())["address"]
    words = [sys.executable, "-m", "perceive_ir", "batch", str(batch.source), str(batch.output), "--workers", "1"]
    words += ["--recipe", str(tmp_path / "r.json"), "--scheduler", address]
    with subprocess.Popen(words) as going:
        wait_for(batch.output / "2.jpg")
        going.kill()
    for _ in run(batch, load(batch.recipe.model, device="cpu", precision="float32")):
        pass
    whole = {path: path.stat().st_mtime_ns for path in batch.output.glob("[!.]*")}
    time.sleep(2)
    assert sum(path.stat().st_mtime_ns != when for path, when in whole.items()) <= 1, "only what was being written"
    assert contents(batch.output) == here(batch)
    assert not left_over(batch.output)
    check_journal(batch.output, {"done": 60})
