"""What is known of a folder before a run: nothing is written, and as little read as will do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from perceive_ir._errors import ImageFileError
from perceive_ir.batch import _stages as stages
from perceive_ir.batch._batch import Batch, Entry, entries
from perceive_ir.batch._journal import HIDDEN, Journal, Key, Row

if TYPE_CHECKING:
    from perceive_ir._engine import Restorer


def overview(batch: Batch) -> list[tuple[Entry, Row]]:
    """List the pictures of a folder with what is known of them; none is read."""
    if not (batch.output / HIDDEN).is_dir():
        return [(entry, known(entry, batch, None)) for entry in entries(batch, {})]
    with Journal(batch.output) as journal:
        found = entries(batch, journal.outputs())
        return [(entry, known(entry, batch, journal.row(entry.name))) for entry in found]


def known(entry: Entry, batch: Batch, row: Row | None) -> Row:
    """Return what is known of a picture, in words, as far as it can be told without reading it."""
    target = stages.place(entry, batch)
    if entry.problem:
        return Row(entry.name, target, "failed", reason=entry.problem)
    if row is None or row.target != target or (row.state == "done" and not stages.is_there(row, entry)):
        return Row(entry.name, target)
    return Row(entry.name, target, row.state, row.key, row.words, row.size)  # a folder may hold very many


def preview(batch: Batch, restorer: Restorer) -> Iterator[tuple[Entry, str]]:
    """Say of each picture what a run would do: ``new``, ``changed``, ``again``, ``done``, ``skipped`` or ``failed``.

    Nothing is written.
    """
    if not (batch.output / HIDDEN).is_dir():
        yield from ((entry, "failed" if entry.problem else "new") for entry in entries(batch, {}))
        return
    with Journal(batch.output) as journal:
        recipe = stages.recipe_hash(batch.recipe)
        for entry in entries(batch, journal.outputs()):
            yield entry, foreseen(entry, batch, journal.row(entry.name), recipe, restorer.card.digest)


def foreseen(entry: Entry, batch: Batch, row: Row | None, recipe: str, weights: str) -> str:
    """Say what a run would do with one picture."""
    if entry.problem:
        return "failed"
    if row is None or row.state == "waiting":
        return "new"
    try:
        key = Key(stages.content_hash(entry.source), recipe, weights)
    except (OSError, ImageFileError):
        return "failed"
    if stages.is_settled(row, key, entry, batch):
        return row.state
    return "changed" if row.key.content != key.content else "again"
