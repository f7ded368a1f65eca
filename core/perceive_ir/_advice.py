"""An error in one line, with what to do about it."""

from __future__ import annotations

import os

from perceive_ir._errors import PerceiveIRError, remedy

EXPECTED = (PerceiveIRError, ValueError, TypeError, OSError, MemoryError)
"""What a user or the world can cause: one line, and the traceback only with --debug. Anything else is a bug."""


def one_line(text: object) -> str:
    """`text` without line breaks, control characters and what cannot be printed."""
    line = " ".join(str(text).split())
    return "".join(c if c.isprintable() else "�" for c in line)


def reason(error: BaseException, path: str | os.PathLike[str] | None = None) -> str:
    """Say an error in one line, without the name of the input, which stands before it anyway."""
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None and str(error.filename) != str(path) else ""
        return one_line(f"{where}{error.strerror}")
    words = one_line(error) or type(error).__name__
    return words.removeprefix(f"{one_line(path)} ") if path is not None else words


def advice(error: BaseException, path: str | os.PathLike[str] | None = None) -> str:
    """Say an error in one line with what to do about it."""
    return "; ".join(filter(None, (reason(error, path), remedy(error))))
