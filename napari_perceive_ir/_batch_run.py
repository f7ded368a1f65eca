"""What the Batch dock does in the background, as streams of events; knows no Qt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag
from typing import TYPE_CHECKING, Any

from napari_perceive_ir._run import Progress, Ready, RunPlan, model_of, restoring
from perceive_ir import ImageFileError, PerceiveIRError, Recipe
from perceive_ir._recipe import make_recipe

if TYPE_CHECKING:
    from collections import deque

    from perceive_ir.batch import Batch, Entry, Row
    from perceive_ir.files import Picture

PATIENCE = 0.1
"""Seconds after which a run that pauses asks whether it is cancelled."""
SIDE = 96
"""Pixels of a thumbnail, at most."""
LARGEST = 2**26
"""Bytes of a file that has a thumbnail, at most: it is read whole."""


@dataclass(frozen=True)
class Listed:
    """The pictures of a folder, with what is known of them."""

    files: list[tuple[Entry, Row]]


@dataclass(frozen=True)
class Paused:
    """A run waits."""


@dataclass(frozen=True)
class Reported:
    """A run is at its end, and its report is written."""


@dataclass(frozen=True)
class Drawn:
    """There is a thumbnail, JPEG; none of a file that is too large or cannot be read."""

    source: Path
    jpeg: bytes


@dataclass(frozen=True)
class Opened:
    """A file was read to be tried."""

    picture: Picture
    plan: RunPlan


def listing(batch: Batch) -> Iterator[Listed]:
    """List the pictures of a folder."""
    from perceive_ir.batch import overview

    yield Listed(overview(batch))


def working(batch: Batch, going: Flag) -> Iterator[Any]:
    """Restore a folder, and write its report; close the iterator to cancel, clear the flag to pause."""
    from perceive_ir.batch import report_stopped, run, write_report

    restorer = model_of(batch.recipe)
    yield Ready()
    try:
        with closing(run(batch, restorer)) as events:
            for event in events:
                yield event
                yield Progress(event.progress.settled, event.progress.total)
                while not going.wait(PATIENCE):
                    yield Paused()
    except GeneratorExit:
        report_stopped(batch.output)
        raise
    write_report(batch.output)
    yield Reported()


def trying(source: Path, recipe: Recipe) -> Iterator[Any]:
    """Restore one file of a folder as a run would, without writing."""
    from perceive_ir.files import read_image
    from perceive_ir.files._zarr import is_ome_zarr

    if is_ome_zarr(source):
        raise ImageFileError(f"{source.name} is an OME-Zarr, which may be huge: open it, and preview it in Restore")
    picture = read_image(source)
    chosen = make_recipe(recipe, axes=picture.axes) if recipe.axes == "auto" else recipe
    plan = RunPlan(picture.data, chosen, {})
    yield Opened(picture, plan)
    yield from restoring(plan)


def drawing(wanted: deque[Path], recipe: Recipe) -> Iterator[Drawn]:
    """Make thumbnails, the one that was asked for last first."""
    while wanted:
        source = wanted.pop()
        yield Drawn(source, drawn(source, recipe))


def drawn(source: Path, recipe: Recipe) -> bytes:
    """Return a small picture of a file."""
    from perceive_ir.batch._thumbnail import thumbnail
    from perceive_ir.files import read_image
    from perceive_ir.files._zarr import Multiscale, is_ome_zarr
    from perceive_ir.images import find_range, parse_layout

    try:
        if is_ome_zarr(source):
            found = Multiscale.read(source)
            pixels, axes = found.levels("r")[-1], found.axes
        elif source.stat().st_size > LARGEST:
            return b""
        else:
            picture = read_image(source)
            pixels, axes = picture.data, picture.axes
        layout = parse_layout(pixels.shape, axes)
        return thumbnail(pixels, layout, find_range(pixels, layout, recipe.value_range), SIDE)
    except (OSError, ValueError, TypeError, PerceiveIRError):  # the run says what is wrong with it
        return b""
