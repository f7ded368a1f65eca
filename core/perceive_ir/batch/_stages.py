"""What happens to one picture: read, restored with others, written. Nothing here knows of the journal or of threads."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from perceive_ir._errors import ImageFileError
from perceive_ir._recipe import Recipe, make_recipe
from perceive_ir._trace import keep_trace
from perceive_ir.batch._batch import Batch, Entry, size_of
from perceive_ir.batch._crew import Order
from perceive_ir.batch._journal import NOTHING, Key, Row
from perceive_ir.batch._thumbnail import thumbnail
from perceive_ir.files import Meta, Picture, check_output, read_image, write_image
from perceive_ir.files._sniff import check_regular
from perceive_ir.files._zarr import Multiscale, is_ome_zarr
from perceive_ir.images import parse_layout

if TYPE_CHECKING:
    from perceive_ir._engine import Restorer
    from perceive_ir._perception import Perception, Subject
    from perceive_ir._result import Result, Step

T = TypeVar("T")
R = TypeVar("R")

ELSEWHERE = ("model", "device", "memory")
"""Fields of a recipe that say where and with what it runs, not what a result should be; the weights have their own
hash."""


@dataclass(frozen=True)
class Settled:
    """A picture of which nothing is left to do."""

    row: Row


@dataclass(frozen=True)
class Failed:
    """A picture that could not be read."""

    key: Key
    error: Exception


@dataclass(frozen=True)
class Large:
    """An OME-Zarr, which is read as it is restored."""

    key: Key


@dataclass(frozen=True, eq=False)
class Loaded:
    """A picture that was read."""

    entry: Entry
    key: Key
    picture: Picture
    subject: Subject
    state: tuple[int, int]
    """Its `stamp` when it was read."""
    seconds: float

    @property
    def pixels(self) -> int:
        """Pixels of all its planes."""
        layout = self.subject.layout
        return layout.height * layout.width * layout.plane_count


@dataclass(frozen=True)
class Restored:
    """A picture that is ready to be written."""

    loaded: Loaded
    result: Result
    after: Perception | None
    seconds: float

    @property
    def bytes(self) -> int:
        """What it holds in memory."""
        return int(self.loaded.picture.data.nbytes + self.result.image.nbytes)


def recipe_hash(recipe: Recipe) -> str:
    """SHA-256 of what a recipe says about results."""
    fields = recipe.model_dump(mode="json", exclude=set(ELSEWHERE))
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def content_hash(path: Path) -> str:
    """SHA-256 of a file; of an OME-Zarr that of its files' names, sizes and times."""
    if is_ome_zarr(path):
        return Multiscale.read(path).identity
    check_regular(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(entry: Entry, order: Order, before: Row | None) -> Loaded | Large | Settled | Failed:
    """Read a picture, unless what is known of it settles it."""
    start, state, batch = time.perf_counter(), stamp(entry.source), order.batch
    key = Key(content_hash(entry.source), order.recipe_hash, order.weights)
    if before is not None and is_settled(before, key, entry, batch):
        return Settled(before)
    if is_ome_zarr(entry.source):
        return Large(key)
    try:
        picture, subject = load(entry, batch)
        check_unchanged(entry, state)
    except Exception as error:
        return Failed(key if is_unchanged(entry, state) else NOTHING, error)  # what changed is tried again
    return Loaded(entry, key, picture, subject, state, time.perf_counter() - start)


def load(entry: Entry, batch: Batch) -> tuple[Picture, Subject]:
    """Read a picture, and find out what it holds; what could not be written later is refused now."""
    from perceive_ir._engine import look_at

    picture = read_image(entry.source)
    entry.target.parent.mkdir(parents=True, exist_ok=True)
    check_output(entry.target, picture, force=True)
    axes = picture.axes if batch.recipe.axes == "auto" else batch.recipe.axes
    return picture, look_at(picture.data, axes, batch.recipe.value_range)


def stamp(path: Path) -> tuple[int, int]:
    """Return what changes with a file."""
    about = path.stat()
    return about.st_size, about.st_mtime_ns


def is_unchanged(entry: Entry, state: tuple[int, int]) -> bool:
    """Whether a picture is still the file that it was."""
    try:
        return stamp(entry.source) == state
    except OSError:
        return False


def check_unchanged(entry: Entry, state: tuple[int, int]) -> None:
    """Refuse a picture of which one part may be older than another."""
    if not is_unchanged(entry, state):
        raise ImageFileError(f"{entry.source} changed while it was read; run again")


def is_settled(row: Row, key: Key, entry: Entry, batch: Batch) -> bool:
    """Whether nothing is left to do for a picture of which this is known."""
    if row.key != key or row.target != place(entry, batch):
        return False
    if row.state == "done":
        return is_there(row, entry)
    return batch.only_low if row.state == "skipped" else row.state == "failed" and not batch.retry_failed


def is_there(row: Row, entry: Entry) -> bool:
    """Whether a result is still where it was written."""
    return entry.target.exists() and size_of(entry.target) == row.size


def place(entry: Entry, batch: Batch) -> str:
    """Return the path of a result below the output folder, with ``/``."""
    return entry.target.relative_to(batch.output).as_posix()


def attempt(work: Callable[[list[T]], Iterable[R]], alone: Callable[[T], R], items: Sequence[T]) -> list[R | Exception]:
    """Work on items together; when that fails, on each alone, so that one cannot take the others with it."""
    if len(items) > 1:
        try:
            return list(work(list(items)))
        except Exception:
            pass  # whoever is to blame fails again, alone
    return [tried(alone, item) for item in items]


def tried(alone: Callable[[T], R], item: T) -> R | Exception:
    """Work on one item; return what came of it, or what went wrong."""
    try:
        return alone(item)
    except Exception as error:
        return error


def look(restorer: Restorer, group: Sequence[Loaded]) -> list[Perception | Exception]:
    """Perceive pictures."""

    def together(some: list[Loaded]) -> list[Perception]:
        return restorer.perceive_all([one.subject for one in some])

    return attempt(together, lambda one: together([one])[0], group)


def restore(
    restorer: Restorer, group: Sequence[Loaded], seen: Sequence[Perception], recipe: Recipe
) -> list[Result | Exception]:
    """Restore several pictures."""

    def together(some: list[tuple[Loaded, Perception]]) -> Iterator[Result]:
        subjects = [one.subject for one, _ in some]
        results = dict(restorer.restore_all(subjects, [perception for _, perception in some], recipe))
        yield from (results[n] for n in range(len(some)))

    def alone(one: tuple[Loaded, Perception]) -> Result:
        *_, last = steps(restorer, *one, recipe)
        assert last.result is not None
        return last.result

    return attempt(together, alone, list(zip(group, seen, strict=True)))


def steps(restorer: Restorer, loaded: Loaded, seen: Perception, recipe: Recipe) -> Iterator[Step]:
    """Restore one picture, with progress; when memory is short, with smaller tiles."""
    layout = loaded.subject.layout
    recipe = make_recipe(recipe, axes=layout.axes)
    return restorer.steps(loaded.subject.array, recipe, perception=seen, keep_residual=False)


def look_again(restorer: Restorer, done: Sequence[tuple[Loaded, Result]]) -> list[Perception | None]:
    """Judge briefly how good results are, in the range of their pictures; what came back unchanged is known already."""
    from perceive_ir._perception import Subject

    def together(some: list[tuple[Loaded, Result]]) -> list[Perception]:
        results = [Subject(r.image, one.subject.layout, r.perception.value_range) for one, r in some]
        return restorer.perceive_all(results, brief=True)

    changed = [one for one in done if one[1].tile != (0, 0)]
    again = iter(attempt(together, lambda one: together([one])[0], changed))
    found = [next(again) if result.tile != (0, 0) else result.perception for _, result in done]
    for seen in found:
        if isinstance(seen, Exception):
            keep_trace(seen)  # the result is there; the report says that it was not looked at
    return [None if isinstance(seen, Exception) else seen for seen in found]


def write(done: Restored, batch: Batch, *, ours: bool) -> Row:
    """Write a result; when this returns, it is safely in place."""
    start, loaded = time.perf_counter(), done.loaded
    if isinstance(loaded.picture.data, np.memmap):  # whose pixels were read only as they were restored
        check_unchanged(loaded.entry, loaded.state)
    result = replace(done.result, recipe=batch.recipe)  # as it was given, to be given again
    force = ours or batch.force
    notes = write_image(loaded.entry.target, result.image, loaded.picture, description=result.to_dict(), force=force)
    seconds, limits, layout = time.perf_counter() - start, result.perception.value_range, loaded.subject.layout
    return replace(
        written(done, batch, [*filter(None, [result.note]), *notes], seconds),
        before=thumbnail(loaded.picture.data, layout, limits), after=thumbnail(result.image, layout, limits),
    )  # fmt: skip


def written(done: Restored, batch: Batch, notes: Sequence[str], seconds: float) -> Row:
    """Say that a result is in its place, without thumbnails."""
    loaded = done.loaded
    about = {
        "before": seen_in(done.result.perception),
        "after": graded(done.after) if done.after is not None else None,
        "notes": [*loaded.picture.notes, *notes],
        "shape": list(loaded.subject.layout.shape),
        "dtype": str(done.result.image.dtype),
        "seconds": {
            "read": round(loaded.seconds, 4),
            "restore": round(done.seconds, 4),
            "write": round(seconds, 4),
        },
    }
    entry = loaded.entry
    return Row(entry.name, place(entry, batch), "done", loaded.key, size=size_of(entry.target), about=about)


def by_chunks(
    restorer: Restorer, entry: Entry, batch: Batch, key: Key, *, ours: bool
) -> Generator[float | Row, None, None]:
    """Restore an OME-Zarr; yield how much of it is done, and at last what became of it."""
    from perceive_ir._engine import look_at
    from perceive_ir._ome_zarr import restore_ome_zarr

    start, found = time.perf_counter(), Multiscale.read(entry.source)
    axes = found.axes if batch.recipe.axes == "auto" else batch.recipe.axes
    picture = Picture(cast(Any, found.source), axes, entry.source, "zarr", Meta())
    subject = look_at(picture.data, axes, batch.recipe.value_range)
    loaded = Loaded(entry, key, picture, subject, stamp(entry.source), time.perf_counter() - start)
    (seen,) = restorer.perceive_all([subject])
    if batch.only_low and seen.tier != "low":
        yield skipped(loaded, seen, batch)
        return
    entry.target.parent.mkdir(parents=True, exist_ok=True)
    force, start = ours or batch.force, time.perf_counter()
    for step in restore_ome_zarr(
        entry.source, entry.target, batch.recipe, force=force, perception=seen, restorer=restorer
    ):
        yield step.done / step.total
    assert step.result is not None
    after = look_again(restorer, [(loaded, step.result)])[0] if batch.look_again else None
    row = written(Restored(loaded, step.result, after, time.perf_counter() - start), batch, (), 0.0)
    images = [smallest(folder, axes, seen.value_range) for folder in (entry.source, entry.target)]
    yield replace(row, before=images[0], after=images[1])


def smallest(folder: Path, axes: str, limits: tuple[float, float]) -> bytes:
    """Return a thumbnail of an OME-Zarr, of its coarsest level."""
    array = Multiscale.read(folder).levels("r")[-1]
    return thumbnail(array, parse_layout(array.shape, axes), limits)


def skipped(loaded: Loaded, seen: Perception, batch: Batch) -> Row:
    """Say that a picture is good enough."""
    why = f"quality {seen.tier}; only low is restored"
    about = {"before": seen_in(seen), "notes": list(loaded.picture.notes)}
    return Row(loaded.entry.name, place(loaded.entry, batch), "skipped", loaded.key, why, about=about)


def failed(entry: Entry, batch: Batch, why: str, key: Key = NOTHING) -> Row:
    """Say that nothing can be done for a picture."""
    return Row(entry.name, place(entry, batch), "failed", key, why)


def graded(quality: Perception) -> dict[str, Any]:
    """Return how good a result is as plain values."""
    return {"score": round(quality.score, 4), "tier": quality.tier}


def seen_in(seen: Perception) -> dict[str, Any]:
    """Return what was seen as plain values, with words."""
    return {**seen.to_dict(), "tier": seen.tier, "words": seen.words()}
