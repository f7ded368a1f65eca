"""``perceive-ir assess``: what is wrong with pictures, as a table, JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perceive_ir._errors import ImageFileError
from perceive_ir._recipe import Recipe
from perceive_ir._vocabulary import TIERS, TYPES
from perceive_ir.commands._inputs import each, finish, is_folder, paths_of
from perceive_ir.commands._options import takes_recipe
from perceive_ir.commands._report import progress, say_json, say_table

if TYPE_CHECKING:
    from perceive_ir import Perception

STYLES = {"low": "bold red", "medium": "yellow", "high": "green"}


@takes_recipe("model", "axes", "value_range", "device", "precision")
def assess(
    inputs: Annotated[
        list[str],
        typer.Argument(help="Names, or patterns in quotes; or folders, which are ranked.", show_default=False),
    ],
    recipe: Recipe,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Go through the folders inside a folder too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    as_csv: Annotated[
        str, typer.Option("--csv", metavar="FILE", help="Write CSV into a file, or to the screen with '-'.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace a CSV file that exists.")] = False,
) -> None:
    """Say what is wrong with pictures, and how badly; those of a folder come by quality, then by type of damage."""
    from perceive_ir import load

    if as_json and as_csv == "-":
        raise ValueError("--json and --csv - both want the screen; give one of them")
    check_csv(as_csv, force)
    restorer = load(recipe.model, device=recipe.device, precision=recipe.precision)

    def look(path: Path) -> Perception:
        pixels, axes = pixels_of(path)
        return restorer.perceive(pixels, axes if recipe.axes == "auto" else recipe.axes, recipe.value_range)

    paths = [inside for path in paths_of(inputs) for inside in expanded(path, recursive)]
    found: list[tuple[Path, Perception | None, str]] = []
    try:
        with progress() as bar:
            task = bar.add_task("looking", total=len(paths), unit="pictures")
            for one in each(paths, look):
                found.append(one)
                bar.advance(task)
    finally:
        show(ranked(found) if any(map(is_folder, map(Path, inputs))) else found, as_json, as_csv, force)
    finish(sum(seen is None for _, seen, _ in found))


def pixels_of(path: Path) -> tuple[Any, str]:
    """Return the pixels of a picture, those of an OME-Zarr as they lie on the disk, and their axes."""
    from perceive_ir.files import read_image
    from perceive_ir.files._zarr import Multiscale, is_ome_zarr

    if is_ome_zarr(path):
        found = Multiscale.read(path)
        return found.source, found.axes
    if is_folder(path):
        raise ImageFileError(f"{path} holds no pictures; check its name, or give --recursive")
    picture = read_image(path)
    return picture.data, picture.axes


def expanded(path: Path, recursive: bool) -> list[Path]:
    """Return the pictures of a folder, or what has none as it is."""
    from perceive_ir.batch import pictures
    from perceive_ir.files._zarr import is_ome_zarr

    inside = is_folder(path) and not is_ome_zarr(path)
    return (pictures(path, recursive=recursive) if inside else []) or [path]


def ranked(found: Sequence[tuple[Path, Perception | None, str]]) -> list[tuple[Path, Perception | None, str]]:
    """Sort by quality, the worst first, those of one quality by their damage; what could not be read comes last."""

    def place(one: tuple[Path, Perception | None, str]) -> tuple[Any, ...]:
        seen = one[1]
        if seen is None:
            return (len(TIERS),)
        return TIERS.index(seen.tier), [TYPES.index(kind) for kind in seen.present] or [len(TYPES)], seen.score

    return sorted(found, key=place)


def show(found: Sequence[tuple[Path, Perception | None, str]], as_json: bool, as_csv: str, force: bool) -> None:
    """Print or write what was seen, in the form that was asked for."""
    if as_json:
        say_json([about(*one) for one in found])
    if as_csv:
        write_csv(as_csv, csv_text(found), force)
    if not as_json and not as_csv and any(seen for _, seen, _ in found):
        say_table(table(found))


def about(path: Path, seen: Perception | None, why: str) -> dict[str, Any]:
    """Return what was seen in a picture, as plain values."""
    if seen is None:
        return {"input": str(path), "ok": False, "error": why}
    return {"input": str(path), "ok": True, "tier": seen.tier, **seen.to_dict(), "words": seen.words()}


def table(found: Sequence[tuple[Path, Perception | None, str]]) -> Any:
    """Lay out what was seen for reading."""
    from rich.table import Column, Table
    from rich.text import Text

    made = Table(Column("file", overflow="fold"), "quality", "score", "damage (severity)", "in words")
    for path, seen, _ in found:
        if seen is not None:
            damage = "  ".join(f"{kind} {seen.severities[kind]:.2f}" for kind in seen.present) or "-"
            made.add_row(
                Text(str(path)), Text(seen.tier, STYLES[seen.tier]), f"{seen.score:.2f}", damage, Text(seen.words())
            )
    return made


def csv_text(found: Sequence[tuple[Path, Perception | None, str]]) -> str:
    """Lay out what was seen as CSV: damage, probabilities of tiers and types, severities, words, and errors."""
    from perceive_ir.batch._report import csv_path

    stream = io.StringIO()
    head = [
        "file",
        "tier",
        "damage",
        "score",
        *TIERS,
        *TYPES,
        *(f"{kind}_severity" for kind in TYPES),
        "words",
        "error",
    ]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(head)
    for path, seen, why in found:
        if seen is None:
            writer.writerow([csv_path(path), *[""] * (len(head) - 2), why])
            continue
        values = (*seen.tiers.values(), *seen.types.values(), *seen.condition.values())
        numbers = [f"{value:.4f}" for value in (seen.score, *values)]
        writer.writerow([csv_path(path), seen.tier, "+".join(seen.present), *numbers, seen.words(), ""])
    return stream.getvalue()


def check_csv(target: str, force: bool) -> None:
    """Refuse now a file that could not be written later."""
    from perceive_ir.files._atomic import check_target

    if target not in ("", "-"):
        check_target(Path(target), force=force)


def write_csv(target: str, text: str, force: bool) -> None:
    """Write the CSV whole or not at all, or print it."""
    from perceive_ir.files._atomic import replacing
    from perceive_ir.files._faults import writing

    if target == "-":
        typer.echo(text, nl=False)
        return
    with writing(Path(target)), replacing(Path(target), force=force) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
