"""The sets of pictures that papers on restoration train and test on: where their pairs are, and how many.

Nothing is downloaded. The layouts are those in which the sets are distributed, and those into which well-known
repositories ask to sort them.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from perceive_ir_training.data import SUFFIXES, Picture, is_held_back, read_picture
from perceive_ir_training.paired import Pairs, PathPair, make_pairs


@dataclass(frozen=True)
class Layout:
    """Where pairs are: paths in a folder; equal ``{words}`` make a pair, ``*`` is any text, ``**/`` any folders."""

    damaged: str
    clean: str


@dataclass(frozen=True)
class PaperSet:
    """A published set."""

    type: str
    """The damage that the pairs show, or that is to be drawn where all pictures are clean."""
    part: Literal["train", "test"]
    """What papers use it for. Test sets are never trained on and never split."""
    count: int
    """Published number of pairs, or of pictures where all are clean."""
    folders: tuple[str, ...]
    """Where to look below the folder that is given, apart from that folder itself."""
    layouts: tuple[Layout, ...]
    targets: int | None = None
    """Published number of clean pictures, where several damaged ones share one."""

    @property
    def clean_only(self) -> bool:
        """Whether the set holds clean pictures, to which noise is added."""
        return all(layout.damaged == layout.clean for layout in self.layouts)


def between(pattern: str, *sides: tuple[str, str]) -> tuple[Layout, ...]:
    """Make layouts that differ by the names of the two folders."""
    return tuple(Layout(pattern.format(damaged), pattern.format(clean)) for damaged, clean in sides)


CLEAN = (Layout("{name}", "{name}"),)
RAIN = (
    Layout("rain-{n}", "norain-{n}"),
    Layout("rainy/rain-{n}", "gt/norain-{n}"),
    Layout("rain/rain-{n}", "norain/norain-{n}"),
    Layout("rain/{name}", "norain/{name}"),
    Layout("rainy/{name}", "gt/{name}"),
    Layout("input/{name}", "target/{name}"),
)
RAIN_TEST = (Layout("rainy/rain-{n}", "norain-{n}"), *RAIN)
HAZE = (
    Layout("hazy/**/{clear}_*", "clear/**/{clear}"),
    Layout("haze/**/{clear}_*", "clear/**/{clear}"),
    Layout("synthetic/**/{clear}_*", "original/{clear}"),
    Layout("input/**/{clear}_*", "target/{clear}"),
    Layout("OTS/{clear}_*", "clear_images/{clear}"),
    Layout("hazy/{name}", "gt/{name}"),
)
HAZE_TEST = (Layout("hazy/{clear}_*", "gt/{clear}"), *HAZE)
GOPRO = ("GoPro", "GOPRO_Large", "GOPRO", "gopro")
LOL = ("LOL-v1", "LOLv1", "LOLdataset", "LOL")

SETS = {
    "bsd400": PaperSet("noise", "train", 400, ("BSD400", "denoise/BSD400"), CLEAN),
    "wed": PaperSet(
        "noise", "train", 4744,
        ("WED", "exploration_database_and_code/pristine_images", "pristine_images", "denoise/WED"), CLEAN,
    ),
    "bsd400-wed": PaperSet("noise", "train", 5144, ("Denoise", "Train/Denoise"), CLEAN),
    "cbsd68": PaperSet(
        "noise", "test", 68,
        ("CBSD68/original_png", "CBSD68-dataset/CBSD68/original_png", "original_png", "CBSD68", "BSD68", "bsd68"),
        CLEAN,
    ),
    "reside-ots": PaperSet("haze", "train", 72_135, ("OTS", "RESIDE/OTS", "OTS_ALPHA", "Dehaze"), HAZE, 2061),
    "sots-outdoor": PaperSet("haze", "test", 500, ("SOTS/outdoor", "RESIDE/SOTS/outdoor", "outdoor"), HAZE_TEST, 492),
    "rain100l-train": PaperSet("rain", "train", 200, ("RainTrainL", "Rain100L/train", "train", "Derain"), RAIN),
    "rain100l-test": PaperSet("rain", "test", 100, ("Rain100L", "Rain100L/test", "test"), RAIN_TEST),
    "gopro-train": PaperSet(
        "blur", "train", 2103, GOPRO,
        between("train/{{scene}}/{}/{{name}}", ("blur", "sharp"))
        + between("train/{}/{{name}}", ("blur", "sharp"), ("input", "target")),
    ),
    "gopro-test": PaperSet(
        "blur", "test", 1111, GOPRO,
        between("test/{{scene}}/{}/{{name}}", ("blur", "sharp"))
        + between("test/{}/{{name}}", ("blur", "sharp"), ("input", "target")),
    ),
    "lol-train": PaperSet(
        "lowlight", "train", 485, LOL,
        between("our485/{}/{{name}}", ("low", "high")) + between("train/{}/{{name}}", ("low", "high")),
    ),
    "lol-test": PaperSet(
        "lowlight", "test", 15, LOL,
        between("eval15/{}/{{name}}", ("low", "high")) + between("test/{}/{{name}}", ("low", "high")),
    ),
}  # fmt: skip
"""By name: BSD400, WED (Waterloo Exploration), CBSD68, RESIDE OTS and SOTS outdoor, Rain100L, GoPro, LOL version 1."""


@dataclass(frozen=True)
class Search:
    """What one layout finds in one folder."""

    folder: Path
    layout: Layout
    pairs: tuple[PathPair, ...]
    alone: tuple[Path, ...]
    """Damaged pictures whose clean ones are missing."""


def find(name: str, root: str | Path, *, whole: bool = False) -> tuple[PathPair, ...]:
    """Find the pairs of a published set, in order; warns where their number is not the published one.

    Where all pictures are clean, both paths of a pair are the same.

    Parameters
    ----------
    name
        A key of ``SETS``.
    root
        The folder of the set, or one that holds the folders of several sets.
    whole
        Refuse another number instead.
    """
    return search(name, Path(root), whole).pairs


def load(name: str, root: str | Path, *, whole: bool = False) -> Pairs:
    """Find a set that has pairs, and make what trains of it ready to be drawn from; a test set is returned whole."""
    paper = known(name)
    if paper.clean_only:
        raise ValueError(f"{name} holds clean pictures only; read them with load_clean and add {paper.type}")
    found = search(name, Path(root), whole)
    return make_pairs(found.pairs, paper.type, found.folder, whole=paper.part == "test")


def load_clean(name: str, root: str | Path, *, held_back: bool = False, whole: bool = False) -> tuple[Picture, ...]:
    """Read a set of clean pictures into memory; a test set is returned whole."""
    paper = known(name)
    if not paper.clean_only:
        raise ValueError(f"{name} holds pairs, not clean pictures only; use load")
    found = search(name, Path(root), whole)
    names = [(path, path.relative_to(found.folder)) for _, path in found.pairs]
    chosen = [(p, n) for p, n in names if paper.part == "test" or is_held_back(n) == held_back]
    return tuple(read_picture(path, relative.as_posix()) for path, relative in chosen)


def known(name: str) -> PaperSet:
    """Return the set of this name."""
    if name not in SETS:
        raise ValueError(f"expected a set out of {', '.join(SETS)}, got {name!r}")
    return SETS[name]


def search(name: str, root: Path, whole: bool) -> Search:
    """Take the layout that finds as many pairs as were published, or most; say what is missing where none does."""
    paper = known(name)
    best = best_of(tries(paper, root), paper.count)
    if best.alone:
        lost = best.alone[0].relative_to(best.folder).as_posix()
        raise ValueError(
            f"{name}: {len(best.alone):,} of {len(best.alone) + len(best.pairs):,} damaged pictures in {best.folder} "
            f"have no clean one, such as {lost}; expected {best.layout.clean} for {best.layout.damaged}"
        )
    if not best.pairs:
        raise ValueError(f"{name}: nothing in {root}; expected {describe(paper)}; give the folder that holds them")
    check_counts(name, best, whole)
    return best


def tries(paper: PaperSet, root: Path) -> Iterator[Search]:
    """Try every layout in every folder where the set may be."""
    folders = [root / folder for folder in paper.folders if (root / folder).is_dir()]
    return (look(folder, layout) for folder in [*folders, root] for layout in paper.layouts)


def best_of(tried: Iterator[Search], count: int) -> Search:
    """Return the first that finds all pairs, else the one that finds most."""
    seen = []
    for found in tried:
        if len(found.pairs) == count and not found.alone:
            return found
        seen.append(found)
    return max(seen, key=lambda found: (len(found.pairs), len(found.alone)))


def describe(paper: PaperSet) -> str:
    """Describe where a set is expected, and how many pictures it has."""
    folder, layout = paper.folders[0], paper.layouts[0]
    if paper.clean_only:
        return f"{paper.count:,} clean pictures as {folder}/{layout.clean}"
    return f"{paper.count:,} damaged pictures as {folder}/{layout.damaged} with {folder}/{layout.clean}"


def check_counts(name: str, found: Search, whole: bool) -> None:
    """Warn where a set has not as many pictures as were published, or refuse it."""
    paper = known(name)
    pairs, targets = len(found.pairs), len({clean for _, clean in found.pairs})
    if pairs == paper.count and paper.targets in (None, targets):
        return
    of = "" if paper.targets is None else f" of {paper.targets:,} clean ones"
    has = "" if paper.targets is None else f" of {targets:,}"
    said = f"{name}: {found.folder} holds {pairs:,} pictures{has}, published are {paper.count:,}{of}"
    if whole:
        raise ValueError(f"{said}; get the whole set, and leave nothing else in its folders")
    warnings.warn(f"{said}; results will not compare with those of papers", stacklevel=4)


def look(folder: Path, layout: Layout) -> Search:
    """Find what one layout describes in one folder."""
    clean = {words: folder / path for path, words in matches(folder, layout.clean)}
    damaged = [(folder / path, words) for path, words in matches(folder, layout.damaged)]
    pairs = tuple((path, clean[words]) for path, words in damaged if words in clean)
    return Search(folder, layout, pairs, tuple(path for path, words in damaged if words not in clean))


def matches(folder: Path, template: str) -> list[tuple[str, tuple[str, ...]]]:
    """Find the pictures that fit a template, in order: relative paths, and what stands for the words."""
    fixed = template[: min(template.find(c) for c in "{*" if c in template)].rpartition("/")[0]
    deep = "**/" in template or "}/" in template
    pattern = as_pattern(template)
    found = ((path, pattern.fullmatch(path)) for path in sorted(files_in(folder, fixed, deep)))
    return [(path, match.groups()) for path, match in found if match]


def as_pattern(template: str) -> re.Pattern[str]:
    """Turn a template into a regular expression that takes pictures of any suffix."""
    parts = re.split(r"(\*\*/|\*|\{\w+\})", template)
    meaning = {"**/": "(?:.*/)?", "*": "[^/]*"}
    text = "".join(meaning.get(part, "([^/]+?)" if part.startswith("{") else re.escape(part)) for part in parts)
    return re.compile(f"{text}(?:{'|'.join(map(re.escape, sorted(SUFFIXES)))})", re.IGNORECASE)


def files_in(folder: Path, fixed: str, deep: bool) -> Iterator[str]:
    """Yield the files in ``folder/fixed``, and below it if ``deep``, relative to ``folder``; follows links."""
    for place, below, names in os.walk(folder / fixed, followlinks=True):
        relative = Path(place).relative_to(folder).as_posix()
        yield from (name if relative == "." else f"{relative}/{name}" for name in names)
        if not deep:
            below.clear()
