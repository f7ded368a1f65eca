"""OME-Zarr in, OME-Zarr out, chunk by chunk: neither the size of a picture nor an interruption matters.

What is not done yet lies in a hidden folder beside the result, with a log of the chunks that are safely on the disk.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from perceive_ir._errors import FolderError, ImageFileError
from perceive_ir._lazy import chunks_of, model_of, sides_of, spans_of
from perceive_ir._recipe import Recipe, make_recipe
from perceive_ir._result import Result, Step
from perceive_ir.batch._lock import locked
from perceive_ir.files import PARTIAL_SUFFIX
from perceive_ir.files._atomic import replacing
from perceive_ir.files._description import KEYWORD
from perceive_ir.files._zarr import SUFFIX, Multiscale, is_ome_zarr, opened, stored_in
from perceive_ir.images import mean_of, parse_layout, starts_along

if TYPE_CHECKING:
    from perceive_ir._engine import Restorer
    from perceive_ir._perception import Perception

Array = NDArray[Any]

SECONDS = 5.0
"""How often the disk is asked to keep what was written, and the log says so."""


def restore_ome_zarr(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    recipe: Recipe | Mapping[str, Any] | None = None,
    *,
    force: bool = False,
    perception: Perception | None = None,
    restorer: Restorer | None = None,
    **fields: Any,
) -> Iterator[Step]:
    """Restore an OME-Zarr into another one, with a step after every chunk; the last step carries the result.

    Interrupted and called again with the same recipe, it goes on where it was. Everything but the pixels of the picture
    is copied as it is: labels, scale, channels, chunks and compression. The smaller levels are means of the finest.

    Parameters
    ----------
    source
        A folder with one OME-Zarr picture, of any version.
    target
        Where the result goes; it appears when it is whole.
    recipe
        What to do; fields given by name override it. Handling "painted" needs the whole picture.
    force
        Whether an OME-Zarr that is there is replaced.
    perception
        What was seen before, instead of looking now.
    restorer
        A loaded model, instead of the one that the recipe names.
    **fields
        Fields of the recipe.
    """
    recipe, source, target = make_recipe(recipe, **fields), Path(source), Path(target)
    picture = Multiscale.read(source)
    check_target(target, source, force=force)
    unfinished = begun(target)
    unfinished.mkdir(exist_ok=True)
    try:
        with locked(unfinished / "lock"):
            about = yield from finished(picture, unfinished, recipe, perception, restorer or model_of(recipe))
            if Multiscale.read(source).identity != picture.identity:
                raise ImageFileError(f"{source} changed while it was restored; run again")
            publish(unfinished / "picture", target)
    except BlockingIOError:
        raise FolderError(f"{target} is being made by another run; wait until it ends") from None
    shutil.rmtree(unfinished)
    yield Step(1, 1, replace(about, image=replace(picture, folder=target).levels("r")[0]))


def check_target(target: Path, source: Path, *, force: bool) -> None:
    """Refuse, before any work is done, a place where the result cannot or must not be written."""
    if not target.name.endswith(SUFFIX):
        raise ValueError(f"expected the result of an OME-Zarr to end in {SUFFIX}, got {target.name!r}")
    if not target.parent.is_dir():
        raise ImageFileError(f"{target} cannot be written: there is no folder {target.parent}; make it first")
    inside, outside = (os.path.realpath(path) + os.sep for path in (target, source))
    if inside.startswith(outside) or outside.startswith(inside):
        raise ValueError(f"{target} would replace a part of its input; give another place")
    if os.path.lexists(target) and not (force and is_ome_zarr(target)):
        raise ValueError(f"{target} exists; {'give another name' if force else 'give --force to overwrite'}")


def begun(target: Path) -> Path:
    """Return the folder of what is not done yet of a result."""
    return target.with_name(f".{target.name}{PARTIAL_SUFFIX}")


def forget(target: Path) -> None:
    """Delete what was begun of a result, unless somebody is at it."""
    unfinished = begun(target)
    if not unfinished.is_dir():
        return
    try:
        with locked(unfinished / "lock"):
            pass
    except BlockingIOError:
        return
    shutil.rmtree(unfinished, ignore_errors=True)


def finished(
    picture: Multiscale, unfinished: Path, recipe: Recipe, seen: Perception | None, restorer: Restorer
) -> Generator[Step, None, Result]:
    """Do what is left to do; return what was done."""
    asked = recipe.model_dump(mode="json", exclude={"model", "device", "memory"})  # where it runs makes no difference
    log = Log.begin(unfinished, [picture.identity, restorer.card.digest, asked], restorer.memory(recipe))
    copied = replace(picture, folder=unfinished / "picture")
    if not copied.folder.is_dir():
        picture.copy(unfinished / "copy")
        os.rename(unfinished / "copy", copied.folder)
    axes = picture.axes if recipe.axes == "auto" else recipe.axes
    told = make_recipe(recipe, axes=axes, memory=log.memory)
    chunks, arrays = (
        chunks_of(picture.source, told, seen, restorer),
        copied.levels("r+"),
    )
    levels = [Level(arrays[0], chunks.sides, chunks)]
    for finer, array in pairwise(arrays):
        sides = sides_of(parse_layout(array.shape, axes), stored_in(array))
        levels.append(Level(array, sides, partial(means, finer, array.shape, sides)))
    yield from filled(levels, log)
    tile = chunks.sides[axes.upper().index("Y")], chunks.sides[axes.upper().index("X")]
    note = restorer.decide(recipe, chunks.seen).note
    result = Result(arrays[0], chunks.seen, recipe, restorer.card, note, tile)
    opened(copied.folder, "r+").attrs[KEYWORD] = result.to_dict()
    return result


def filled(levels: Sequence[Level], log: Log) -> Iterator[Step]:
    """Write what is not in the log yet, the finest level first: the others follow from it."""
    total, done = sum(prod(level.counts) for level in levels), 0
    try:
        for number, level in enumerate(levels):
            for block in product(*map(range, level.counts)):
                name = " ".join(map(str, (number, *block)))
                if name not in log.done:
                    level.write(block)
                    log.note(name)
                done += 1
                yield Step(done, total + 1)  # one more, when it is in its place
    finally:
        log.keep()


@dataclass(frozen=True)
class Level:
    """One array of the result."""

    array: Any
    sides: tuple[int, ...]
    """How long a chunk is along each axis, unless the array ends in it."""
    pixels: Callable[[tuple[int, ...]], Array]
    """Computes a chunk."""

    @property
    def counts(self) -> list[int]:
        """How many chunks there are along each axis."""
        return [-(-n // side) for n, side in zip(self.array.shape, self.sides, strict=True)]

    def write(self, block: tuple[int, ...]) -> None:
        """Compute and write a chunk."""
        spans = spans_of(block, self.sides, self.array.shape)
        self.array[tuple(slice(span.start, span.stop) for span in spans)] = self.pixels(block)


def means(finer: Any, shape: Sequence[int], sides: Sequence[int], block: tuple[int, ...]) -> Array:
    """Compute a chunk of a smaller level from the level before it."""
    spans = spans_of(block, sides, shape)
    edges = [
        starts_along(length, wanted)[span.start : span.stop + 1]
        for length, wanted, span in zip(finer.shape, shape, spans, strict=True)
    ]
    return mean_of(finer[tuple(slice(one[0], one[-1]) for one in edges)], [one - one[0] for one in edges])


class Log:
    """Which chunks of a result are safely on the disk; in a file that grows by a line for each.

    Parameters
    ----------
    path
        The file.
    memory
        GiB for the tiles, as the first run found them: so they are the same in every run.
    done
        Names of chunks.
    """

    def __init__(self, path: Path, memory: float, done: Collection[str]) -> None:
        self.path, self.memory, self.done = path, memory, done
        self.fresh: list[str] = []
        self.kept = time.monotonic()

    @classmethod
    def begin(cls, folder: Path, key: Any, memory: float) -> Log:
        """Go on with the log of a folder; what was made for another key, or is gone since, begins anew."""
        path, key = folder / "log", json.dumps(key)
        known, _, lines = path.read_text().partition("\n") if path.is_file() else ("", "", "")
        head = json.loads(known) if known.endswith("}") else {}
        if head.get("key") != key or not (folder / "picture").is_dir():
            head, lines = {"key": key, "memory": memory}, ""
            for name in ("copy", "picture"):
                shutil.rmtree(folder / name, ignore_errors=True)
        done = lines.split("\n")[:-1]  # the last one is empty, or was cut off
        with replacing(path, force=True) as partial:
            partial.write_text("\n".join([json.dumps(head), *done, ""]))
        return cls(path, head["memory"], frozenset(done))

    def note(self, name: str) -> None:
        """Enter a chunk, now or soon."""
        self.fresh.append(name)
        if time.monotonic() > self.kept + SECONDS:
            self.keep()

    def keep(self) -> None:
        """Have the disk keep what was written, then say so."""
        if self.fresh and hasattr(os, "sync"):
            os.sync()
        with open(self.path, "a") as file:
            file.writelines(f"{name}\n" for name in self.fresh)
        self.fresh.clear()
        self.kept = time.monotonic()


def publish(picture: Path, target: Path) -> None:
    """Put a finished picture in its place; an older one moves to where it is deleted."""
    if os.path.lexists(target):
        os.rename(target, picture.with_name("older"))
    os.rename(picture, target)
