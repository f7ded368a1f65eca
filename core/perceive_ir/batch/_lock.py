"""One run at a time in a folder: a lock that the kernel holds, and lets go of whatever ends the process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made if need be and stays; BlockingIOError if somebody else holds it."""
    with open(path, "ab") as file:
        take(file)
        yield  # closing the file lets go


if sys.platform == "win32":
    import msvcrt

    def take(file: IO[Any]) -> None:
        """Take the lock without waiting."""
        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from error
else:
    import fcntl

    def take(file: IO[Any]) -> None:
        """Take the lock without waiting."""
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
