"""The border to the imaging libraries: whatever they raise or warn becomes one line of ours."""

from __future__ import annotations

import logging
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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


class _Collect(logging.Filter):
    """Takes the records of a logger out of circulation."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def filter(self, record: logging.LogRecord) -> bool:
        self.records.append(record)
        return False


@contextmanager
def quiet() -> Iterator[list[logging.LogRecord]]:
    """Libraries say nothing meanwhile; yields what tifffile would have logged."""
    collector = _Collect()
    logger = logging.getLogger("tifffile")
    logger.addFilter(collector)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield collector.records
    finally:
        logger.removeFilter(collector)


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
