"""What a file is, by its first bytes; its name does not matter."""

from __future__ import annotations

import stat
from pathlib import Path

from perceive_ir._errors import ImageFileError, remedy
from perceive_ir.files._bioio import KIND, is_readable
from perceive_ir.files._faults import one_line, reason

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OTHER = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"BM": "bmp", b"GIF87a": "gif", b"GIF89a": "gif"}


def kind_of(path: Path) -> str:
    """``tiff``, ``png``, ``jpeg``, ``webp``, ``bmp``, ``gif`` or ``bioio``; all else is an error of one line."""
    start = _start(path)
    if not start:
        raise ImageFileError(one_line(f"{path} is empty; get it again"))
    if start[:4] in _TIFF:
        return "tiff"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "webp"
    for magic, kind in _OTHER.items():
        if start.startswith(magic):
            return kind
    if is_readable(path):
        return KIND
    raise ImageFileError(
        one_line(
            f"{path} is not a picture that can be read (its content is not TIFF, PNG, JPEG, WebP, BMP or GIF); "
            "save it as one of these first"
        )
    )


def check_regular(path: Path) -> None:
    """Refuse what may never end, such as a pipe or a device."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise ImageFileError(one_line(f"{path} is a folder, not a picture; give the files in it"))
    if not stat.S_ISREG(mode):
        raise ImageFileError(one_line(f"{path} is not a regular file; copy it into one"))


def _start(path: Path) -> bytes:
    try:
        check_regular(path)
        with open(path, "rb") as file:
            return file.read(16)
    except FileNotFoundError:
        raise ImageFileError(one_line(f"{path} does not exist; check its name")) from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise ImageFileError(
            one_line(f"{path} cannot be read: {reason(error)}; {remedy(error) or 'give another name'}")
        ) from error
