"""How a picture was made (recipe, perception, model), stored inside its file or beside it, and read back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from perceive_ir.files import _exif, _png
from perceive_ir.files._atomic import check_target, replacing
from perceive_ir.files._faults import reading, writing
from perceive_ir.files._pillow import exif_of_jpeg
from perceive_ir.files._sniff import kind_of
from perceive_ir.files._webp import exif_of_webp

KEYWORD = "perceive_ir"
MARK = f"{KEYWORD} = "
"""Starts the one line, followed by JSON, that is added to whatever text a file has."""

Description = dict[str, Any]

_EXIF_OF = {"jpeg": exif_of_jpeg, "webp": exif_of_webp}


def dump(description: Description) -> str:
    """One line of ASCII; numbers that JSON does not know (NaN) are refused."""
    return json.dumps(description, allow_nan=False)


def line(description: Description) -> str:
    return MARK + dump(description)


def added(text: str | None, description: Description | None) -> str | None:
    """`text` with the description as its last line, instead of an earlier one."""
    if description is None:
        return text
    kept = [old for old in (text or "").splitlines() if not old.startswith(MARK)]
    return "\n".join([*kept, line(description)])


def found_in(text: object) -> Description | None:
    for candidate in str(text).splitlines():
        if candidate.startswith(MARK):
            return _parsed(candidate.removeprefix(MARK))
    return None


def read_description(path: str | os.PathLike[str]) -> Description | None:
    """The description stored in a picture, or else in the JSON file beside it; None if there is none."""
    path = Path(path)
    kind = kind_of(path)
    with reading(path):
        for text in _texts(path, kind):
            if (found := found_in(text)) is not None:
                return found
    return _beside(path)


def side_json_path(path: str | os.PathLike[str]) -> Path:
    """``cells.tif`` has its description in ``cells.tif.json``."""
    path = Path(path)
    return path.with_name(path.name + ".json")


def write_side_json(path: str | os.PathLike[str], description: Description, *, force: bool = False) -> Path:
    """Write `description` into a JSON file beside the picture `path`; an older one of ours is replaced."""
    side = side_json_path(path)
    text = json.dumps({KEYWORD: description}, allow_nan=False, indent=2) + "\n"
    with writing(side), replacing(side, force=force or _beside(Path(path)) is not None) as partial:
        partial.write_text(text, encoding="utf-8")
    return side


def check_side_json(path: Path, *, force: bool) -> None:
    check_target(side_json_path(path), force=force or _beside(path) is not None)


def _texts(path: Path, kind: str) -> Iterator[str]:
    if kind == "tiff":
        yield from _tiff_texts(path)
    elif kind == "png":
        yield from (MARK + text for text in _png.texts(path, KEYWORD))
    elif kind in _EXIF_OF:
        yield from _exif.texts(_EXIF_OF[kind](path))


def _tiff_texts(path: Path) -> Iterator[str]:
    with tifffile.TiffFile(path) as tif:
        yield str((tif.imagej_metadata or {}).get("Info", ""))
        for shaped in tif.shaped_metadata or ():
            if KEYWORD in shaped:
                yield MARK + json.dumps(shaped[KEYWORD])
        if tif.ome_metadata:
            for element in ElementTree.fromstring(tif.ome_metadata).iter():
                if element.tag.endswith("}Description"):
                    yield element.text or ""
        yield tif.pages.first.description


def _beside(path: Path) -> Description | None:
    try:
        content = json.loads(side_json_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no file, or not ours
        return None
    found = content.get(KEYWORD) if isinstance(content, dict) else None
    return found if isinstance(found, dict) else None


def _parsed(text: str) -> Description | None:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the description inside is broken ({error})") from error
    return content if isinstance(content, dict) else None
