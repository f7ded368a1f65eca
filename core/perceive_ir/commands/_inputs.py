"""Several inputs: each is worked on alone, a failure is one line, and the others go on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import typer

from perceive_ir._advice import EXPECTED, advice, reason
from perceive_ir._errors import ImageFileError
from perceive_ir.commands._report import complain_of

T = TypeVar("T")


def paths_of(inputs: Sequence[str]) -> list[Path]:
    """Return the files that names and patterns mean; a name that leads nowhere stays, to be reported."""
    from perceive_ir.files import collect

    try:
        return collect(inputs)
    except (OSError, ValueError) as error:
        raise ImageFileError(f"cannot look for the inputs: {reason(error)}; check their names") from error


def each(paths: Sequence[Path], work: Callable[[Path], T]) -> Iterator[tuple[Path, T | None, str]]:
    """Work on each input; yield it with what came of it, or with the reason why nothing did."""
    for path in paths:
        try:
            done = work(path)
        except EXPECTED as error:
            why = advice(error, path)
            complain_of(error, str(path), why)
            yield path, None, why
        else:
            yield path, done, ""


def finish(failed: int) -> None:
    """End with exit code 1 if any input failed."""
    if failed:
        raise typer.Exit(1)


def refuse_folder(path: Path, command: str) -> None:
    """Say what to do instead when an input is a folder."""
    if is_folder(path):
        raise ImageFileError(
            f"is a folder; `perceive-ir batch {path} OUT` restores it, and "
            f'`perceive-ir {command} "{path}/*.png"` takes pictures out of it'
        )


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; a name that the system cannot even look up is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


class Outputs:
    """Where the results go: a file for a single input, a folder for several."""

    def __init__(self, output: str, count: int) -> None:
        from perceive_ir.files import suffix_of

        self.path = Path(output)
        named = output.lower().endswith(".zarr")  # which is a folder, but one picture
        self.folder = count > 1 or output.endswith(("/", os.sep)) or (is_folder(self.path) and not named)
        self.taken: dict[Path, Path] = {}
        if count > 1 and suffix_of(self.path) and not is_folder(self.path):
            raise ValueError(f"{count} inputs need a folder, but {output} is the name of a file; give -o FOLDER/")

    def place(self, source: Path, kind: str) -> Path:
        """Return where the result of a picture of some kind goes; two inputs never share a place."""
        from perceive_ir.files import writable_name

        place = self.path / writable_name(source, kind) if self.folder else self.path
        other = self.taken.setdefault(place, source)
        if other != source:
            raise ValueError(f"its result would take the place of that of {other}: restore it into another folder")
        return place

    def prepare(self) -> None:
        """Make the folder, when the first result is near."""
        if self.folder:
            self.path.mkdir(parents=True, exist_ok=True)
