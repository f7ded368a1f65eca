"""``perceive-ir batch``: all pictures of a folder, restored into another one; started again, it goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perceive_ir._recipe import Recipe, make_recipe
from perceive_ir.commands._inputs import finish
from perceive_ir.commands._options import takes_recipe
from perceive_ir.commands._report import complain, progress, say
from perceive_ir.commands._restore import load

if TYPE_CHECKING:
    from perceive_ir.batch import Batch, Event, Progress

LONGEST = 44
"""Characters of a name in the progress bar."""
MOST_NOTES = 5
"""Kinds of notes that are told at the end; the report has them all."""


@takes_recipe()
def batch(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Folder of pictures.", show_default=False)],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the results.", show_default=False)],
    recipe: Recipe,
    pattern: Annotated[
        str, typer.Option(help="Which files to take, such as '*.tif'; by default all that are named like pictures.")
    ] = "",
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Go through the folders inside IN too.")] = False,
    format: Annotated[
        str, typer.Option(help="How the names of results end: tif, ome.tif, png, jpg, webp; or as their pictures.")
    ] = "same",
    name: Annotated[
        str, typer.Option(metavar="TEMPLATE", help="Name of a result, made of {stem}, {ext} and {task}.")
    ] = "{stem}{ext}",
    only_low: Annotated[bool, typer.Option("--only-low", help="Restore only pictures of low quality.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read, and as many that write.")] = 2,
    second_look: Annotated[
        bool, typer.Option("--second-look/--no-second-look", help="Judge the results too, for the report.")
    ] = True,
    scheduler: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Have a cluster of dask.distributed do it: tcp://10.0.0.1:8786.")
    ] = "",
    devices: Annotated[
        str, typer.Option(metavar="LIST", help="Several devices of this machine, a process for each: cuda:0,cuda:1.")
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Replace files in OUT that are no results of it; never a picture of IN.")
    ] = False,
) -> None:
    """Restore all pictures of a folder. Killed at any moment and started again, it goes on where it was."""
    from perceive_ir.batch import Batch, report_stopped, write_report

    wish = Batch(
        source, output, recipe, pattern, recursive, format, name, only_low, retry_failed, force, workers, second_look
    )
    places = [one.strip() for one in devices.split(",")] if devices else []
    check_ways(recipe, scheduler, places)
    if dry_run:
        announce(wish, scheduler, places)
        return
    try:
        with crew(recipe, scheduler, places) as those:
            last = follow(wish, **those)
    except KeyboardInterrupt:
        report_stopped(output)
        raise
    say(f"{last.words()}; report: {write_report(output)}")
    finish(last.failed)


def check_ways(recipe: Recipe, scheduler: str, devices: Sequence[str]) -> None:
    """Refuse options that contradict each other."""
    if scheduler and devices:
        raise ValueError("--scheduler and --devices are two ways to do it; give one")
    if devices and recipe.device != "auto":
        raise ValueError("--device and --devices are two ways to say where; give one")


@contextmanager
def crew(recipe: Recipe, scheduler: str, devices: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield who does the work, as `perceive_ir.batch.run` takes it."""
    from perceive_ir.batch import connect, workers_on

    if scheduler:
        with connect(scheduler) as client:
            if not client.nthreads():
                complain(f"{scheduler} has no workers yet; waiting for the first one")
            yield {"client": client}
    elif devices:
        with workers_on(devices) as client:
            yield {"client": client}
    else:
        yield {"restorer": load(recipe)}


def announce(wish: Batch, scheduler: str, devices: Sequence[str]) -> None:
    """Say what a run would do, and who would do it."""
    from perceive_ir.batch import preview

    counts: Counter[str] = Counter()
    workers = who(scheduler, devices)
    # A machine that only asks a cluster need not have the device.
    restorer = load(make_recipe(wish.recipe, device="cpu") if scheduler else wish.recipe)
    for entry, state in preview(wish, restorer):
        counts[state] += 1
        say(f"{state} {entry.source} -> {entry.target}{f': {entry.problem}' if entry.problem else ''}")
    say("nothing was written: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    if workers:
        say(workers)


def who(scheduler: str, devices: Sequence[str]) -> str:
    """Say which workers a run would have; an error if they are not there."""
    from perceive_ir.batch import connect
    from perceive_ir.batch._client import check_installed

    if devices:
        from perceive_ir._device import choose_device

        check_installed()
        return f"workers: {', '.join(str(choose_device(one)) for one in devices)}"
    if not scheduler:
        return ""
    with connect(scheduler) as client:
        threads = client.nthreads().values()
    none = "" if threads else "; a run would wait for the first one"
    return f"{scheduler} answers; workers: {len(threads)}, threads: {sum(threads)}{none}"


def follow(wish: Batch, **those: Any) -> Progress:
    """Run, show how far it is, and say what failed; return how it ended."""
    from perceive_ir.batch import run

    with progress() as bar, closing(run(wish, **those)) as events:
        task = bar.add_task("looking", total=None, unit="pictures")
        event: Event | None = None
        noted: dict[str, list[str]] = {}
        for event in events:
            show(bar, task, event)
            if event.state == "failed":
                complain(f"{wish.source / event.name}: {event.words}")
            for note in event.notes:
                noted.setdefault(note, []).append(event.name)
    tell_notes(noted)
    assert event is not None
    return event.progress


def tell_notes(noted: Mapping[str, Sequence[str]]) -> None:
    """Say what was noted of how many pictures, the most frequent first."""
    for note, names in sorted(noted.items(), key=lambda kind: -len(kind[1]))[:MOST_NOTES]:
        say(f"{names[0]}: {note}" if len(names) == 1 else f"{len(names)} pictures, such as {names[0]}: {note}")
    if len(noted) > MOST_NOTES:
        say(f"{len(noted) - MOST_NOTES} more kinds of notes stand in the report")


def show(bar: Any, task: Any, event: Event) -> None:
    """Show an event in the progress bar."""
    name = event.name if len(event.name) <= LONGEST else "…" + event.name[1 - LONGEST :]
    settled = event.progress.settled + (event.fraction if event.state == "working" else 0)
    bar.update(task, description=name or event.words or "looking", completed=settled, total=event.progress.total)
