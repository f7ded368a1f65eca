"""The border to the imaging libraries: whatever they raise or warn becomes one line of ours."""

from __future__ import annotations

import logging
import os
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from perceive_ir._errors import ImageFileError, remedy

_LONGEST_REASON = 240
GET_AGAIN = "get it again, or save it anew with another program"
"""What to do about a file whose content is broken."""


def one_line(text: object) -> str:
    """`text` without line breaks and without characters that cannot be printed."""
    line = " ".join(str(text).splitlines())
    return line.encode("utf-8", "replace").decode("utf-8")


def reason(error: BaseException) -> str:
    """What went wrong, in the library's words, without its habit of naming itself or the file again."""
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    words = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return one_line(words or type(error).__name__)[:_LONGEST_REASON]


def damaged(path: Path, what: str = "it is truncated or damaged") -> ImageFileError:
    """The error of a file that is not as it was written."""
    return ImageFileError(one_line(f"{path} cannot be read: {what}; {GET_AGAIN}"))


_records: ContextVar[list[logging.LogRecord] | None] = ContextVar("records", default=None)
"""Where the records of this thread go: several files are read at once, and each has its own doubts."""


def _collect(record: logging.LogRecord) -> bool:
    """Take a record out of circulation; let it pass where nobody collects."""
    records = _records.get()
    if records is not None:
        records.append(record)
    return records is None


class _Silence:
    """Ignores warnings as long as any thread is inside: what the module `warnings` keeps is shared by all of them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.before = warnings.catch_warnings(action="ignore")

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.before = warnings.catch_warnings(action="ignore")
                self.before.__enter__()
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.before.__exit__(None, None, None)


_silence = _Silence()


@contextmanager
def quiet() -> Iterator[list[logging.LogRecord]]:
    """Libraries say nothing meanwhile; yields what tifffile would have logged in this thread."""
    logging.getLogger("tifffile").addFilter(_collect)  # once: it knows its filters
    records: list[logging.LogRecord] = []
    outer = _records.set(records)
    try:
        with _silence:
            yield records
    finally:
        _records.reset(outer)


@contextmanager
def reading(path: Path) -> Iterator[list[logging.LogRecord]]:
    """Any failure of decoding `path` is an ImageFileError: a broken file can trip a decoder anywhere."""
    try:
        with quiet() as records:
            yield records
    except ImageFileError:
        raise
    except Exception as error:
        raise ImageFileError(
            one_line(f"{path} cannot be read: {reason(error)}; {remedy(error) or GET_AGAIN}")
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the disk or an encoder refuses is an ImageFileError; a ValueError of ours passes."""
    try:
        with quiet():
            yield
    except (OSError, MemoryError, RuntimeError, struct.error) as error:
        raise ImageFileError(
            one_line(f"{path} cannot be written: {reason(error)}; {remedy(error) or 'give another file type'}")
        ) from error
