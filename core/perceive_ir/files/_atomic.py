"""A file is written whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perceive_ir._errors import ImageFileError, remedy
from perceive_ir.files._faults import one_line, reason

PARTIAL_SUFFIX = ".perceive_ir.partial"
"""Ends the hidden name of a file that is being written; one left behind by a kill may be deleted."""

_ZEROS = bytes(2**20)


@contextmanager
def replacing(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield the path of an empty hidden file beside `path`, which becomes `path` if the block succeeds.

    Whatever leaves the block by an exception, Ctrl-C included, leaves no file behind and an older `path` untouched.
    """
    check_target(path, force=force)
    target = Path(os.path.realpath(path))  # a link stays a link; what it names is replaced
    partial = target.with_name(f".{secrets.token_hex(8)}{PARTIAL_SUFFIX}")
    try:
        partial.touch(exist_ok=False)
        yield partial
        _settle(partial, target)
        _publish(partial, target, force=force)
        _settle_name(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def check_target(path: Path, *, force: bool = False) -> None:
    """Refuse, before any work is done, a place where a file cannot or must not be written."""
    if "\0" in str(path):
        raise ImageFileError("a file with a null character in its name cannot be written; give another name")
    try:
        parent, mode = path.parent, _mode(path)
        if mode is not None and stat.S_ISDIR(mode):
            raise ImageFileError(one_line(f"{path} is a folder; give the name of a file"))
        if mode is not None and not stat.S_ISREG(mode):
            raise ImageFileError(one_line(f"{path} is not a regular file; give another name"))
        if mode is not None and not force:
            raise ValueError(one_line(f"{path} exists; give --force to overwrite"))
        if not parent.is_dir():
            raise ImageFileError(one_line(f"{path} cannot be written: there is no folder {parent}; make it first"))
        if not os.access(parent, os.W_OK):
            raise ImageFileError(
                one_line(f"{path} cannot be written: no permission to write into {parent}; give another folder")
            )
    except OSError as error:
        raise ImageFileError(one_line(f"{path} cannot be written: {reason(error)}; {remedy(error)}")) from error


def ask_disk(partial: Path, size: int) -> None:
    """Write so many zeros, so that the disk says what it says to those who write: that it is full."""
    with open(partial, "wb") as file:
        for _ in range(-(-size // len(_ZEROS))):
            file.write(_ZEROS)
        file.flush()
        os.fsync(file.fileno())


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _settle(partial: Path, target: Path) -> None:
    """Bytes on the disk before the name points at them; the permissions of the file that is replaced."""
    with open(partial, "rb+") as file:
        os.fsync(file.fileno())
    if target.exists():
        shutil.copymode(target, partial)


def _settle_name(folder: Path) -> None:
    """The new name on the disk too, where the system knows folders as files."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has no such thing
            raise
    finally:
        os.close(handle)


def _publish(partial: Path, target: Path, *, force: bool) -> None:
    if force:
        os.replace(partial, target)
        return
    try:
        os.link(partial, target)  # unlike a rename, fails if somebody else made the file meanwhile
    except FileExistsError:
        raise ValueError(one_line(f"{target} exists; give --force to overwrite")) from None
    except (OSError, AttributeError, NotImplementedError):  # a file system without hard links
        check_target(target)
        os.replace(partial, target)
