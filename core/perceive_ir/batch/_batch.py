"""What is to be done: a folder in, a folder out, a recipe; and which file becomes which, decided before the first."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from string import Formatter

from perceive_ir._advice import advice, one_line
from perceive_ir._errors import FolderError, ImageFileError, MissingExtraError
from perceive_ir._recipe import Recipe
from perceive_ir.batch._journal import HIDDEN
from perceive_ir.files import PARTIAL_SUFFIX, SUFFIXES, natural, suffix_of, writable_name
from perceive_ir.files._bioio import KIND as BIOIO
from perceive_ir.files._bioio import PLUGINS
from perceive_ir.files._bioio import suffixes as bioio_suffixes
from perceive_ir.files._sniff import kind_of
from perceive_ir.files._zarr import SUFFIX, is_ome_zarr, zarr_suffix

SAME = "same"
FORMATS = (SAME, *(suffix.removeprefix(".") for suffix in SUFFIXES))
"""What ``format`` may be: that of each picture, or how the names of all results end."""
NAME = "{stem}{ext}"
FIELDS = {"stem": "cells", "ext": ".tif", "task": "denoise"}
"""What a name may be made of, with examples."""
FORBIDDEN = '<>:"/\\|?*'
"""What names of files do not hold on all systems: results may lie on a drive that others use."""
READ_ONLY_SUFFIXES = (".bmp", ".gif", ".lsm")
"""How names of pictures end that are read but not written."""


@dataclass(frozen=True)
class Batch:
    """A folder in, a folder out, and what to do with the pictures on the way."""

    source: Path
    output: Path
    recipe: Recipe = field(default_factory=Recipe)
    pattern: str = ""
    """Which files to take, such as ``*.tif``, in upper or lower case; by default all whose names end like pictures."""
    recursive: bool = False
    """Whether folders inside the input folder are gone through too."""
    format: str = SAME
    """One of `FORMATS`."""
    name: str = NAME
    """How a result is called: a template of `FIELDS`."""
    only_low: bool = False
    """Whether to leave pictures of medium and high quality out."""
    retry_failed: bool = False
    """Whether pictures that failed before are tried again."""
    force: bool = False
    """Whether files that this folder's runs did not write may be replaced; an input never is."""
    workers: int = 2
    """How many threads read, and how many write."""
    look_again: bool = True
    """Whether the results are perceived too, for the report."""

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"expected a format out of {', '.join(FORMATS)}, got {self.format!r}")
        if self.workers < 1:
            raise ValueError(f"expected 1 worker or more, got {self.workers}")
        if self.recipe.handling == "painted":
            raise ValueError("handling 'painted' needs labels for each picture; give 'image' or 'region'")
        check_template(self.name)

    @property
    def task(self) -> str:
        """The tasks, for names."""
        return "+".join(self.recipe.tasks) or "auto"

    @property
    def options(self) -> list[str]:
        """What the command is given beside folders and recipe, to make the same."""
        texts = {name: getattr(self, name) for name in ("pattern", "format", "name")}
        given = [(f"--{name}", text) for name, text in texts.items() if text not in ("", SAME, NAME)]
        flags = {"--recursive": self.recursive, "--only-low": self.only_low}
        return [*chain(*given), *(flag for flag, wanted in flags.items() if wanted)]


@dataclass(frozen=True)
class Entry:
    """A picture of the input folder, and where its result goes."""

    name: str
    """Path below the input folder, with ``/``."""
    source: Path
    target: Path
    size: int
    """Bytes on the disk."""
    problem: str = ""
    """Why it cannot be done, known before it is read."""


def check_template(template: str) -> None:
    """Refuse a template that does not make names of files."""
    known = ", ".join(f"{{{name}}}" for name in FIELDS)
    try:
        fields = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
        made = template.format(**FIELDS)
    except (KeyError, IndexError, ValueError, AttributeError):
        raise ValueError(f"expected a name made of {known}, got {template!r}") from None
    if "stem" not in fields:
        raise ValueError(f"a name without {{stem}} is the same for all pictures, got {template!r}")
    if made.startswith(".") or any(one in FORBIDDEN or not one.isprintable() for one in made):
        raise ValueError(f"expected the name of a file without {FORBIDDEN} and a dot before it, got {template!r}")
    if not (suffix_of(Path(made)) or zarr_suffix(Path(made))):
        raise ValueError(f"expected a name that ends with {{ext}}, or like a picture (.png), got {template!r}")


def entries(batch: Batch, ours: Mapping[str, str]) -> list[Entry]:
    """List the pictures in natural order, with what speaks against each.

    Parameters
    ----------
    batch
        What is to be done.
    ours
        Paths below the output folder that earlier runs claimed, and for which pictures: they may be replaced by a new
        result of the same picture, and are no inputs.
    """
    known = {os.path.realpath(batch.output / path): picture for path, picture in ours.items()}
    found = pictures(batch.source, batch.pattern, recursive=batch.recursive, without=batch.output)
    sources = [path for path in found if os.path.realpath(path) not in known]
    if not sources:
        where = "" if batch.recursive else "; give --recursive to look into its folders too"
        raise ImageFileError(
            f"{batch.source} holds no pictures{f' named {batch.pattern}' * bool(batch.pattern)}{where}"
        )
    inputs, taken = {identity(path) for path in sources}, Names(batch.output)
    made = [entry_of(batch, path) for path in sources]
    for entry in made:
        place = os.path.realpath(entry.target)
        if place in known and not is_another(known[place], entry.source):
            taken.take(place, entry.name)  # a picture that is new in the folder does not take the place of a result
    listed = [checked(entry, batch, known, inputs, taken) for entry in made]
    if all(identity(entry.target) in inputs for entry in listed):
        raise ValueError(one_line(f"{listed[0].name}: {listed[0].problem}"))
    return listed


def pictures(source: Path, pattern: str = "", *, recursive: bool = False, without: Path | None = None) -> list[Path]:
    """Find the pictures of a folder, in natural order: nothing hidden, and nothing in the folder ``without`` inside."""
    if not source.is_dir():
        raise ImageFileError(f"{source} is not a folder; give the folder that holds the pictures")
    left_out = "" if without is None else os.path.realpath(without)
    inside = left_out != os.path.realpath(source) and is_within(left_out, os.path.realpath(source))
    found = []
    for folder, names in walk(source, recursive):
        if not (inside and is_within(os.path.realpath(folder), left_out)):
            found += [Path(folder, name) for name in names if is_wanted(name, pattern)]
    return sorted(found, key=natural)


def walk(source: Path, recursive: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield folders and the names of their files and OME-Zarrs; hidden folders are left out."""

    def refuse(error: OSError) -> None:
        raise FolderError(f"{error.filename} cannot be looked into: {advice(error, error.filename)}") from error

    for folder, folders, names in os.walk(source, onerror=refuse):
        whole = [name for name in folders if is_ome_zarr(Path(folder, name))]
        folders[:] = [name for name in folders if recursive and not name.startswith(".") and name not in whole]
        yield folder, [*names, *whole]


def is_within(path: str, folder: str) -> bool:
    """Whether a folder is another one or lies in it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def is_wanted(name: str, pattern: str) -> bool:
    """Whether a file is a picture to be restored, by its name."""
    if name.startswith(".") or name.endswith(PARTIAL_SUFFIX):
        return False
    if pattern:
        return fnmatchcase(name.lower(), pattern.lower())
    ours = suffix_of(Path(name)) or name.lower().endswith((*READ_ONLY_SUFFIXES, SUFFIX))
    return bool(ours) or name.lower().endswith((*PLUGINS, *bioio_suffixes()))


def entry_of(batch: Batch, source: Path) -> Entry:
    """Find the place of a picture's result: the folders are kept, the name follows the template."""
    below = source.relative_to(batch.source)
    target = batch.output / below.with_name(name_of(batch, source))
    return Entry(below.as_posix(), source, target, size_of(source))


def name_of(batch: Batch, source: Path) -> str:
    """Return the name of a picture's result."""
    name, ext = source.name, suffix_of(source) or zarr_suffix(source)
    if not ext:
        name = writable_name(source, kind(source))
        ext = suffix_of(Path(name))
    wanted = ext if batch.format == SAME or zarr_suffix(source) else f".{batch.format}"
    return batch.name.format(stem=name.removesuffix(ext), task=batch.task, ext=wanted)


def kind(source: Path) -> str:
    """Return what kind of picture a file is, or "" for what cannot be read, which is told when it is."""
    try:
        return kind_of(source)
    except MissingExtraError:
        return BIOIO
    except ImageFileError:
        return ""


def size_of(path: Path) -> int:
    """Return the size of a file or of all files of a folder, 0 if it is gone."""
    try:
        if path.is_dir():
            found = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
            return sum(map(os.path.getsize, found))
        return path.stat().st_size
    except OSError:
        return 0


def identity(path: Path) -> tuple[int, int] | str:
    """Return what two names of one file share, however they are spelled; of a file that is not there its place."""
    try:
        about = path.stat()
    except OSError:
        return os.path.realpath(path)
    return about.st_dev, about.st_ino


class Names:
    """Places in a folder, and whose they are.

    Parameters
    ----------
    folder
        The folder; if it takes ``A.tif`` and ``a.tif`` for one file, so do the places.
    """

    def __init__(self, folder: Path) -> None:
        self.folded = (folder / HIDDEN).exists() and (folder / HIDDEN.upper()).exists()
        self.owners: dict[str, str] = {}

    def take(self, place: str, name: str) -> str:
        """Take a place, unless another one has it; return whose it is."""
        key = unicodedata.normalize("NFC", place).casefold() if self.folded else place
        return self.owners.setdefault(key, name)


def checked(
    entry: Entry, batch: Batch, ours: Mapping[str, str], inputs: Collection[tuple[int, int] | str], taken: Names
) -> Entry:
    """Say what speaks against a place: an input is never replaced, nor a file of others, nor another result."""
    place = os.path.realpath(entry.target)
    other = taken.take(place, entry.name)
    if identity(entry.target) in inputs:
        elsewhere = "give another folder, or a name such as {stem}_restored{ext} (--name)"
        why = f"its result {entry.target} would replace an input; {elsewhere}"
    elif other != entry.name:
        why = f"its result would take the place of that of {other}; give another name (--name) or format (--format)"
    elif batch.force or not os.path.lexists(entry.target):
        return entry
    elif place not in ours:
        why = f"{entry.target} exists and is not a result of this folder; give another folder, or replace it (--force)"
    elif is_another(ours[place], entry.source):
        why = f"{entry.target} is the result of {ours[place]}; give another folder, or replace it (--force)"
    else:
        return entry
    return replace(entry, problem=one_line(why))


def is_another(picture: str, source: Path) -> bool:
    """Whether a result is of another picture, which is still there; one that is gone may have been moved."""
    return os.path.exists(picture) and identity(Path(picture)) != identity(source)


def sweep(output: Path) -> None:
    """Delete what a kill left half-written in the output folder."""
    for folder, folders, names in os.walk(output):
        folders[:] = [name for name in folders if name == HIDDEN or is_part(Path(folder, name))]
        for name in names:
            if name.endswith(PARTIAL_SUFFIX):
                Path(folder, name).unlink(missing_ok=True)


def is_part(folder: Path) -> bool:
    """Whether a folder belongs to an output folder that it lies in; it may be one itself, where others are at work."""
    return not folder.name.startswith(".") and not (folder / HIDDEN).is_dir()
